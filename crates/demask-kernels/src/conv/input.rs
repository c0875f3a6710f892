//! The gradient with respect to the input: a correlation of the output's gradient with the filters
//! turned around.
//!
//! With a stride s, input pixels with the same remainder modulo s are reached by the same taps, so
//! there are s·s correlations with a part of the taps each, and none multiplies zeros.

use super::ConvShape;
use super::direct::{self, Added, Target};
use super::planes::Sampling;
use super::weights::{FilterView, Panels};
use super::winograd::{self, Transformed};
use crate::mem::{Scratch, written};
use crate::simd::Isa;

/// Gradient of [`super::conv2d`] with respect to its input; `dx` is overwritten.
/// `dx[n, c, y, x] = Σ_{o, u, v} weight[o, c, u, v] · dy[n, o, (y + p₀ − u)/s₀, (x + p₁ − v)/s₁]` over
/// the taps for which both quotients are whole; the chain runs over o, then u, then v.
///
/// # Shapes
/// As in [`super::conv2d`].
///
/// # Panics
/// When the shapes do not fit together.
pub fn conv2d_backward_input(shape: &ConvShape, weight: &[f32], dy: &[f32], dx: &mut [f32]) {
    shape.check(
        "conv2d_backward_input",
        Some(dx.len()),
        Some(weight.len()),
        Some(dy.len()),
    );
    // SAFETY: the lengths were checked.
    unsafe { run(shape, weight, dy, dx.as_mut_ptr()) }
}

/// [`conv2d_backward_input`] into new memory, which is not filled with zeros first.
///
/// # Panics
/// When the shapes do not fit together.
pub fn new_conv2d_backward_input(shape: &ConvShape, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let what = "new_conv2d_backward_input";
    shape.check(what, None, Some(weight.len()), Some(dy.len()));
    // SAFETY: every value of the input belongs to one class, which is written as a whole.
    unsafe {
        written(shape.input_len(), |dx| {
            run(shape, weight, dy, dx.get());
        })
    }
}

/// Class after class.
///
/// # Safety
/// `weight` and `dy` have the lengths of the shape, and `dx` room for the input.
unsafe fn run(shape: &ConvShape, weight: &[f32], dy: &[f32], dx: *mut f32) {
    let size = [shape.height, shape.width];
    let [sy, sx] = shape.stride;
    for origin in (0..sy * sx).map(|r| [r / sx, r % sx]) {
        if origin[0] < size[0] && origin[1] < size[1] {
            // SAFETY: the caller's promises.
            unsafe { class(shape, origin, weight, dy, dx) }
        }
    }
}

/// Taps (of one axis) that reach input pixels with remainder `r`, and the output pixel they come from,
/// relative to the pixel's index in its class.
fn reach(shape: &ConvShape, axis: usize, r: usize) -> Vec<(usize, isize)> {
    let (p, s) = (shape.padding[axis] as isize, shape.stride[axis] as isize);
    (0..shape.kernel[axis])
        .map(|u| (u, r as isize + p - u as isize))
        .filter(|&(_, from)| from.rem_euclid(s) == 0)
        .map(|(u, from)| (u, from.div_euclid(s)))
        .collect()
}

/// One class of input pixels.
///
/// # Safety
/// As for [`run`].
unsafe fn class(shape: &ConvShape, origin: [usize; 2], weight: &[f32], dy: &[f32], dst: *mut f32) {
    let size = [shape.height, shape.width];
    let (down, across) = (reach(shape, 0, origin[0]), reach(shape, 1, origin[1]));
    let lowest = |list: &[(usize, isize)]| list.iter().map(|l| l.1).min().unwrap_or(0);
    let low = [lowest(&down), lowest(&across)];
    let (mut taps, mut places) = (Vec::new(), Vec::new());
    for &(u, y) in &down {
        for &(v, x) in &across {
            taps.push([(y - low[0]) as usize, (x - low[1]) as usize]);
            places.push(u * shape.kernel[1] + v);
        }
    }
    let sampling = Sampling {
        channels: if taps.is_empty() { 0 } else { shape.filters },
        source: shape.output(),
        grid: std::array::from_fn(|a| (size[a] - origin[a]).div_ceil(shape.stride[a])),
        step: [1, 1],
        low,
        taps,
    };
    let view = FilterView {
        data: weight,
        rows: shape.channels,
        channels: sampling.channels,
        row_stride: shape.taps(),
        channel_stride: shape.channels * shape.taps(),
        taps: &places,
    };
    let (isa, src) = (Isa::detect(), dy.as_ptr());
    // SAFETY: the caller's promises.
    unsafe {
        if winograd::fits(shape.kernel, shape.stride, shape.filters, shape.channels) {
            let filters = Transformed::pack(isa, view, &sampling.taps, Scratch::take);
            winograd::correlate(shape.batch, &sampling, &filters, src, Added::NONE, dst);
        } else {
            let target = Target {
                size,
                origin,
                step: shape.stride,
            };
            let filters = Panels::pack(isa, view, Scratch::take);
            direct::correlate(
                shape.batch,
                &sampling,
                &filters,
                target,
                src,
                Added::NONE,
                dst,
            );
        }
    }
}
