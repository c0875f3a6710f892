//! Vectors of sixteen `f32` lanes, on every instruction set.
//!
//! A kernel is written once, generic over [`Simd`]; [`dispatch`] runs it inside a function that has
//! the instruction set switched on. All sets present *sixteen* lanes (one AVX-512 register, two AVX
//! registers, four NEON registers, an array), so that a reduction folds the same lanes in the same order everywhere.
//!
//! | name | file | needs |
//! |---|---|---|
//! | AMX | `amx.rs` | those of AVX-512 with bf16, and the tile unit: products of bf16, int8 and int4 matrices only |
//! | AVX-512 with bf16 | `avx512.rs` | those of AVX-512, `avx512bf16`, `avx512vnni` |
//! | AVX-512 | `avx512.rs` | `avx512f`, `avx512vl`, `avx512dq`, `avx512bw` |
//! | AVX2 | `avx2.rs` | `avx2`, `fma` |
//! | NEON with bf16 | `neon.rs`, `neon_dots.rs` | `neon`, `dotprod`, `bf16` |
//! | NEON with dot products | `neon.rs`, `neon_dots.rs` | `neon`, `dotprod` |
//! | NEON | `neon.rs` | `neon`, which every aarch64 machine has |
//! | portable | `portable.rs` | nothing; the compiler vectorises what it can |

#[cfg_attr(not(target_arch = "x86_64"), path = "no_amx.rs")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon_dots;
mod portable;

pub(crate) use portable::bf16 as round_to_bf16;

use crate::gemm::micro::{Inner, Tile};

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// An instruction set that the kernels know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 512-bit vectors, and a tile unit that multiplies matrices of bf16 and int8 (x86-64: Sapphire Rapids and
    /// later, on Linux).
    Amx,
    /// 512-bit vectors with dot products of bf16 and int8 (x86-64: Zen 4, Sapphire Rapids and later).
    Avx512Bf16,
    /// 512-bit vectors (x86-64).
    Avx512,
    /// 256-bit vectors with fused multiply-add (x86-64).
    Avx2,
    /// 128-bit vectors with dot products of int8 and bf16 (aarch64: Neoverse V1 and N2, Apple M2 and later).
    NeonBf16,
    /// 128-bit vectors with dot products of int8 (aarch64: Cortex-A76, Neoverse N1, Apple M1 and later).
    NeonDot,
    /// 128-bit vectors (aarch64).
    Neon,
    /// Plain Rust, for every other machine.
    Portable,
}

impl Isa {
    /// The best instruction set of this machine (asked once by the standard library, then cached).
    pub fn detect() -> Self {
        #[cfg(test)]
        if let Some(isa) = FORCED.get() {
            return isa;
        }
        Self::available()[0]
    }

    /// Every instruction set that this machine can run, best first; never empty.
    pub fn available() -> &'static [Self] {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw");
            let dots =
                is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni");
            if avx2 && avx512 && dots && amx::available() {
                return &[
                    Self::Amx,
                    Self::Avx512Bf16,
                    Self::Avx512,
                    Self::Avx2,
                    Self::Portable,
                ];
            }
            if avx2 && avx512 && dots {
                return &[Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable];
            }
            if avx2 && avx512 {
                return &[Self::Avx512, Self::Avx2, Self::Portable];
            }
            if avx2 {
                return &[Self::Avx2, Self::Portable];
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected;
            let neon = is_aarch64_feature_detected!("neon");
            let dots = is_aarch64_feature_detected!("dotprod");
            if neon && dots && is_aarch64_feature_detected!("bf16") {
                return &[Self::NeonBf16, Self::NeonDot, Self::Neon, Self::Portable];
            }
            if neon && dots {
                return &[Self::NeonDot, Self::Neon, Self::Portable];
            }
            if neon {
                return &[Self::Neon, Self::Portable];
            }
        }
        &[Self::Portable]
    }

    /// A short lower-case name: `amx`, `avx512bf16`, `avx512`, `avx2`, `neonbf16`, `neondot`, `neon` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::NeonBf16 => "neonbf16",
            Self::NeonDot => "neondot",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

