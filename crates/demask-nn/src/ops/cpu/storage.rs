//! Between the framework's CPU tensors and slices.

use burn::tensor::TensorData;
use burn_flex::FlexTensor;

/// A contiguous f32 tensor, copied only if it was strided.
pub(super) struct Contiguous(FlexTensor);

impl Contiguous {
    pub fn new(tensor: &FlexTensor) -> Self {
        Self(tensor.to_contiguous())
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        let n = self.0.layout().num_elements();
        let start = self.0.layout().start_offset();
        &self.0.storage::<f32>()[start..start + n]
    }
}

/// A tensor that owns `values`, without a copy.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

/// Extents of a tensor whose rank the caller knows.
pub(super) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    let mut out = [0; D];
    out.copy_from_slice(tensor.layout().shape().as_slice());
    out
}
