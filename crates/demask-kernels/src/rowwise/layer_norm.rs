//! Layer norm: `y = (x − mean) / √(variance + ε) · weight (+ shift)`.

use super::{get, put, row_count, same_len, sum_over_rows};
use crate::element::Element;
use crate::memory::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// Layer norm of rows of `n` values; keeps `(mean, 1 / √(variance + eps))` of each row for the
/// backward pass. The variance is the mean squared deviation, taken in a second pass.
///
/// # Shapes
/// `x`, `y`: `[rows, n]`; `weight`, `shift`: `[n]`; `stats`: `[rows, 2]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn layer_norm<T: Element>(
    x: &[f32],
    n: usize,
    weight: Option<&[f32]>,
    shift: Option<&[f32]>,
    eps: f32,
    y: &mut [T],
    stats: &mut [f32],
) {
    let rows = row_count("layer_norm", x.len(), n);
    same_len("layer_norm", x.len(), &[y.len()]);
    same_len("layer_norm: stats", 2 * rows, &[stats.len()]);
    for w in weight.iter().chain(&shift) {
        same_len("layer_norm: weight, shift", n, &[w.len()]);
    }
    let isa = Isa::detect();
    let (y, stats) = (MutPtr(y.as_mut_ptr()), MutPtr(stats.as_mut_ptr()));
    threads::over_rows(rows, x.len() * 6, |a, b| {
        // SAFETY: parts do not overlap.
        let (y, stats) = unsafe { (y.slice(a * n, (b - a) * n), stats.slice(2 * a, 2 * (b - a))) };
        dispatch(
            isa,
            Forward {
                x: &x[a * n..b * n],
                n,
                weight,
                shift,
                eps,
                y,
                stats,
            },
        );
    });
}

/// Gradients of [`layer_norm`]; `dx` and, if wanted, `dweight` are overwritten. With `h = (x − mean)·r` and `g = dy · weight`:
/// `dx = r · (g − mean(g) − h · mean(g · h))`, `dweight = Σ_rows dy · h`.
///
/// # Shapes
/// As in [`layer_norm`].
///
/// # Panics
/// When the shapes do not fit together.
pub fn layer_norm_backward(
    x: &[f32],
    n: usize,
    weight: Option<&[f32]>,
    stats: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    backward::<false>(x, n, weight, stats, dy, dx, dweight);
}

/// The same, with `dx` added to what it holds: the gradient that goes past the norm.
///
/// # Panics
/// As [`layer_norm_backward`].
pub fn layer_norm_backward_onto(
    x: &[f32],
    n: usize,
    weight: Option<&[f32]>,
    stats: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    backward::<true>(x, n, weight, stats, dy, dx, dweight);
}

fn backward<const ONTO: bool>(
    x: &[f32],
    n: usize,
    weight: Option<&[f32]>,
    stats: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let rows = row_count("layer_norm_backward", x.len(), n);
    same_len("layer_norm_backward", x.len(), &[dy.len(), dx.len()]);
    same_len("layer_norm_backward: stats", 2 * rows, &[stats.len()]);
    if let Some(w) = weight {
        same_len("layer_norm_backward: weight", n, &[w.len()]);
    }
    if let Some(dw) = &dweight {
        same_len("layer_norm_backward: dweight", n, &[dw.len()]);
    }
    let width = if dweight.is_some() { n } else { 0 };
    let (isa, dx) = (Isa::detect(), MutPtr(dx.as_mut_ptr()));
    let total = sum_over_rows(rows, width, x.len() * 10, |a, b, sums| {
        // SAFETY: chunks of rows do not overlap.
        let dx = unsafe { dx.slice(a * n, (b - a) * n) };
        let (x, dy, stats) = (&x[a * n..b * n], &dy[a * n..b * n], &stats[2 * a..2 * b]);
        dispatch(
            isa,
            Backward::<ONTO> {
                x,
                n,
                weight,
                stats,
                dy,
                dx,
                sums,
            },
        );
    });
    if let Some(w) = dweight {
        w.copy_from_slice(&total);
    }
}

