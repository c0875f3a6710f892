//! The product on a tile unit: rows of A as tiles of their own, B as every other path has it.
//!
//! A panel of A has up to 32 rows, in tiles of [`amx::ROWS`] rows by [`amx::WORDS`] words: `[steps][16-row
//! parts][16][16]`, filled up with zeros. In the integer formats the scales and the sums of each row follow, as in a
//! panel of the other paths.

use super::format::{Format, Layout};
use super::micro::Tile;
use crate::simd::amx::{self, Ask, Product, ROWS, Tiles, WORDS, Words};
use crate::simd::{LANES, Simd};

/// Rows of a panel of A: two tiles.
pub(crate) const MR: usize = 2 * ROWS;
/// Columns of a panel of B: two tiles.
pub(crate) const NR: usize = 2 * WORDS;

/// Whether products of this format run on tiles: those of bf16, and of whole numbers whose groups are whole steps.
pub(super) fn takes(layout: &Layout) -> bool {
    match layout.format {
        Format::F32 => false,
        Format::Bf16 => true,
        Format::Int8 { .. } | Format::Int4 { .. } => {
            layout.groups == 1 || (layout.lhs * layout.group_words).is_multiple_of(WORDS)
        }
    }
}

/// Multiplies a panel of `rows` rows of A by a panel of B; `tile` as for the register tiles of vectors, but for `a`,
/// a panel of this module. With `far`, the panel of B comes from memory and so do those that follow it.
///
/// # Safety
/// As for the tiles in [`super::micro`].
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(
    s: S,
    unit: &Tiles,
    format: Format,
    rows: usize,
    t: &Tile,
    far: bool,
) {
    const { assert!(!S::UNIT || S::NR == NR) };
    if !t.load_c {
        amx::will_write(t.c, t.ldc, rows);
    }
    let ask = if far { Ask::Far } else { Ask::Nothing };
    // SAFETY: the caller's promises.
    unsafe {
        match format {
            Format::Bf16 => pairs(s, unit, rows, t, ask),
            _ => bytes(s, unit, rows, t, ask),
        }
    }
}

/// The sums of a panel by a panel, where C has no room for them or they are not yet what C is to hold.
#[repr(align(64))]
pub(super) struct Sums(pub [f32; SUMS]);

/// The operands of a product of up to 32 rows by 32 columns.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    /// `[steps][16-row parts][16][16]` words.
    pub a: *const f32,
    /// `b[k · ldb + j]`.
    pub b: *const f32,
    pub ldb: usize,
    /// Words of a column of `b`; `a` has zeros up to a whole step.
    pub words: usize,
    /// As [`Product::ask`].
    pub ask: Ask,
}

/// The sums of a product of panels into `c`, begun at what is there with `load`.
///
/// # Safety
/// The panels are readable; `c` is ours for 16 rows of 32 values, or 32 of more than 16 `rows`.
pub(crate) unsafe fn sums(
    unit: &Tiles,
    kind: Words,
    rows: usize,
    operands: Operands,
    (c, ldc): (*mut f32, usize),
    load: bool,
) {
    let wide = rows > ROWS;
    let (whole, left) = (operands.words / WORDS, operands.words % WORDS);
    let height = if wide { MR } else { ROWS };
    let mut p = Product {
        a: operands.a,
        b: operands.b,
        ldb: operands.ldb,
        tiles: whole,
        c,
        ldc,
        load,
        ask: operands.ask,
    };
    // SAFETY: the caller's promises; the rest of a step has zeros in A and, copied, in B.
    unsafe {
        if whole > 0 {
            unit.multiply(kind, wide, &p);
        }
        if left > 0 {
            let mut b = Sums([0.0; SUMS]);
            for w in 0..left {
                let row = p.b.wrapping_add((whole * WORDS + w) * p.ldb);
                std::ptr::copy_nonoverlapping(row, b.0.as_mut_ptr().add(w * NR), NR);
            }
            p = Product {
                a: p.a.wrapping_add(whole * WORDS * height),
                b: b.0.as_ptr(),
                ldb: NR,
                tiles: 1,
                load: load || whole > 0,
                ask: Ask::Nothing,
                ..p
            };
            unit.multiply(kind, wide, &p);
        }
    }
}

/// Words of a tile of C with all its rows and columns.
pub(super) const SUMS: usize = MR * NR;

/// Where the sums of a tile begin that are added up in parts: at the stored C, if it is to be loaded, for bf16.
///
/// # Safety
/// As for [`stored`].
#[inline(always)]
pub(super) unsafe fn begin<S: Simd>(s: S, format: Format, rows: usize, t: &Tile, sums: *mut f32) {
    if t.load_c && format == Format::Bf16 {
        // SAFETY: the caller's promises.
        unsafe { stored(s, rows, t, sums) }
    }
}

/// Adds the products of some words of a tile to its sums, which [have begun](begin) with the first.
///
/// # Safety
/// As for [`multiply`]; `sums` is readable and writable for [`SUMS`] words.
#[inline(always)]
pub(super) unsafe fn part(
    unit: &Tiles,
    format: Format,
    rows: usize,
    t: &Tile,
    words: (usize, usize),
    ask: Ask,
    sums: *mut f32,
) {
    let (kind, old) = match format {
        Format::Bf16 => (Words::Bf16, t.load_c),
        _ => (Words::Bytes, false),
    };
    let operands = operands(t, words, rows, ask);
    // SAFETY: the caller's promises.
    unsafe { self::sums(unit, kind, rows, operands, (sums, NR), old || words.0 > 0) }
}

