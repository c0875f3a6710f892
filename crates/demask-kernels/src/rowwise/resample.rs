//! Pictures at twice and half the size.
//!
//! Twice the size repeats each pixel 2×2 times, half the size takes the mean of 2×2 pixels; but for a
//! factor each is the other's gradient. The sum of four is `(a + c) + (b + d)`, with c and d below a
//! and b.

use super::get;
use crate::memory::{MutPtr, written};
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// Panics unless the values are whole planes of `times · size`.
fn check(what: &str, values: usize, [h, w]: [usize; 2], times: usize) {
    let plane = h.checked_mul(w).and_then(|n| n.checked_mul(times * times));
    let fits = plane.is_some_and(|plane| plane > 0 && values.is_multiple_of(plane));
    assert!(
        fits,
        "{what}: {values} values must be whole planes {}x{}",
        h.saturating_mul(times),
        w.saturating_mul(times)
    );
}

/// Repeats every pixel 2×2 times (nearest neighbour).
///
/// # Shapes
/// `x`: `[planes, size]`; result: `[planes, 2·size]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn upsample2(x: &[f32], size: [usize; 2]) -> Vec<f32> {
    check("upsample2", x.len(), size, 1);
    widen(x, size, 1.0)
}

/// Gradient of [`upsample2`]: the sum of the four copies.
///
/// # Shapes
/// `dy`: `[planes, 2·size]`; result: `[planes, size]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn upsample2_backward(dy: &[f32], size: [usize; 2]) -> Vec<f32> {
    check("upsample2_backward", dy.len(), size, 2);
    narrow(dy, size, 1.0)
}

/// The mean of 2×2 pixels; `size` is that of the result.
///
/// # Shapes
/// `x`: `[planes, 2·size]`; result: `[planes, size]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn average_pool2(x: &[f32], size: [usize; 2]) -> Vec<f32> {
    check("average_pool2", x.len(), size, 2);
    narrow(x, size, 0.25)
}

/// Gradient of [`average_pool2`]: a quarter to each of the four.
///
/// # Shapes
/// `dy`: `[planes, size]`; result: `[planes, 2·size]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn average_pool2_backward(dy: &[f32], size: [usize; 2]) -> Vec<f32> {
    check("average_pool2_backward", dy.len(), size, 1);
    widen(dy, size, 0.25)
}

/// Rows of `small`, each times `factor`, to two rows of the result.
fn widen(small: &[f32], [_, w]: [usize; 2], factor: f32) -> Vec<f32> {
    let isa = Isa::detect();
    let rows = |large: MutPtr| {
        threads::over_rows(small.len() / w, small.len() * 6, |a, b| {
            let work = Widen {
                small: &small[a * w..b * w],
                large: large.get().wrapping_add(4 * a * w),
                w,
                factor,
            };
            dispatch(isa, work);
        });
    };
    // SAFETY: each row of `small` has its own two rows, which are written.
    unsafe { written(4 * small.len(), rows) }
}

/// Sums of 2×2 values, times `factor`.
fn narrow(large: &[f32], [_, w]: [usize; 2], factor: f32) -> Vec<f32> {
    let isa = Isa::detect();
    let rows = |small: MutPtr| {
        threads::over_rows(large.len() / (4 * w), large.len() * 2, |a, b| {
            let work = Narrow {
                large: &large[4 * a * w..4 * b * w],
                small: small.get().wrapping_add(a * w),
                w,
                factor,
            };
            dispatch(isa, work);
        });
    };
    // SAFETY: every two rows of `large` have their own row, which is written.
    unsafe { written(large.len() / 4, rows) }
}

struct Widen<'a> {
    small: &'a [f32],
    /// Four times as many values, written only.
    large: *mut f32,
    w: usize,
    factor: f32,
}

impl Kernel for Widen<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let w = self.w;
        for (i, small) in self.small.chunks_exact(w).enumerate() {
            for j in (0..w).step_by(LANES) {
                let x = s.mul(get(s, small, j), s.splat(self.factor));
                let (low, high) = s.zip(x, x);
                let left = 2 * (w - j);
                for row in [0, 2 * w] {
                    let to = self.large.wrapping_add(4 * i * w + row + 2 * j);
                    // SAFETY: `left` values of the row begin here; the upper half is not touched without any.
                    unsafe {
                        s.store_part(to, left, low);
                        if left > LANES {
                            s.store_part(to.add(LANES), left - LANES, high);
                        }
                    }
                }
            }
        }
    }
}

struct Narrow<'a> {
    large: &'a [f32],
    /// A quarter as many values, written only.
    small: *mut f32,
    w: usize,
    factor: f32,
}

impl Kernel for Narrow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let w = self.w;
        for (i, large) in self.large.chunks_exact(4 * w).enumerate() {
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
                let mean = s.mul(s.add(even, odd), s.splat(self.factor));
                // SAFETY: w − j values of row i begin here.
                unsafe { s.store_part(self.small.wrapping_add(i * w + j), w - j, mean) }
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
            let y = upsample2(&[1.0, 4.0], [1, 2]);
            assert_eq!(y, [1.0, 1.0, 4.0, 4.0, 1.0, 1.0, 4.0, 4.0]);
            let y = average_pool2_backward(&[1.0, 4.0], [1, 2]);
            assert_eq!(y, [0.25, 0.25, 1.0, 1.0, 0.25, 0.25, 1.0, 1.0]);
            let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
            assert_eq!(average_pool2(&x, [1, 2]), [3.5, 5.5]);
            assert_eq!(upsample2_backward(&x, [1, 2]), [14.0, 22.0]);
        });
    }

    #[test]
    fn every_width_goes_to_the_right_place() {
        for (planes, h, w) in [(1, 1, 1), (3, 2, 7), (2, 3, 16), (5, 4, 17), (1, 1, 40)] {
            let mut rng = Lcg(2);
            let (x, large) = (rng.vec(planes * h * w), rng.vec(4 * planes * h * w));
            with_every_isa(|_| {
                let (y, pooled) = (upsample2(&x, [h, w]), average_pool2(&large, [h, w]));
                assert_eq!((y.len(), pooled.len()), (large.len(), x.len()));
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
    #[should_panic(expected = "6 values must be whole planes 4x2")]
    fn sizes_that_do_not_fit_are_named() {
        average_pool2(&[0.0; 6], [2, 1]);
    }
}
