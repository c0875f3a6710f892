//! GELU in its tanh form: `y = x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.

use super::{get, over_values, put, same_len};
use crate::element::Element;
use crate::memory::MutPtr;
use crate::simd::math::sigmoid;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// 2·√(2/π).
const SCALE: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;

/// GELU in its tanh form: `y = x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`.
///
/// # Panics
/// When the slices differ in length.
pub fn gelu<T: Element>(x: &[T], y: &mut [T]) {
    same_len("gelu", x.len(), &[y.len()]);
    let (isa, out) = (Isa::detect(), MutPtr(y.as_mut_ptr()));
    over_values(x.len(), 20, |a, b| {
        // SAFETY: parts do not overlap.
        let y = unsafe { out.slice(a, b - a) };
        dispatch(isa, Forward { x: &x[a..b], y });
    });
}

/// Gradient of [`gelu`] (the exact derivative of the tanh form).
///
/// # Panics
/// When the slices differ in length.
pub fn gelu_backward(x: &[f32], dy: &[f32], dx: &mut [f32]) {
    same_len("gelu_backward", x.len(), &[dy.len(), dx.len()]);
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

/// The output and the slope at x.
#[inline(always)]
pub(crate) fn value_and_slope<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let square = s.mul(x, x);
    // (1 + tanh u) / 2 is the logistic function of 2u.
    let twice = s.mul(x, s.fma(square, s.splat(SCALE * CUBIC), s.splat(SCALE)));
    let inner = s.fma(square, s.splat(3.0 * SCALE * CUBIC), s.splat(SCALE));
    let sig = sigmoid(s, twice);
    let turn = s.mul(s.mul(x, inner), s.sub(s.splat(1.0), sig));
    (s.mul(x, sig), s.mul(sig, s.add(s.splat(1.0), turn)))
}

struct Forward<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for j in (0..self.x.len()).step_by(LANES) {
            let x = get(s, self.x, j);
            let (y, _) = value_and_slope(s, x);
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

    fn reference(x: f64) -> f64 {
        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        x / 2.0 * (1.0 + u.tanh())
    }

    #[test]
    fn matches_f64_and_its_slope() {
        let x: Vec<f32> = Lcg(3).vec(1037).into_iter().map(|x| 9.0 * x).collect();
        with_every_isa(|isa| {
            let (mut y, ones) = (vec![0.0; x.len()], vec![1.0; x.len()]);
            let mut dx = y.clone();
            gelu(&x, &mut y);
            gelu_backward(&x, &ones, &mut dx);
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
