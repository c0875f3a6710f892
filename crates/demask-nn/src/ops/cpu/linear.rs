use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::{Precision, rowwise};

use super::dense::Dense;
use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, or_absent, tensor};

#[backend_extension(Flex, Autodiff)]
trait LinearBackend: Backend {
    /// `bias` may be absent.
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// `x Wᵀ + b` on the packed matrix product; shapes as in [`linear`](fn@crate::ops::linear).
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    let bias = or_absent(bias, &x.device()).into_dispatch();
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let y = <Dispatch as LinearBackend>::linear(x, weight, bias, precision);
    Tensor::from_dispatch(y)
}

impl LinearBackend for Flex {
    fn linear(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        forward(&x, &weight, &bias, precision)
    }
}

impl<C: CheckpointStrategy> LinearBackend for Autodiff<Flex, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        register::<C, _, 3>([x, weight, bias], |[x, weight, bias]| {
            let y = forward(&x, &weight, &bias, precision);
            let saved = Saved {
                x,
                weight,
                precision,
            };
            (y, saved)
        })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    x: FlexTensor,
    weight: FlexTensor,
    precision: Precision,
}

impl Gradient<3> for Saved {
    fn inputs(self, output: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let (x_dims, w_dims) = (dims::<2>(&self.x), dims::<2>(&self.weight));
        let [x, w, g] = [&self.x, &self.weight, &output].map(Contiguous::new);
        let (x, g) = (x.values(), g.values());
        let dense = Dense::new(w.values(), w_dims, self.precision);
        let [outputs, _] = w_dims;
        [
            wanted[0].then(|| tensor(dense.input_gradient(g), x_dims)),
            wanted[1].then(|| tensor(dense.weight_gradient(g, x), w_dims)),
            wanted[2].then(|| tensor(rowwise::column_sums(g, outputs), [outputs])),
        ]
    }
}

fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    precision: Precision,
) -> FlexTensor {
    let ([rows, _], w_dims) = (dims::<2>(x), dims::<2>(weight));
    let [x, w, bias] = [x, weight, bias].map(Contiguous::new);
    let dense = Dense::new(w.values(), w_dims, precision);
    tensor(dense.forward(x.values(), bias.present()), [rows, w_dims[0]])
}