/// Copies the stored C, where it exists.
///
/// # Safety
/// C is readable as in [`multiply`], `to` writable for [`SUMS`] words.
#[inline(always)]
pub(super) unsafe fn stored<S: Simd>(s: S, rows: usize, t: &Tile, to: *mut f32) {
    for i in 0..rows {
        for v in (0..t.cols).step_by(LANES) {
            // SAFETY: the caller's promises.
            unsafe {
                let x = s.load_part(t.c.add(i * t.ldc + v), t.cols - v, 0.0);
                s.store(to.add(i * NR + v), x);
            }
        }
    }
}

/// Makes C of finished sums: for bf16 the sums themselves, for bytes those of the one group there is, to be scaled.
///
/// # Safety
/// As for [`multiply`]; `sums` is readable for [`SUMS`] words.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(
    s: S,
    format: Format,
    rows: usize,
    t: &Tile,
    sums: *const f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        match format {
            Format::Bf16 => finish_pairs(s, rows, t, sums),
            _ => {
                let mut total = Sums([0.0; SUMS]);
                if t.load_c {
                    stored(s, rows, t, total.0.as_mut_ptr());
                }
                finish_group(s, rows, t, 0, sums, total.0.as_mut_ptr());
            }
        }
    }
}

/// Words `from..to` of the operands of a tile.
fn operands(t: &Tile, (from, to): (usize, usize), rows: usize, ask: Ask) -> Operands {
    Operands {
        a: t.a.wrapping_add(from * rows.next_multiple_of(ROWS)),
        b: t.b.wrapping_add(from * t.ldb),
        ldb: t.ldb,
        words: to - from,
        ask,
    }
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn pairs<S: Simd>(s: S, unit: &Tiles, rows: usize, t: &Tile, ask: Ask) {
    // SAFETY: the caller's promises; whole tiles of C are ours where they exist, the scratch where they do not.
    unsafe {
        let operands = operands(t, (0, t.kc), rows, ask);
        if rows.is_multiple_of(ROWS) && t.cols == NR && t.bias.is_null() {
            return sums(unit, Words::Bf16, rows, operands, (t.c, t.ldc), t.load_c);
        }
        let mut scratch = Sums([0.0; SUMS]);
        let c = scratch.0.as_mut_ptr();
        if t.load_c {
            stored(s, rows, t, c);
        }
        sums(unit, Words::Bf16, rows, operands, (c, NR), t.load_c);
        finish_pairs(s, rows, t, c);
    }
}

/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn finish_pairs<S: Simd>(s: S, rows: usize, t: &Tile, sums: *const f32) {
    // SAFETY: the caller's promises.
    unsafe {
        for v in (0..t.cols).step_by(LANES) {
            let left = t.cols - v;
            let bias = match t.bias.is_null() {
                true => None,
                false => Some(s.load_part(t.bias.add(v), left, 0.0)),
            };
            for i in 0..rows {
                let mut x = s.load(sums.add(i * NR + v));
                if let Some(bias) = bias {
                    x = s.add(x, bias);
                }
                s.store_part(t.c.add(i * t.ldc + v), left, x);
            }
        }
    }
}

/// # Safety
/// As for [`multiply`].
#[inline(always)]
unsafe fn bytes<S: Simd>(s: S, unit: &Tiles, rows: usize, t: &Tile, ask: Ask) {
    let (mut of_group, mut total) = (Sums([0.0; SUMS]), Sums([0.0; SUMS]));
    let (whole, total) = (of_group.0.as_mut_ptr(), total.0.as_mut_ptr());
    // SAFETY: the caller's promises; the scratch has room for every row and column.
    unsafe {
        if t.load_c {
            stored(s, rows, t, total);
        }
        for g in 0..t.groups.count {
            let (from, to) = (g * t.groups.words, ((g + 1) * t.groups.words).min(t.kc));
            let operands = operands(t, (from, to), rows, ask);
            sums(unit, Words::Bytes, rows, operands, (whole, NR), false);
            finish_group(s, rows, t, g, whole, total);
        }
    }
}

/// Scales the sums of group `g` and adds them to the total; after the last group makes C of it.
///
/// # Safety
/// As for [`finish`]; `total` is readable and writable for [`SUMS`] words.
#[inline(always)]
unsafe fn finish_group<S: Simd>(
    s: S,
    rows: usize,
    t: &Tile,
    g: usize,
    whole: *const f32,
    total: *mut f32,
) {
    let groups = &t.groups;
    let last = g + 1 == groups.count;
    // SAFETY: the caller's promises.
    unsafe {
        for v in (0..t.cols).step_by(LANES) {
            let left = t.cols - v;
            let scale = s.load(groups.b.add(g * NR + v));
            let bias = match t.bias.is_null() || !last {
                true => None,
                false => Some(s.load_part(t.bias.add(v), left, 0.0)),
            };
            for i in 0..rows {
                let start = *groups.a.add((groups.count + g) * rows + i);
                let one = s.add_whole(s.load(whole.add(i * NR + v)), s.splat(start));
                let x = s.mul(s.to_float(one), s.splat(*groups.a.add(g * rows + i)));
                let mut x = s.fma(x, scale, s.load(total.add(i * NR + v)));
                if !last {
                    s.store(total.add(i * NR + v), x);
                    continue;
                }
                if let Some(bias) = bias {
                    x = s.add(x, bias);
                }
                s.store_part(t.c.add(i * t.ldc + v), left, x);
            }
        }
    }
}
