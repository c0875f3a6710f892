//! Sixteen lanes in an array, for machines without a path of their own.

use super::{LANES, Simd};
use crate::gemm::micro::{Lhs, Tile, micro_table};

/// Needs no proof.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type V = [f32; LANES];

/// Applies a function to each lane (or pair of lanes).
macro_rules! lanes {
    ($i:ident, $e:expr) => {{
        let mut out = [0.0f32; LANES];
        for $i in 0..LANES {
            out[$i] = $e;
        }
        out
    }};
}

/// Transposes by writing the rows to memory and reading columns.
#[inline(always)]
pub(super) fn transpose_through_memory<S: Simd>(s: S, rows: [S::V; LANES]) -> [S::V; LANES] {
    let (mut grid, mut turned) = ([0.0f32; LANES * LANES], [0.0f32; LANES * LANES]);
    let mut out = rows;
    // SAFETY: both arrays hold 16 rows of 16 values.
    unsafe {
        for (i, &r) in rows.iter().enumerate() {
            s.store(grid.as_mut_ptr().add(LANES * i), r);
        }
        for i in 0..LANES {
            for j in 0..LANES {
                turned[LANES * j + i] = grid[LANES * i + j];
            }
        }
        for (j, o) in out.iter_mut().enumerate() {
            *o = s.load(turned.as_ptr().add(LANES * j));
        }
    }
    out
}

/// [`Simd::unzip`] by writing both vectors to memory.
#[inline(always)]
pub(super) fn unzip_through_memory<S: Simd>(s: S, a: S::V, b: S::V) -> (S::V, S::V) {
    let (mut line, mut even, mut odd) = ([0.0f32; 2 * LANES], [0.0f32; LANES], [0.0f32; LANES]);
    // SAFETY: the arrays hold 32, 16 and 16 values.
    unsafe {
        s.store(line.as_mut_ptr(), a);
        s.store(line.as_mut_ptr().add(LANES), b);
        for i in 0..LANES {
            (even[i], odd[i]) = (line[2 * i], line[2 * i + 1]);
        }
        (s.load(even.as_ptr()), s.load(odd.as_ptr()))
    }
}

/// [`Simd::zip`] by writing both vectors to memory.
#[inline(always)]
pub(super) fn zip_through_memory<S: Simd>(s: S, even: S::V, odd: S::V) -> (S::V, S::V) {
    let (mut line, mut e, mut o) = ([0.0f32; 2 * LANES], [0.0f32; LANES], [0.0f32; LANES]);
    // SAFETY: the arrays hold 32, 16 and 16 values.
    unsafe {
        s.store(e.as_mut_ptr(), even);
        s.store(o.as_mut_ptr(), odd);
        for i in 0..LANES {
            (line[2 * i], line[2 * i + 1]) = (e[i], o[i]);
        }
        (s.load(line.as_ptr()), s.load(line.as_ptr().add(LANES)))
    }
}

impl Simd for Portable {
    type V = V;
    const MR: usize = 4;
    const NV: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller promises 16 readable values.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller promises 16 writable values.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize, fill: f32) -> V {
        let mut v = [fill; LANES];
        // SAFETY: the caller promises min(n, 16) readable values.
        unsafe { std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), n.min(LANES)) }
        v
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, v: V) {
        // SAFETY: the caller promises min(n, 16) writable values.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, n.min(LANES)) }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        lanes!(i, a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        lanes!(i, a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        lanes!(i, a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        lanes!(i, a[i] / b[i])
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        lanes!(i, a[i].sqrt())
    }
    // Without the instruction `f32::mul_add` is a slow library call, so two roundings here; with it
    // (aarch64 always has it) one.
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        if cfg!(target_arch = "aarch64") {
            lanes!(i, a[i].mul_add(b[i], c[i]))
        } else {
            lanes!(i, a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        lanes!(i, if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        lanes!(i, if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn select_lt(self, x: V, limit: V, then: V, otherwise: V) -> V {
        lanes!(
            i,
            if x[i] < limit[i] {
                then[i]
            } else {
                otherwise[i]
            }
        )
    }
    #[inline(always)]
    fn pow2(self, n: V) -> V {
        lanes!(i, f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        let mut x = v;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] += x[i + half];
            }
        }
        x[0]
    }
    #[inline(always)]
    fn max_lane(self, v: V) -> f32 {
        v.into_iter()
            .fold(f32::NEG_INFINITY, |m, x| if m > x { m } else { x })
    }
    #[inline(always)]
    fn transpose(self, rows: [V; LANES]) -> [V; LANES] {
        transpose_through_memory(self, rows)
    }
    #[inline(always)]
    unsafe fn micro(self, lhs: Lhs, rows: usize, tile: &Tile) {
        // SAFETY: the caller keeps micro's promises.
        unsafe { tiles(lhs, rows, tile) }
    }
}

micro_table! {
    inline,
    Portable, 1, [1 2 3 4]
}
