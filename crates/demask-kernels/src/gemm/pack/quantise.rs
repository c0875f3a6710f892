//! Floats to whole numbers with a scale.

use crate::simd::{LANES, Simd};

/// Groups of smaller magnitude become zeros: the reciprocal of their scale would overflow.
const TINY: f32 = 1e-30;

/// Quantises `n` values to −127..=127 and returns the scale. A group with a NaN or an infinity
/// has the scale NaN.
///
/// # Safety
/// `x` is readable for `n` values, `out` writable for `n` rounded up to a multiple of 16.
#[inline(always)]
pub(super) unsafe fn int8<S: Simd>(s: S, x: *const f32, n: usize, out: *mut i8) -> f32 {
    // SAFETY: n − j values are left, and whole vectors of bytes fit.
    unsafe {
        let zero = s.splat(0.0);
        // Four at a time: one alone would wait for itself.
        let (mut tops, mut poisons) = ([zero; 4], [zero; 4]);
        let whole = n - n % (4 * LANES);
        for j in (0..whole).step_by(4 * LANES) {
            for i in 0..4 {
                let v = s.load(x.add(j + i * LANES));
                tops[i] = s.max(tops[i], s.max(s.sub(zero, v), v));
                // A maximum forgets a NaN; this is 0 without one (and without an infinity).
                poisons[i] = s.fma(v, zero, poisons[i]);
            }
        }
        let (mut top, mut poison) = (
            s.max(s.max(tops[0], tops[1]), s.max(tops[2], tops[3])),
            s.add(s.add(poisons[0], poisons[1]), s.add(poisons[2], poisons[3])),
        );
        for j in (whole..n).step_by(LANES) {
            let v = if n - j >= LANES {
                s.load(x.add(j))
            } else {
                s.load_part(x.add(j), n - j, 0.0)
            };
            top = s.max(top, s.max(s.sub(zero, v), v));
            poison = s.fma(v, zero, poison);
        }
        let top = s.max_lane(top) + s.sum(poison);
        let inverse = if top > TINY { 127.0 / top } else { 0.0 };
        let inverse = s.splat(inverse);
        for j in (0..n).step_by(LANES) {
            let v = if n - j >= LANES {
                s.load(x.add(j))
            } else {
                s.load_part(x.add(j), n - j, 0.0)
            };
            s.store_i8(out.add(j), s.mul(v, inverse));
        }
        if top <= TINY { 0.0 } else { top / 127.0 }
    }
}

/// Sum of `n` bytes, `n` a multiple of 64.
///
/// # Safety
/// `bytes` is readable for `n` values.
#[inline(always)]
pub(super) unsafe fn sum<S: Simd>(s: S, bytes: *const i8, n: usize) -> i32 {
    let mut lanes = [0.0f32; LANES];
    // SAFETY: whole vectors of 64 bytes are readable.
    unsafe {
        let mut acc = s.splat_word(0);
        for j in (0..n).step_by(4 * LANES) {
            let v = s.load(bytes.add(j).cast());
            acc = s.dot_i8(acc, v, s.splat_word(0x0101_0101));
        }
        s.store(lanes.as_mut_ptr(), acc);
    }
    lanes.iter().map(|x| x.to_bits() as i32).sum()
}

/// Quantises to 0..=15 with the zero at 8, and returns the scale: the value of largest magnitude becomes −8, so
/// that all sixteen numbers are used (as in llama.cpp's Q4_0).
pub(super) fn int4(x: &[f32], out: &mut [u8]) -> f32 {
    let far = |top: f32, &x: &f32| {
        if x.is_nan() || x.abs() > top.abs() {
            x
        } else {
            top
        }
    };
    let top = x.iter().fold(0.0, far);
    if top.abs() <= TINY {
        out.fill(8);
        return 0.0;
    }
    let scale = top / -8.0;
    for (q, x) in out.iter_mut().zip(x) {
        // A cast clamps below at 0.
        *q = ((x / scale).round_ties_even() + 8.0).min(15.0) as u8;
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, dispatch, with_every_isa};

    struct Int8<'a>(&'a [f32]);
    impl Kernel for Int8<'_> {
        type Output = (f32, Vec<i8>, i32);
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> (f32, Vec<i8>, i32) {
            let mut out = vec![0; self.0.len().next_multiple_of(64)];
            // SAFETY: `out` has room for the values and is a multiple of 64 long.
            let (scale, sum) = unsafe {
                let scale = int8(s, self.0.as_ptr(), self.0.len(), out.as_mut_ptr());
                (scale, sum(s, out.as_ptr(), out.len()))
            };
            out.truncate(self.0.len());
            (scale, out, sum)
        }
    }

    #[test]
    fn int8_by_hand() {
        let mut x = vec![0.0; 21];
        x[..5].copy_from_slice(&[1.0, -2.54, 0.01, 0.03, -0.05]);
        x[20] = 1.27;
        with_every_isa(|isa| {
            let (scale, q, sum) = dispatch(isa, Int8(&x));
            assert!((scale - 0.02).abs() < 1e-9);
            // 0.01 and 0.03 are halfway (up to rounding of the scale); the rest is exact.
            assert_eq!(
                (q[0], q[1], q[20], q[10]),
                (50, -127, 64, 0),
                "{}",
                isa.name()
            );
            assert_eq!(sum, q.iter().map(|&q| i32::from(q)).sum::<i32>());
            let zeros = dispatch(isa, Int8(&[0.0; 7]));
            assert_eq!(zeros, (0.0, vec![0; 7], 0));
            assert!(dispatch(isa, Int8(&[1.0, f32::NAN, 2.0])).0.is_nan());
            let mut last = [1.0; 33];
            last[32] = f32::NAN;
            assert!(dispatch(isa, Int8(&last)).0.is_nan());
        });
    }

    #[test]
    fn int4_by_hand() {
        let mut q = [0; 5];
        let scale = int4(&[0.8, -0.4, 0.35, -0.7, 0.0], &mut q);
        // The largest is 0.8 and becomes −8 of −0.1: 4, then −3.5 to even −4, 7, 0.
        assert_eq!((scale, q), (-0.1, [0, 12, 4, 15, 8]));
        assert_eq!((int4(&[0.0; 5], &mut q), q), (0.0, [8; 5]));
        assert!(int4(&[1.0, f32::NAN, 3.0], &mut q[..3]).is_nan());
    }
}
