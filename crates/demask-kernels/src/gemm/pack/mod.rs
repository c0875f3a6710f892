//! Packing: operands in the number format and in the order in which the register tile reads them.
//!
//! | name | file | what it is |
//! |---|---|---|
//! | words | `words.rs` | copying words into panels, whatever they mean |
//! | left | `left.rs` | a tile of rows of A, rounded to the format |
//! | tiles | `tiles.rs` | the same for a tile unit |
//! | right | `right.rs` | a panel of columns of B, rounded to the format |
//! | quantise | `quantise.rs` | floats to whole numbers with a scale |

mod left;
mod quantise;
mod right;
mod tiles;
mod words;

pub(crate) use left::left;
pub(crate) use right::right;
pub(crate) use tiles::{some_tiles, tiles, width as tiles_width};
pub(crate) use words::lhs_panel;

use crate::Precision;
use crate::element::Element;
use crate::memory::Scratch;
use crate::simd::LANES;

/// Values that a pack may write past the end of its panel (overlapping full-width stores).
pub(crate) const SLACK: usize = LANES;

/// Values as f32: where they lie, if they are, else in a copy, row-major, that lives as long as the last part. The
/// second one has the strides of rows and of columns.
///
/// # Safety
/// The values at `src[i·strides.0 + j·strides.1]` are readable.
#[inline(always)]
pub(crate) unsafe fn floats<T: Element>(
    src: *const T,
    strides: (usize, usize),
    (rows, cols): (usize, usize),
) -> (*const f32, (usize, usize), Option<Scratch>) {
    if T::PRECISION == Precision::F32 {
        return (src.cast(), strides, None);
    }
    let mut copy = Scratch::take(rows * cols);
    for i in 0..rows {
        for j in 0..cols {
            // SAFETY: the caller's promise; the copy has room for every value.
            unsafe {
                let x = *src.add(i * strides.0 + j * strides.1);
                *copy.as_mut_ptr().add(i * cols + j) = x.into();
            }
        }
    }
    (copy.as_ptr(), (cols, 1), Some(copy))
}

/// Splits `m` rows into the fewest tiles of at most `mr` rows, as even as possible (in whole `unit`s of rows but for
/// the last), and returns the first row of tile `i` (so tile `i` is `start(i)..start(i + 1)`). Even tiles leave
/// no thin remainder.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    m: usize,
    unit: usize,
    /// Number of tiles.
    pub tiles: usize,
}

impl Rows {
    /// # Panics
    /// When `m` is so large that `start` could wrap.
    pub fn new(m: usize, mr: usize) -> Self {
        Self::of_units(m, mr, 1)
    }

    /// `mr` is a multiple of `unit`.
    ///
    /// # Panics
    /// As [`new`](Self::new) does.
    pub fn of_units(m: usize, mr: usize, unit: usize) -> Self {
        let tiles = m.div_ceil(mr);
        assert!(
            m.checked_mul(tiles).is_some(),
            "gemm: {m} rows in {tiles} tiles are too many"
        );
        Self { m, unit, tiles }
    }
    /// Units of rows, the last of which may be shorter.
    pub fn units(self) -> usize {
        self.m.div_ceil(self.unit)
    }
    /// The tile that unit `u` is in.
    #[inline(always)]
    pub fn tile_of(self, u: usize) -> usize {
        ((u + 1) * self.tiles - 1) / self.units()
    }
    #[inline(always)]
    pub fn start(self, i: usize) -> usize {
        if self.unit == 1 {
            return self.m * i / self.tiles;
        }
        (self.units() * i / self.tiles * self.unit).min(self.m)
    }
}
