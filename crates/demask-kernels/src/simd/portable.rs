//! Sixteen lanes in an array, for machines without a path of their own.

use super::{LANES, Simd};
use crate::gemm::micro::{Inner, Tile, micro_table};

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
    fn scale_pow2(self, x: V, n: V) -> V {
        lanes!(i, x[i] * f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
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
    type U = [u32; LANES];
    #[inline(always)]
    fn words(self, x: [u32; LANES]) -> Self::U {
        x
    }
    #[inline(always)]
    fn add_words(self, a: Self::U, b: Self::U) -> Self::U {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn xor_words(self, a: Self::U, b: Self::U) -> Self::U {
        std::array::from_fn(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn rotate_words<const N: i32>(self, a: Self::U) -> Self::U {
        a.map(|x| x.rotate_left(N as u32))
    }
    #[inline(always)]
    fn words_to_f32(self, a: Self::U) -> V {
        a.map(|x| x as f32)
    }
    #[inline(always)]
    fn bits_to_f32(self, v: V) -> V {
        v.map(|x| x.to_bits() as f32)
    }
    #[inline(always)]
    fn lt_mask(self, x: V, y: V) -> u32 {
        (0..LANES).fold(0, |mask, i| mask | u32::from(x[i] < y[i]) << i)
    }
    #[inline(always)]
    fn dot_bf16(self, acc: V, a: V, b: V) -> V {
        let high = |x: V| lanes!(i, f32::from_bits(x[i].to_bits() & 0xffff_0000));
        let low = |x: V| lanes!(i, f32::from_bits(x[i].to_bits() << 16));
        let acc = self.fma(high(a), high(b), acc);
        self.fma(low(a), low(b), acc)
    }
    #[inline(always)]
    fn dot_i8(self, acc: V, a: V, b: V) -> V {
        lanes!(i, {
            let (a, b) = (a[i].to_bits().to_le_bytes(), b[i].to_bits().to_le_bytes());
            let mut sum = acc[i].to_bits() as i32;
            for j in 0..4 {
                sum = sum.wrapping_add(i32::from(a[j] as i8) * i32::from(b[j]));
            }
            f32::from_bits(sum as u32)
        })
    }
    #[inline(always)]
    fn nibbles(self, v: V) -> (V, V) {
        (
            lanes!(i, f32::from_bits(v[i].to_bits() & 0x0f0f_0f0f)),
            lanes!(i, f32::from_bits(v[i].to_bits() >> 4 & 0x0f0f_0f0f)),
        )
    }
    #[inline(always)]
    fn add_whole(self, a: V, b: V) -> V {
        lanes!(
            i,
            f32::from_bits(a[i].to_bits().wrapping_add(b[i].to_bits()))
        )
    }
    #[inline(always)]
    fn to_float(self, v: V) -> V {
        lanes!(i, v[i].to_bits() as i32 as f32)
    }
    #[inline(always)]
    fn join_bf16(self, low: V, high: V) -> V {
        lanes!(
            i,
            f32::from_bits(u32::from(bf16(low[i])) | u32::from(bf16(high[i])) << 16)
        )
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: V) {
        // SAFETY: the caller promises 16 writable values.
        unsafe { p.cast::<[u16; LANES]>().write_unaligned(v.map(bf16)) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> V {
        // SAFETY: the caller promises 16 readable values.
        let x = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        x.map(|x| f32::from_bits(u32::from(x) << 16))
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: V) {
        // SAFETY: the caller promises 16 writable values. A cast to i8 clamps.
        unsafe {
            p.cast::<[i8; LANES]>()
                .write_unaligned(v.map(|x| x.round_ties_even() as i8));
        }
    }
    #[inline(always)]
    unsafe fn micro(self, inner: Inner, rows: usize, tile: &Tile) {
        // SAFETY: the caller keeps the tile's promises.
        unsafe { tiles(inner, rows, tile) }
    }
}

/// The nearest bf16, ties to even; NaN stays NaN.
pub(crate) fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        (bits >> 16) as u16 | 0x40
    } else {
        ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
    }
}

micro_table! {
    inline,
    Portable, 1, [1 2 3 4]
}
