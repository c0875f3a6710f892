//! The convolution itself.

use super::ConvShape;
use super::direct::{self, Added, Target};
use super::planes::Sampling;
use super::weights::{FilterView, Panels};
use super::winograd::{self, Transformed};
use crate::memory::{Scratch, written};
use crate::simd::Isa;

/// Filters as the way that is taken wants them.
enum Filters {
    Direct(Panels),
    Winograd(Transformed),
}

/// Filters packed once, for [`conv2d_packed`].
pub struct PackedFilters {
    filters: Filters,
    /// Filters, channels, rows, columns.
    dims: [usize; 4],
    stride: [usize; 2],
}

impl std::fmt::Debug for PackedFilters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedFilters({:?})", self.dims)
    }
}

impl PackedFilters {
    /// Packs `[filters, channels, kernel height, kernel width]` for a convolution of this shape (with any
    /// batch, height, width and padding).
    ///
    /// # Panics
    /// When the slice does not hold that many values.
    pub fn pack(shape: &ConvShape, weight: &[f32]) -> Self {
        Self::pack_in(shape, weight, Scratch::fresh)
    }

    fn pack_in(shape: &ConvShape, weight: &[f32], take: fn(usize) -> Scratch) -> Self {
        shape.check("conv2d", None, Some(weight.len()), None);
        let (stride, [kh, kw]) = (shape.stride, shape.kernel);
        let (rows, channels) = (shape.filters, shape.channels);
        let dims = [rows, channels, kh, kw];
        let taps: Vec<usize> = (0..shape.taps()).collect();
        let view = FilterView {
            data: weight,
            rows,
            channels,
            row_stride: channels * taps.len(),
            channel_stride: taps.len(),
            taps: &taps,
        };
        let isa = Isa::detect();
        let filters = if winograd::fits([kh, kw], stride, channels, rows) {
            let offsets: Vec<_> = (0..9).map(|t| [t / 3, t % 3]).collect();
            Filters::Winograd(Transformed::pack(isa, view, &offsets, take))
        } else {
            Filters::Direct(Panels::pack(isa, view, take))
        };
        Self {
            filters,
            dims,
            stride,
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.filters {
            Filters::Direct(panels) => panels.bytes(),
            Filters::Winograd(panels) => panels.bytes(),
        }
    }
}

/// 2-D convolution (as networks mean it, so a correlation), with zeros around the input:
/// `y[n, o, j, i] = bias[o] + Σ_{c, u, v} weight[o, c, u, v] · x[n, c, j·s₀ + u − p₀, i·s₁ + v − p₁]`.
///
/// The chain of fused multiply-adds begins at the bias (or 0) and runs over c, then u, then v. Filters
/// 3×3 at stride 1 with at least 16 channels and filters go the way of `winograd.rs` instead: 16
/// chains over c, combined in a fixed order, which mixes the samples of four neighbours. A sample outside
/// the input adds `weight · 0`. So all values must be finite.
///
/// # Shapes
/// `x`: `[batch, channels, height, width]`; `weight`: `[filters, channels, kernel]`; `bias`: `[filters]`;
/// `y`: `[batch, filters, output]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn conv2d(shape: &ConvShape, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    shape.check("conv2d", Some(x.len()), Some(weight.len()), Some(y.len()));
    let filters = PackedFilters::pack_in(shape, weight, Scratch::take);
    conv2d_packed(shape, x, &filters, bias, y);
}

/// [`conv2d`] into new memory, which is not filled with zeros first, and added to `onto`, as a residual branch
/// ends: `onto + conv2d(x)`, with the bits of a sum made afterwards.
///
/// # Shapes
/// As in [`conv2d`]; `onto`: that of the result.
///
/// # Panics
/// When the shapes do not fit together.
pub fn new_conv2d(
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    onto: Option<&[f32]>,
) -> Vec<f32> {
    let what = "new_conv2d";
    shape.check(
        what,
        Some(x.len()),
        Some(weight.len()),
        onto.map(<[f32]>::len),
    );
    let filters = PackedFilters::pack_in(shape, weight, Scratch::take);
    // SAFETY: every value of the output is written.
    unsafe {
        written(shape.output_len(), |y| {
            run(shape, x, &filters, bias, onto, y.get());
        })
    }
}

/// [`conv2d`] with filters packed before; the result has the same bits.
///
/// # Shapes
/// As in [`conv2d`].
///
/// # Panics
/// When the shapes do not fit together.
pub fn conv2d_packed(
    shape: &ConvShape,
    x: &[f32],
    filters: &PackedFilters,
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    shape.check("conv2d", Some(x.len()), None, Some(y.len()));
    // SAFETY: the lengths were checked.
    unsafe { run(shape, x, filters, bias, None, y.as_mut_ptr()) }
}

/// All of the above; writes every value of `y`.
///
/// # Safety
/// `x` and `onto` have the lengths of the shape, and `y` room for the output.
unsafe fn run(
    shape: &ConvShape,
    x: &[f32],
    filters: &PackedFilters,
    bias: Option<&[f32]>,
    onto: Option<&[f32]>,
    y: *mut f32,
) {
    let [kh, kw] = shape.kernel;
    assert!(
        filters.dims == [shape.filters, shape.channels, kh, kw] && filters.stride == shape.stride,
        "conv2d: filters {:?} packed for stride {:?} do not fit {shape:?}",
        filters.dims,
        filters.stride
    );
    if let Some(bias) = bias {
        assert_eq!(
            bias.len(),
            shape.filters,
            "conv2d: the bias must have a value for each of the {} filters",
            shape.filters
        );
    }
    let size = shape.output();
    let sampling = Sampling {
        channels: shape.channels,
        source: [shape.height, shape.width],
        grid: size,
        step: shape.stride,
        low: shape.padding.map(|p| -(p as isize)),
        taps: (0..shape.taps()).map(|t| [t / kw, t % kw]).collect(),
    };
    let added = Added {
        bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
        onto: onto.map_or(std::ptr::null(), <[f32]>::as_ptr),
    };
    let x = x.as_ptr();
    // SAFETY: the caller's promises; the filters and the bias were checked above.
    unsafe {
        match &filters.filters {
            Filters::Winograd(filters) => {
                winograd::correlate(shape.batch, &sampling, filters, x, added, y);
            }
            Filters::Direct(filters) => {
                let target = Target::whole(size);
                direct::correlate(shape.batch, &sampling, filters, target, x, added, y);
            }
        }
    }
}
