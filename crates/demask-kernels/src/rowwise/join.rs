//! Rows side by side, as a network joins the channels of two streams.

use crate::memory::{MutPtr, written};
use crate::threads;

/// The rows of `a` and of `b` side by side: row i of the result is row i of `a`, then row i of `b`.
///
/// # Shapes
/// `a`: `[rows, width_a]`; `b`: `[rows, width_b]`; result: `[rows, width_a + width_b]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn join(a: &[f32], b: &[f32], rows: usize) -> Vec<f32> {
    assert!(
        rows > 0 && a.len().is_multiple_of(rows) && b.len().is_multiple_of(rows),
        "join: {} and {} values are not {rows} whole rows each",
        a.len(),
        b.len()
    );
    if a.is_empty() && b.is_empty() {
        // Rows of no values may be any number.
        return Vec::new();
    }
    let (wa, wb) = (a.len() / rows, b.len() / rows);
    let each = |y: MutPtr| {
        threads::over_rows(rows, 2 * (a.len() + b.len()), |first, end| {
            for i in first..end {
                // SAFETY: row i is this part's alone, and both sources are rows.
                unsafe {
                    let to = y.get().add(i * (wa + wb));
                    to.copy_from_nonoverlapping(a.as_ptr().add(i * wa), wa);
                    to.add(wa)
                        .copy_from_nonoverlapping(b.as_ptr().add(i * wb), wb);
                }
            }
        });
    };
    // SAFETY: every row is written.
    unsafe { written(a.len() + b.len(), each) }
}

/// The opposite of [`join`], and its gradient: the first `left` columns of each row, and the others.
///
/// # Shapes
/// `y`: `[rows, width]`; results: `[rows, left]` and `[rows, width - left]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn split(y: &[f32], rows: usize, left: usize) -> [Vec<f32>; 2] {
    assert!(
        rows > 0 && y.len().is_multiple_of(rows) && left <= y.len() / rows,
        "split: {} values are not {rows} whole rows of {left} or more",
        y.len()
    );
    let width = y.len() / rows;
    [(0, left), (left, width - left)].map(|(from, n)| {
        if n == 0 {
            return Vec::new();
        }
        let each = |x: MutPtr| {
            threads::over_rows(rows, 2 * rows * n, |first, end| {
                for i in first..end {
                    // SAFETY: row i is this part's alone; these columns are in the row.
                    unsafe {
                        let source = y.as_ptr().add(i * width + from);
                        x.get().add(i * n).copy_from_nonoverlapping(source, n);
                    }
                }
            });
        };
        // SAFETY: every row is written.
        unsafe { written(rows * n, each) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Lcg;
    use crate::threads::with_threads;

    #[test]
    fn rows_by_hand() {
        let y = join(&[1.0, 2.0], &[3.0, 4.0, 5.0, 6.0], 2);
        assert_eq!(y, [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
        let [a, b] = split(&y, 2, 1);
        assert_eq!((a, b), (vec![1.0, 2.0], vec![3.0, 4.0, 5.0, 6.0]));
        assert_eq!(split(&y, 3, 2), [y.clone(), vec![]]);
    }

    #[test]
    fn any_number_of_rows_of_no_values() {
        assert!(join(&[], &[], usize::MAX).is_empty());
        assert_eq!(split(&[], usize::MAX, 0), [vec![], vec![]]);
    }

    #[test]
    fn what_was_joined_is_split_again_by_any_number_of_threads() {
        let mut rng = Lcg(3);
        let (a, b) = (rng.vec(37 * 40_000), rng.vec(37 * 20_000));
        for threads in [1, 3] {
            let parts = with_threads(threads, || split(&join(&a, &b, 37), 37, 40_000));
            assert!(parts[0] == a && parts[1] == b);
        }
    }

    #[test]
    #[should_panic(expected = "3 and 2 values are not 2 whole rows each")]
    fn rows_that_are_not_whole_are_named() {
        join(&[0.0; 3], &[0.0; 2], 2);
    }
}
