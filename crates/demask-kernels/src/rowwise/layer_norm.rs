//! Layer norm: `y = (x − mean) / √(variance + ε) · weight`; who has a shift adds it.

use super::{get, put, row_count, same_len, sum_over_rows};
use crate::mem::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// Layer norm of rows of `n` values; keeps `(mean, 1 / √(variance + eps))` of each row for the
/// backward pass. The variance is the mean squared deviation, taken in a second pass.
///
/// # Shapes
/// `x`, `y`: `[rows, n]`; `weight`: `[n]`; `stats`: `[rows, 2]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn layer_norm(
    x: &[f32],
    n: usize,
    weight: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
    stats: &mut [f32],
) {
    let rows = row_count("layer_norm", x.len(), n);
    same_len("layer_norm", x.len(), &[y.len()]);
    same_len("layer_norm: stats", 2 * rows, &[stats.len()]);
    if let Some(w) = weight {
        same_len("layer_norm: weight", n, &[w.len()]);
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

struct Forward<'a> {
    x: &'a [f32],
    n: usize,
    weight: Option<&'a [f32]>,
    eps: f32,
    y: &'a mut [f32],
    stats: &'a mut [f32],
}

impl Kernel for Forward<'_> {
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
    use crate::simd::with_every_isa;
    use crate::testing::{Lcg, relative_error};
    use crate::threads::with_threads;

    #[test]
    fn a_row_by_hand() {
        // Mean 3, variance 1.
        let (mut y, mut stats) = ([0.0; 2], [0.0; 2]);
        layer_norm(&[2.0, 4.0], 2, Some(&[5.0, 6.0]), 0.0, &mut y, &mut stats);
        assert_eq!((y, stats), ([-5.0, 6.0], [3.0, 1.0]));
    }

    #[test]
    fn matches_f64_and_threads_do_not_matter() {
        for (rows, n) in [(2, 3), (3, 17), (130, 64), (257, 100)] {
            let mut rng = Lcg(9);
            let (x, dy, w) = (rng.vec(rows * n), rng.vec(rows * n), rng.vec(n));
            let (mut y64, mut dx64) = (vec![0.0f64; rows * n], vec![0.0f64; rows * n]);
            let mut dw64 = vec![0.0f64; n];
            for i in 0..rows {
                let row = |v: &[f32], j: usize| f64::from(v[i * n + j]);
                let avg = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
                let mean = avg(&|j| row(&x, j));
                let r = 1.0 / (avg(&|j| (row(&x, j) - mean).powi(2)) + f64::from(1e-5f32)).sqrt();
                let h = |j: usize| (row(&x, j) - mean) * r;
                let g = |j: usize| row(&dy, j) * f64::from(w[j]);
                let (mean_g, mean_gh) = (avg(&g), avg(&|j| g(j) * h(j)));
                for j in 0..n {
                    y64[i * n + j] = h(j) * f64::from(w[j]);
                    dx64[i * n + j] = r * (g(j) - mean_g - h(j) * mean_gh);
                    dw64[j] += row(&dy, j) * h(j);
                }
            }
            with_every_isa(|_| {
                let run = |threads| {
                    with_threads(threads, || {
                        let (mut y, mut stats) = (vec![0.0; rows * n], vec![0.0; 2 * rows]);
                        layer_norm(&x, n, Some(&w), 1e-5, &mut y, &mut stats);
                        let (mut dx, mut dw) = (vec![0.0; rows * n], vec![9.0; n]);
                        layer_norm_backward(&x, n, Some(&w), &stats, &dy, &mut dx, Some(&mut dw));
                        let mut onto = vec![0.5; rows * n];
                        layer_norm_backward_onto(&x, n, Some(&w), &stats, &dy, &mut onto, None);
                        assert!(onto.iter().zip(&dx).all(|(o, d)| *o == 0.5 + d));
                        (y, dx, dw)
                    })
                };
                let one = run(1);
                assert!(relative_error(&one.0, &y64) < 2e-6);
                assert!(relative_error(&one.1, &dx64) < 5e-6);
                assert!(relative_error(&one.2, &dw64) < 2e-6);
                assert_eq!(one, run(2));
            });
        }
    }
}
