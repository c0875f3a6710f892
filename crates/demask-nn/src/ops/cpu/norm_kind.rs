//! The two norms over the last axis, on slices.

use demask_kernels::{Element, rowwise};

use crate::span;

/// Which norm, and what it adds to the variance.
#[derive(Clone, Copy, Debug)]
pub(super) enum Norm {
    Rms(f32),
    Layer(f32),
}

impl Norm {
    /// Layer norm if it is `centred`, root-mean-square norm otherwise.
    pub fn new(centred: bool, eps: f64) -> Self {
        match centred {
            true => Self::Layer(eps as f32),
            false => Self::Rms(eps as f32),
        }
    }

    /// Writes `x` `[rows, width]` normed, times `weight` `[width]` and plus `shift` `[width]` to `y`; gives the row
    /// statistics that the backward pass reads.
    pub fn forward<T: Element>(
        self,
        x: &[f32],
        weight: &[f32],
        shift: Option<&[f32]>,
        y: &mut [T],
    ) -> Vec<f32> {
        let _span = span::part("norm");
        let (width, w) = (weight.len(), Some(weight));
        let rows = x.len() / width;
        match self {
            Self::Rms(eps) => {
                let mut inverse = vec![0.0; rows];
                rowwise::rms_norm(x, width, w, shift, eps, y, &mut inverse);
                inverse
            }
            Self::Layer(eps) => {
                let mut stats = vec![0.0; 2 * rows];
                rowwise::layer_norm(x, width, w, shift, eps, y, &mut stats);
                stats
            }
        }
    }

    /// Writes the gradient of x to `dx`; gives that of the weight if it is `wanted`.
    pub fn backward(
        self,
        x: &[f32],
        weight: &[f32],
        stats: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        wanted: bool,
    ) -> Option<Vec<f32>> {
        let backward = match self {
            Self::Rms(_) => rowwise::rms_norm_backward,
            Self::Layer(_) => rowwise::layer_norm_backward,
        };
        run(backward, x, weight, stats, dy, dx, wanted)
    }

    /// Adds the gradient of x to `dx`, which holds the gradient that goes past the norm.
    pub fn backward_onto(
        self,
        x: &[f32],
        weight: &[f32],
        stats: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        wanted: bool,
    ) -> Option<Vec<f32>> {
        let backward = match self {
            Self::Rms(_) => rowwise::rms_norm_backward_onto,
            Self::Layer(_) => rowwise::layer_norm_backward_onto,
        };
        run(backward, x, weight, stats, dy, dx, wanted)
    }
}

type Backward = fn(&[f32], usize, Option<&[f32]>, &[f32], &[f32], &mut [f32], Option<&mut [f32]>);

fn run(
    backward: Backward,
    x: &[f32],
    weight: &[f32],
    stats: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    wanted: bool,
) -> Option<Vec<f32>> {
    let _span = span::part("norm backward");
    let mut dweight = wanted.then(|| vec![0.0; weight.len()]);
    backward(
        x,
        weight.len(),
        Some(weight),
        stats,
        dy,
        dx,
        dweight.as_deref_mut(),
    );
    dweight
}
