//! The register tile: up to `MR` rows of C by `16·NV` columns, kept in registers over the inner steps.
//!
//! Operands are read as 32-bit *words*: an `f32`, two bf16, or four bytes of neighbouring inner steps. Each
//! element of C is one chain over increasing k, begun at 0 or at the stored C. Whatever the number of rows in the
//! tile, the chain of an element is the same; this and nothing else makes results independent of the
//! batch, the tiling and the threads.

use crate::simd::Simd;

/// Row stride (in words) of the square scratch tiles that attention multiplies without packing.
pub(crate) const TILE: usize = 64;

/// How many words ahead of its use B is asked for.
const AHEAD: usize = 4096;

/// How the left operand lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lhs {
    /// Packed panel `[words][rows]`.
    Panel,
    /// Rows of a scratch tile: `a[i·TILE + k]`.
    Rows,
    /// Columns of a scratch tile: `a[k·TILE + i]`.
    Cols,
}

/// What the words of a product are, and how the left ones lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inner {
    /// `c ← fma(a, b, c)`.
    F32(Lhs),
    /// `c ← c + a₁·b₁ + a₀·b₀` for pairs of bf16.
    Bf16(Lhs),
    /// Signed bytes of A by bytes of B (signed or not, as the instruction set wants them), grouped.
    Int8,
    /// The same; a byte of B holds two unsigned values of four bits, the lower half for the first word of A.
    Int4,
}

/// One call of the register tile.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Words of a column of `b`.
    pub kc: usize,
    /// Left operand, laid out as its [`Lhs`] says.
    pub a: *const f32,
    /// Right operand: `b[k·ldb + j]`, all `NR` columns readable.
    pub b: *const f32,
    /// Stride between inner steps of `b`.
    pub ldb: usize,
    /// Result: `c[i·ldc + j]`.
    pub c: *mut f32,
    /// Stride between rows of C.
    pub ldc: usize,
    /// Columns of C that exist (1..=NR); the others are neither read nor written.
    pub cols: usize,
    /// Begin the sums at the stored C instead of 0.
    pub load_c: bool,
    /// Added at the end to each row; null for none, else `cols` values.
    pub bias: *const f32,
    /// Groups of the integer formats.
    pub groups: Groups,
}

/// The groups of a tile of integers: their number, words of B in each but the last, and scales.
#[derive(Clone, Copy)]
pub(crate) struct Groups {
    pub count: usize,
    pub words: usize,
    /// `[groups][rows]`: scales of A, then (as whole numbers) where the sums begin.
    pub a: *const f32,
    /// `[groups][NR]`: scales of B.
    pub b: *const f32,
}

impl Groups {
    /// For the formats without scales.
    pub const NONE: Self = Self {
        count: 0,
        words: 0,
        a: std::ptr::null(),
        b: std::ptr::null(),
    };
}

/// The sums of a tile.
type Sums<S, const MR: usize, const NV: usize> = [[<S as Simd>::V; NV]; MR];

/// The stored C, or 0.
///
/// # Safety
/// `c` is readable where the tile says so, if it is to be loaded.
#[inline(always)]
unsafe fn begin<S: Simd, const MR: usize, const NV: usize>(s: S, t: &Tile) -> Sums<S, MR, NV> {
    let mut acc = [[s.splat(0.0); NV]; MR];
    if t.load_c {
        for (i, row) in acc.iter_mut().enumerate() {
            for (v, x) in row.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                unsafe {
                    if t.cols >= 16 * NV {
                        *x = s.load(t.c.add(i * t.ldc + 16 * v));
                    } else if t.cols > 16 * v {
                        *x = s.load_part(t.c.add(i * t.ldc + 16 * v), t.cols - 16 * v, 0.0);
                    }
                }
            }
        }
    }
    acc
}