struct Forward<'a, T> {
    x: &'a [f32],
    n: usize,
    weight: Option<&'a [f32]>,
    shift: Option<&'a [f32]>,
    eps: f32,
    y: &'a mut [T],
    stats: &'a mut [f32],
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.n;
        let rows = self.x.chunks_exact(n).zip(self.y.chunks_exact_mut(n));
        for ((x, y), stats) in rows.zip(self.stats.chunks_exact_mut(2)) {
            let mut sum = s.splat(0.0);
            for j in (0..n).step_by(LANES) {
                sum = s.add(sum, get(s, x, j));
            }
            let mean = s.sum(sum) / n as f32;
            let mut sum = s.splat(0.0);
            for j in (0..n).step_by(LANES) {
                // Lanes beyond the row deviate by 0.
                let d = s.sub(super::get_or(s, x, j, mean), s.splat(mean));
                sum = s.fma(d, d, sum);
            }
            let r = 1.0 / (s.sum(sum) / n as f32 + self.eps).sqrt();
            stats.copy_from_slice(&[mean, r]);
            for j in (0..n).step_by(LANES) {
                let mut v = s.mul(s.sub(get(s, x, j), s.splat(mean)), s.splat(r));
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

struct Backward<'a, const ONTO: bool> {
    x: &'a [f32],
    n: usize,
    weight: Option<&'a [f32]>,
    stats: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    /// Partial sums of dweight, or empty.
    sums: &'a mut [f32],
}

impl<const ONTO: bool> Kernel for Backward<'_, ONTO> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.n;
        let dweight = self.sums;
        let rows = self.x.chunks_exact(n).zip(self.dy.chunks_exact(n));
        let rows = rows
            .zip(self.dx.chunks_exact_mut(n))
            .zip(self.stats.chunks_exact(2));
        for (((x, dy), dx), stats) in rows {
            let (mean, r) = (s.splat(stats[0]), s.splat(stats[1]));
            let (mut sum_g, mut sum_gh) = (s.splat(0.0), s.splat(0.0));
            for j in (0..n).step_by(LANES) {
                let mut g = get(s, dy, j);
                if let Some(w) = self.weight {
                    g = s.mul(g, get(s, w, j));
                }
                let h = s.mul(s.sub(get(s, x, j), mean), r);
                sum_g = s.add(sum_g, g);
                sum_gh = s.fma(g, h, sum_gh);
            }
            let mean_g = s.splat(s.sum(sum_g) / n as f32);
            let back = s.splat(-s.sum(sum_gh) / n as f32);
            for j in (0..n).step_by(LANES) {
                let dy = get(s, dy, j);
                let g = self.weight.map_or(dy, |w| s.mul(dy, get(s, w, j)));
                let h = s.mul(s.sub(get(s, x, j), mean), r);
                let mut back = s.mul(r, s.fma(h, back, s.sub(g, mean_g)));
                if ONTO {
                    back = s.add(get(s, dx, j), back);
                }
                put(s, dx, j, back);
                if !dweight.is_empty() {
                    let sum = s.fma(dy, h, get(s, dweight, j));
                    put(s, dweight, j, sum);
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
        // Mean 3, variance 1.
        let (mut y, mut stats) = ([0.0; 2], [0.0; 2]);
        layer_norm(
            &[2.0, 4.0],
            2,
            Some(&[5.0, 6.0]),
            None,
            0.0,
            &mut y,
            &mut stats,
        );
        assert_eq!((y, stats), ([-5.0, 6.0], [3.0, 1.0]));
    }

    /// y, dx and dweight in f64, and the scales of their errors: of a row that is nearly constant, `x − mean` is small
    /// beside x; a gradient that the mean takes away is small beside `r · g`.
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
            let most = |f: &dyn Fn(usize) -> f64| (0..n).map(f).fold(0.0, f64::max);
            let mean = avg(&|j| of(x, j));
            let r = 1.0 / (avg(&|j| (of(x, j) - mean).powi(2)) + f64::from(1e-5f32)).sqrt();
            let h = |j: usize| (of(x, j) - mean) * r;
            let g = |j: usize| of(dy, j) * w(j);
            let (mean_g, mean_gh) = (avg(&g), avg(&|j| g(j) * h(j)));
            let h_scale = most(&|j| of(x, j).abs()) * r;
            let g_scale = most(&|j| g(j).abs()) * h_scale.max(1.0) * most(&|j| h(j).abs()).max(1.0);
            for j in 0..n {
                want[0][i * n + j] = h(j) * w(j);
                scale[0][i * n + j] = h_scale * w(j).abs();
                want[1][i * n + j] = r * (g(j) - mean_g - h(j) * mean_gh);
                scale[1][i * n + j] = r * g_scale;
                want[2][j] += of(dy, j) * h(j);
                scale[2][j] += of(dy, j).abs() * h_scale.max(h(j).abs());
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
            let (mut y, mut stats) = (vec![0.0; rows * n], vec![0.0; 2 * rows]);
            layer_norm(&x, n, w, None, 1e-5, &mut y, &mut stats);
            let (mut dx, mut dw) = (vec![0.0; rows * n], vec![9.0; n]);
            layer_norm_backward(&x, n, w, &stats, &dy, &mut dx, Some(&mut dw));
            let mut onto = vec![0.5; rows * n];
            layer_norm_backward_onto(&x, n, w, &stats, &dy, &mut onto, None);
            assert!(onto.iter().zip(&dx).all(|(o, d)| *o == 0.5 + d));
            [y, dx, dw]
        });
    }

    #[test]
    fn matches_f64_and_threads_do_not_matter() {
        for (rows, n) in [(2, 3), (3, 17), (130, 64), (257, 100)] {
            check(rows, n, true, 9);
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
