//! The convolution itself.

use super::ConvShape;
use super::direct::{Target, correlate};
use super::planes::Sampling;
use super::weights::{FilterView, Panels};
use crate::simd::Isa;

/// Filters packed once, for [`conv2d_packed`].
pub struct PackedFilters {
    panels: Panels,
    /// Filters, channels, rows, columns.
    dims: [usize; 4],
}

impl std::fmt::Debug for PackedFilters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedFilters({:?})", self.dims)
    }
}

impl PackedFilters {
    /// Packs `[filters, channels, kernel height, kernel width]`.
    ///
    /// # Panics
    /// When the slice does not hold that many values.
    pub fn pack(weight: &[f32], dims: [usize; 4]) -> Self {
        let len = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        assert!(
            len == Some(weight.len()),
            "conv: filters {dims:?} do not fill a slice of {} values",
            weight.len()
        );
        let [rows, channels, kh, kw] = dims;
        let taps: Vec<usize> = (0..kh * kw).collect();
        let view = FilterView {
            data: weight,
            rows,
            channels,
            row_stride: channels * taps.len(),
            channel_stride: taps.len(),
            taps: &taps,
        };
        Self {
            panels: Panels::pack(Isa::detect(), view),
            dims,
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.panels.bytes()
    }
}

/// 2-D convolution (as networks mean it, so a correlation), with zeros around the input:
/// `y[n, o, j, i] = bias[o] + Σ_{c, u, v} weight[o, c, u, v] · x[n, c, j·s₀ + u − p₀, i·s₁ + v − p₁]`.
///
/// The chain of fused multiply-adds begins at the bias (or 0) and runs over c, then u, then v. A
/// sample outside the input adds `weight · 0`, so weights must be finite.
///
/// # Shapes
/// `x`: `[batch, channels, height, width]`; `weight`: `[filters, channels, kernel]`; `bias`: `[filters]`;
/// `y`: `[batch, filters, output]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn conv2d(shape: &ConvShape, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    shape.check("conv2d", Some(x.len()), Some(weight.len()), Some(y.len()));
    let [kh, kw] = shape.kernel;
    let filters = PackedFilters::pack(weight, [shape.filters, shape.channels, kh, kw]);
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
    assert_eq!(
        filters.dims,
        [shape.filters, shape.channels, kh, kw],
        "conv2d: the packed filters do not fit {shape:?}"
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
    let target = Target {
        size,
        origin: [0, 0],
        step: [1, 1],
    };
    let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
    // SAFETY: the sizes were checked above.
    unsafe {
        correlate(
            shape.batch,
            &sampling,
            &filters.panels,
            target,
            x.as_ptr(),
            bias,
            y.as_mut_ptr(),
        );
    }
}
