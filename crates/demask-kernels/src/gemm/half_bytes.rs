//! Int4 on a tile unit, which multiplies bytes: half bytes become signed bytes a group at a time, shortly before the unit
//! takes them.
//!
//! The sums of each group are scaled before they are added, which takes as long as the product. So the unit multiplies
//! one group while the vectors scale the one before and unpack the one after next, in turns of a tile of sums: a whole
//! group is more than the processor sees at once, and a tile that was written just before makes the unit wait.

use super::micro::Tile;
use super::tiled::{self, NR, SUMS, Sums};
use crate::simd::amx::{self, ROWS, Tiles, WORDS};
use crate::simd::{LANES, Simd};
use std::mem::MaybeUninit;

/// Groups that are unpacked ahead.
const AHEAD: usize = 2;
/// Places for unpacked groups, where they are used once.
const PLACES: usize = 4;
const _: () = assert!(AHEAD < PLACES);

/// Where a panel of bytes comes from.
#[derive(Clone, Copy)]
pub(super) enum Panel {
    /// It has been unpacked before.
    Bytes,
    /// From half bytes `[words / 2][NR]`, to be multiplied by other rows, too.
    Kept(*const f32),
    /// The same, for these rows alone.
    Once(*const f32),
}

/// Words of a column of bytes, of `words` in all: whole steps of the unit.
pub(super) fn room(words: usize) -> usize {
    words.next_multiple_of(WORDS)
}

/// Multiplies a panel of `rows` rows of A by a panel of B; `t` as for [`tiled::multiply`], with words of bytes, and its
/// `b` the place for them.
///
/// # Safety
/// As there; `b` is writable for [`room`] words of each column, and the half bytes are readable.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(s: S, unit: &Tiles, rows: usize, t: &Tile, panel: Panel) {
    const { assert!(!S::UNIT || S::NR == NR) };
    let mut total = Sums([0.0; SUMS]);
    // The unit writes these before anybody reads them.
    let mut sums = [const { MaybeUninit::<Sums>::uninit() }; 2];
    let (half, in_turns) = match panel {
        Panel::Bytes => (std::ptr::null(), false),
        Panel::Kept(half) => (half, false),
        Panel::Once(half) => (half, true),
    };
    let product = Product {
        rows,
        t,
        half,
        in_turns,
        total: total.0.as_mut_ptr(),
        sums: sums.each_mut().map(|sums| sums.as_mut_ptr().cast()),
    };
    // Of the usual groups the compiler is told how long they are.
    let of_a_step = t.groups.words == WORDS && t.kc.is_multiple_of(WORDS);
    // SAFETY: the caller's promises; the scratch has room for every row and column.
    unsafe {
        if t.load_c {
            tiled::stored(s, rows, t, product.total);
        }
        match (of_a_step, rows > ROWS) {
            (true, true) => product.run::<S, true, 4>(s, unit),
            (true, false) => product.run::<S, true, 2>(s, unit),
            (false, true) => product.run::<S, false, 4>(s, unit),
            (false, false) => product.run::<S, false, 2>(s, unit),
        }
        product.finish(s);
    }
}

/// What all groups share.
struct Product<'a> {
    rows: usize,
    t: &'a Tile,
    /// Null where the bytes are there already.
    half: *const f32,
    /// Unpacked groups share a few places.
    in_turns: bool,
    total: *mut f32,
    /// Of one group and of the one before, in turns.
    sums: [*mut f32; 2],
}

/// A group, or nothing beyond the last one.
struct Group {
    /// Steps of the unit. The last one may have fewer words than it takes; A has zeros there.
    steps: usize,
    /// Pairs of words: words of half bytes.
    pairs: usize,
    /// The first step of A.
    a: *const f32,
    half: *const f32,
    bytes: *mut f32,
    sums: *mut f32,
}

/// The groups that have their turn.
struct Turn {
    before: Option<usize>,
    now: Group,
    ahead: Group,
}

