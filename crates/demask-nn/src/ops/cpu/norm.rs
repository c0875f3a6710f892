use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::gradient::{Gradient, register};
use super::norm_kind::Norm;
use super::storage::{Contiguous, dims, tensor};

#[backend_extension(Flex, Autodiff)]
trait NormBackend: Backend {
    fn norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, norm: Norm) -> FloatTensor<Self>;
}

/// Shapes as in [`rms_norm`](fn@crate::ops::rms_norm).
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    norm(x, weight, Norm::new(false, eps))
}

/// Shapes as in [`layer_norm`](fn@crate::ops::layer_norm).
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    norm(x, weight, Norm::new(true, eps))
}

fn norm(x: Tensor<2>, weight: Tensor<1>, norm: Norm) -> Tensor<2> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as NormBackend>::norm(x, weight, norm))
}

impl NormBackend for Flex {
    fn norm(x: FlexTensor, weight: FlexTensor, norm: Norm) -> FlexTensor {
        forward(&x, &weight, norm).0
    }
}

impl<C: CheckpointStrategy> NormBackend for Autodiff<Flex, C> {
    fn norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, norm: Norm) -> FloatTensor<Self> {
        register::<C, _, 2>([x, weight], |[x, weight]| {
            let (y, stats) = forward(&x, &weight, norm);
            (
                y,
                Saved {
                    x,
                    weight,
                    stats: stats.into(),
                    norm,
                },
            )
        })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    x: FlexTensor,
    weight: FlexTensor,
    stats: Arc<[f32]>,
    norm: Norm,
}

impl Gradient<2> for Saved {
    fn inputs(self, output: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let [rows, width] = dims(&self.x);
        let [x, w, dy] = [&self.x, &self.weight, &output].map(Contiguous::new);
        let mut dx = vec![0.0; rows * width];
        let (x, w, dy) = (x.values(), w.values(), dy.values());
        let dw = self
            .norm
            .backward(x, w, &self.stats, dy, &mut dx, wanted[1]);
        [
            Some(tensor(dx, [rows, width])),
            dw.map(|dw| tensor(dw, [width])),
        ]
    }
}

/// The output, and the row statistics that the backward pass reads.
fn forward(x: &FlexTensor, weight: &FlexTensor, norm: Norm) -> (FlexTensor, Vec<f32>) {
    let [rows, width] = dims(x);
    let [x, w] = [x, weight].map(Contiguous::new);
    let mut y = vec![0.0; rows * width];
    let stats = norm.forward(x.values(), w.values(), None, &mut y);
    (tensor(y, [rows, width]), stats)
}
