//! The convolution itself.

use super::ConvShape;
use super::direct::{self, Target};
use super::planes::Sampling;
use super::weights::{FilterView, Panels};
use super::winograd::{self, Transformed};
use crate::mem::Scratch;
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
        let taps: Vec<usize> = (0..kh * kw).collect();
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
        taps: (0..kh * kw).map(|t| [t / kw, t % kw]).collect(),
    };
    let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
    let (x, y) = (x.as_ptr(), y.as_mut_ptr());
    // SAFETY: the sizes were checked above.
    unsafe {
        match &filters.filters {
            Filters::Winograd(filters) => {
                winograd::correlate(shape.batch, &sampling, filters, x, bias, y);
            }
            Filters::Direct(filters) => {
                let target = Target::whole(size);
                direct::correlate(shape.batch, &sampling, filters, target, x, bias, y);
            }
        }
    }
}