/// Adds the bias and stores.
///
/// # Safety
/// `c` is writable where the tile says so, and `bias` readable.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    t: &Tile,
    mut acc: Sums<S, MR, NV>,
) {
    // SAFETY: exactly the accesses that the caller promises.
    unsafe {
        if !t.bias.is_null() {
            for v in 0..NV {
                let left = t.cols.saturating_sub(16 * v);
                if left > 0 {
                    let x = s.load_part(t.bias.add(16 * v), left, 0.0);
                    for row in &mut acc {
                        row[v] = s.add(row[v], x);
                    }
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (v, &x) in row.iter().enumerate() {
                if t.cols >= 16 * NV {
                    s.store(t.c.add(i * t.ldc + 16 * v), x);
                } else if t.cols > 16 * v {
                    s.store_part(t.c.add(i * t.ldc + 16 * v), t.cols - 16 * v, x);
                }
            }
        }
    }
}

/// Computes one tile of floats, of bf16 pairs with `PAIRS`. `ars` and `acs` are the strides of the left
/// operand between rows and between inner steps; callers pass constants.
///
/// # Safety
/// `a` is readable at `i·ars + k·acs` for i < MR, k < kc; `b` at `k·ldb + j` for j < 16·NV; `c` is
/// readable and writable at `i·ldc + j` for j < cols and nobody else touches it; `bias` is null or
/// readable for `cols` values.
#[inline(always)]
pub(crate) unsafe fn floats<S: Simd, const PAIRS: bool, const MR: usize, const NV: usize>(
    s: S,
    t: &Tile,
    ars: usize,
    acs: usize,
) {
    // SAFETY: exactly the accesses that the caller promises.
    unsafe {
        let mut acc = begin::<S, MR, NV>(s, t);
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.kc {
            let mut bv = [s.splat(0.0); NV];
            for (v, x) in bv.iter_mut().enumerate() {
                *x = s.load(b.add(16 * v));
                s.prefetch(b.wrapping_add(AHEAD + 16 * v));
            }
            for (i, row) in acc.iter_mut().enumerate() {
                let x = *a.add(i * ars);
                for v in 0..NV {
                    row[v] = if PAIRS {
                        s.dot_bf16_by(row[v], x, bv[v])
                    } else {
                        s.fma_by(x, bv[v], row[v])
                    };
                }
            }
            a = a.wrapping_add(acs);
            b = b.wrapping_add(t.ldb);
        }
        finish(s, t, acc);
    }
}

/// Computes one tile of bytes, of half bytes in B with `NIBBLES`; `a` is a packed panel.
///
/// # Safety
/// As for [`floats`], with two words of A for a word of B if there are `NIBBLES`; the groups cover `kc` words and
/// their scales are readable.
#[inline(always)]
pub(crate) unsafe fn bytes<S: Simd, const NIBBLES: bool, const MR: usize, const NV: usize>(
    s: S,
    t: &Tile,
) {
    // SAFETY: exactly the accesses that the caller promises.
    unsafe {
        let mut total = begin::<S, MR, NV>(s, t);
        let (mut a, mut b, mut left) = (t.a, t.b, t.kc);
        for g in 0..t.groups.count {
            let mut acc = [[s.splat(0.0); NV]; MR];
            for (i, row) in acc.iter_mut().enumerate() {
                let start = t.groups.a.add((t.groups.count + g) * MR + i);
                *row = [s.splat(*start); NV];
            }
            let words = left.min(t.groups.words);
            left -= words;
            for _ in 0..words {
                let mut bv = [s.splat(0.0); NV];
                for (v, x) in bv.iter_mut().enumerate() {
                    *x = s.load(b.add(16 * v));
                    s.prefetch(b.wrapping_add(AHEAD + 16 * v));
                }
                let mut upper = bv;
                if NIBBLES {
                    for v in 0..NV {
                        (bv[v], upper[v]) = s.nibbles(bv[v]);
                    }
                }
                for (i, row) in acc.iter_mut().enumerate() {
                    let x = *a.add(i);
                    for v in 0..NV {
                        row[v] = s.dot_i8_by(row[v], x, bv[v]);
                    }
                    if NIBBLES {
                        let x = *a.add(MR + i);
                        for v in 0..NV {
                            row[v] = s.dot_i8_by(row[v], x, upper[v]);
                        }
                    }
                }
                a = a.wrapping_add(if NIBBLES { 2 * MR } else { MR });
                b = b.wrapping_add(t.ldb);
            }
            for v in 0..NV {
                let scale = s.load(t.groups.b.add(g * 16 * NV + 16 * v));
                for (i, row) in acc.iter().enumerate() {
                    let x = s.mul(s.to_float(row[v]), s.splat(*t.groups.a.add(g * MR + i)));
                    total[i][v] = s.fma(x, scale, total[i][v]);
                }
            }
        }
        finish(s, t, total);
    }
}

/// Defines `tiles(inner, rows, tile)`, the table of an instruction set's compiled register tiles:
/// attributes, token, `NV`, and the numbers of rows.
macro_rules! micro_table {
    ($attr:meta, $token:expr, $nv:literal, [$($rows:literal)*]) => {
        /// Runs the register tile for a number of rows.
        ///
        /// # Safety
        /// As for `micro::floats` and `micro::bytes`, and the machine has this instruction set.
        #[inline(always)]
        pub(super) unsafe fn tiles(
            inner: crate::gemm::micro::Inner,
            rows: usize,
            tile: &crate::gemm::micro::Tile,
        ) {
            use crate::gemm::micro::{Inner, Lhs, TILE, Tile, bytes, floats};
            #[$attr]
            unsafe fn panel<const PAIRS: bool, const MR: usize>(t: &Tile) {
                // SAFETY: the caller's promises.
                unsafe { floats::<_, PAIRS, MR, $nv>($token, t, 1, MR) }
            }
            #[$attr]
            unsafe fn tile_rows<const PAIRS: bool, const MR: usize>(t: &Tile) {
                // SAFETY: the caller's promises.
                unsafe { floats::<_, PAIRS, MR, $nv>($token, t, TILE, 1) }
            }
            #[$attr]
            unsafe fn tile_cols<const PAIRS: bool, const MR: usize>(t: &Tile) {
                // SAFETY: the caller's promises.
                unsafe { floats::<_, PAIRS, MR, $nv>($token, t, 1, TILE) }
            }
            #[$attr]
            unsafe fn int8<const MR: usize>(t: &Tile) {
                // SAFETY: the caller's promises.
                unsafe { bytes::<_, false, MR, $nv>($token, t) }
            }
            #[$attr]
            unsafe fn int4<const MR: usize>(t: &Tile) {
                // SAFETY: the caller's promises.
                unsafe { bytes::<_, true, MR, $nv>($token, t) }
            }
            // SAFETY: the caller's promises.
            unsafe {
                match (inner, rows) {
                    $(
                        (Inner::F32(Lhs::Panel), $rows) => panel::<false, $rows>(tile),
                        (Inner::F32(Lhs::Rows), $rows) => tile_rows::<false, $rows>(tile),
                        (Inner::F32(Lhs::Cols), $rows) => tile_cols::<false, $rows>(tile),
                        (Inner::Bf16(Lhs::Panel), $rows) => panel::<true, $rows>(tile),
                        (Inner::Bf16(Lhs::Rows), $rows) => tile_rows::<true, $rows>(tile),
                        (Inner::Bf16(Lhs::Cols), $rows) => tile_cols::<true, $rows>(tile),
                        (Inner::Int8, $rows) => int8::<$rows>(tile),
                        (Inner::Int4, $rows) => int4::<$rows>(tile),
                    )*
                    _ => unreachable!("a register tile of {rows} rows does not exist"),
                }
            }
        }
    };
}
pub(crate) use micro_table;
