use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::gemm::{Beta, MatrixMut, MatrixRef, PackedB, Rhs, gemm};

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::{Dtype, span};

#[backend_extension(Flex, Autodiff)]
trait LinearBackend: Backend {
    fn linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `x Wᵀ` on the packed matrix product; shapes as in [`linear`](fn@crate::ops::linear).
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let y = <Dispatch as LinearBackend>::linear(x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(y)
}

impl LinearBackend for Flex {
    fn linear(x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        forward(&x, &weight)
    }
}

impl<C: CheckpointStrategy> LinearBackend for Autodiff<Flex, C> {
    fn linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        register::<C, _, 2>([x, weight], |[x, weight]| {
            (forward(&x, &weight), Saved { x, weight })
        })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    x: FlexTensor,
    weight: FlexTensor,
}

impl Gradient<2> for Saved {
    fn inputs(self, output: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let ([rows, inner], [out, _]) = (dims::<2>(&self.x), dims::<2>(&self.weight));
        let (x, w, g) = (
            Contiguous::new(&self.x),
            Contiguous::new(&self.weight),
            Contiguous::new(&output),
        );
        let x = MatrixRef::new(x.values(), rows, inner);
        let w = MatrixRef::new(w.values(), out, inner);
        let g = MatrixRef::new(g.values(), rows, out);
        [
            wanted[0].then(|| product(g, w)),
            wanted[1].then(|| product(g.t(), x)),
        ]
    }
}

fn forward(x: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
    let ([rows, inner], [out, _]) = (dims::<2>(x), dims::<2>(weight));
    let (x, w) = (Contiguous::new(x), Contiguous::new(weight));
    let w = MatrixRef::new(w.values(), out, inner);
    product(MatrixRef::new(x.values(), rows, inner), w.t())
}

fn product<'b>(a: MatrixRef<'_>, b: impl Into<Rhs<'b>>) -> FlexTensor {
    let b = b.into();
    let (rows, cols) = (a.rows(), b.cols());
    let _span = span::product("linear", "f32", 2 * rows * cols * a.cols());
    let mut c = vec![0.0; rows * cols];
    gemm(
        MatrixMut::new(&mut c, rows, cols),
        Beta::Overwrite,
        a,
        b,
        None,
    );
    tensor(c, [rows, cols])
}

/// A weight `[out, in]` packed once for the CPU kernels in some number format, for inference.
///
/// In f32 its products have the same bits as those of the weight it was packed from.
#[derive(Clone, Debug)]
pub struct PackedWeight(Arc<PackedB>);

impl PackedWeight {
    /// Packs `weight` `[out, in]`, which must live on the CPU.
    pub fn pack(weight: Tensor<2>, dtype: Dtype) -> Self {
        let [out, inner] = weight.dims();
        let data = weight.into_data();
        let values = data.as_slice::<f32>().expect("weights are f32");
        Self(Arc::new(PackedB::pack(
            MatrixRef::new(values, out, inner).t(),
            dtype.format(),
        )))
    }

    /// `x Wᵀ + b` for `x` `[rows, in]`.
    pub fn forward(&self, x: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
        let ([rows, inner], device) = (x.dims(), x.device());
        let x = x.into_data();
        let x = MatrixRef::new(
            x.as_slice::<f32>().expect("activations are f32"),
            rows,
            inner,
        );
        let bias = bias.map(Tensor::into_data);
        let bias = bias
            .as_ref()
            .map(|b| b.as_slice::<f32>().expect("biases are f32"));
        let cols = self.0.cols();
        let dtype = self.0.format().name();
        let _span = span::product("linear", dtype, 2 * rows * cols * inner);
        let mut c = vec![0.0; rows * cols];
        gemm(
            MatrixMut::new(&mut c, rows, cols),
            Beta::Overwrite,
            x,
            &*self.0,
            bias,
        );
        Tensor::from_data(burn::tensor::TensorData::new(c, [rows, cols]), &device)
    }

    /// Bytes the packed weight takes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl Module for PackedWeight {
    burn::empty!(module);
}

impl ModuleDisplayDefault for PackedWeight {
    fn content(&self, content: Content) -> Option<Content> {
        let format = self.0.format().name();
        let shape = format!("{format} [{}, {}]", self.0.cols(), self.0.rows());
        content.add_formatted(&shape).optional()
    }
}

impl ModuleDisplay for PackedWeight {}
