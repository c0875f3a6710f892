//! Sums of scaled slices.

use super::{get, over_values, put, same_len};
use crate::mem::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// `y ← y + a · x`.
///
/// # Panics
/// When the slices differ in length.
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    update("axpy", x, y, |x, y| Update {
        a,
        x,
        y,
        lerp: false,
    });
}

/// `y ← y + t · (x − y)`: an exponential moving average with decay `1 − t`.
///
/// # Panics
/// When the slices differ in length.
pub fn lerp(t: f32, x: &[f32], y: &mut [f32]) {
    update("lerp", x, y, |x, y| Update {
        a: t,
        x,
        y,
        lerp: true,
    });
}

fn update(
    what: &str,
    x: &[f32],
    y: &mut [f32],
    make: impl for<'a> Fn(&'a [f32], &'a mut [f32]) -> Update<'a> + Sync,
) {
    same_len(what, x.len(), &[y.len()]);
    let (isa, y) = (Isa::detect(), MutPtr(y.as_mut_ptr()));
    over_values(x.len(), 4, |from, to| {
        // SAFETY: parts do not overlap.
        let y = unsafe { y.slice(from, to - from) };
        dispatch(isa, make(&x[from..to], y));
    });
}

struct Update<'a> {
    a: f32,
    x: &'a [f32],
    y: &'a mut [f32],
    lerp: bool,
}

impl Kernel for Update<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let a = s.splat(self.a);
        for j in (0..self.x.len()).step_by(LANES) {
            let (x, y) = (get(s, self.x, j), get(s, self.y, j));
            let step = if self.lerp { s.sub(x, y) } else { x };
            put(s, self.y, j, s.fma(a, step, y));
        }
    }
}

/// Sum of squares, for gradient norms: parts of 4096 values in f32, added in order in f64.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    const PART: usize = 4096;
    let mut parts = vec![0.0f32; x.len().div_ceil(PART)];
    let (isa, out) = (Isa::detect(), MutPtr(parts.as_mut_ptr()));
    over_values(x.len(), 2, |from, to| {
        for at in (from..to).step_by(PART) {
            // SAFETY: parts begin at multiples of PART, each has its own sum.
            let sum = unsafe { out.slice(at / PART, 1) };
            sum[0] = dispatch(isa, Squares(&x[at..(at + PART).min(x.len())]));
        }
    });
    parts.into_iter().map(f64::from).sum()
}

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sum = s.splat(0.0);
        for j in (0..self.0.len()).step_by(LANES) {
            let x = get(s, self.0, j);
            sum = s.fma(x, x, sum);
        }
        s.sum(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;
    use crate::threads::with_threads;

    #[test]
    fn literal_updates() {
        with_every_isa(|_| {
            let mut y = [1.0, 2.0, 3.0];
            axpy(2.0, &[10.0, 20.0, 30.0], &mut y);
            assert_eq!(y, [21.0, 42.0, 63.0]);
            lerp(0.5, &[1.0, 0.0, 63.0], &mut y);
            assert_eq!(y, [11.0, 21.0, 63.0]);
            assert_eq!(sum_of_squares(&[3.0, 4.0]), 25.0);
        });
    }

    #[test]
    fn threads_do_not_change_a_sum() {
        let x = Lcg(15).vec(3_000_001);
        let one = with_threads(1, || sum_of_squares(&x));
        assert_eq!(
            one.to_bits(),
            with_threads(3, || sum_of_squares(&x)).to_bits()
        );
        let want: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
        assert!((one / want - 1.0).abs() < 1e-7);
    }
}
