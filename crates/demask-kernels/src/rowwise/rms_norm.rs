//! RMS norm: `y = x / √(mean(x²) + ε) · weight (+ shift)`.

use super::{get, put, row_count, same_len, sum_over_rows};
use crate::element::Element;
use crate::memory::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// RMS norm of rows of `n` values; keeps `1 / √(mean(x²) + eps)` of each row for the backward pass.
///
/// A norm of each head is this operation with `n = head_dim`.
///
/// # Shapes
/// `x`, `y`: `[rows, n]`; `weight`, `shift`: `[n]`; `inverse`: `[rows]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn rms_norm<T: Element>(
    x: &[f32],
    n: usize,
    weight: Option<&[f32]>,
    shift: Option<&[f32]>,
    eps: f32,
    y: &mut [T],
    inverse: &mut [f32],
) {
    let rows = row_count("rms_norm", x.len(), n);
    same_len("rms_norm", x.len(), &[y.len()]);
    same_len("rms_norm", rows, &[inverse.len()]);
    for w in weight.iter().chain(&shift) {
        same_len("rms_norm: weight, shift", n, &[w.len()]);
    }
    let isa = Isa::detect();
    let (y, inverse) = (MutPtr(y.as_mut_ptr()), MutPtr(inverse.as_mut_ptr()));
    threads::over_rows(rows, x.len() * 4, |a, b| {
        // SAFETY: parts do not overlap.
        let (y, inverse) = unsafe { (y.slice(a * n, (b - a) * n), inverse.slice(a, b - a)) };
        dispatch(
            isa,
            Forward {
                x: &x[a * n..b * n],
                n,
                weight,
                shift,
                eps,
                y,
                inverse,
            },
        );
    });
}

/// Gradients of [`rms_norm`]. With `r` the kept inverse and `g = dy · weight`:
/// `dx = r · (g − x · r² · mean(g · x))`, `dweight = Σ_rows dy · x · r`. Both are overwritten.
///
/// # Shapes
/// As in [`rms_norm`]; `dweight`: `[n]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn rms_norm_backward(
    x: &[f32],
    n: usize,
    weight: Option<&[f32]>,
    inverse: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    backward::<false>(x, n, weight, inverse, dy, dx, dweight);
}

/// The same, added to what `dx` holds: the gradient that goes past the norm.
///
/// # Panics
/// As [`rms_norm_backward`].
pub fn rms_norm_backward_onto(
    x: &[f32],
    n: usize,
    weight: Option<&[f32]>,
    inverse: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    backward::<true>(x, n, weight, inverse, dy, dx, dweight);
}

fn backward<const ONTO: bool>(
    x: &[f32],
    n: usize,
    weight: Option<&[f32]>,
    inverse: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let rows = row_count("rms_norm_backward", x.len(), n);
    same_len("rms_norm_backward", x.len(), &[dy.len(), dx.len()]);
    same_len("rms_norm_backward", rows, &[inverse.len()]);
    if let Some(w) = weight {
        same_len("rms_norm_backward: weight", n, &[w.len()]);
    }
    if let Some(dw) = &dweight {
        same_len("rms_norm_backward: dweight", n, &[dw.len()]);
    }
    let width = if dweight.is_some() { n } else { 0 };
    let (isa, dx) = (Isa::detect(), MutPtr(dx.as_mut_ptr()));
    let total = sum_over_rows(rows, width, x.len() * 8, |a, b, dweight| {
        // SAFETY: chunks of rows do not overlap.
        let dx = unsafe { dx.slice(a * n, (b - a) * n) };
        let (x, dy, inverse) = (&x[a * n..b * n], &dy[a * n..b * n], &inverse[a..b]);
        dispatch(
            isa,
            Backward::<f32, f32, ONTO> {
                x,
                n,
                weight,
                inverse,
                dy,
                dx,
                dweight,
            },
        );
    });
    if let Some(w) = dweight {
        w.copy_from_slice(&total);
    }
}

pub(super) struct Forward<'a, X, T> {
    pub x: &'a [X],
    pub n: usize,
    pub weight: Option<&'a [f32]>,
    pub shift: Option<&'a [f32]>,
    pub eps: f32,
    pub y: &'a mut [T],
    pub inverse: &'a mut [f32],
}

impl<X: Element, T: Element> Kernel for Forward<'_, X, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.n;
        let rows = self
            .x
            .chunks_exact(n)
            .zip(self.y.chunks_exact_mut(n))
            .zip(self.inverse);
        for ((x, y), inverse) in rows {
            let mut sum = s.splat(0.0);
            for j in (0..n).step_by(LANES) {
                let x = get(s, x, j);
                sum = s.fma(x, x, sum);
            }
            *inverse = 1.0 / (s.sum(sum) / n as f32 + self.eps).sqrt();
            for j in (0..n).step_by(LANES) {
                let mut v = s.mul(get(s, x, j), s.splat(*inverse));
                if let Some(w) = self.weight {
                    v = s.mul(v, get(s, w, j));
                }
                if let Some(shift) = self.shift {
                    v = s.add(v, get(s, shift, j));
                }
                put(s, y, j, v);
            }
        }
    }
}

