//! Sixteen lanes in two AVX registers.

use super::{Kernel, LANES, Simd, portable};
use crate::gemm::micro::{Inner, Tile, micro_table};
use std::arch::x86_64::*;

/// Proof that AVX2 and FMA are there; made only by [`enter`].
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

/// Lanes 0..8 and 8..16.
type Pair = (__m256, __m256);

/// Runs a kernel with AVX2 and FMA switched on.
///
/// # Safety
/// The machine has avx2 and fma.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// Sum of eight lanes: i with i+4, then i+2, i+1.
///
/// # Safety
/// The machine has AVX.
#[inline(always)]
pub(super) unsafe fn sum8(x: __m256) -> f32 {
    // SAFETY: the caller promises AVX; registers only.
    unsafe {
        let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
    }
}

/// Calls an intrinsic that touches no memory.
macro_rules! op {
    ($e:expr) => {
        // SAFETY: `self` proves the instruction set, and the intrinsic works on registers only.
        unsafe { $e }
    };
}

impl Simd for Avx2 {
    type V = Pair;
    // 6 × 2 sums, 2 registers of B and a broadcast fill 15 of the 16 registers.
    const MR: usize = 6;
    const NV: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        op!((_mm256_set1_ps(x), _mm256_set1_ps(x)))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Pair {
        // SAFETY: the caller promises 16 readable values; the loads may be unaligned.
        unsafe { (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Pair) {
        // SAFETY: the caller promises 16 writable values; the stores may be unaligned.
        unsafe {
            _mm256_storeu_ps(p, v.0);
            _mm256_storeu_ps(p.add(8), v.1);
        }
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize, fill: f32) -> Pair {
        let mut lanes = [fill; LANES];
        // SAFETY: the caller promises min(n, 16) readable values; `lanes` holds 16.
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n.min(LANES));
            self.load(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, v: Pair) {
        let mut lanes = [0.0; LANES];
        // SAFETY: the caller promises min(n, 16) writable values; `lanes` holds 16.
        unsafe {
            self.store(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n.min(LANES));
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        op!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        op!((_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        op!((_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        op!((_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        op!((_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn sqrt(self, a: Pair) -> Pair {
        op!((_mm256_sqrt_ps(a.0), _mm256_sqrt_ps(a.1)))
    }
    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        op!((
            _mm256_fmadd_ps(a.0, b.0, c.0),
            _mm256_fmadd_ps(a.1, b.1, c.1)
        ))
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        op!((_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        op!((_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn select_lt(self, x: Pair, limit: Pair, then: Pair, otherwise: Pair) -> Pair {
        op!((
            _mm256_blendv_ps(
                otherwise.0,
                then.0,
                _mm256_cmp_ps::<_CMP_LT_OQ>(x.0, limit.0)
            ),
            _mm256_blendv_ps(
                otherwise.1,
                then.1,
                _mm256_cmp_ps::<_CMP_LT_OQ>(x.1, limit.1)
            ),
        ))
    }
    #[inline(always)]
    fn scale_pow2(self, x: Pair, n: Pair) -> Pair {
        let power = op!({
            let bias = _mm256_set1_epi32(127);
            let lo = _mm256_add_epi32(_mm256_cvtps_epi32(n.0), bias);
            let hi = _mm256_add_epi32(_mm256_cvtps_epi32(n.1), bias);
            (
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(lo)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(hi)),
            )
        });
        self.mul(x, power)
    }
    #[inline(always)]
    fn sum(self, v: Pair) -> f32 {
        op!(sum8(_mm256_add_ps(v.0, v.1)))
    }
    #[inline(always)]
    fn max_lane(self, v: Pair) -> f32 {
        op!({
            let x = _mm256_max_ps(v.0, v.1);
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps::<1>(x, x)))
        })
    }
    #[inline(always)]
    fn transpose(self, rows: [Pair; LANES]) -> [Pair; LANES] {
        portable::transpose_through_memory(self, rows)
    }
    type U = (__m256i, __m256i);
    #[inline(always)]
    fn words(self, x: [u32; LANES]) -> Self::U {
        // SAFETY: `x` holds 16 words; the loads may be unaligned.
        unsafe {
            let p = x.as_ptr().cast::<__m256i>();
            (_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1)))
        }
    }
    #[inline(always)]
    fn add_words(self, a: Self::U, b: Self::U) -> Self::U {
        op!((_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1)))
    }
    #[inline(always)]
    fn xor_words(self, a: Self::U, b: Self::U) -> Self::U {
        op!((_mm256_xor_si256(a.0, b.0), _mm256_xor_si256(a.1, b.1)))
    }
    #[inline(always)]
    fn rotate_words<const N: i32>(self, a: Self::U) -> Self::U {
        let turn = |x| {
            op!({
                let right = _mm256_srl_epi32(x, _mm_cvtsi32_si128(32 - N));
                _mm256_or_si256(_mm256_slli_epi32::<N>(x), right)
            })
        };
        (turn(a.0), turn(a.1))
    }
    #[inline(always)]
    fn words_to_f32(self, a: Self::U) -> Pair {
        // There are only signed conversions: both halves of each word, put together.
        let convert = |x| {
            op!({
                let high = _mm256_cvtepi32_ps(_mm256_srli_epi32::<16>(x));
                let low = _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(0xffff)));
                _mm256_fmadd_ps(high, _mm256_set1_ps(65536.0), low)
            })
        };
        (convert(a.0), convert(a.1))
    }
    #[inline(always)]
    fn bits_to_f32(self, v: Pair) -> Pair {
        op!((
            _mm256_cvtepi32_ps(_mm256_castps_si256(v.0)),
            _mm256_cvtepi32_ps(_mm256_castps_si256(v.1))
        ))
    }
    #[inline(always)]
    fn lt_mask(self, x: Pair, y: Pair) -> u32 {
        op!({
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x.0, y.0));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x.1, y.1));
            (low | high << 8) as u32
        })
    }
    #[inline(always)]
    fn dot_bf16(self, acc: Pair, a: Pair, b: Pair) -> Pair {
        op!({
            let mask = _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000u32 as i32));
            let high = |x| _mm256_and_ps(x, mask);
            let low = |x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(x)));
            let dot =
                |acc, a, b| _mm256_fmadd_ps(low(a), low(b), _mm256_fmadd_ps(high(a), high(b), acc));
            (dot(acc.0, a.0, b.0), dot(acc.1, a.1, b.1))
        })
    }
    #[inline(always)]
    fn dot_i8(self, acc: Pair, a: Pair, b: Pair) -> Pair {
        op!({
            // Products of bytes in 16 bits can't saturate when a and b are widened first.
            let dot = |acc, a, b| {
                let (acc, a, b) = (
                    _mm256_castps_si256(acc),
                    _mm256_castps_si256(a),
                    _mm256_castps_si256(b),
                );
                let a_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(a));
                let a_odd = _mm256_srai_epi16::<8>(a);
                let b_even = _mm256_and_si256(b, _mm256_set1_epi16(0xff));
                let b_odd = _mm256_srli_epi16::<8>(b);
                let acc = _mm256_add_epi32(acc, _mm256_madd_epi16(a_even, b_even));
                _mm256_castsi256_ps(_mm256_add_epi32(acc, _mm256_madd_epi16(a_odd, b_odd)))
            };
            (dot(acc.0, a.0, b.0), dot(acc.1, a.1, b.1))
        })
    }
    #[inline(always)]
    fn nibbles(self, v: Pair) -> (Pair, Pair) {
        op!({
            let mask = _mm256_set1_epi8(0xf);
            let low = |x| _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(x), mask));
            let high = |x| {
                let x = _mm256_srli_epi16::<4>(_mm256_castps_si256(x));
                _mm256_castsi256_ps(_mm256_and_si256(x, mask))
            };
            ((low(v.0), low(v.1)), (high(v.0), high(v.1)))
        })
    }
    #[inline(always)]
    fn add_whole(self, a: Pair, b: Pair) -> Pair {
        op!({
            let add = |a, b| {
                let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
                _mm256_castsi256_ps(_mm256_add_epi32(a, b))
            };
            (add(a.0, b.0), add(a.1, b.1))
        })
    }
    #[inline(always)]
    fn to_float(self, v: Pair) -> Pair {
        op!((
            _mm256_cvtepi32_ps(_mm256_castps_si256(v.0)),
            _mm256_cvtepi32_ps(_mm256_castps_si256(v.1))
        ))
    }
    #[inline(always)]
    fn join_bf16(self, low: Pair, high: Pair) -> Pair {
        op!((join_bf16(low.0, high.0), join_bf16(low.1, high.1)))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Pair) {
        // SAFETY: the caller promises 16 writable values.
        unsafe {
            let low = _mm256_srli_epi32::<16>(bf16_bits(v.0));
            let high = _mm256_srli_epi32::<16>(bf16_bits(v.1));
            // Packing works within halves of a register: put the quarters back in order.
            let x = _mm256_packus_epi32(low, high);
            _mm256_storeu_si256(p.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(x));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Pair {
        // SAFETY: the caller promises 16 readable values.
        unsafe {
            let wide = |p: *const u16| {
                let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
            };
            (wide(p), wide(p.add(8)))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: Pair) {
        // SAFETY: the caller promises 16 writable values.
        unsafe {
            let x = _mm256_packs_epi32(_mm256_cvtps_epi32(v.0), _mm256_cvtps_epi32(v.1));
            let x = _mm256_permute4x64_epi64::<0b11_01_10_00>(x);
            let x = _mm_packs_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            _mm_storeu_si128(p.cast(), x);
        }
    }
    #[inline(always)]
    unsafe fn micro(self, inner: Inner, rows: usize, tile: &Tile) {
        // SAFETY: the caller keeps the tile's promises; `self` proves the instruction set.
        unsafe { tiles(inner, rows, tile) }
    }
}

/// Rounds to bf16, which stands in the upper half of each lane; what the lower half holds is unspecified.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn bf16_bits(v: __m256) -> __m256i {
    // SAFETY: the caller promises AVX2; registers only.
    unsafe {
        let x = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(x), _mm256_set1_epi32(1));
        let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        let quiet = _mm256_or_si256(x, _mm256_set1_epi32(0x40_0000));
        _mm256_blendv_epi8(_mm256_add_epi32(x, up), quiet, nan)
    }
}

/// Rounds both to bf16: `low` into the lower halves, `high` into the upper ones. A function, as a closure that is not
/// compiled into its caller would be compiled without the instruction set.
///
/// # Safety
/// The machine has AVX2.
#[inline(always)]
unsafe fn join_bf16(low: __m256, high: __m256) -> __m256 {
    // SAFETY: the caller promises AVX2; registers only.
    unsafe {
        let mask = _mm256_set1_epi32(0xffff_0000u32 as i32);
        let low = _mm256_srli_epi32::<16>(bf16_bits(low));
        let high = _mm256_and_si256(bf16_bits(high), mask);
        _mm256_castsi256_ps(_mm256_or_si256(low, high))
    }
}

micro_table! {
    target_feature(enable = "avx2,fma"),
    Avx2(()), 1, [1 2 3 4 5 6]
}
