//! SiLU: `y = x · σ(x)` with the logistic function σ.

use super::{get, over_values, put, same_len};
use crate::mem::MutPtr;
use crate::simd::math::sigmoid;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// SiLU: `y = x · σ(x)` with the logistic function σ.
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

/// Gradient of [`silu`]: `dx = dy · σ(x)·(1 + x·(1 − σ(x)))`.
///
/// # Panics
/// When the slices differ in length.
pub fn silu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    same_len("silu_backward", x.len(), &[dy.len(), dx.len()]);
    let (isa, out) = (Isa::detect(), MutPtr(dx.as_mut_ptr()));
    over_values(x.len(), 30, |a, b| {
        // SAFETY: parts do not overlap.
        let dx = unsafe { out.slice(a, b - a) };
        dispatch(
            isa,
            Backward {
                x: &x[a..b],
                dy: &dy[a..b],
                dx,
            },
        );
    });
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
            let x = get(s, self.x, j);
            let y = s.mul(x, sigmoid(s, x));
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
            let (one, sig) = (s.splat(1.0), sigmoid(s, x));
            let slope = s.mul(sig, s.fma(x, s.sub(one, sig), one));
            put(s, self.dx, j, s.mul(dy, slope));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;

    fn reference(x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    #[test]
    fn matches_f64_and_its_slope() {
        let x: Vec<f32> = Lcg(3).vec(1037).into_iter().map(|x| 9.0 * x).collect();
        with_every_isa(|isa| {
            let (mut y, ones) = (vec![0.0; x.len()], vec![1.0; x.len()]);
            let mut dx = y.clone();
            silu(&x, &mut y);
            silu_backward(&x, &ones, &mut dx);
            for ((&x, y), dx) in x.iter().zip(y).zip(dx) {
                let x = f64::from(x);
                let slope = (reference(x + 1e-5) - reference(x - 1e-5)) / 2e-5;
                assert!(
                    (f64::from(y) - reference(x)).abs() < 2e-6,
                    "{x} on {}",
                    isa.name()
                );
                assert!(
                    (f64::from(dx) - slope).abs() < 2e-6,
                    "{x} on {}",
                    isa.name()
                );
            }
        });
    }
}
