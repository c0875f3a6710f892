//! Softmax and log-softmax of rows.

use super::{get, get_or, put, row_count, same_len};
use crate::mem::MutPtr;
use crate::simd::math::exp;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// Softmax of rows of `n` values; a row of −∞ only becomes zeros.
///
/// # Panics
/// When `x` is not whole rows or `y` is not as long.
pub fn softmax(x: &[f32], n: usize, y: &mut [f32]) {
    same_len("softmax", x.len(), &[y.len()]);
    y.copy_from_slice(x);
    softmax_in_place(y, n);
}

/// Softmax of rows of `n` values, in place; a row of −∞ only becomes zeros.
///
/// # Panics
/// When `x` is not whole rows.
pub fn softmax_in_place(x: &mut [f32], n: usize) {
    let rows = row_count("softmax", x.len(), n);
    let (isa, work, x) = (Isa::detect(), x.len() * 20, MutPtr(x.as_mut_ptr()));
    threads::over_rows(rows, work, |a, b| {
        // SAFETY: parts do not overlap.
        let x = unsafe { x.slice(a * n, (b - a) * n) };
        dispatch(isa, Forward { x, n, log: false });
    });
}

/// Logarithm of the softmax of rows of `n` values.
///
/// # Panics
/// When `x` is not whole rows or `y` is not as long.
pub fn log_softmax(x: &[f32], n: usize, y: &mut [f32]) {
    let rows = row_count("log_softmax", x.len(), n);
    same_len("log_softmax", x.len(), &[y.len()]);
    y.copy_from_slice(x);
    let (isa, out) = (Isa::detect(), MutPtr(y.as_mut_ptr()));
    threads::over_rows(rows, x.len() * 20, |a, b| {
        // SAFETY: parts do not overlap.
        let x = unsafe { out.slice(a * n, (b - a) * n) };
        dispatch(isa, Forward { x, n, log: true });
    });
}

/// Gradient of [`softmax`]: `dx = y · (dy − Σ dy · y)`, with `y` the softmax.
///
/// # Panics
/// When the slices are not whole rows or differ in length.
pub fn softmax_backward(y: &[f32], n: usize, dy: &[f32], dx: &mut [f32]) {
    backward("softmax_backward", y, n, dy, dx, false);
}

/// Gradient of [`log_softmax`]: `dx = dy − e^y · Σ dy`, with `y` the log-softmax.
///
/// # Panics
/// When the slices are not whole rows or differ in length.
pub fn log_softmax_backward(y: &[f32], n: usize, dy: &[f32], dx: &mut [f32]) {
    backward("log_softmax_backward", y, n, dy, dx, true);
}

fn backward(what: &str, y: &[f32], n: usize, dy: &[f32], dx: &mut [f32], log: bool) {
    let rows = row_count(what, y.len(), n);
    same_len(what, y.len(), &[dy.len(), dx.len()]);
    let (isa, out) = (Isa::detect(), MutPtr(dx.as_mut_ptr()));
    threads::over_rows(rows, y.len() * 10, |a, b| {
        // SAFETY: parts do not overlap.
        let dx = unsafe { out.slice(a * n, (b - a) * n) };
        dispatch(
            isa,
            Backward {
                y: &y[a * n..b * n],
                dy: &dy[a * n..b * n],
                dx,
                n,
                log,
            },
        );
    });
}

/// Largest value of a row and the sum of `exp(x − largest)`; the shift is 0 when all are −∞.
#[inline(always)]
pub(super) fn shift_and_sum<S: Simd>(s: S, x: &[f32]) -> (f32, f32) {
    let low = f32::NEG_INFINITY;
    let mut top = s.splat(low);
    for j in (0..x.len()).step_by(LANES) {
        top = s.max(top, get_or(s, x, j, low));
    }
    let top = s.max_lane(top);
    let shift = if top == low { 0.0 } else { top };
    let mut sum = s.splat(0.0);
    for j in (0..x.len()).step_by(LANES) {
        sum = s.add(sum, exp(s, s.sub(get_or(s, x, j, low), s.splat(shift))));
    }
    (shift, s.sum(sum))
}

struct Forward<'a> {
    x: &'a mut [f32],
    n: usize,
    log: bool,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for x in self.x.chunks_exact_mut(self.n) {
            let (shift, sum) = shift_and_sum(s, x);
            let shift = if self.log { shift + sum.ln() } else { shift };
            let inverse = s.splat(if sum == 0.0 { 0.0 } else { 1.0 / sum });
            for j in (0..x.len()).step_by(LANES) {
                let mut v = s.sub(get(s, x, j), s.splat(shift));
                if !self.log {
                    v = s.mul(exp(s, v), inverse);
                }
                put(s, x, j, v);
            }
        }
    }
}

struct Backward<'a> {
    y: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    n: usize,
    log: bool,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.n;
        let rows = self.y.chunks_exact(n).zip(self.dy.chunks_exact(n));
        for ((y, dy), dx) in rows.zip(self.dx.chunks_exact_mut(n)) {
            let mut sum = s.splat(0.0);
            for j in (0..n).step_by(LANES) {
                let g = get(s, dy, j);
                sum = if self.log {
                    s.add(sum, g)
                } else {
                    s.fma(g, get(s, y, j), sum)
                };
            }
            let sum = s.splat(s.sum(sum));
            for j in (0..n).step_by(LANES) {
                let (y, g) = (get(s, y, j), get(s, dy, j));
                let v = if self.log {
                    s.sub(g, s.mul(exp(s, y), sum))
                } else {
                    s.mul(y, s.sub(g, sum))
                };
                put(s, dx, j, v);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::{Lcg, relative_error};

    #[test]
    fn literal_rows() {
        let mut y = [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0, 3f32.ln()];
        softmax_in_place(&mut y, 2);
        assert_eq!(y[..2], [0.0, 0.0]);
        assert!((y[2] - 0.25).abs() < 1e-7 && (y[3] - 0.75).abs() < 1e-7);
    }

    #[test]
    fn matches_f64_forward_and_backward() {
        for (rows, n) in [(3, 1), (2, 7), (5, 513)] {
            let mut rng = Lcg(10);
            let x: Vec<f32> = rng.vec(rows * n).into_iter().map(|x| 4.0 * x).collect();
            let dy = rng.vec(rows * n);
            let mut want = [vec![], vec![], vec![], vec![]];
            for i in 0..rows {
                let at = |v: &[f32], j: usize| f64::from(v[i * n + j]);
                let total = (0..n).map(|j| at(&x, j).exp()).sum::<f64>();
                let p = |j: usize| at(&x, j).exp() / total;
                let (sum, dot) = (0..n).fold((0.0, 0.0), |(a, b), j| {
                    (a + at(&dy, j), b + at(&dy, j) * p(j))
                });
                for j in 0..n {
                    want[0].push(p(j));
                    want[1].push(at(&x, j) - total.ln());
                    want[2].push(p(j) * (at(&dy, j) - dot));
                    want[3].push(at(&dy, j) - p(j) * sum);
                }
            }
            with_every_isa(|_| {
                let nan = || vec![f32::NAN; rows * n];
                let (mut p, mut l, mut dp, mut dl) = (nan(), nan(), nan(), nan());
                softmax(&x, n, &mut p);
                log_softmax(&x, n, &mut l);
                softmax_backward(&p, n, &dy, &mut dp);
                log_softmax_backward(&l, n, &dy, &mut dl);
                for (got, want) in [&p, &l, &dp, &dl].into_iter().zip(&want) {
                    assert!(relative_error(got, want) < 4e-6, "{rows}x{n}");
                }
            });
        }
    }
}
