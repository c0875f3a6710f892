//! A right operand packed once.

use super::format::{Format, Layout};
use super::{MatrixRef, pack};
use crate::element::Element;
use crate::memory::{Buffer, MutPtr, Ptr};
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

struct PackPanel<'a, T> {
    layout: &'a Layout,
    src: *const T,
    strides: (usize, usize),
    cols: usize,
    dst: *mut f32,
    scales: *mut f32,
}

impl<T: Element> Kernel for PackPanel<'_, T> {
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

/// Where panels go.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    /// The first of them, `[words][NR]` each.
    pub words: MutPtr,
    /// The scales of the first one, `[groups][NR]` each.
    pub scales: MutPtr,
}

/// Packs all panels of a matrix and their scales. Contiguous rows are read as they lie, some at a time, so that all
/// panels find them in a near cache; contiguous columns panel by panel.
pub(super) fn pack_panels<T: Element>(
    isa: Isa,
    layout: &Layout,
    src: Ptr<T>,
    strides: (usize, usize),
    cols: usize,
    to: Panels,
) {
    // A view of nothing may have any number of rows.
    if cols == 0 || layout.k == 0 {
        return;
    }
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
            dst: to.words.get().wrapping_add(p * nr * words + w0 * nr),
            scales: to.scales.get().wrapping_add(p * nr * layout.groups),
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
        let mut packer = Packer::new(b.rows(), b.cols(), format);
        packer.add(b);
        packer.finish()
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

/// A [`PackedB`] on its way, packed part by part: the matrix itself, which may be several times as large, need
/// never be in memory as a whole. The bits are those of [`PackedB::pack`].
///
/// ```
/// use demask_kernels::gemm::{Format, MatrixRef, Packer};
///
/// let mut packer = Packer::new(2, Packer::STEP + 1, Format::F32);
/// packer.add(MatrixRef::new(&[1.0; 2 * Packer::STEP], 2, Packer::STEP));
/// packer.add(MatrixRef::new(&[5.0, 6.0], 2, 1));
/// assert_eq!(packer.finish().cols(), Packer::STEP + 1);
/// ```
#[derive(Debug)]
pub struct Packer {
    packed: PackedB,
    /// Columns that are packed.
    done: usize,
}

impl Packer {
    /// Columns of a part are a multiple of this, but for the last part: whole panels on every instruction set.
    pub const STEP: usize = 64;

    /// For a `rows`×`cols` matrix.
    ///
    /// # Panics
    /// As for [`PackedB::pack`].
    pub fn new(rows: usize, cols: usize, format: Format) -> Self {
        let isa = Isa::detect();
        let (_, nr) = tile_shape(isa);
        assert!(Self::STEP.is_multiple_of(nr), "gemm: panels of {nr}");
        let layout = Layout::new(format, rows);
        let panels = cols.div_ceil(nr);
        // Every place a task writes lies below this product, so nothing below can wrap.
        let values = panels.checked_mul(nr);
        let values = values.and_then(|n| n.checked_mul(layout.rhs_column()));
        let values = values.unwrap_or_else(|| {
            panic!("gemm: the panels of a {rows}x{cols} matrix do not fit in the address space")
        });
        let packed = PackedB {
            data: Buffer::zeroed(values),
            layout,
            cols,
            isa,
        };
        Self { packed, done: 0 }
    }

    /// Packs the next columns.
    ///
    /// # Panics
    /// When the part has not as many rows as the matrix, or more columns than are left, or is neither the last one
    /// nor a multiple of [`STEP`](Self::STEP) wide.
    pub fn add(&mut self, part: MatrixRef<'_>) {
        let PackedB {
            data,
            layout,
            cols,
            isa,
        } = &mut self.packed;
        let (from, to) = (self.done, self.done.saturating_add(part.cols()));
        assert!(
            part.rows() == layout.k
                && to <= *cols
                && (to == *cols || part.cols().is_multiple_of(Self::STEP)),
            "gemm: a part of {}x{} at column {from} of {}x{cols}",
            part.rows(),
            part.cols(),
            layout.k,
        );
        let (_, nr) = tile_shape(*isa);
        let all = cols.next_multiple_of(nr);
        let data = data.as_mut_ptr();
        let to_panels = Panels {
            words: MutPtr(data.wrapping_add(from * layout.words)),
            scales: MutPtr(data.wrapping_add(all * layout.words + from * layout.groups)),
        };
        let source = Ptr(part.ptr());
        pack_panels(*isa, layout, source, part.strides(), part.cols(), to_panels);
        self.done = to;
    }

    /// The packed matrix.
    ///
    /// # Panics
    /// When columns are missing.
    pub fn finish(self) -> PackedB {
        let cols = self.packed.cols;
        assert!(self.done == cols, "gemm: {} of {cols} columns", self.done);
        self.packed
    }
}
