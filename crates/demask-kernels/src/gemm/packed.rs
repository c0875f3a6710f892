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

/// Steps of the inner dimension that are packed at a time where rows of B are contiguous.
const STEPS: usize = 128;

/// Packs all panels of a matrix, then their scales. Contiguous rows are read as they lie, some at a time, so that all
/// panels find them in a near cache; contiguous columns panel by panel.
pub(super) fn pack_panels(
    isa: Isa,
    layout: &Layout,
    src: Ptr,
    strides: (usize, usize),
    cols: usize,
    dst: MutPtr,
) {
    let (_, nr) = tile_shape(isa);
    let panels = cols.div_ceil(nr);
    let work = cols.saturating_mul(layout.k).saturating_mul(16);
    let by_rows = strides.1 == 1 && layout.groups == 0;
    // Every place lies at its own words of its own panel, so tasks never share memory.
    let panel = |p: usize, layout: &Layout, k0: usize, w0: usize, words: usize| {
        let panel = PackPanel {
            layout,
            src: src.get().wrapping_add(k0 * strides.0 + p * nr * strides.1),
            strides,
            cols: (cols - p * nr).min(nr),
            dst: dst.get().wrapping_add(p * nr * words + w0 * nr),
            scales: dst
                .get()
                .wrapping_add(panels * nr * words + p * nr * layout.groups),
        };
        dispatch(isa, panel);
    };
    if by_rows {
        threads::parallel(layout.k.div_ceil(STEPS), work, |block| {
            let (k0, k1) = (block * STEPS, ((block + 1) * STEPS).min(layout.k));
            let part = Layout::new(layout.format, k1 - k0);
            // Steps of whole words: STEPS is a multiple of the values of a word.
            let w0 = Layout::new(layout.format, k0).words;
            for p in 0..panels {
                panel(p, &part, k0, w0, layout.words);
            }
        });
    } else {
        threads::parallel(panels, work, |p| panel(p, layout, 0, 0, layout.words));
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
        let dst = MutPtr(data.as_mut_ptr());
        pack_panels(isa, &layout, Ptr(b.ptr()), b.strides(), cols, dst);
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
