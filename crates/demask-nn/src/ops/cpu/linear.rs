use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::gemm::{self, MatrixRef, Rhs};

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::span;

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
    tensor(gemm::product(a, b, None), [rows, cols])
}
