//! Elementary functions on sixteen lanes.

use super::Simd;

/// Below this `exp` is zero: `e^x` would leave the normal numbers.
pub(crate) const EXP_LOW: f32 = -87.33;
/// Above this `exp` stays at its value here (about 2.3e38).
pub(crate) const EXP_HIGH: f32 = 88.37;

/// `e^x` with a relative error below 2e-7 on `[EXP_LOW, EXP_HIGH]`; exactly 0 below (so for −∞),
/// exactly 1 at 0, constant above, NaN for NaN.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`, a polynomial of degree 7 for `e^r` (Taylor: the next term is
/// below 6e-9), and the exponent raised by n.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let clamped = s.max(s.splat(EXP_LOW), s.min(s.splat(EXP_HIGH), x));
    s.select_lt(x, s.splat(EXP_LOW), s.splat(0.0), exp_within(s, clamped))
}

/// [`exp`] of values on `[EXP_LOW, EXP_HIGH]`, or NaN.
#[inline(always)]
pub(crate) fn exp_within<S: Simd>(s: S, x: S::V) -> S::V {
    // Adding 1.5·2²³ pushes the fraction out of the mantissa: round to nearest.
    let magic = s.splat(12_582_912.0);
    let n = s.sub(s.fma(x, s.splat(std::f32::consts::LOG2_E), magic), magic);
    // ln 2 in two parts; the first has few bits, so that n·hi is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = s.fma(p, r, s.splat(c));
    }
    // e^r = 1 + (r + r²·p): the large parts last, for accuracy.
    let p = s.add(s.fma(s.mul(r, r), p, r), s.splat(1.0));
    s.scale_pow2(p, n)
}

/// The logistic function `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp(s, s.sub(s.splat(0.0), x));
    s.div(s.splat(1.0), s.add(s.splat(1.0), e))
}

#[cfg(test)]
mod tests {
    use super::super::{Kernel, dispatch, with_every_isa};
    use super::*;

    struct Exp<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for (x, y) in self.0.chunks_exact(16).zip(self.1.chunks_exact_mut(16)) {
                // SAFETY: both chunks hold 16 values.
                unsafe { s.store(y.as_mut_ptr(), exp(s, s.load(x.as_ptr()))) }
            }
        }
    }

    #[test]
    fn exp_is_within_2e_7() {
        with_every_isa(|isa| {
            let x: Vec<f32> = (0..800_000)
                .map(|i| -87.3 + 175.6 * i as f32 / 800_000.0 + 1e-7)
                .collect();
            let mut y = vec![0.0; x.len()];
            dispatch(isa, Exp(&x, &mut y));
            let mut worst = 0.0f64;
            for (&x, &y) in x.iter().zip(&y) {
                let want = f64::from(x).exp();
                worst = worst.max((f64::from(y) - want).abs() / want);
            }
            assert!(worst <= 2e-7, "{}: {worst:e}", isa.name());
        });
    }

    #[test]
    fn exp_at_the_ends() {
        with_every_isa(|isa| {
            let mut x = [0.0f32; 16];
            x[1] = f32::NEG_INFINITY;
            x[2] = -88.0;
            x[3] = f32::INFINITY;
            x[4] = f32::NAN;
            x[5] = -0.0;
            let mut y = [9.0f32; 16];
            dispatch(isa, Exp(&x, &mut y));
            assert_eq!((y[0], y[1], y[2], y[5]), (1.0, 0.0, 0.0, 1.0));
            assert!(y[3] > 2e38 && y[3].is_finite() && y[4].is_nan());
        });
    }
}
