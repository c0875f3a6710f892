//! Sums over the rows of a matrix: the gradient of a bias.

use super::{get, put, row_count, sum_over_rows};
use crate::element::Element;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// The sum of each column of rows of `n` values, in the fixed order of all sums over rows.
///
/// # Shapes
/// `x`: `[rows, n]`, output: `[n]`.
///
/// # Panics
/// When `x` is not whole rows.
pub fn column_sums<T: Element>(x: &[T], n: usize) -> Vec<f32> {
    let rows = row_count("column_sums", x.len(), n);
    let isa = Isa::detect();
    sum_over_rows(rows, n, x.len() * 4, |a, b, sums| {
        let x = &x[a * n..b * n];
        dispatch(isa, Sum { x, sums });
    })
}

struct Sum<'a, T> {
    x: &'a [T],
    sums: &'a mut [f32],
}

impl<T: Element> Kernel for Sum<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for x in self.x.chunks_exact(self.sums.len()) {
            for j in (0..x.len()).step_by(LANES) {
                let sum = s.add(get(s, self.sums, j), get(s, x, j));
                put(s, self.sums, j, sum);
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
    fn sums_by_hand() {
        assert_eq!(column_sums(&[1.0, 2.0, 10.0, 20.0], 2), [11.0, 22.0]);
        assert_eq!(column_sums::<f32>(&[], 2), [0.0, 0.0]);
    }

    #[test]
    fn matches_f64_and_threads_do_not_matter() {
        let (rows, n) = (333, 37);
        let x = Lcg(5).vec(rows * n);
        let mut want = vec![0.0f64; n];
        for row in x.chunks_exact(n) {
            want.iter_mut()
                .zip(row)
                .for_each(|(w, x)| *w += f64::from(*x));
        }
        // Work enough for two threads.
        let many = x.repeat(64);
        with_every_isa(|_| {
            assert!(relative_error(&column_sums(&x, n), &want) < 2e-6);
            let run = |threads| with_threads(threads, || column_sums(&many, n));
            assert_eq!(run(1), run(2));
        });
    }
}