pub(super) struct Backward<'a, X, D, const ONTO: bool> {
    pub x: &'a [X],
    pub n: usize,
    pub weight: Option<&'a [f32]>,
    pub inverse: &'a [f32],
    pub dy: &'a [D],
    pub dx: &'a mut [D],
    pub dweight: &'a mut [f32],
}

impl<X: Element, D: Element, const ONTO: bool> Kernel for Backward<'_, X, D, ONTO> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.n;
        let rows = self.x.chunks_exact(n).zip(self.dy.chunks_exact(n));
        for (((x, dy), dx), &r) in rows.zip(self.dx.chunks_exact_mut(n)).zip(self.inverse) {
            let mut sum = s.splat(0.0);
            for j in (0..n).step_by(LANES) {
                let mut g = get(s, dy, j);
                if let Some(w) = self.weight {
                    g = s.mul(g, get(s, w, j));
                }
                sum = s.fma(g, get(s, x, j), sum);
            }
            let back = s.splat(-(s.sum(sum) / n as f32) * r * r);
            let r = s.splat(r);
            for j in (0..n).step_by(LANES) {
                let (x, dy) = (get(s, x, j), get(s, dy, j));
                let g = self.weight.map_or(dy, |w| s.mul(dy, get(s, w, j)));
                let mut back = s.mul(r, s.fma(x, back, g));
                if ONTO {
                    back = s.add(get(s, dx, j), back);
                }
                put(s, dx, j, back);
                if !self.dweight.is_empty() {
                    let sum = s.fma(dy, s.mul(x, r), get(s, self.dweight, j));
                    put(s, self.dweight, j, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Lcg, agrees};
    use proptest::prelude::*;

    #[test]
    fn a_row_by_hand() {
        // Mean of squares (9 + 16) / 2 = 12.5.
        let (mut y, mut inverse) = ([0.0; 2], [0.0; 1]);
        rms_norm(
            &[3.0, 4.0],
            2,
            Some(&[1.0, 2.0]),
            None,
            0.0,
            &mut y,
            &mut inverse,
        );
        assert!((y[0] - 0.848_528_1).abs() < 1e-6 && (y[1] - 2.262_741_7).abs() < 1e-6);
    }

    /// y, dx and dweight in f64, and the scales of their errors: a gradient along x nearly vanishes.
    fn reference(
        n: usize,
        x: &[f32],
        w: Option<&[f32]>,
        dy: &[f32],
    ) -> ([Vec<f64>; 3], [Vec<f64>; 3]) {
        let mut want = [x.len(), x.len(), n].map(|n| vec![0.0f64; n]);
        let mut scale = want.clone();
        for (i, (x, dy)) in x.chunks_exact(n).zip(dy.chunks_exact(n)).enumerate() {
            let of = |v: &[f32], j: usize| f64::from(v[j]);
            let w = |j: usize| w.map_or(1.0, |w| of(w, j));
            let avg = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
            let r = 1.0 / (avg(&|j| of(x, j).powi(2)) + f64::from(1e-5f32)).sqrt();
            let (h, g) = (|j: usize| of(x, j) * r, |j: usize| of(dy, j) * w(j));
            let (mean_gh, size) = (avg(&|j| g(j) * h(j)), avg(&|j| (g(j) * h(j)).abs()));
            for j in 0..n {
                want[0][i * n + j] = h(j) * w(j);
                scale[0][i * n + j] = (h(j) * w(j)).abs();
                want[1][i * n + j] = r * (g(j) - h(j) * mean_gh);
                scale[1][i * n + j] = r * (g(j).abs() + h(j).abs() * size);
                want[2][j] += of(dy, j) * h(j);
                scale[2][j] += (of(dy, j) * h(j)).abs();
            }
        }
        (want, scale)
    }

    fn check(rows: usize, n: usize, weighted: bool, seed: u64) {
        let mut rng = Lcg(seed);
        let (x, dy, w) = (rng.vec(rows * n), rng.vec(rows * n), rng.vec(n));
        let w = weighted.then_some(&w[..]);
        let wanted = reference(n, &x, w, &dy);
        agrees(&format!("{rows} x {n}"), &wanted, 2e-6, || {
            let (mut y, mut inverse) = (vec![0.0; rows * n], vec![0.0; rows]);
            rms_norm(&x, n, w, None, 1e-5, &mut y, &mut inverse);
            let (mut dx, mut dw) = (vec![0.0; rows * n], vec![9.0; n]);
            rms_norm_backward(&x, n, w, &inverse, &dy, &mut dx, Some(&mut dw));
            let mut onto = vec![3.0; rows * n];
            rms_norm_backward_onto(&x, n, w, &inverse, &dy, &mut onto, None);
            assert!(onto.iter().zip(&dx).all(|(a, b)| *a == 3.0 + b));
            [y, dx, dw]
        });
    }

    #[test]
    fn matches_f64_and_threads_do_not_matter() {
        for (rows, n) in [(1, 5), (3, 17), (130, 64), (257, 100)] {
            check(rows, n, true, 8);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn random_shapes_match_f64(
            rows in 1usize..150, n in 1usize..200, weighted: bool, seed in 1u64..1000,
        ) {
            check(rows, n, weighted, seed);
        }
    }

    #[test]
    fn rows_of_one_value() {
        check(67, 1, true, 3);
    }
}
