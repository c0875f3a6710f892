//! Between the framework's CPU tensors and slices.

use burn::backend::Flex;
use burn::tensor::{Device, Tensor, TensorData};
use burn_flex::FlexTensor;

/// A contiguous f32 tensor, copied only if it was strided.
#[derive(Clone, Debug)]
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

    /// The values, if there are any: an input that is [absent](or_absent) has none.
    pub fn present(&self) -> Option<&[f32]> {
        Some(self.values()).filter(|values| !values.is_empty())
    }

    /// The values to change, copied first if somebody else holds them.
    pub fn values_mut(&mut self) -> &mut [f32] {
        let n = self.0.layout().num_elements();
        let start = self.0.layout().start_offset();
        &mut self.0.storage_mut::<f32>()[start..start + n]
    }

    pub fn into_tensor(self) -> FlexTensor {
        self.0
    }
}

/// The CPU tensor of `x`, without its graph.
pub(super) fn take<const D: usize>(x: Tensor<D>) -> FlexTensor {
    let x = if x.device().is_autodiff() {
        x.inner()
    } else {
        x
    };
    x.try_into_primitive::<Flex>()
        .expect("a tensor of the CPU backend")
}

/// A CPU tensor as one of `device`, which is the CPU with or without gradients.
pub(super) fn give<const D: usize>(x: FlexTensor, device: &Device) -> Tensor<D> {
    let x = Tensor::from_primitive::<Flex>(x);
    if device.is_autodiff() {
        Tensor::from_inner(x)
    } else {
        x
    }
}

/// A tensor that owns `values`, without a copy.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

/// An input that an operation can do without: a tensor without values stands for one that is not there, so that the
/// operation has one number of inputs.
pub(super) fn or_absent<const D: usize>(x: Option<Tensor<D>>, device: &Device) -> Tensor<D> {
    x.unwrap_or_else(|| Tensor::zeros([0; D], device))
}

/// Extents of a tensor whose rank the caller knows.
pub(super) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    let mut out = [0; D];
    out.copy_from_slice(tensor.layout().shape().as_slice());
    out
}
