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
use super::micro::Tile;
use super::pack;
use super::strip::{Destination, Left, LeftSource, Source};
use super::tiled::{self, SUMS};
use crate::element::Element;
use crate::memory::Scratch;
use crate::simd::amx::Ask;
use crate::simd::{Simd, amx};

/// Words of a part: 16 KiB of a panel.
pub(super) const WORDS: usize = 128;
/// Panels of B whose sums are kept.
pub(super) const PANELS: usize = 8;
/// The same where A is packed part by part: the more columns a part meets, the less often it is packed.
pub(super) const WIDE: usize = 16;
/// Panels of A whose sums are kept: 512 KiB of them, twice that where they are wide.
pub(super) const TILES: usize = 16;

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

/// Share `i` of the `len` words of a part that is read next, as much as is asked for while `words` are multiplied.
#[inline(always)]
fn share(part: *const f32, len: usize, words: usize, i: usize) -> Option<*const f32> {
    let asked = words / amx::WORDS * amx::ASKED * amx::LINE;
    (i * asked < len).then(|| part.wrapping_add(i * asked))
}

impl Left<'_> {
    /// [`Left::strip`] for a packed `b` and a unit.
    #[inline(always)]
    pub(super) fn parts<S: Simd>(
        &self,
        s: S,
        unit: &amx::Tiles,
        b: &Source,
        cols: (usize, usize),
        to: &Destination,
    ) {
        let mut sums = match self.at_most(TILES).next() {
            Some(first) => Scratch::take(first.part_sums_words::<S>(cols)),
            None => return,
        };
        for left in self.at_most(TILES) {
            let last = left.tiles.1 == self.tiles.1;
            let after = self.part_panel(b, if last { cols.1 } else { cols.0 });
            // SAFETY: the sums have room, and C lies in this task's block or its scratch, which no other task touches.
            unsafe {
                left.part_sums(s, unit, (b, after), cols, to, sums.as_mut_ptr());
                for t in left.tiles.0..left.tiles.1 {
                    left.finish_part_sums(s, b, cols, t, to, sums.as_ptr());
                }
            }
        }
    }

    /// Words that the sums of a strip take.
    #[inline(always)]
    pub(super) fn part_sums_words<S: Simd>(&self, (j0, j1): (usize, usize)) -> usize {
        (self.tiles.1 - self.tiles.0) * (j1 - j0).div_ceil(S::NR) * SUMS
    }

    /// The panel of B that begins at column `j`, which need not exist.
    #[inline(always)]
    pub(super) fn part_panel(&self, b: &Source, j: usize) -> *const f32 {
        let Source::Panels { ptr: panels, .. } = b else {
            unreachable!("parts are those of a packed operand");
        };
        panels.get().wrapping_add(j * self.layout.words)
    }

    /// The tile of panel `t` of A and panel `p` of a strip.
    #[inline(always)]
    fn part_tile<S: Simd>(
        &self,
        b: &Source,
        (j0, j1): (usize, usize),
        (t, p): (usize, usize),
        to: &Destination,
    ) -> (Tile, usize) {
        let panel = self.part_panel(b, j0 + p * S::NR);
        self.tile::<S>(t, b, panel, (j0, p * S::NR, j1), to)
    }

    /// The sums of a strip and at most `TILES` tiles, `[tiles][panels][SUMS]`, not yet what C is to hold; they begin
    /// with C where it is to be loaded. `after` them comes a panel of B that is asked for, wherever it points.
    ///
    /// # Safety
    /// `sums` is writable for [so many words](Self::part_sums_words); C, where it is to be loaded, is readable.
    #[inline(always)]
    pub(super) unsafe fn part_sums<S: Simd>(
        &self,
        s: S,
        unit: &amx::Tiles,
        (b, after): (&Source, *const f32),
        cols: (usize, usize),
        to: &Destination,
        sums: *mut f32,
    ) {
        debug_assert!(self.tiles.1 - self.tiles.0 <= TILES);
        let (format, words) = (self.layout.format, self.layout.words);
        let count = (cols.1 - cols.0).div_ceil(S::NR);
        // A part of the panels of A, where they are not packed before.
        let room = if self.is_packed() { 0 } else { TILES * PART };
        let mut packed = Scratch::take(room);
        let packed = packed.as_mut_ptr();
        let (t0, t1) = self.tiles;
        let tile = |t: usize, p: usize| self.part_tile::<S>(b, cols, (t, p), to);
        // SAFETY: packed panels are whole; the rest are the caller's promises.
        unsafe {
            for w in (0..words).step_by(WORDS) {
                let part = (w, (w + WORDS).min(words));
                self.pack_part(s, (t0, t1), part, packed);
                for p in 0..count {
                    // The panel of B that comes after this one, and words of it.
                    let panel = |p: usize| tile(t0, p).0.b;
                    let later = (words - part.1).min(WORDS);
                    let (next, len) = match (p + 1 < count, later > 0) {
                        (true, _) => (panel(p + 1).wrapping_add(w * S::NR), part.1 - part.0),
                        (false, true) => (panel(0).wrapping_add(part.1 * S::NR), later),
                        (false, false) => (after, words.min(WORDS)),
                    };
                    // While one part is multiplied, shares of two are asked for: of this one, and of A in its next part,
                    // or two of this one where that part of A is near, or none.
                    let own = later == 0 || !self.is_packed();
                    let each = if own { 2 } else { 1 };
                    for t in t0..t1 {
                        let (mut tile, rows) = tile(t, p);
                        let sums = sums.add(((t - t0) * count + p) * SUMS);
                        let height = rows.next_multiple_of(amx::ROWS);
                        if !self.is_packed() {
                            let part = packed.wrapping_add((t - t0) * PART);
                            tile.a = part.wrapping_sub(w * height);
                        }
                        if w == 0 {
                            tiled::begin(s, format, rows, &tile, sums);
                        }
                        let share = |from, len, i| share(from, len, part.1 - part.0, i);
                        let first = share(next, len * S::NR, each * (t - t0));
                        let second = match own {
                            true => share(next, len * S::NR, each * (t - t0) + 1),
                            false => {
                                let a = tile.a.wrapping_add(part.1 * height);
                                share(a, later * height, p)
                            }
                        };
                        let ask = match (first, second) {
                            (Some(x), y) => Ask::Next([x, y.unwrap_or(x)]),
                            (None, Some(y)) => Ask::Next([y; 2]),
                            (None, None) => Ask::Nothing,
                        };
                        tiled::part(unit, format, rows, &tile, part, ask, sums);
                    }
                }
            }
        }
    }

    /// Makes C of the [sums](Self::part_sums) of panel `t` of A.
    ///
    /// # Safety
    /// `sums` is readable as they were written; C is writable, and nobody else touches it.
    #[inline(always)]
    pub(super) unsafe fn finish_part_sums<S: Simd>(
        &self,
        s: S,
        b: &Source,
        cols: (usize, usize),
        t: usize,
        to: &Destination,
        sums: *const f32,
    ) {
        let count = (cols.1 - cols.0).div_ceil(S::NR);
        let tile = |t: usize, p: usize| self.part_tile::<S>(b, cols, (t, p), to);
        for p in 0..count {
            let next = match p + 1 < count {
                true => (t, p + 1),
                false => (t + 1, 0),
            };
            if to.far && next.0 < self.tiles.1 {
                let (next, rows) = tile(next.0, next.1);
                amx::will_write(next.c, next.ldc, rows);
            }
            let (tile, rows) = tile(t, p);
            // SAFETY: the caller's promises.
            unsafe {
                let sums = sums.add(((t - self.tiles.0) * count + p) * SUMS);
                tiled::finish(s, self.layout.format, rows, &tile, sums);
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
