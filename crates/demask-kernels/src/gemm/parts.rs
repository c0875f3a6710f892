//! Products with a long inner dimension on a tile unit, cut for its caches.
//!
//! The unit takes two tiles in a step, more than the second-level cache can give it, and the rows of C often lie so far
//! apart that they share a place in the caches. So the sums of some hundred rows and columns stay in scratch until they
//! are whole, and the inner dimension is taken in parts so short that a panel of B, read again for each panel of A, is in
//! the first-level cache.
//!
//! Where there are few columns, packing A in full would move more memory than the product itself. Then a task packs
//! the part that comes next, and multiplies it by all columns that it has while it is in the second-level cache.

use super::format::{Format, Layout};
use super::pack;
use super::strip::{Destination, Left, LeftSource, Source};
use super::tiled::{self, SUMS};
use crate::element::Element;
use crate::mem::Scratch;
use crate::simd::{Simd, amx};

/// Words of a part: 16 KiB of a panel.
pub(super) const WORDS: usize = 128;
/// Panels of B whose sums are kept.
pub(super) const PANELS: usize = 8;
/// The same where A is packed part by part: the more columns a part meets, the less often it is packed.
pub(super) const WIDE: usize = 16;
/// Panels of A whose sums are kept: 512 KiB of them, twice that where they are wide.
const TILES: usize = 16;

/// Words of a part of a panel of A.
const PART: usize = tiled::MR * WORDS;

/// Cuts an m×n result into (row parts, column parts) of tasks that pack A themselves: as few columns as a part of A can
/// meet at once, and as many rows as its sums have room for, in whole rounds of all threads.
pub(super) fn grid(m: usize, n: usize, threads: usize) -> (usize, usize) {
    // One, if there are none: no task comes of it.
    let cols = n.div_ceil(WIDE * tiled::NR).max(1);
    let tasks = (m.div_ceil(TILES * tiled::MR) * cols).next_multiple_of(threads);
    (tasks.div_ceil(cols), cols)
}

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
        // A part of the panels of A, where they are not packed before.
        let room = if self.is_packed() { 0 } else { TILES * PART };
        let mut packed = Scratch::take(room);
        let packed = packed.as_mut_ptr();
        let panel = |p: usize| panels.get().wrapping_add((j0 + p * S::NR) * words);
        let tile = |t: usize, p: usize| self.tile::<S>(t, b, panel(p), (j0, p * S::NR, j1), to);
        for t0 in (self.tiles.0..self.tiles.1).step_by(TILES) {
            let t1 = (t0 + TILES).min(self.tiles.1);
            let sums = |t: usize, p: usize| sums.wrapping_add(((t - t0) * count + p) * SUMS);
            // SAFETY: packed panels are whole; the sums lie in the scratch, and C in this task's block or its scratch,
            // which no other task touches.
            unsafe {
                for w in (0..words).step_by(WORDS) {
                    let part = (w, (w + WORDS).min(words));
                    self.pack_part(s, (t0, t1), part, packed);
                    for p in 0..count {
                        for t in t0..t1 {
                            let ((mut tile, rows), sums) = (tile(t, p), sums(t, p));
                            let height = rows.next_multiple_of(amx::ROWS);
                            if !self.is_packed() {
                                let part = packed.wrapping_add((t - t0) * PART);
                                tile.a = part.wrapping_sub(w * height);
                            }
                            if w == 0 {
                                tiled::begin(s, format, rows, &tile, sums);
                            }
                            // What comes next is asked for bit by bit: this panel of A in its next part, and the
                            // panel of B that comes after this one.
                            let a = tile.a.wrapping_add((w + WORDS) * height);
                            let b = match p + 1 < count {
                                true => panel(p + 1).wrapping_add(w * S::NR),
                                false => panel(0).wrapping_add((w + WORDS) * S::NR),
                            };
                            if w + WORDS < words && self.is_packed() {
                                ask(a, height, (p, count));
                            }
                            ask(b, S::NR, (t - t0, t1 - t0));
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

    /// Packs some words of some tiles of rows, `PART` words apart, unless all have been packed before.
    ///
    /// # Safety
    /// `to` is writable for all of them.
    #[inline(always)]
    unsafe fn pack_part<S: Simd>(
        &self,
        s: S,
        tiles: (usize, usize),
        words: (usize, usize),
        to: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.a {
                LeftSource::Panels(_) => {}
                LeftSource::Plain { ptr, strides } => {
                    self.pack_rows(s, (ptr.get(), strides), tiles, words, to);
                }
                LeftSource::Rounded { ptr, strides } => {
                    self.pack_rows(s, (ptr.get(), strides), tiles, words, to);
                }
            }
        }
    }

    /// # Safety
    /// As for [`Left::pack_part`].
    #[inline(always)]
    unsafe fn pack_rows<S: Simd, T: Element>(
        &self,
        s: S,
        (a, (rs, cs)): (*const T, (usize, usize)),
        (t0, t1): (usize, usize),
        (w0, w1): (usize, usize),
        to: *mut f32,
    ) {
        let (k0, k1) = (2 * w0, (2 * w1).min(self.layout.k));
        // Contiguous columns are read a step of the unit at a time, all tiles of a row one after the other.
        let step = if cs == 1 { k1 - k0 } else { 2 * amx::WORDS };
        for k in (k0..k1).step_by(step) {
            let part = Layout::new(Format::Bf16, step.min(k1 - k));
            for t in t0..t1 {
                let (r0, r1) = (self.rows.start(t), self.rows.start(t + 1));
                let height = (r1 - r0).next_multiple_of(amx::ROWS);
                // SAFETY: the rows lie in A; a part of a panel has its own place, each step of it 16 words of a row.
                unsafe {
                    let to = to.add((t - t0) * PART + (k - k0) / 2 * height);
                    let from = a.add(r0 * rs + k * cs);
                    pack::tiles(s, &part, from, (rs, cs), r1 - r0, to);
                }
            }
        }
    }
}
