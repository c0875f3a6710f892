//! Pictures at twice and half the size.
//!
//! Twice the size repeats each pixel 2×2 times, half the size takes the mean of 2×2 pixels; but for a
//! factor each is the other's gradient. The sum of four is `(a + c) + (b + d)`, with c and d below a
//! and b.

use super::{get, put};
use crate::mem::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// Panics unless `small` holds whole planes and `large` four times as many values.
fn check(what: &str, size: [usize; 2], small: usize, large: usize) {
    let [h, w] = size;
    let fits = h * w > 0 && small.is_multiple_of(h * w) && Some(large) == small.checked_mul(4);
    assert!(
        fits,
        "{what}: {small} values must be whole planes {h}x{w}, and {large} must be planes of twice \
         that height and width"
    );
}

/// Repeats every pixel 2×2 times (nearest neighbour).
///
/// # Shapes
/// `x`: `[planes, size]`; `y`: `[planes, 2·size]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn upsample2(x: &[f32], size: [usize; 2], y: &mut [f32]) {
    check("upsample2", size, x.len(), y.len());
    widen(x, size, 1.0, y);
}

/// Gradient of [`upsample2`]: the sum of the four copies.
///
/// # Shapes
/// As in [`upsample2`], for `dx` and `dy`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn upsample2_backward(dy: &[f32], size: [usize; 2], dx: &mut [f32]) {
    check("upsample2_backward", size, dx.len(), dy.len());
    narrow(dy, size, 1.0, dx);
}

/// The mean of 2×2 pixels; `size` is that of the result.
///
/// # Shapes
/// `x`: `[planes, 2·size]`; `y`: `[planes, size]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn average_pool2(x: &[f32], size: [usize; 2], y: &mut [f32]) {
    check("average_pool2", size, y.len(), x.len());
    narrow(x, size, 0.25, y);
}

/// Gradient of [`average_pool2`]: a quarter to each of the four.
///
/// # Shapes
/// As in [`average_pool2`], for `dx` and `dy`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn average_pool2_backward(dy: &[f32], size: [usize; 2], dx: &mut [f32]) {
    check("average_pool2_backward", size, dy.len(), dx.len());
    widen(dy, size, 0.25, dx);
}

/// Rows of `small`, each times `factor`, to two rows of `large`.
fn widen(small: &[f32], [_, w]: [usize; 2], factor: f32, large: &mut [f32]) {
    let (isa, out) = (Isa::detect(), MutPtr(large.as_mut_ptr()));
    threads::over_rows(small.len() / w, small.len() * 6, |a, b| {
        // SAFETY: parts do not overlap.
        let large = unsafe { out.slice(4 * a * w, 4 * (b - a) * w) };
        let small = &small[a * w..b * w];
        let work = Widen {
            small,
            large,
            w,
            factor,
        };
        dispatch(isa, work);
    });
}

/// Sums of 2×2 values, times `factor`.
fn narrow(large: &[f32], [_, w]: [usize; 2], factor: f32, small: &mut [f32]) {
    let (isa, out) = (Isa::detect(), MutPtr(small.as_mut_ptr()));
    threads::over_rows(small.len() / w, small.len() * 6, |a, b| {
        // SAFETY: parts do not overlap.
        let small = unsafe { out.slice(a * w, (b - a) * w) };
        let large = &large[4 * a * w..4 * b * w];
        let work = Narrow {
            large,
            small,
            w,
            factor,
        };
        dispatch(isa, work);
    });
}

struct Widen<'a> {
    small: &'a [f32],
    large: &'a mut [f32],
    w: usize,
    factor: f32,
}

impl Kernel for Widen<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let w = self.w;
        let rows = self.small.chunks_exact(w);
        for (small, large) in rows.zip(self.large.chunks_exact_mut(4 * w)) {
            for j in (0..w).step_by(LANES) {
                let x = s.mul(get(s, small, j), s.splat(self.factor));
                let (low, high) = s.zip(x, x);
                let (top, bottom) = large.split_at_mut(2 * w);
                for row in [top, bottom] {
                    put(s, row, 2 * j, low);
                    if 2 * j + LANES < 2 * w {
                        put(s, row, 2 * j + LANES, high);
                    }
                }
            }
        }
    }
}

struct Narrow<'a> {
    large: &'a [f32],
    small: &'a mut [f32],
    w: usize,
    factor: f32,
}

impl Kernel for Narrow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let w = self.w;
        let rows = self.large.chunks_exact(4 * w);
        for (large, small) in rows.zip(self.small.chunks_exact_mut(w)) {
            let (top, bottom) = large.split_at(2 * w);
            for j in (0..w).step_by(LANES) {
                let low = s.add(get(s, top, 2 * j), get(s, bottom, 2 * j));
                let high = if 2 * j + LANES < 2 * w {
                    let j = 2 * j + LANES;
                    s.add(get(s, top, j), get(s, bottom, j))
                } else {
                    s.splat(0.0)
                };
                let (even, odd) = s.unzip(low, high);
                put(s, small, j, s.mul(s.add(even, odd), s.splat(self.factor)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;

    #[test]
    fn a_picture_by_hand() {
        with_every_isa(|_| {
            let (mut y, mut small) = ([0.0; 8], [0.0; 2]);
            upsample2(&[1.0, 4.0], [1, 2], &mut y);
            assert_eq!(y, [1.0, 1.0, 4.0, 4.0, 1.0, 1.0, 4.0, 4.0]);
            average_pool2_backward(&[1.0, 4.0], [1, 2], &mut y);
            assert_eq!(y, [0.25, 0.25, 1.0, 1.0, 0.25, 0.25, 1.0, 1.0]);
            let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
            average_pool2(&x, [1, 2], &mut small);
            assert_eq!(small, [3.5, 5.5]);
            upsample2_backward(&x, [1, 2], &mut small);
            assert_eq!(small, [14.0, 22.0]);
        });
    }

    #[test]
    fn every_width_goes_to_the_right_place() {
        for (planes, h, w) in [(1, 1, 1), (3, 2, 7), (2, 3, 16), (5, 4, 17), (1, 1, 40)] {
            let mut rng = Lcg(2);
            let (x, large) = (rng.vec(planes * h * w), rng.vec(4 * planes * h * w));
            with_every_isa(|_| {
                let (mut y, mut pooled) = (vec![9.0; large.len()], vec![9.0; x.len()]);
                upsample2(&x, [h, w], &mut y);
                average_pool2(&large, [h, w], &mut pooled);
                for (i, &x) in x.iter().enumerate() {
                    let (row, column) = (i / w, i % w);
                    let at = |dy: usize, dx: usize| (2 * row + dy) * 2 * w + 2 * column + dx;
                    let four = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
                    assert!(four.iter().all(|&p| y[p] == x));
                    let mean = four.iter().map(|&p| f64::from(large[p])).sum::<f64>() / 4.0;
                    assert!((f64::from(pooled[i]) - mean).abs() < 2e-7);
                }
            });
        }
    }

    #[test]
    #[should_panic(expected = "5 values must be whole planes 2x2")]
    fn sizes_that_do_not_fit_are_named() {
        upsample2(&[0.0; 5], [2, 2], &mut [0.0; 20]);
    }
}
