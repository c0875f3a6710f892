//! The register tile: up to `MR` rows of C by `16·NV` columns, kept in registers over `kc` steps.
//!
//! Each element is one chain `c ← fma(a[i,k], b[k,j], c)` with k increasing, begun at 0 or at the
//! stored C. Whatever the number of rows in the tile, the chain of an element is the same; this
//! and nothing else makes results independent of the batch, the tiling and the threads.

use crate::simd::Simd;

/// Row stride (in values) of the square scratch tiles that attention multiplies without packing.
pub(crate) const TILE: usize = 64;

/// How the left operand lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lhs {
    /// Packed panel `[kc][rows]`.
    Panel,
    /// Rows of a scratch tile: `a[i·TILE + k]`.
    Rows,
    /// Columns of a scratch tile: `a[k·TILE + i]`.
    Cols,
}

/// One call of the register tile.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Steps of the inner dimension.
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
}

/// Computes one tile. `ars` and `acs` are the strides of the left operand between rows and between
/// inner steps; callers pass constants.
///
/// # Safety
/// `a` is readable at `i·ars + k·acs` for i < MR, k < kc; `b` at `k·ldb + j` for j < 16·NV; `c` is
/// readable and writable at `i·ldc + j` for j < cols and nobody else touches it; `bias` is null or
/// readable for `cols` values.
#[inline(always)]
pub(crate) unsafe fn micro<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    t: &Tile,
    ars: usize,
    acs: usize,
) {
    let mut acc = [[s.splat(0.0); NV]; MR];
    let full = t.cols >= 16 * NV;
    // SAFETY: exactly the accesses that the caller promises.
    unsafe {
        if t.load_c {
            for (i, row) in acc.iter_mut().enumerate() {
                for (v, x) in row.iter_mut().enumerate() {
                    if full {
                        *x = s.load(t.c.add(i * t.ldc + 16 * v));
                    } else if t.cols > 16 * v {
                        *x = s.load_part(t.c.add(i * t.ldc + 16 * v), t.cols - 16 * v, 0.0);
                    }
                }
            }
        }
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.kc {
            let mut bv = [s.splat(0.0); NV];
            for (v, x) in bv.iter_mut().enumerate() {
                *x = s.load(b.add(16 * v));
            }
            for (i, row) in acc.iter_mut().enumerate() {
                let x = s.splat(*a.add(i * ars));
                for v in 0..NV {
                    row[v] = s.fma(x, bv[v], row[v]);
                }
            }
            a = a.wrapping_add(acs);
            b = b.wrapping_add(t.ldb);
        }
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
                if full {
                    s.store(t.c.add(i * t.ldc + 16 * v), x);
                } else if t.cols > 16 * v {
                    s.store_part(t.c.add(i * t.ldc + 16 * v), t.cols - 16 * v, x);
                }
            }
        }
    }
}

/// Defines `tiles(lhs, rows, tile)`, the table of an instruction set's compiled register tiles:
/// attributes, token, `NV`, and the numbers of rows.
macro_rules! micro_table {
    ($attr:meta, $token:expr, $nv:literal, [$($rows:literal)*]) => {
        /// Runs the register tile for a number of rows.
        ///
        /// # Safety
        /// As for `micro`, and the machine has this instruction set.
        #[inline(always)]
        unsafe fn tiles(lhs: Lhs, rows: usize, tile: &Tile) {
            #[$attr]
            unsafe fn panel<const MR: usize>(t: &Tile) {
                // SAFETY: the caller's promises.
                unsafe { crate::gemm::micro::micro::<_, MR, $nv>($token, t, 1, MR) }
            }
            #[$attr]
            unsafe fn tile_rows<const MR: usize>(t: &Tile) {
                // SAFETY: the caller's promises.
                unsafe {
                    crate::gemm::micro::micro::<_, MR, $nv>($token, t, crate::gemm::micro::TILE, 1)
                }
            }
            #[$attr]
            unsafe fn tile_cols<const MR: usize>(t: &Tile) {
                // SAFETY: the caller's promises.
                unsafe {
                    crate::gemm::micro::micro::<_, MR, $nv>($token, t, 1, crate::gemm::micro::TILE)
                }
            }
            // SAFETY: the caller's promises.
            unsafe {
                match (lhs, rows) {
                    $(
                        (Lhs::Panel, $rows) => panel::<$rows>(tile),
                        (Lhs::Rows, $rows) => tile_rows::<$rows>(tile),
                        (Lhs::Cols, $rows) => tile_cols::<$rows>(tile),
                    )*
                    _ => unreachable!("a register tile of {rows} rows does not exist"),
                }
            }
        }
    };
}
pub(crate) use micro_table;
