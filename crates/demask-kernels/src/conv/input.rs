//! The gradient with respect to the input: a correlation of the output's gradient with the filters
//! turned around.
//!
//! With a stride s, input pixels with the same remainder modulo s are reached by the same taps, so
//! there are s·s correlations with a part of the taps each, and none multiplies zeros. Where the stride
//! is larger than a filter, some pixels are reached by no tap.

use super::ConvShape;
use super::direct::{self, Added, Target};
use super::planes::Sampling;
use super::weights::{FilterView, Panels};
use super::winograd::{self, Transformed};
use crate::memory::{Scratch, written};
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
    // SAFETY: every value of the input is written, with its class or before.
    unsafe {
        written(shape.input_len(), |dx| {
            run(shape, weight, dy, dx.get());
        })
    }
}

/// Class after class; writes every value of `dx`.
///
/// # Safety
/// `weight` and `dy` have the lengths of the shape, and `dx` room for the input.
unsafe fn run(shape: &ConvShape, weight: &[f32], dy: &[f32], dx: *mut f32) {
    let (size, values) = ([shape.height, shape.width], shape.input_len());
    if values == 0 {
        return;
    }
    let [down, across] = if shape.filters == 0 {
        [Vec::new(), Vec::new()]
    } else {
        [reached(shape, 0), reached(shape, 1)]
    };
    let classes = down.len() * across.len();
    if classes < shape.stride[0].min(size[0]) * shape.stride[1].min(size[1]) {
        // SAFETY: the caller's promise.
        unsafe { dx.write_bytes(0, values) }
    }
    for down in &down {
        for across in &across {
            // SAFETY: the caller's promises.
            unsafe { class(shape, [down, across], weight, dy, dx) }
        }
    }
}

/// Input pixels (of one axis) with one remainder modulo the stride.
struct Reached {
    /// The first of them.
    origin: usize,
    /// Taps that reach them, and the output pixel each comes from, relative to the pixel's index in its class.
    taps: Vec<(usize, isize)>,
}

/// The classes of one axis that a tap reaches.
fn reached(shape: &ConvShape, axis: usize) -> Vec<Reached> {
    let (p, s) = (shape.padding[axis], shape.stride[axis]);
    // A picture is smaller than any stride that an isize can't hold.
    let signed = isize::try_from(s).unwrap_or(isize::MAX);
    let class = |origin: usize| {
        let at = origin + p;
        let from = |u| (u, (at as isize - u as isize) / signed);
        let taps = (at % s..shape.kernel[axis]).step_by(s).map(from).collect();
        Reached { origin, taps }
    };
    let classes = (0..s.min([shape.height, shape.width][axis])).map(class);
    classes.filter(|class| !class.taps.is_empty()).collect()
}

/// One class of input pixels.
///
/// # Safety
/// As for [`run`].
unsafe fn class(
    shape: &ConvShape,
    [down, across]: [&Reached; 2],
    weight: &[f32],
    dy: &[f32],
    dst: *mut f32,
) {
    let (size, origin) = ([shape.height, shape.width], [down.origin, across.origin]);
    let lowest = |class: &Reached| class.taps.iter().map(|l| l.1).min().unwrap_or(0);
    let low = [lowest(down), lowest(across)];
    let (mut taps, mut places) = (Vec::new(), Vec::new());
    for &(u, y) in &down.taps {
        for &(v, x) in &across.taps {
            taps.push([(y - low[0]) as usize, (x - low[1]) as usize]);
            places.push(u * shape.kernel[1] + v);
        }
    }
    let sampling = Sampling {
        channels: shape.filters,
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
