use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::{Precision, rowwise};

use super::dense::Dense;
use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, or_absent, tensor};
use crate::span;

#[backend_extension(Flex, Autodiff)]
trait LinearCrossEntropyBackend: Backend {
    /// `bias` may be absent.
    fn linear_cross_entropy(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        wanted: Wanted,
    ) -> FloatTensor<Self>;
}

/// What is not a tensor.
#[derive(Clone, Debug)]
struct Wanted {
    targets: Arc<[i64]>,
    forbidden: Option<u32>,
    precision: Precision,
}

/// Shapes as in [`linear_cross_entropy`](fn@crate::ops::linear_cross_entropy).
pub fn linear_cross_entropy(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: &[u32],
    forbidden: Option<u32>,
    precision: Precision,
) -> Tensor<1> {
    let bias = or_absent(bias, &x.device()).into_dispatch();
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    let wanted = Wanted {
        targets: targets.iter().map(|&t| i64::from(t)).collect(),
        forbidden,
        precision,
    };
    let loss =
        <Dispatch as LinearCrossEntropyBackend>::linear_cross_entropy(x, weight, bias, wanted);
    Tensor::from_dispatch(loss)
}

impl LinearCrossEntropyBackend for Flex {
    fn linear_cross_entropy(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        wanted: Wanted,
    ) -> FlexTensor {
        forward(x, weight, &bias, wanted).0
    }
}

impl<C: CheckpointStrategy> LinearCrossEntropyBackend for Autodiff<Flex, C> {
    fn linear_cross_entropy(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        wanted: Wanted,
    ) -> FloatTensor<Self> {
        register::<C, _, 3>([x, weight, bias], |[x, weight, bias]| {
            forward(x, weight, &bias, wanted)
        })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    x: FlexTensor,
    weight: FlexTensor,
    wanted: Wanted,
    logits: Vec<f32>,
    lse: Vec<f32>,
}

impl Gradient<3> for Saved {
    fn inputs(self, output: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let (x_dims, w_dims) = (dims::<2>(&self.x), dims::<2>(&self.weight));
        let [vocabulary, _] = w_dims;
        let [x, w, dloss] = [&self.x, &self.weight, &output].map(Contiguous::new);
        // The gradient takes the place of the logits.
        let mut g = self.logits;
        {
            let _span = span::part("cross-entropy backward");
            let (targets, lse) = (&self.wanted.targets, &self.lse);
            rowwise::cross_entropy_backward(&mut g, vocabulary, targets, lse, dloss.values());
        }
        let dense = Dense::new(w.values(), w_dims, self.wanted.precision);
        [
            wanted[0].then(|| tensor(dense.input_gradient(&g), x_dims)),
            wanted[1].then(|| tensor(dense.weight_gradient(&g, x.values()), w_dims)),
            wanted[2].then(|| tensor(rowwise::column_sums(&g, vocabulary), [vocabulary])),
        ]
    }
}

fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: &FlexTensor,
    wanted: Wanted,
) -> (FlexTensor, Saved) {
    let ([rows, _], w_dims) = (dims::<2>(&x), dims::<2>(&weight));
    let [vocabulary, _] = w_dims;
    let [values, w, bias] = [&x, &weight, bias].map(Contiguous::new);
    let dense = Dense::new(w.values(), w_dims, wanted.precision);
    let mut logits = dense.forward(values.values(), bias.present());
    drop((values, w));
    let _span = span::part("cross-entropy");
    if let Some(token) = wanted.forbidden {
        for row in logits.chunks_exact_mut(vocabulary) {
            row[token as usize] = f32::NEG_INFINITY;
        }
    }
    let (mut loss, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
    rowwise::cross_entropy(&logits, vocabulary, &wanted.targets, &mut loss, &mut lse);
    let saved = Saved {
        x,
        weight,
        wanted,
        logits,
        lse,
    };
    (tensor(loss, [rows]), saved)
}
