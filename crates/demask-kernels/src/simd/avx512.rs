//! Sixteen lanes in one AVX-512 register.

use super::{Kernel, LANES, Simd};
use crate::gemm::micro::{Inner, Tile, micro_table};
use std::arch::x86_64::*;

/// Proof that AVX-512 is there, and with `DOTS` its dot products of bf16 and int8; made only by
/// [`enter`] and [`enter_bf16`].
#[derive(Clone, Copy)]
pub(super) struct Avx512<const DOTS: bool>(());

/// Runs a kernel with AVX-512 switched on.
///
/// # Safety
/// The machine has avx512f, avx512vl, avx512dq, avx512bw, avx2 and fma.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<false>(()))
}

/// The same, with the dot products.
///
/// # Safety
/// The machine has what [`enter`] needs, avx512bf16 and avx512vnni.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx512vnni,avx2,fma")]
pub(super) unsafe fn enter_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<true>(()))
}

/// The first `n` lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n.min(LANES)) - 1) as u16
}

/// Calls an intrinsic that touches no memory.
macro_rules! op {
    ($e:expr) => {
        // SAFETY: `self` proves the instruction set, and the intrinsic works on registers only.
        unsafe { $e }
    };
}

impl<const DOTS: bool> Simd for Avx512<DOTS> {
    type V = __m512;
    // 14 × 2 sums, 2 vectors of B and a broadcast fill 31 of the 32 registers.
    const MR: usize = 14;
    const NV: usize = 2;
    const UNIT: bool = DOTS;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        op!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller promises 16 readable values; the load may be unaligned.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller promises 16 writable values; the store may be unaligned.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize, fill: f32) -> __m512 {
        // SAFETY: masked-off lanes are not touched, the caller promises the others.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask(n), p) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, v: __m512) {
        // SAFETY: masked-off lanes are not touched, the caller promises the others.
        unsafe { _mm512_mask_storeu_ps(p, mask(n), v) }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        op!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        op!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn select_lt(self, x: __m512, limit: __m512, then: __m512, otherwise: __m512) -> __m512 {
        op!(_mm512_mask_blend_ps(
            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, limit),
            otherwise,
            then
        ))
    }
    #[inline(always)]
    fn scale_pow2(self, x: __m512, n: __m512) -> __m512 {
        op!(_mm512_scalef_ps(x, n))
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        op!({
            let h = _mm512_extractf32x8_ps::<1>(v);
            let x = _mm256_add_ps(_mm512_castps512_ps256(v), h);
            super::avx2::sum8(x)
        })
    }
    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        op!(_mm512_reduce_max_ps(v))
    }
    #[inline(always)]
    fn transpose(self, mut r: [__m512; LANES]) -> [__m512; LANES] {
        op!({
            let mut t = r;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let d = |x| _mm512_castps_pd(x);
            let f = |x| _mm512_castpd_ps(x);
            // Afterwards 128-bit block b of r[4i + j] holds column 4b + j of rows 4i..4i + 4.
            for i in (0..LANES).step_by(4) {
                r[i] = f(_mm512_unpacklo_pd(d(t[i]), d(t[i + 2])));
                r[i + 1] = f(_mm512_unpackhi_pd(d(t[i]), d(t[i + 2])));
                r[i + 2] = f(_mm512_unpacklo_pd(d(t[i + 1]), d(t[i + 3])));
                r[i + 3] = f(_mm512_unpackhi_pd(d(t[i + 1]), d(t[i + 3])));
            }
            for j in 0..4 {
                let even0 = _mm512_shuffle_f32x4::<0x88>(r[j], r[4 + j]);
                let even1 = _mm512_shuffle_f32x4::<0x88>(r[8 + j], r[12 + j]);
                let odd0 = _mm512_shuffle_f32x4::<0xdd>(r[j], r[4 + j]);
                let odd1 = _mm512_shuffle_f32x4::<0xdd>(r[8 + j], r[12 + j]);
                t[j] = _mm512_shuffle_f32x4::<0x88>(even0, even1);
                t[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd0, odd1);
                t[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even0, even1);
                t[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd0, odd1);
            }
            t
        })
    }
    type U = __m512i;
    #[inline(always)]
    fn unzip(self, a: __m512, b: __m512) -> (__m512, __m512) {
        op!({
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            let pick = |at| _mm512_permutex2var_ps(a, at, b);
            (pick(even), pick(odd))
        })
    }
    #[inline(always)]
    fn zip(self, even: __m512, odd: __m512) -> (__m512, __m512) {
        op!({
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            let pick = |at| _mm512_permutex2var_ps(even, at, odd);
            (pick(low), pick(high))
        })
    }
    #[inline(always)]
    fn words(self, x: [u32; LANES]) -> __m512i {
        // SAFETY: `x` holds 16 words; the load may be unaligned.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn add_words(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn xor_words(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn rotate_words<const N: i32>(self, a: __m512i) -> __m512i {
        op!(_mm512_rol_epi32::<N>(a))
    }
    #[inline(always)]
    fn words_to_f32(self, a: __m512i) -> __m512 {
        op!(_mm512_cvtepu32_ps(a))
    }
    #[inline(always)]
    fn bits_to_f32(self, v: __m512) -> __m512 {
        op!(_mm512_cvtepi32_ps(_mm512_castps_si512(v)))
    }
    #[inline(always)]
    fn lt_mask(self, x: __m512, y: __m512) -> u32 {
        op!(u32::from(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, y)))
    }
    #[inline(always)]
    fn dot_bf16(self, acc: __m512, a: __m512, b: __m512) -> __m512 {
        if DOTS {
            // SAFETY: vectors of the same size; any bits are values.
            let pairs = |x: __m512| unsafe { std::mem::transmute::<__m512, __m512bh>(x) };
            return op!(_mm512_dpbf16_ps(acc, pairs(a), pairs(b)));
        }
        op!({
            let high = |x| {
                let mask = _mm512_set1_epi32(0xffff_0000u32 as i32);
                _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), mask))
            };
            let low = |x| {
                let x = _mm512_slli_epi32::<16>(_mm512_castps_si512(x));
                _mm512_castsi512_ps(x)
            };
            let acc = _mm512_fmadd_ps(high(a), high(b), acc);
            _mm512_fmadd_ps(low(a), low(b), acc)
        })
    }
    #[inline(always)]
    fn dot_i8(self, acc: __m512, a: __m512, b: __m512) -> __m512 {
        op!({
            let (acc, a, b) = (
                _mm512_castps_si512(acc),
                _mm512_castps_si512(a),
                _mm512_castps_si512(b),
            );
            if DOTS {
                return _mm512_castsi512_ps(_mm512_dpbusd_epi32(acc, b, a));
            }
            // Products of bytes in 16 bits can't saturate when a and b are widened first.
            let a_even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(a));
            let a_odd = _mm512_srai_epi16::<8>(a);
            let b_even = _mm512_and_si512(b, _mm512_set1_epi16(0xff));
            let b_odd = _mm512_srli_epi16::<8>(b);
            let acc = _mm512_add_epi32(acc, _mm512_madd_epi16(a_even, b_even));
            _mm512_castsi512_ps(_mm512_add_epi32(acc, _mm512_madd_epi16(a_odd, b_odd)))
        })
    }
    #[inline(always)]
    fn nibbles(self, v: __m512) -> (__m512, __m512) {
        op!({
            let (v, low) = (_mm512_castps_si512(v), _mm512_set1_epi8(0xf));
            (
                _mm512_castsi512_ps(_mm512_and_si512(v, low)),
                _mm512_castsi512_ps(_mm512_and_si512(_mm512_srli_epi16::<4>(v), low)),
            )
        })
    }
    #[inline(always)]
    fn add_whole(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_castsi512_ps(_mm512_add_epi32(
            _mm512_castps_si512(a),
            _mm512_castps_si512(b)
        )))
    }
    #[inline(always)]
    fn to_float(self, v: __m512) -> __m512 {
        op!(_mm512_cvtepi32_ps(_mm512_castps_si512(v)))
    }
    #[inline(always)]
    fn join_bf16(self, low: __m512, high: __m512) -> __m512 {
        op!({
            let low = _mm512_srli_epi32::<16>(self.bf16_bits(low));
            let high = _mm512_and_si512(
                self.bf16_bits(high),
                _mm512_set1_epi32(0xffff_0000u32 as i32),
            );
            _mm512_castsi512_ps(_mm512_or_si512(low, high))
        })
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: __m512) {
        // SAFETY: the caller promises 16 writable values.
        unsafe {
            let narrow = if DOTS {
                std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v))
            } else {
                _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(self.bf16_bits(v)))
            };
            _mm256_storeu_si256(p.cast(), narrow);
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> __m512 {
        // SAFETY: the caller promises 16 readable values.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: __m512) {
        // SAFETY: the caller promises 16 writable values.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v))) }
    }
    #[inline(always)]
    unsafe fn micro(self, inner: Inner, rows: usize, tile: &Tile) {
        // SAFETY: the caller keeps the tile's promises; `self` proves the instruction set.
        unsafe {
            if DOTS {
                dots::tiles(inner, rows, tile);
            } else {
                plain::tiles(inner, rows, tile);
            }
        }
    }
}

impl<const DOTS: bool> Avx512<DOTS> {
    /// Rounds to bf16, which stands in the upper half of each lane; what the lower half holds is unspecified.
    #[inline(always)]
    fn bf16_bits(self, v: __m512) -> __m512i {
        op!({
            if DOTS {
                // SAFETY: vectors of the same size; any bits are values.
                let narrow = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
                return _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(narrow));
            }
            let x = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(x), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let quiet = _mm512_or_si512(x, _mm512_set1_epi32(0x40_0000));
            _mm512_mask_mov_epi32(_mm512_add_epi32(x, up), nan, quiet)
        })
    }
}

mod plain {
    use super::*;
    micro_table! {
        target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"),
        Avx512::<false>(()), 2, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
    }
}

mod dots {
    use super::*;
    micro_table! {
        target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx512vnni,avx2,fma"),
        Avx512::<true>(()), 2, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]
    }
}
