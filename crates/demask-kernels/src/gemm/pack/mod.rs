//! Packing: operands in the number format and in the order in which the register tile reads them.
//!
//! | name | file | what it is |
//! |---|---|---|
//! | words | `words.rs` | copying words into panels, whatever they mean |
//! | left | `left.rs` | a tile of rows of A, rounded to the format |
//! | right | `right.rs` | a panel of columns of B, rounded to the format |
//! | quantise | `quantise.rs` | floats to whole numbers with a scale |

mod left;
mod quantise;
mod right;
mod words;

pub(crate) use left::left;
pub(crate) use right::right;
pub(crate) use words::lhs_panel;

use crate::simd::LANES;

/// Values that a pack may write past the end of its panel (overlapping full-width stores).
pub(crate) const SLACK: usize = LANES;

/// Splits `m` rows into the fewest tiles of at most `mr` rows, as even as possible, and returns the
/// first row of tile `i` (so tile `i` is `start(i)..start(i + 1)`). Even tiles leave no thin remainder.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    m: usize,
    /// Number of tiles.
    pub tiles: usize,
}

impl Rows {
    /// # Panics
    /// When `m` is so large that `start` could wrap.
    pub fn new(m: usize, mr: usize) -> Self {
        let tiles = m.div_ceil(mr);
        assert!(
            m.checked_mul(tiles).is_some(),
            "gemm: {m} rows in {tiles} tiles are too many"
        );
        Self { m, tiles }
    }
    #[inline(always)]
    pub fn start(self, i: usize) -> usize {
        self.m * i / self.tiles
    }
}
