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
trait JoinBackend: Backend {
    fn join_channels(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Shapes as in [`join_channels`](fn@crate::ops::join_channels).
pub fn join_channels(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    let (a, b) = (a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(<Dispatch as JoinBackend>::join_channels(a, b))
}

impl JoinBackend for Flex {
    fn join_channels(a: FlexTensor, b: FlexTensor) -> FlexTensor {
        forward(&a, &b)
    }
}

impl<C: CheckpointStrategy> JoinBackend for Autodiff<Flex, C> {
    fn join_channels(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        register::<C, _, 2>([a, b], |[a, b]| {
            let channels = [&a, &b].map(|x| dims::<4>(x)[1]);
            (forward(&a, &b), Saved { channels })
        })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    channels: [usize; 2],
}

impl Gradient<2> for Saved {
    fn inputs(self, output: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let _span = span::part("join backward");
        let ([batch, _, height, width], [a, b]) = (dims(&output), self.channels);
        let dy = Contiguous::new(&output);
        let [da, db] = rowwise::split(dy.values(), batch, a * height * width);
        [
            Some(tensor(da, [batch, a, height, width])),
            Some(tensor(db, [batch, b, height, width])),
        ]
    }
}

fn forward(a: &FlexTensor, b: &FlexTensor) -> FlexTensor {
    let _span = span::part("join");
    let ([batch, ca, height, width], [_, cb, ..]) = (dims(a), dims::<4>(b));
    let [a, b] = [a, b].map(Contiguous::new);
    let y = rowwise::join(a.values(), b.values(), batch);
    tensor(y, [batch, ca + cb, height, width])
}