/// The instruction set that is forced on this thread.
#[cfg(test)]
pub(crate) fn forced() -> Option<Isa> {
    FORCED.get()
}

/// Forces it.
#[cfg(test)]
pub(crate) fn force(isa: Option<Isa>) {
    FORCED.set(isa);
}

/// Runs `f` once with every instruction set of this machine (the choice is made on the calling
/// thread of an operation, so forcing it there is enough; the threads of
/// [`with_threads`](crate::threads::with_threads) inherit it).
#[cfg(test)]
pub(crate) fn with_every_isa(mut f: impl FnMut(Isa)) {
    for &isa in Isa::available() {
        FORCED.set(Some(isa));
        f(isa);
    }
    FORCED.set(None);
}

/// Sixteen lanes of `f32`. A value of the implementing type proves that the machine has the
/// instruction set, which is what makes the arithmetic methods safe.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen lanes.
    type V: Copy;
    /// Rows of the largest register tile of the matrix product.
    const MR: usize;
    /// Vectors in a row of the register tile.
    const NV: usize;
    /// Whether machines with this instruction set may have a tile unit beside it ([`amx`]).
    const UNIT: bool = false;
    /// What is added to the signed bytes of an int8 B so that [`Simd::dot_i8`] takes them: 128 where the machine
    /// wants unsigned bytes, as a tile unit does, 0 where it wants signed ones.
    const ZERO: u8 = 128;
    /// Columns of the register tile, and the width of a packed panel of B.
    const NR: usize = LANES * Self::NV;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `p` is valid for reading 16 values.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `p` is valid for writing 16 values.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Lanes from `n` on are `fill`; `n` above 16 counts as 16.
    /// # Safety
    /// `p` is valid for reading `min(n, 16)` values.
    unsafe fn load_part(self, p: *const f32, n: usize, fill: f32) -> Self::V;
    /// Stores the first `n` lanes; `n` above 16 counts as 16.
    /// # Safety
    /// `p` is valid for writing `min(n, 16)` values.
    unsafe fn store_part(self, p: *mut f32, n: usize, v: Self::V);

    /// Asks for the cache line at `p`, which need not exist.
    #[inline(always)]
    fn prefetch(self, _p: *const f32) {}

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the machine can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The same with one value in all lanes of `a`, which some machines can take from a single lane.
    #[inline(always)]
    fn fma_by(self, a: f32, b: Self::V, c: Self::V) -> Self::V {
        self.fma(self.splat(a), b, c)
    }
    /// `a > b ? a : b` in each lane (so a NaN in `b` survives).
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b` in each lane (so a NaN in `b` survives).
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `x < limit ? then : otherwise` in each lane (false for NaN).
    fn select_lt(self, x: Self::V, limit: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// `x·2ⁿ` for whole `n` in −126..=127.
    fn scale_pow2(self, x: Self::V, n: Self::V) -> Self::V;
    /// Sum of the lanes: i with i+8, then i+4, i+2, i+1.
    fn sum(self, v: Self::V) -> f32;
    /// Largest lane.
    fn max_lane(self, v: Self::V) -> f32;
    /// Rows become columns.
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES];
    /// The lanes of `a` then `b` at even places, and those at odd places.
    #[inline(always)]
    fn unzip(self, a: Self::V, b: Self::V) -> (Self::V, Self::V) {
        portable::unzip_through_memory(self, a, b)
    }
    /// The inverse of [`Simd::unzip`].
    #[inline(always)]
    fn zip(self, even: Self::V, odd: Self::V) -> (Self::V, Self::V) {
        portable::zip_through_memory(self, even, odd)
    }

    // Lanes as words that hold narrower values: two bf16 (the lower half first) or four bytes.

    /// Every lane the word `x`.
    #[inline(always)]
    fn splat_word(self, x: i32) -> Self::V {
        self.splat(f32::from_bits(x as u32))
    }
    /// `acc + a₁·b₁ + a₀·b₀` in each lane, in this order, for bf16 pairs `a` and `b`; the
    /// instruction of NEON adds the two products first and rounds to odd.
    fn dot_bf16(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// The same with one pair in all lanes of `a`.
    #[inline(always)]
    fn dot_bf16_by(self, acc: Self::V, a: f32, b: Self::V) -> Self::V {
        self.dot_bf16(acc, self.splat(a), b)
    }
    /// `acc + Σ aᵢ·bᵢ` in each lane, for whole numbers `acc`, four signed bytes `a` other than −128, and four bytes
    /// `b`, which are unsigned if [`Simd::ZERO`] is 128 and signed if it is 0 (0..=127 are the same in both).
    fn dot_i8(self, acc: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// The same with one word in all lanes of `a`.
    #[inline(always)]
    fn dot_i8_by(self, acc: Self::V, a: f32, b: Self::V) -> Self::V {
        self.dot_i8(acc, self.splat(a), b)
    }
    /// The lower and the upper halves of the four bytes of each lane, each as four bytes.
    fn nibbles(self, v: Self::V) -> (Self::V, Self::V);
    /// Sums of whole numbers, which wrap around.
    fn add_whole(self, a: Self::V, b: Self::V) -> Self::V;
    /// Whole numbers to `f32`.
    fn to_float(self, v: Self::V) -> Self::V;
    /// Words of two values each, rounded to bf16 (to nearest, ties to even).
    fn join_bf16(self, low: Self::V, high: Self::V) -> Self::V;
    /// Stores the lanes as sixteen bf16, rounded likewise.
    /// # Safety
    /// `p` is valid for writing 16 values.
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V);
    /// Sixteen bf16.
    /// # Safety
    /// `p` is valid for reading 16 values.
    unsafe fn load_bf16(self, p: *const u16) -> Self::V;
    /// Stores the lanes as sixteen bytes, rounded to nearest (ties to even), clamped to −128..=127.
    /// NaN becomes some byte.
    /// # Safety
    /// `p` is valid for writing 16 values.
    unsafe fn store_i8(self, p: *mut i8, v: Self::V);

    // Whole numbers and comparisons, for random bits and searches (`rowwise/score`).

    /// Sixteen lanes of `u32`.
    type U: Copy;
    fn words(self, x: [u32; LANES]) -> Self::U;
    /// Wraps around.
    fn add_words(self, a: Self::U, b: Self::U) -> Self::U;
    fn xor_words(self, a: Self::U, b: Self::U) -> Self::U;
    /// Each word turned left by `N` bits, 0 < `N` < 32.
    fn rotate_words<const N: i32>(self, a: Self::U) -> Self::U;
    /// Each word as a number, to the nearest (or next to it).
    fn words_to_f32(self, a: Self::U) -> Self::V;
    /// The bits of each value, read as a whole number, as a number; for values from +0 up.
    fn bits_to_f32(self, v: Self::V) -> Self::V;
    /// A bit for each lane, lane 0 lowest: `x < y` (false for NaN).
    fn lt_mask(self, x: Self::V, y: Self::V) -> u32;

    /// The register tile of the matrix product with `rows` rows (1..=`MR`); see `gemm/micro.rs`.
    /// # Safety
    /// As for the tiles in [`crate::gemm::micro`].
    unsafe fn micro(self, inner: Inner, rows: usize, tile: &Tile);
}

/// A piece of work that is generic over the instruction set.
pub(crate) trait Kernel {
    type Output;
    /// Implementations are `#[inline(always)]`, so that they compile with the instruction set.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Runs `kernel` compiled for `isa`. `isa` must come from [`Isa::available`].
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    debug_assert!(Isa::available().contains(&isa));
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: values of `Isa` other than Portable only come from run-time detection.
        Isa::Amx | Isa::Avx512Bf16 => unsafe { avx512::enter_bf16(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { avx512::enter(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::enter(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::NeonBf16 => unsafe { neon::enter_bf16(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::NeonDot => unsafe { neon::enter_dots(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::Neon => unsafe { neon::enter(kernel) },
        _ => kernel.run(portable::Portable),
    }
}

/// The register tile widths of an instruction set: (`MR`, `NR`).
pub(crate) fn tile_shape(isa: Isa) -> (usize, usize) {
    struct Shape;
    impl Kernel for Shape {
        type Output = (usize, usize);
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> (usize, usize) {
            (S::MR, S::NR)
        }
    }
    dispatch(isa, Shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Check;
    impl Kernel for Check {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let x: Vec<f32> = (0..16).map(|i| (i as f32 - 7.5) * 1.25).collect();
            let mut out = [0.0f32; 16];
            // SAFETY: every pointer has 16 values behind it.
            unsafe {
                let v = s.load(x.as_ptr());
                // The stated folding order, by hand.
                let a: Vec<f32> = (0..8).map(|i| x[i] + x[i + 8]).collect();
                let b: Vec<f32> = (0..4).map(|i| a[i] + a[i + 4]).collect();
                assert_eq!(s.sum(v), (b[0] + b[2]) + (b[1] + b[3]));
                assert_eq!(s.max_lane(v), 9.375);
                s.store(out.as_mut_ptr(), s.fma(v, s.splat(2.0), s.splat(1.0)));
                assert_eq!(out[3], -5.625 * 2.0 + 1.0);
                s.store(out.as_mut_ptr(), s.load_part(x.as_ptr(), 5, -3.0));
                assert_eq!((out[4], out[5], out[15]), (x[4], -3.0, -3.0));
                s.store_part(out.as_mut_ptr(), 2, s.splat(7.0));
                assert_eq!((out[1], out[2]), (7.0, x[2]));
                s.store(
                    out.as_mut_ptr(),
                    s.scale_pow2(s.splat(1.5), s.splat(-126.0)),
                );
                assert_eq!(out[9], 1.5 * f32::MIN_POSITIVE);
                s.store(out.as_mut_ptr(), s.scale_pow2(s.splat(1.5), s.splat(127.0)));
                assert_eq!(out[9], 1.5 * 2f32.powi(127));
                let nan = s.splat(f32::NAN);
                s.store(out.as_mut_ptr(), s.min(s.splat(1.0), nan));
                assert!(out[0].is_nan());
                s.store(out.as_mut_ptr(), s.max(s.splat(1.0), nan));
                assert!(out[0].is_nan());
                s.store(
                    out.as_mut_ptr(),
                    s.select_lt(v, s.splat(0.0), s.splat(1.0), v),
                );
                assert_eq!((out[0], out[15]), (1.0, 9.375));
                assert_eq!(s.lt_mask(v, s.splat(0.0)), 0x00ff);
                assert_eq!(s.lt_mask(nan, v) | s.lt_mask(v, nan), 0);
                let words = s.words(std::array::from_fn(|i| i as u32 * 0x1111_1111));
                let turned = s.rotate_words::<7>(words);
                let mixed = s.xor_words(s.add_words(words, turned), turned);
                s.store(out.as_mut_ptr(), s.words_to_f32(mixed));
                for (i, &x) in out.iter().enumerate() {
                    let (w, t) = (
                        i as u32 * 0x1111_1111,
                        (i as u32 * 0x1111_1111).rotate_left(7),
                    );
                    let want = f64::from(w.wrapping_add(t) ^ t);
                    assert!((f64::from(x) - want).abs() <= want * 1.2e-7, "{x} {want}");
                }
                s.store(out.as_mut_ptr(), s.bits_to_f32(s.splat(1.5)));
                assert_eq!(out[7], 1.5f32.to_bits() as f32);
                let grid: Vec<f32> = (0..256).map(|i| i as f32).collect();
                let mut rows = [s.splat(0.0); 16];
                for (i, r) in rows.iter_mut().enumerate() {
                    *r = s.load(grid.as_ptr().add(16 * i));
                }
                let (even, odd) = s.unzip(rows[2], rows[3]);
                s.store(out.as_mut_ptr(), even);
                assert_eq!((out[0], out[1], out[8], out[15]), (32.0, 34.0, 48.0, 62.0));
                s.store(out.as_mut_ptr(), odd);
                assert_eq!((out[0], out[1], out[8], out[15]), (33.0, 35.0, 49.0, 63.0));
                let (a, b) = s.zip(even, odd);
                s.store(out.as_mut_ptr(), a);
                assert!((0..16).all(|i| out[i] == (32 + i) as f32));
                s.store(out.as_mut_ptr(), b);
                assert!((0..16).all(|i| out[i] == (48 + i) as f32));
                for (j, col) in s.transpose(rows).into_iter().enumerate() {
                    s.store(out.as_mut_ptr(), col);
                    for (i, &x) in out.iter().enumerate() {
                        assert_eq!(x, (16 * i + j) as f32);
                    }
                }
            }
        }
    }

    /// The operations on words that hold narrower values.
    struct Narrow;
    impl Kernel for Narrow {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let word = |bytes: [i8; 4]| f32::from_bits(u32::from_le_bytes(bytes.map(|x| x as u8)));
            let mut out = [0.0f32; 16];
            // All ends of both ranges, and what is different in each lane.
            let left = |i: usize| [[127, -127, 3, -1], [-127; 4], [i as i8, 127, -9, 127]][i % 3];
            let right =
                |i: usize| [[-128, 127, -128, i as i8], [-128; 4], [127; 4], [-1; 4]][i % 4];
            let dot = |acc: i32, a: [i8; 4], b: [i8; 4]| {
                let term = |(a, b): (i8, i8)| i32::from(a) * (i32::from(b) + i32::from(S::ZERO));
                acc + a.into_iter().zip(b).map(term).sum::<i32>()
            };
            let a: [f32; 16] = std::array::from_fn(|i| word(left(i)));
            let b: [f32; 16] = std::array::from_fn(|i| word(right(i).map(|x| x ^ S::ZERO as i8)));
            // SAFETY: every pointer has as many values behind it as the operation asks for.
            unsafe {
                let (va, vb) = (s.load(a.as_ptr()), s.load(b.as_ptr()));
                s.store(out.as_mut_ptr(), s.dot_i8(s.splat_word(-5000), va, vb));
                for (i, x) in out.iter().enumerate() {
                    assert_eq!(x.to_bits() as i32, dot(-5000, left(i), right(i)), "{i}");
                }
                for (j, &one) in a.iter().enumerate() {
                    s.store(out.as_mut_ptr(), s.dot_i8_by(s.splat_word(70), one, vb));
                    for (i, x) in out.iter().enumerate() {
                        assert_eq!(x.to_bits() as i32, dot(70, left(j), right(i)), "{i}");
                    }
                }
                let sum = s.add_whole(s.splat_word(-7), s.splat_word(1 << 20));
                s.store(out.as_mut_ptr(), s.to_float(sum));
                assert_eq!(out, [1_048_569.0; 16]);
                let (low, high) = s.nibbles(s.splat_word(0x1f2e_3d4c));
                s.store(out.as_mut_ptr(), low);
                assert_eq!(out[3].to_bits(), 0x0f0e_0d0c);
                s.store(out.as_mut_ptr(), high);
                assert_eq!(out[15].to_bits(), 0x0102_0304);

                let x = [
                    -1e6, -128.5, -127.5, -1.5, -0.5, 0.5, 1.5, 2.5, 126.5, 127.5, 1e6, 0.0, 1.0,
                    -1.0, 63.0, 64.0,
                ];
                let mut bytes = [0i8; 16];
                s.store_i8(bytes.as_mut_ptr(), s.load(x.as_ptr()));
                let want = [
                    -128, -128, -128, -2, 0, 0, 2, 2, 126, 127, 127, 0, 1, -1, 63, 64,
                ];
                assert_eq!(bytes, want);

                // Ties between two bf16, just beside them, and what is no number.
                let half = f32::from_bits(0x3f80_8000);
                let mut x = [0.0f32; 16];
                x[..8].copy_from_slice(&[
                    1.0,
                    half,
                    f32::from_bits(0x3f80_8001),
                    f32::from_bits(0x3f81_8000),
                    -half,
                    f32::INFINITY,
                    f32::NAN,
                    f32::from_bits(0x7f80_0001),
                ]);
                let v = s.load(x.as_ptr());
                let mut narrow = [0u16; 16];
                s.store_bf16(narrow.as_mut_ptr(), v);
                let want = [0x3f80, 0x3f80, 0x3f81, 0x3f82, 0xbf80, 0x7f80];
                assert_eq!(narrow[..6], want);
                let number = |x: u16| f32::from_bits(u32::from(x) << 16);
                s.store(out.as_mut_ptr(), s.load_bf16(narrow.as_ptr()));
                for (x, &narrow) in out.iter().zip(&narrow) {
                    assert_eq!(x.to_bits(), number(narrow).to_bits());
                }
                assert!(number(narrow[6]).is_nan() && number(narrow[7]).is_nan());
                s.store(out.as_mut_ptr(), s.join_bf16(v, s.splat(3.0)));
                for (x, &low) in out.iter().zip(&narrow) {
                    assert_eq!(x.to_bits(), 0x4040_0000 | u32::from(low));
                }

                // Whole numbers, so that the order of a sum does not show.
                let pair = |low: f32, high: f32| s.join_bf16(s.splat(low), s.splat(high));
                let (a, b) = (pair(3.0, -5.0), pair(7.0, 11.0));
                s.store(out.as_mut_ptr(), s.dot_bf16(s.splat(0.5), a, b));
                assert_eq!(out, [0.5 + 21.0 - 55.0; 16]);
                s.store(out.as_mut_ptr(), a);
                let one = out[0];
                s.store(out.as_mut_ptr(), s.dot_bf16_by(s.splat(0.5), one, b));
                assert_eq!(out, [0.5 + 21.0 - 55.0; 16]);
                s.store(out.as_mut_ptr(), s.fma_by(2.0, s.splat(3.0), s.splat(1.0)));
                assert_eq!(out, [7.0; 16]);
            }
        }
    }

    #[test]
    fn every_instruction_set_does_what_the_trait_says() {
        with_every_isa(|isa| {
            dispatch(isa, Check);
            dispatch(isa, Narrow);
        });
    }

    #[test]
    #[cfg(target_arch = "aarch64")]
    fn neon_is_chosen_with_the_dot_products_that_the_machine_has() {
        use std::arch::is_aarch64_feature_detected as detected;
        struct Name;
        impl Kernel for Name {
            type Output = &'static str;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> &'static str {
                std::any::type_name::<S>()
            }
        }
        let mut names = Vec::new();
        with_every_isa(|isa| names.push((isa.name(), dispatch(isa, Name))));
        let path = |name| {
            let found = names.iter().find(|(isa, _)| *isa == name);
            found.map(|(_, path)| path.rsplit("::").next().expect("a path has a last part"))
        };
        let (dots, bf16) = (detected!("dotprod"), detected!("bf16"));
        assert_eq!(path("neonbf16"), (dots && bf16).then_some("Neon<2>"));
        assert_eq!(path("neondot"), dots.then_some("Neon<1>"));
        assert_eq!(path("neon"), Some("Neon<0>"));
        assert_eq!(path("portable"), Some("Portable"));
        let best = match (dots, bf16) {
            (true, true) => Isa::NeonBf16,
            (true, false) => Isa::NeonDot,
            _ => Isa::Neon,
        };
        assert_eq!(Isa::detect(), best);
    }
}
