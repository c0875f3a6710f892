//! Products with a long inner dimension on a tile unit, cut for its caches.
//!
//! The unit takes two tiles in a step, more than the second-level cache can give it, and the rows of C often lie so far
//! apart that they share a place in the caches. So the sums of some hundred rows and columns stay in scratch until they
//! are whole, and the inner dimension is taken in parts so short that a panel of B, read again for each panel of A, is in
//! the first-level cache.

use super::strip::{Destination, Left, Source};
use super::tiled::{self, SUMS};
use crate::mem::Scratch;
use crate::simd::{Simd, amx};

/// Words of a part: 16 KiB of a panel.
pub(super) const WORDS: usize = 128;
/// Panels of B whose sums are kept.
pub(super) const PANELS: usize = 8;
/// Panels of A whose sums are kept, 512 KiB of them.
const TILES: usize = 16;

/// Asks for share `i` of `n` of a part of a panel of `width` rows or columns.
#[inline(always)]
fn ask(part: *const f32, width: usize, (i, n): (usize, usize)) {
    let lines = (WORDS * width / amx::LINE).div_ceil(n);
    amx::will_read(part.wrapping_add(i * lines * amx::LINE), lines);
}

impl Left<'_> {
    /// [`Left::strip`] for a packed `b` and a unit.
    #[inline(always)]
    pub(super) fn parts<S: Simd>(
        &self,
        s: S,
        unit: &amx::Tiles,
        b: &Source,
        (j0, j1): (usize, usize),
        to: &Destination,
    ) {
        let Source::Panels { ptr: panels, .. } = b else {
            unreachable!("parts are those of a packed operand");
        };
        let (format, words) = (self.layout.format, self.layout.words);
        let count = (j1 - j0).div_ceil(S::NR);
        let mut sums = Scratch::take(TILES * count * SUMS);
        let sums = sums.as_mut_ptr();
        let panel = |p: usize| panels.get().wrapping_add((j0 + p * S::NR) * words);
        let tile = |t: usize, p: usize| self.tile::<S>(t, b, panel(p), (j0, p * S::NR, j1), to);
        for t0 in (self.tiles.0..self.tiles.1).step_by(TILES) {
            let t1 = (t0 + TILES).min(self.tiles.1);
            let sums = |t: usize, p: usize| sums.wrapping_add(((t - t0) * count + p) * SUMS);
            // SAFETY: packed panels are whole; the sums lie in the scratch, and C in this task's block or its scratch,
            // which no other task touches.
            unsafe {
                for w in (0..words).step_by(WORDS) {
                    for p in 0..count {
                        for t in t0..t1 {
                            let ((tile, rows), sums) = (tile(t, p), sums(t, p));
                            if w == 0 {
                                tiled::begin(s, format, rows, &tile, sums);
                            }
                            // What comes next is asked for bit by bit: this panel of A in its next part, and the
                            // panel of B that comes after this one.
                            let height = rows.next_multiple_of(amx::ROWS);
                            let a = tile.a.wrapping_add((w + WORDS) * height);
                            let b = match p + 1 < count {
                                true => panel(p + 1).wrapping_add(w * S::NR),
                                false => panel(0).wrapping_add((w + WORDS) * S::NR),
                            };
                            if w + WORDS < words {
                                ask(a, height, (p, count));
                            }
                            ask(b, S::NR, (t - t0, t1 - t0));
                            let part = (w, (w + WORDS).min(words));
                            tiled::part(unit, format, rows, &tile, part, sums);
                        }
                    }
                }
                for t in t0..t1 {
                    for p in 0..count {
                        let (tile, rows) = tile(t, p);
                        tiled::finish(s, format, rows, &tile, sums(t, p));
                    }
                }
            }
        }
    }
}