// No closures here: one that is not compiled into its caller is compiled without the caller's instruction set.
impl Product<'_> {
    /// All groups, in tiles of 16 rows and columns: 2 or 4 of them. `STEP` if each has one step, which is whole.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn run<S: Simd, const STEP: bool, const TILES: usize>(&self, s: S, unit: &Tiles) {
        // SAFETY: the caller's promises.
        unsafe {
            for g in 0..AHEAD {
                self.unpack::<TILES>(&self.group::<STEP, TILES>(g), (0, TILES));
            }
            for g in 0..self.t.groups.count {
                let turn = Turn {
                    before: g.checked_sub(1),
                    now: self.group::<STEP, TILES>(g),
                    ahead: self.group::<STEP, TILES>(g + AHEAD),
                };
                self.steps_but_the_last::<TILES>(unit, &turn.now);
                self.tile::<S, 0, TILES>(s, unit, &turn);
                self.tile::<S, 1, TILES>(s, unit, &turn);
                if TILES > 2 {
                    self.tile::<S, 2, TILES>(s, unit, &turn);
                    self.tile::<S, 3, TILES>(s, unit, &turn);
                }
            }
        }
    }

    #[inline(always)]
    fn group<const STEP: bool, const TILES: usize>(&self, g: usize) -> Group {
        let t = self.t;
        let (from, words) = if STEP {
            (g * WORDS, if g < t.groups.count { WORDS } else { 0 })
        } else {
            let from = (g * t.groups.words).min(t.kc);
            (from, t.groups.words.min(t.kc - from))
        };
        let distance = if STEP { WORDS } else { room(t.groups.words) };
        let place = if self.in_turns { g % PLACES } else { g };
        Group {
            steps: words.div_ceil(WORDS),
            pairs: words / 2,
            a: t.a.wrapping_add(from * TILES / 2 * ROWS),
            half: self.half.wrapping_add(from / 2 * NR),
            bytes: t.b.wrapping_add(place * distance * NR).cast_mut(),
            sums: self.sums[g % 2],
        }
    }

    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn steps_but_the_last<const TILES: usize>(&self, unit: &Tiles, group: &Group) {
        unit.clear();
        for i in 1..group.steps {
            let (a, b) = group.step::<TILES>(i - 1);
            // SAFETY: the caller's promises.
            unsafe {
                unit.dot::<0>(a, b, NR);
                unit.dot::<1>(a, b, NR);
                if TILES > 2 {
                    unit.dot::<2>(a, b, NR);
                    unit.dot::<3>(a, b, NR);
                }
            }
        }
    }

    /// Tile `TILE` of a turn: of the last step of one group, of the scaling of the group before, and some of the
    /// unpacking.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn tile<S: Simd, const TILE: usize, const TILES: usize>(
        &self,
        s: S,
        unit: &Tiles,
        turn: &Turn,
    ) {
        let now = &turn.now;
        // SAFETY: the caller's promises.
        unsafe {
            let (a, b) = now.step::<TILES>(now.steps - 1);
            unit.dot::<TILE>(a, b, NR);
            if turn.ahead.pairs > 0 {
                self.unpack::<TILES>(&turn.ahead, (TILE, TILE + 1));
            }
            if let Some(before) = turn.before {
                self.scale(s, before, (TILE / 2 * ROWS, TILE % 2 * LANES));
            }
            unit.store::<TILE>(now.sums, NR);
        }
    }

    /// Makes bytes of some of `TILES` parts of a group, if the panel comes from half bytes.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn unpack<const TILES: usize>(&self, group: &Group, (from, to): (usize, usize)) {
        if self.half.is_null() {
            return;
        }
        let (from, to) = (group.pairs * from / TILES, group.pairs * to / TILES);
        let half = group.half.wrapping_add(from * NR);
        // SAFETY: the caller's promises.
        unsafe { amx::unpack(half, to - from, group.bytes.wrapping_add(2 * from * NR)) }
    }

    /// Makes C of the total and the sums of the last group.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S) {
        let (t, groups) = (self.t, &self.t.groups);
        let last = groups.count - 1;
        // SAFETY: the caller's promises.
        unsafe {
            for v in (0..t.cols).step_by(LANES) {
                let left = t.cols - v;
                let scale = s.load(groups.b.add(last * NR + v));
                let bias = match t.bias.is_null() {
                    true => None,
                    false => Some(s.load_part(t.bias.add(v), left, 0.0)),
                };
                for i in 0..self.rows {
                    let own = s.splat(*groups.a.add(last * self.rows + i));
                    let sums = s.load(self.sums[last % 2].add(i * NR + v));
                    let total = s.load(self.total.add(i * NR + v));
                    let mut x = s.fma(s.mul(s.to_float(sums), own), scale, total);
                    if let Some(bias) = bias {
                        x = s.add(x, bias);
                    }
                    s.store_part(t.c.add(i * t.ldc + v), left, x);
                }
            }
        }
    }

    /// Scales a tile of the sums of group `g` and adds it to the total.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn scale<S: Simd>(&self, s: S, g: usize, (row, col): (usize, usize)) {
        let groups = &self.t.groups;
        let at = row * NR + col;
        let (sums, total) = (
            self.sums[g % 2].wrapping_add(at),
            self.total.wrapping_add(at),
        );
        let own = groups.a.wrapping_add(g * self.rows + row);
        // SAFETY: the caller's promises; a panel has a scale for each of its columns.
        unsafe {
            let scale = s.load(groups.b.add(g * NR + col));
            if self.rows >= row + ROWS {
                scale_rows(s, ROWS, sums, (own, scale), total);
            } else {
                scale_rows(s, self.rows - row, sums, (own, scale), total);
            }
        }
    }
}

impl Group {
    /// The operands of a step.
    #[inline(always)]
    fn step<const TILES: usize>(&self, i: usize) -> (*const f32, *const f32) {
        let a = self.a.wrapping_add(i * WORDS * TILES / 2 * ROWS);
        (a, self.bytes.wrapping_add(i * WORDS * NR).cast_const())
    }
}

/// # Safety
/// `own` is readable for so many rows, `sums` and `total` are so for 16 values of each, and `total` is writable.
#[inline(always)]
unsafe fn scale_rows<S: Simd>(
    s: S,
    rows: usize,
    sums: *const f32,
    (own, scale): (*const f32, S::V),
    total: *mut f32,
) {
    for i in 0..rows {
        // SAFETY: the caller's promises.
        unsafe {
            let x = s.mul(s.to_float(s.load(sums.add(i * NR))), s.splat(*own.add(i)));
            let to = total.add(i * NR);
            s.store(to, s.fma(x, scale, s.load(to)));
        }
    }
}
