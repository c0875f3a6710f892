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
    let mut sums = [Sums([0.0; SUMS]), Sums([0.0; SUMS])];
    let product = Product {
        rows,
        t,
        panel,
        total: total.0.as_mut_ptr(),
        sums: sums.each_mut().map(|sums| sums.0.as_mut_ptr()),
    };
    if !t.load_c {
        amx::will_write(t.c, t.ldc, rows);
    }
    // SAFETY: the caller's promises; the scratch has room for every row and column.
    unsafe {
        if t.load_c {
            tiled::stored(s, rows, t, product.total);
        }
        for g in 0..AHEAD {
            product.unpack(&product.group(g), (0, 1));
        }
        for g in 0..=t.groups.count {
            let turn = Turn {
                before: g.checked_sub(1),
                now: product.group(g),
                ahead: product.group(g + AHEAD),
            };
            product.steps_but_the_last(unit, &turn.now);
            if rows > ROWS {
                product.turn::<S, 0, 4>(s, unit, &turn);
                product.turn::<S, 1, 4>(s, unit, &turn);
                product.turn::<S, 2, 4>(s, unit, &turn);
                product.turn::<S, 3, 4>(s, unit, &turn);
            } else {
                product.turn::<S, 0, 2>(s, unit, &turn);
                product.turn::<S, 1, 2>(s, unit, &turn);
            }
        }
        tiled::finish_pairs(s, rows, t, product.total);
    }
}

/// What all groups share.
struct Product<'a> {
    rows: usize,
    t: &'a Tile,
    panel: Panel,
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
    bytes: *const f32,
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
    #[inline(always)]
    fn group(&self, g: usize) -> Group {
        let Self { rows, t, panel, .. } = self;
        let from = (g * t.groups.words).min(t.kc);
        let words = t.groups.words.min(t.kc - from);
        let (place, half) = match *panel {
            Panel::Bytes => (g, t.b),
            Panel::Kept(half) => (g, half),
            Panel::Once(half) => (g % PLACES, half),
        };
        Group {
            steps: words.div_ceil(WORDS),
            pairs: words / 2,
            a: t.a.wrapping_add(from * rows.next_multiple_of(ROWS)),
            half: half.wrapping_add(from / 2 * NR),
            bytes: t.b.wrapping_add(place * room(t.groups.words) * NR),
            sums: self.sums[g % 2],
        }
    }

    /// The operands of step `i` of a group.
    #[inline(always)]
    fn step(&self, group: &Group, i: usize) -> (*const f32, *const f32) {
        let words = i * WORDS;
        let a = (group.a).wrapping_add(words * self.rows.next_multiple_of(ROWS));
        (a, group.bytes.wrapping_add(words * NR))
    }

    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn steps_but_the_last(&self, unit: &Tiles, group: &Group) {
        unit.clear();
        for i in 1..group.steps {
            let (a, b) = self.step(group, i - 1);
            // SAFETY: the caller's promises.
            unsafe {
                unit.dot::<0>(a, b, NR);
                unit.dot::<1>(a, b, NR);
                if self.rows > ROWS {
                    unit.dot::<2>(a, b, NR);
                    unit.dot::<3>(a, b, NR);
                }
            }
        }
    }

    /// Part `PART` of `PARTS` of a turn: a tile of sums of the last step of one group, the scaling of one of the group
    /// before, and some of the unpacking.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn turn<S: Simd, const PART: usize, const PARTS: usize>(
        &self,
        s: S,
        unit: &Tiles,
        turn: &Turn,
    ) {
        let now = &turn.now;
        // SAFETY: the caller's promises.
        unsafe {
            if let Some(last) = now.steps.checked_sub(1) {
                let (a, b) = self.step(now, last);
                unit.dot::<PART>(a, b, NR);
            }
            self.unpack(&turn.ahead, (PART, PARTS));
            if let Some(before) = turn.before {
                self.scale(s, before, (PART / 2 * ROWS, PART % 2 * LANES));
            }
            if now.steps > 0 {
                unit.store::<PART>(now.sums, NR);
            }
        }
    }

    /// Makes bytes of a part of a group, if the panel comes from half bytes.
    ///
    /// # Safety
    /// As for [`multiply`].
    #[inline(always)]
    unsafe fn unpack(&self, group: &Group, (part, parts): (usize, usize)) {
        if matches!(self.panel, Panel::Bytes) {
            return;
        }
        let (from, to) = (group.pairs * part / parts, group.pairs * (part + 1) / parts);
        let half = group.half.wrapping_add(from * NR);
        let bytes = group.bytes.wrapping_add(2 * from * NR);
        // SAFETY: the caller's promises.
        unsafe { amx::unpack(half, to - from, bytes.cast_mut()) }
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
