//! SiLU: `y = x · σ(x)`.

use super::{get, over_values, put, same_len};
use crate::memory::MutPtr;
use crate::simd::math::sigmoid;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// SiLU: `y = x · σ(x)`, value by value.
///
/// # Panics
/// When the slices differ in length.
pub fn silu(x: &[f32], y: &mut [f32]) {
    same_len("silu", x.len(), &[y.len()]);
    let (isa, out) = (Isa::detect(), MutPtr(y.as_mut_ptr()));
    over_values(x.len(), 20, |a, b| {
        // SAFETY: parts do not overlap.
        let y = unsafe { out.slice(a, b - a) };
        dispatch(isa, Forward { x: &x[a..b], y });
    });
}

/// Gradient of [`silu`]: `dx = dy · σ(x) · (1 + x · (1 − σ(x)))`.
///
/// # Panics
/// When the slices differ in length.
pub fn silu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    same_len("silu_backward", x.len(), &[dy.len(), dx.len()]);
    let (isa, out) = (Isa::detect(), MutPtr(dx.as_mut_ptr()));
    over_values(x.len(), 30, |a, b| {
        // SAFETY: parts do not overlap.
        let dx = unsafe { out.slice(a, b - a) };
        let (x, dy) = (&x[a..b], &dy[a..b]);
        dispatch(isa, Backward { x, dy, dx });
    });
}

/// The output and the slope at x.
#[inline(always)]
pub(crate) fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let (sig, one) = (sigmoid(s, x), s.splat(1.0));
    let slope = s.mul(sig, s.fma(x, s.sub(one, sig), one));
    (s.mul(x, sig), slope)
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for j in (0..self.x.len()).step_by(LANES) {
            let (y, _) = value_and_slope(s, get(s, self.x, j));
            put(s, self.y, j, y);
        }
    }
}

struct Backward<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for j in (0..self.x.len()).step_by(LANES) {
            let (x, dy) = (get(s, self.x, j), get(s, self.dy, j));
            let (_, slope) = value_and_slope(s, x);
            put(s, self.dx, j, s.mul(dy, slope));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;

    #[test]
    fn matches_f64_and_its_slope() {
        let x: Vec<f32> = Lcg(8).vec(517).into_iter().map(|x| 9.0 * x).collect();
        let silu64 = |x: f64| x / (1.0 + (-x).exp());
        with_every_isa(|_| {
            let (mut y, mut dx) = (vec![0.0; 517], vec![0.0; 517]);
            silu(&x, &mut y);
            silu_backward(&x, &vec![2.0; 517], &mut dx);
            for i in 0..517 {
                let x = f64::from(x[i]);
                let slope = (silu64(x + 1e-5) - silu64(x - 1e-5)) / 2e-5;
                assert!((f64::from(y[i]) - silu64(x)).abs() < 2e-6);
                assert!((f64::from(dx[i]) - 2.0 * slope).abs() < 2e-6);
            }
        });
    }
}
