//! What the tests share.

use crate::element::Element;
use crate::simd::with_every_isa;
use crate::threads::with_threads;

/// A small random stream for test data (Knuth's MMIX constants).
pub(crate) struct Lcg(pub u64);

impl Lcg {
    /// Uniform in −1..1.
    pub fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }
    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

/// The values, stored as `T`.
pub(crate) fn rounded<T: Element>(x: &[f32]) -> Vec<T> {
    x.iter().map(|&x| T::from(x)).collect()
}

/// What is stored, as f32.
pub(crate) fn floats<T: Element>(x: &[T]) -> Vec<f32> {
    x.iter().map(|&x| x.into()).collect()
}

/// Largest of `|got − want| / scale`, each value with a scale of its own: that of the terms it is a sum of, which may
/// nearly cancel.
pub(crate) fn scaled_error(got: &[f32], want: &[f64], scale: &[f64]) -> f64 {
    assert_eq!((got.len(), want.len()), (want.len(), scale.len()));
    let mut worst = 0.0f64;
    for ((&g, &w), &s) in got.iter().zip(want).zip(scale) {
        assert!(g.is_finite(), "{g} against {w}");
        let error = (f64::from(g) - w).abs();
        worst = worst.max(if error == 0.0 { 0.0 } else { error / s });
    }
    worst
}

/// Asserts that each of the results of `run` is what is `wanted` (values, and the scales of their errors) within `bound` of
/// the scale, on every instruction set, and the same bits on one thread and on two.
#[track_caller]
pub(crate) fn agrees<const N: usize>(
    what: &str,
    wanted: &([Vec<f64>; N], [Vec<f64>; N]),
    bound: f64,
    run: impl Fn() -> [Vec<f32>; N] + Sync,
) {
    let (want, scale) = wanted;
    with_every_isa(|isa| {
        let one = with_threads(1, &run);
        for (i, got) in one.iter().enumerate() {
            let error = scaled_error(got, &want[i], &scale[i]);
            assert!(error < bound, "{i} of {what} on {}: {error:e}", isa.name());
        }
        assert_eq!(one, with_threads(2, &run));
    });
}

/// Largest absolute difference, relative to the largest reference value (at least 1e-3).
pub(crate) fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    let mut worst = 0.0f64;
    for (&g, &w) in got.iter().zip(want) {
        assert!(g.is_finite(), "{g} against {w}");
        worst = worst.max((f64::from(g) - w).abs());
    }
    worst / scale
}
