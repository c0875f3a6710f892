//! A right operand packed once.

use super::format::{Format, Layout};
use super::{MatrixRef, pack};
use crate::mem::{Buffer, MutPtr, Ptr};
use crate::simd::{Isa, Kernel, Simd, dispatch, tile_shape};
use crate::threads;

/// A k×n right operand in a number format, in panels of `NR` columns, each panel `[words][NR]`, the last one
/// padded with 0; the scales of the integer formats follow, `[groups][NR]` for each panel.
///
/// Packing costs about one pass over memory; keep the value for as long as the weights live.
#[derive(Debug)]
pub struct PackedB {
    data: Buffer,
    layout: Layout,
    cols: usize,
    isa: Isa,
}

struct PackPanel<'a> {
    layout: &'a Layout,
    src: *const f32,
    strides: (usize, usize),
    cols: usize,
    dst: *mut f32,
    scales: *mut f32,
}

impl Kernel for PackPanel<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: `PackedB::pack` hands over a whole panel of the source and its places.
        unsafe {
            pack::right(
                s,
                self.layout,
                self.src,
                self.strides,
                self.cols,
                self.dst,
                self.scales,
            );
        }
    }
}

impl PackedB {
    /// Packs a k×n matrix (any strides: pass [`MatrixRef::t`] of an `[out, in]` weight), rounded to `format`.
    ///
    /// # Panics
    /// When the format's group does not fit (see [`Format`]), or when the panels would not fit in the address
    /// space, as a view that repeats one row or column without end may ask for.
    pub fn pack(b: MatrixRef<'_>, format: Format) -> Self {
        let isa = Isa::detect();
        let (_, nr) = tile_shape(isa);
        let (rows, cols) = (b.rows(), b.cols());
        let layout = Layout::new(format, rows);
        let panels = cols.div_ceil(nr);
        // Every place a task writes lies below this product, so nothing below can wrap.
        let values = panels.checked_mul(nr);
        let values = values.and_then(|n| n.checked_mul(layout.rhs_column()));
        let values = values.unwrap_or_else(|| {
            panic!("gemm: the panels of a {rows}x{cols} matrix do not fit in the address space")
        });
        let mut data = Buffer::zeroed(values);
        let (src, dst) = (Ptr(b.ptr()), MutPtr(data.as_mut_ptr()));
        let strides = b.strides();
        let work = cols.saturating_mul(rows).saturating_mul(16);
        threads::parallel(panels, work, |p| {
            // Panel p and its scales lie at their own places, so tasks never share memory.
            let panel = PackPanel {
                layout: &layout,
                src: src.get().wrapping_add(p * nr * strides.1),
                strides,
                cols: (cols - p * nr).min(nr),
                dst: dst.get().wrapping_add(p * nr * layout.words),
                scales: dst
                    .get()
                    .wrapping_add(panels * nr * layout.words + p * nr * layout.groups),
            };
            dispatch(isa, panel);
        });
        Self {
            data,
            layout,
            cols,
            isa,
        }
    }

    /// Rows (k, the inner dimension).
    pub fn rows(&self) -> usize {
        self.layout.k
    }

    /// Columns (n).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The number format.
    pub fn format(&self) -> Format {
        self.layout.format
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }

    /// The instruction set whose panel width was used.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The shape of the panels.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The panels, then the scales.
    pub(crate) fn ptr(&self) -> *const f32 {
        self.data.as_ptr()
    }
}
