//! Sixteen lanes in four NEON registers.

use super::{Kernel, LANES, Simd, neon_dots};
use crate::gemm::micro::{Inner, Tile, micro_table};
use std::arch::aarch64::*;

/// [`Neon`] without dot products: bytes are multiplied in 16 bits, bf16 as floats.
const PLAIN: u8 = 0;
/// With the dot product of bytes.
const DOTS: u8 = 1;
/// With those of bytes and of bf16.
const BF16: u8 = 2;

/// Proof that NEON is there, and the dot products that `LEVEL` names; made only by [`enter`], [`enter_dots`] and
/// [`enter_bf16`].
#[derive(Clone, Copy)]
pub(super) struct Neon<const LEVEL: u8>(());

/// Lanes 0..4, 4..8, 8..12 and 12..16.
type Quads = [float32x4_t; 4];

/// Runs a kernel with NEON switched on.
///
/// # Safety
/// The machine has neon.
#[target_feature(enable = "neon")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon::<PLAIN>(()))
}

/// The same, with the dot product of bytes.
///
/// # Safety
/// The machine has neon and dotprod.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn enter_dots<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon::<DOTS>(()))
}

/// The same, with the dot products of bytes and of bf16.
///
/// # Safety
/// The machine has neon, dotprod and bf16.
#[target_feature(enable = "neon,dotprod,bf16")]
pub(super) unsafe fn enter_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon::<BF16>(()))
}

/// Calls intrinsics that touch no memory.
macro_rules! op {
    ($e:expr) => {
        // SAFETY: `self` proves the instruction set, and the intrinsics work on registers only.
        unsafe { $e }
    };
}

/// The same for each of the four registers, whose number is `$i`.
macro_rules! each {
    ($i:ident, $e:expr) => {
        op!([
            {
                let $i = 0;
                $e
            },
            {
                let $i = 1;
                $e
            },
            {
                let $i = 2;
                $e
            },
            {
                let $i = 3;
                $e
            },
        ])
    };
}

