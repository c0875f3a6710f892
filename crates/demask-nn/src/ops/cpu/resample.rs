use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::rowwise;

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::span;

/// What becomes of the size.
#[derive(Clone, Copy, Debug)]
enum Change {
    Twice,
    Half,
}

#[backend_extension(Flex, Autodiff)]
trait ResampleBackend: Backend {
    fn resample(x: FloatTensor<Self>, change: Change) -> FloatTensor<Self>;
}

/// Shapes as in [`upsample2`](fn@crate::ops::upsample2).
pub fn upsample2(x: Tensor<4>) -> Tensor<4> {
    let y = <Dispatch as ResampleBackend>::resample(x.into_dispatch(), Change::Twice);
    Tensor::from_dispatch(y)
}

/// Shapes as in [`average_pool2`](fn@crate::ops::average_pool2).
pub fn average_pool2(x: Tensor<4>) -> Tensor<4> {
    let y = <Dispatch as ResampleBackend>::resample(x.into_dispatch(), Change::Half);
    Tensor::from_dispatch(y)
}

impl ResampleBackend for Flex {
    fn resample(x: FlexTensor, change: Change) -> FlexTensor {
        match change {
            Change::Twice => twice(&x, rowwise::upsample2),
            Change::Half => half(&x, rowwise::average_pool2),
        }
    }
}

impl<C: CheckpointStrategy> ResampleBackend for Autodiff<Flex, C> {
    fn resample(x: FloatTensor<Self>, change: Change) -> FloatTensor<Self> {
        register::<C, _, 1>([x], |[x]| {
            (<Flex as ResampleBackend>::resample(x, change), change)
        })
    }
}

impl Gradient<1> for Change {
    fn inputs(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(match self {
            Self::Twice => half(&output, rowwise::upsample2_backward),
            Self::Half => twice(&output, rowwise::average_pool2_backward),
        })]
    }
}

/// A kernel between planes of a size, which it is told, and of twice that size.
type Resample = fn(&[f32], [usize; 2]) -> Vec<f32>;

fn twice(x: &FlexTensor, kernel: Resample) -> FlexTensor {
    let _span = span::part("resample");
    let [batch, channels, height, width] = dims(x);
    let y = kernel(Contiguous::new(x).values(), [height, width]);
    tensor(y, [batch, channels, 2 * height, 2 * width])
}

fn half(x: &FlexTensor, kernel: Resample) -> FlexTensor {
    let _span = span::part("resample");
    let [batch, channels, height, width] = dims(x);
    let (height, width) = (height / 2, width / 2);
    let y = kernel(Contiguous::new(x).values(), [height, width]);
    tensor(y, [batch, channels, height, width])
}
