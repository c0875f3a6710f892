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

/// Which norm, and what it adds to the variance.
#[derive(Clone, Copy, Debug)]
enum Norm {
    Rms(f32),
    Layer(f32),
}

#[backend_extension(Flex, Autodiff)]
trait NormBackend: Backend {
    fn norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, norm: Norm) -> FloatTensor<Self>;
}

/// Shapes as in [`rms_norm`](fn@crate::ops::rms_norm).
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    norm(x, weight, Norm::Rms(eps as f32))
}

/// Shapes as in [`layer_norm`](fn@crate::ops::layer_norm).
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    norm(x, weight, Norm::Layer(eps as f32))
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
        let _span = span::part("norm backward");
        let [rows, width] = dims(&self.x);
        let [x, w, dy] = [&self.x, &self.weight, &output].map(Contiguous::new);
        let (x, w, dy) = (x.values(), w.values(), dy.values());
        let (mut dx, mut dw) = (vec![0.0; rows * width], vec![0.0; width]);
        let dweight = wanted[1].then_some(&mut dw[..]);
        match self.norm {
            Norm::Rms(_) => {
                rowwise::rms_norm_backward(x, width, Some(w), &self.stats, dy, &mut dx, dweight);
            }
            Norm::Layer(_) => {
                rowwise::layer_norm_backward(x, width, Some(w), &self.stats, dy, &mut dx, dweight);
            }
        }
        [
            Some(tensor(dx, [rows, width])),
            wanted[1].then(|| tensor(dw, [width])),
        ]
    }
}

/// The output, and the row statistics that the backward pass reads.
fn forward(x: &FlexTensor, weight: &FlexTensor, norm: Norm) -> (FlexTensor, Vec<f32>) {
    let _span = span::part("norm");
    let [rows, width] = dims(x);
    let [x, w] = [x, weight].map(Contiguous::new);
    let mut y = vec![0.0; rows * width];
    let stats = match norm {
        Norm::Rms(eps) => {
            let mut inverse = vec![0.0; rows];
            rowwise::rms_norm(
                x.values(),
                width,
                Some(w.values()),
                eps,
                &mut y,
                &mut inverse,
            );
            inverse
        }
        Norm::Layer(eps) => {
            let mut stats = vec![0.0; 2 * rows];
            rowwise::layer_norm(x.values(), width, Some(w.values()), eps, &mut y, &mut stats);
            stats
        }
    };
    (tensor(y, [rows, width]), stats)
}
