//! A right operand packed once.

use super::{MatrixRef, pack};
use crate::mem::{Buffer, MutPtr, Ptr};
use crate::simd::{Isa, Kernel, Simd, dispatch, tile_shape};
use crate::threads;

/// A k×n right operand in panels of `NR` columns, each panel `[k][NR]`, the last one padded with 0.
///
/// Packing costs about one pass over memory; keep the value for as long as the weights live.
#[derive(Debug)]
pub struct PackedB {
    data: Buffer,
    rows: usize,
    cols: usize,
    isa: Isa,
}

struct PackPanel {
    src: *const f32,
    strides: (usize, usize),
    rows: usize,
    cols: usize,
    dst: *mut f32,
}

impl Kernel for PackPanel {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: `PackedB::pack` hands over a whole panel of the source and its place.
        unsafe { pack::rhs_panel(s, self.src, self.strides, self.rows, self.cols, self.dst) }
    }
}

impl PackedB {
    /// Packs a k×n matrix (any strides: pass [`MatrixRef::t`] of an `[out, in]` weight).
    ///
    /// # Panics
    /// When the panels would not fit in the address space, as a view that repeats one row or column
    /// without end may ask for.
    pub fn pack(b: MatrixRef<'_>) -> Self {
        let isa = Isa::detect();
        let (_, nr) = tile_shape(isa);
        let (rows, cols) = (b.rows(), b.cols());
        let panels = cols.div_ceil(nr);
        // Every place a task writes lies below this product, so nothing below can wrap.
        let values = panels.checked_mul(nr).and_then(|n| n.checked_mul(rows));
        let values = values.unwrap_or_else(|| {
            panic!("gemm: the panels of a {rows}x{cols} matrix do not fit in the address space")
        });
        let mut data = Buffer::zeroed(values);
        let (src, dst) = (Ptr(b.ptr()), MutPtr(data.as_mut_ptr()));
        let strides = b.strides();
        threads::parallel(panels, values.saturating_mul(8), |p| {
            let panel = PackPanel {
                src: src.get().wrapping_add(p * nr * strides.1),
                strides,
                rows,
                cols: (cols - p * nr).min(nr),
                // Panel p lies at its own place, so tasks never share memory.
                dst: dst.get().wrapping_add(p * nr * rows),
            };
            dispatch(isa, panel);
        });
        Self {
            data,
            rows,
            cols,
            isa,
        }
    }

    /// Rows (k, the inner dimension).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (n).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }

    /// The instruction set whose panel width was used.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The panels.
    pub(crate) fn ptr(&self) -> *const f32 {
        self.data.as_ptr()
    }
}