impl<const LEVEL: u8> Simd for Neon<LEVEL> {
    type V = Quads;
    // 6 × 4 sums, 4 registers of B and a value of A fill 29 of the 32 registers.
    const MR: usize = 6;
    const NV: usize = 1;
    // Both factors of these products are signed.
    const ZERO: u8 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> Quads {
        op!([vdupq_n_f32(x); 4])
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Quads {
        // SAFETY: the caller promises 16 readable values; the loads may be unaligned.
        unsafe {
            [
                vld1q_f32(p),
                vld1q_f32(p.add(4)),
                vld1q_f32(p.add(8)),
                vld1q_f32(p.add(12)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Quads) {
        // SAFETY: the caller promises 16 writable values; the stores may be unaligned.
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
            vst1q_f32(p.add(8), v[2]);
            vst1q_f32(p.add(12), v[3]);
        }
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize, fill: f32) -> Quads {
        if n >= LANES {
            // SAFETY: the caller promises 16 readable values.
            return unsafe { self.load(p) };
        }
        let mut lanes = [fill; LANES];
        // SAFETY: the caller promises min(n, 16) readable values; `lanes` holds 16.
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n.min(LANES));
            self.load(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, v: Quads) {
        if n >= LANES {
            // SAFETY: the caller promises 16 writable values.
            return unsafe { self.store(p, v) };
        }
        let mut lanes = [0.0; LANES];
        // SAFETY: the caller promises min(n, 16) writable values; `lanes` holds 16.
        unsafe {
            self.store(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n.min(LANES));
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        neon_dots::prefetch(p);
    }
    #[inline(always)]
    fn add(self, a: Quads, b: Quads) -> Quads {
        each!(i, vaddq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn sub(self, a: Quads, b: Quads) -> Quads {
        each!(i, vsubq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn mul(self, a: Quads, b: Quads) -> Quads {
        each!(i, vmulq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn div(self, a: Quads, b: Quads) -> Quads {
        each!(i, vdivq_f32(a[i], b[i]))
    }
    #[inline(always)]
    fn sqrt(self, a: Quads) -> Quads {
        each!(i, vsqrtq_f32(a[i]))
    }
    #[inline(always)]
    fn fma(self, a: Quads, b: Quads, c: Quads) -> Quads {
        each!(i, vfmaq_f32(c[i], a[i], b[i]))
    }
    #[inline(always)]
    fn fma_by(self, a: f32, b: Quads, c: Quads) -> Quads {
        each!(i, vfmaq_n_f32(c[i], b[i], a))
    }
    // Not `fmax` and `fmin`, which treat NaN alike on both sides.
    #[inline(always)]
    fn max(self, a: Quads, b: Quads) -> Quads {
        each!(i, vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]))
    }
    #[inline(always)]
    fn min(self, a: Quads, b: Quads) -> Quads {
        each!(i, vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]))
    }
    #[inline(always)]
    fn select_lt(self, x: Quads, limit: Quads, then: Quads, otherwise: Quads) -> Quads {
        each!(
            i,
            vbslq_f32(vcltq_f32(x[i], limit[i]), then[i], otherwise[i])
        )
    }
    #[inline(always)]
    fn scale_pow2(self, x: Quads, n: Quads) -> Quads {
        let power = each!(i, {
            let e = vaddq_s32(vcvtq_s32_f32(n[i]), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(e))
        });
        self.mul(x, power)
    }
    #[inline(always)]
    fn sum(self, v: Quads) -> f32 {
        op!({
            let x = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            vpadds_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x)))
        })
    }
    #[inline(always)]
    fn max_lane(self, v: Quads) -> f32 {
        op!({
            let x = vmaxnmq_f32(vmaxnmq_f32(v[0], v[2]), vmaxnmq_f32(v[1], v[3]));
            vmaxnmvq_f32(x)
        })
    }
    #[inline(always)]
    fn transpose(self, rows: [Quads; LANES]) -> [Quads; LANES] {
        let mut out = rows;
        // Sixteen squares of 4 by 4; that of rows 4i.. and columns 4j.. becomes register i of columns 4j...
        for i in 0..4 {
            for j in 0..4 {
                let row = |r: usize| rows[4 * i + r][j];
                // SAFETY: `self` proves the instruction set.
                let square = unsafe { transpose4([row(0), row(1), row(2), row(3)]) };
                for (c, column) in square.into_iter().enumerate() {
                    out[4 * j + c][i] = column;
                }
            }
        }
        out
    }
    #[inline(always)]
    fn unzip(self, a: Quads, b: Quads) -> (Quads, Quads) {
        op!((
            [
                vuzp1q_f32(a[0], a[1]),
                vuzp1q_f32(a[2], a[3]),
                vuzp1q_f32(b[0], b[1]),
                vuzp1q_f32(b[2], b[3]),
            ],
            [
                vuzp2q_f32(a[0], a[1]),
                vuzp2q_f32(a[2], a[3]),
                vuzp2q_f32(b[0], b[1]),
                vuzp2q_f32(b[2], b[3]),
            ]
        ))
    }
    #[inline(always)]
    fn zip(self, even: Quads, odd: Quads) -> (Quads, Quads) {
        op!((
            [
                vzip1q_f32(even[0], odd[0]),
                vzip2q_f32(even[0], odd[0]),
                vzip1q_f32(even[1], odd[1]),
                vzip2q_f32(even[1], odd[1]),
            ],
            [
                vzip1q_f32(even[2], odd[2]),
                vzip2q_f32(even[2], odd[2]),
                vzip1q_f32(even[3], odd[3]),
                vzip2q_f32(even[3], odd[3]),
            ]
        ))
    }
    #[inline(always)]
    fn dot_bf16(self, acc: Quads, a: Quads, b: Quads) -> Quads {
        if LEVEL >= BF16 {
            return each!(i, neon_dots::bf16(acc[i], a[i], b[i]));
        }
        each!(i, {
            let acc = vfmaq_f32(acc[i], high(a[i]), high(b[i]));
            vfmaq_f32(acc, low(a[i]), low(b[i]))
        })
    }
    #[inline(always)]
    fn dot_bf16_by(self, acc: Quads, a: f32, b: Quads) -> Quads {
        if LEVEL >= BF16 {
            return each!(i, neon_dots::bf16_by(acc[i], a, b[i]));
        }
        let upper = f32::from_bits(a.to_bits() & 0xffff_0000);
        let lower = f32::from_bits(a.to_bits() << 16);
        each!(i, {
            let acc = vfmaq_n_f32(acc[i], high(b[i]), upper);
            vfmaq_n_f32(acc, low(b[i]), lower)
        })
    }
    #[inline(always)]
    fn dot_i8(self, acc: Quads, a: Quads, b: Quads) -> Quads {
        if LEVEL >= DOTS {
            return each!(i, neon_dots::bytes(acc[i], a[i], b[i]));
        }
        op!({
            let (acc0, acc1) = dot_bytes((acc[0], acc[1]), halves(a[0], a[1]), (b[0], b[1]));
            let (acc2, acc3) = dot_bytes((acc[2], acc[3]), halves(a[2], a[3]), (b[2], b[3]));
            [acc0, acc1, acc2, acc3]
        })
    }
    #[inline(always)]
    fn dot_i8_by(self, acc: Quads, a: f32, b: Quads) -> Quads {
        if LEVEL >= DOTS {
            return each!(i, neon_dots::bytes_by(acc[i], a, b[i]));
        }
        op!({
            let a = vreinterpretq_s16_f32(vdupq_n_f32(a));
            let a = (
                vreinterpretq_s8_s16(vdupq_laneq_s16::<0>(a)),
                vreinterpretq_s8_s16(vdupq_laneq_s16::<1>(a)),
            );
            let (acc0, acc1) = dot_bytes((acc[0], acc[1]), a, (b[0], b[1]));
            let (acc2, acc3) = dot_bytes((acc[2], acc[3]), a, (b[2], b[3]));
            [acc0, acc1, acc2, acc3]
        })
    }
    #[inline(always)]
    fn nibbles(self, v: Quads) -> (Quads, Quads) {
        (
            each!(i, {
                let x = vandq_u8(vreinterpretq_u8_f32(v[i]), vdupq_n_u8(0xf));
                vreinterpretq_f32_u8(x)
            }),
            each!(
                i,
                vreinterpretq_f32_u8(vshrq_n_u8::<4>(vreinterpretq_u8_f32(v[i])))
            ),
        )
    }
    #[inline(always)]
    fn add_whole(self, a: Quads, b: Quads) -> Quads {
        each!(i, {
            let x = vaddq_s32(vreinterpretq_s32_f32(a[i]), vreinterpretq_s32_f32(b[i]));
            vreinterpretq_f32_s32(x)
        })
    }
    #[inline(always)]
    fn to_float(self, v: Quads) -> Quads {
        each!(i, vcvtq_f32_s32(vreinterpretq_s32_f32(v[i])))
    }
    #[inline(always)]
    fn join_bf16(self, low: Quads, high: Quads) -> Quads {
        each!(i, {
            // The lower halves of the words of `high` give way to the upper ones of `low`.
            let (low, high) = (bf16_bits(low[i]), bf16_bits(high[i]));
            vreinterpretq_f32_u32(vsriq_n_u32::<16>(high, low))
        })
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Quads) {
        let narrow: [uint16x4_t; 4] = each!(i, vshrn_n_u32::<16>(bf16_bits(v[i])));
        // SAFETY: the caller promises 16 writable values.
        unsafe {
            vst1q_u16(p, vcombine_u16(narrow[0], narrow[1]));
            vst1q_u16(p.add(8), vcombine_u16(narrow[2], narrow[3]));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Quads {
        // The caller promises 16 readable values, four for each register.
        each!(
            i,
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p.add(4 * i))))
        )
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: Quads) {
        // Both the conversion and the narrowing keep to the range.
        let narrow: [int16x4_t; 4] = each!(i, vqmovn_s32(vcvtnq_s32_f32(v[i])));
        // SAFETY: the caller promises 16 writable values.
        unsafe {
            let low = vqmovn_s16(vcombine_s16(narrow[0], narrow[1]));
            let high = vqmovn_s16(vcombine_s16(narrow[2], narrow[3]));
            vst1q_s8(p, vcombine_s8(low, high));
        }
    }
    type U = [uint32x4_t; 4];
    #[inline(always)]
    fn words(self, x: [u32; LANES]) -> Self::U {
        // SAFETY: `x` holds 16 words; the loads may be unaligned.
        each!(i, vld1q_u32(x.as_ptr().add(4 * i)))
    }
    #[inline(always)]
    fn add_words(self, a: Self::U, b: Self::U) -> Self::U {
        each!(i, vaddq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn xor_words(self, a: Self::U, b: Self::U) -> Self::U {
        each!(i, veorq_u32(a[i], b[i]))
    }
    #[inline(always)]
    fn rotate_words<const N: i32>(self, a: Self::U) -> Self::U {
        each!(i, {
            // A shift to the left by a negative number is one to the right.
            let right = vshlq_u32(a[i], vdupq_n_s32(N - 32));
            vorrq_u32(vshlq_n_u32::<N>(a[i]), right)
        })
    }
    #[inline(always)]
    fn words_to_f32(self, a: Self::U) -> Quads {
        each!(i, vcvtq_f32_u32(a[i]))
    }
    #[inline(always)]
    fn bits_to_f32(self, v: Quads) -> Quads {
        each!(i, vcvtq_f32_u32(vreinterpretq_u32_f32(v[i])))
    }
    #[inline(always)]
    fn lt_mask(self, x: Quads, y: Quads) -> u32 {
        const BITS: [u32; LANES] = {
            let mut bits = [0; LANES];
            let mut i = 0;
            while i < LANES {
                bits[i] = 1 << i;
                i += 1;
            }
            bits
        };
        let bits = self.words(BITS);
        let found: Self::U = each!(i, vandq_u32(vcltq_f32(x[i], y[i]), bits[i]));
        op!(vaddvq_u32(vorrq_u32(
            vorrq_u32(found[0], found[1]),
            vorrq_u32(found[2], found[3])
        )))
    }
    #[inline(always)]
    unsafe fn micro(self, inner: Inner, rows: usize, tile: &Tile) {
        // SAFETY: the caller keeps the tile's promises; `self` proves the instruction set.
        unsafe {
            match LEVEL {
                PLAIN => plain::tiles(inner, rows, tile),
                DOTS => dots::tiles(inner, rows, tile),
                _ => bf16::tiles(inner, rows, tile),
            }
        }
    }
}

/// Rows of 4 by 4 values become columns.
///
/// # Safety
/// The machine has NEON.
#[inline(always)]
unsafe fn transpose4(r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: the caller promises NEON; registers only.
    unsafe {
        // Pairs of values of two rows, then pairs of those.
        let pairs = |x, y| {
            (
                vreinterpretq_f64_f32(vtrn1q_f32(x, y)),
                vreinterpretq_f64_f32(vtrn2q_f32(x, y)),
            )
        };
        let ((a, b), (c, d)) = (pairs(r[0], r[1]), pairs(r[2], r[3]));
        [
            vreinterpretq_f32_f64(vtrn1q_f64(a, c)),
            vreinterpretq_f32_f64(vtrn1q_f64(b, d)),
            vreinterpretq_f32_f64(vtrn2q_f64(a, c)),
            vreinterpretq_f32_f64(vtrn2q_f64(b, d)),
        ]
    }
}

/// The second bf16 of each word.
///
/// # Safety
/// The machine has NEON.
#[inline(always)]
unsafe fn high(x: float32x4_t) -> float32x4_t {
    // SAFETY: the caller promises NEON; registers only.
    unsafe {
        let x = vandq_u32(vreinterpretq_u32_f32(x), vdupq_n_u32(0xffff_0000));
        vreinterpretq_f32_u32(x)
    }
}

/// The first bf16 of each word.
///
/// # Safety
/// The machine has NEON.
#[inline(always)]
unsafe fn low(x: float32x4_t) -> float32x4_t {
    // SAFETY: the caller promises NEON; registers only.
    unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(x))) }
}

/// Rounds to bf16, which stands in the upper half of each lane; what the lower half holds is unspecified.
///
/// # Safety
/// The machine has NEON.
#[inline(always)]
unsafe fn bf16_bits(v: float32x4_t) -> uint32x4_t {
    // SAFETY: the caller promises NEON; registers only.
    unsafe {
        let x = vreinterpretq_u32_f32(v);
        let odd = vandq_u32(vshrq_n_u32::<16>(x), vdupq_n_u32(1));
        let up = vaddq_u32(odd, vdupq_n_u32(0x7fff));
        let quiet = vorrq_u32(x, vdupq_n_u32(0x40_0000));
        vbslq_u32(vceqq_f32(v, v), vaddq_u32(x, up), quiet)
    }
}

/// Bytes 0 and 1 of the words of `x` and then `y`, and bytes 2 and 3.
///
/// # Safety
/// The machine has NEON.
#[inline(always)]
unsafe fn halves(x: float32x4_t, y: float32x4_t) -> (int8x16_t, int8x16_t) {
    // SAFETY: the caller promises NEON; registers only.
    unsafe {
        let (x, y) = (vreinterpretq_s16_f32(x), vreinterpretq_s16_f32(y));
        (
            vreinterpretq_s8_s16(vuzp1q_s16(x, y)),
            vreinterpretq_s8_s16(vuzp2q_s16(x, y)),
        )
    }
}

/// [`Simd::dot_i8`] on eight lanes without the instruction, for `a` cut into [`halves`]. The sum of two products
/// of bytes fits in 16 bits if those of `a` are not −128.
///
/// # Safety
/// The machine has NEON.
#[inline(always)]
unsafe fn dot_bytes(
    acc: (float32x4_t, float32x4_t),
    a: (int8x16_t, int8x16_t),
    b: (float32x4_t, float32x4_t),
) -> (float32x4_t, float32x4_t) {
    // SAFETY: the caller promises NEON; registers only.
    unsafe {
        let b = halves(b.0, b.1);
        let first = vmull_s8(vget_low_s8(a.0), vget_low_s8(b.0));
        let first = vmlal_s8(first, vget_low_s8(a.1), vget_low_s8(b.1));
        let second = vmlal_high_s8(vmull_high_s8(a.0, b.0), a.1, b.1);
        (
            vreinterpretq_f32_s32(vpadalq_s16(vreinterpretq_s32_f32(acc.0), first)),
            vreinterpretq_f32_s32(vpadalq_s16(vreinterpretq_s32_f32(acc.1), second)),
        )
    }
}

mod plain {
    use super::*;
    micro_table! {
        target_feature(enable = "neon"),
        Neon::<PLAIN>(()), 1, [1 2 3 4 5 6]
    }
}

mod dots {
    use super::*;
    micro_table! {
        target_feature(enable = "neon,dotprod"),
        Neon::<DOTS>(()), 1, [1 2 3 4 5 6]
    }
}

mod bf16 {
    use super::*;
    micro_table! {
        target_feature(enable = "neon,dotprod,bf16"),
        Neon::<BF16>(()), 1, [1 2 3 4 5 6]
    }
}
