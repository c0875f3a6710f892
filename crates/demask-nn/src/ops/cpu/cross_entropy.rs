use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::rowwise;

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::span;

#[backend_extension(Flex, Autodiff)]
trait CrossEntropyBackend: Backend {
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: Arc<[i64]>,
        forbidden: Option<u32>,
    ) -> FloatTensor<Self>;
}

/// Shapes as in [`cross_entropy`](fn@crate::ops::cross_entropy).
pub fn cross_entropy(logits: Tensor<2>, targets: &[u32], forbidden: Option<u32>) -> Tensor<1> {
    let targets = targets.iter().map(|&t| i64::from(t)).collect();
    let loss = <Dispatch as CrossEntropyBackend>::cross_entropy(
        logits.into_dispatch(),
        targets,
        forbidden,
    );
    Tensor::from_dispatch(loss)
}

impl CrossEntropyBackend for Flex {
    fn cross_entropy(
        logits: FlexTensor,
        targets: Arc<[i64]>,
        forbidden: Option<u32>,
    ) -> FlexTensor {
        forward(logits, targets, forbidden).0
    }
}

impl<C: CheckpointStrategy> CrossEntropyBackend for Autodiff<Flex, C> {
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: Arc<[i64]>,
        forbidden: Option<u32>,
    ) -> FloatTensor<Self> {
        register::<C, _, 1>([logits], |[logits]| forward(logits, targets, forbidden))
    }
}

#[derive(Clone, Debug)]
struct Saved {
    logits: FlexTensor,
    targets: Arc<[i64]>,
    lse: Arc<[f32]>,
}

impl Gradient<1> for Saved {
    fn inputs(mut self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let _span = span::part("cross-entropy backward");
        let [_, vocabulary] = dims(&self.logits);
        let dloss = Contiguous::new(&output);
        // The gradient takes the place of the logits, without a copy when nobody else holds them.
        let logits = self.logits.storage_mut::<f32>();
        rowwise::cross_entropy_backward(
            logits,
            vocabulary,
            &self.targets,
            &self.lse,
            dloss.values(),
        );
        [Some(self.logits)]
    }
}

fn forward(logits: FlexTensor, targets: Arc<[i64]>, forbidden: Option<u32>) -> (FlexTensor, Saved) {
    let _span = span::part("cross-entropy");
    let [rows, vocabulary] = dims(&logits);
    let mut logits = logits.to_contiguous();
    if logits.layout().start_offset() != 0 || logits.storage::<f32>().len() != rows * vocabulary {
        logits = tensor(
            Contiguous::new(&logits).values().to_vec(),
            [rows, vocabulary],
        );
    }
    if let Some(token) = forbidden {
        for row in logits.storage_mut::<f32>().chunks_exact_mut(vocabulary) {
            row[token as usize] = f32::NEG_INFINITY;
        }
    }
    let (mut loss, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
    rowwise::cross_entropy(logits.storage(), vocabulary, &targets, &mut loss, &mut lse);
    (
        tensor(loss, [rows]),
        Saved {
            logits,
            targets,
            lse: lse.into(),
        },
    )
}
