//! Adding one row to all rows: the shift of a norm.

use super::{get, put, row_count};
use crate::mem::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// `y ← y + x`, row by row.
///
/// # Shapes
/// `x`: `[n]`, `y`: `[rows, n]`.
///
/// # Panics
/// When `y` is not whole rows of the length of x.
pub fn add_to_rows(x: &[f32], y: &mut [f32]) {
    let n = x.len();
    let rows = row_count("add_to_rows", y.len(), n);
    let (isa, work, y) = (Isa::detect(), 4 * y.len(), MutPtr(y.as_mut_ptr()));
    threads::over_rows(rows, work, |a, b| {
        // SAFETY: parts do not overlap.
        let y = unsafe { y.slice(a * n, (b - a) * n) };
        dispatch(isa, AddToRows { x, y });
    });
}

struct AddToRows<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for AddToRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for y in self.y.chunks_exact_mut(self.x.len()) {
            for j in (0..y.len()).step_by(LANES) {
                put(s, y, j, s.add(get(s, y, j), get(s, self.x, j)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;

    #[test]
    fn rows_by_hand() {
        with_every_isa(|_| {
            let x: Vec<f32> = (0..19).map(|i| i as f32).collect();
            let mut y = [vec![1.0; 19], vec![-2.0; 19]].concat();
            add_to_rows(&x, &mut y);
            for i in 0..19 {
                assert_eq!((y[i], y[19 + i]), (i as f32 + 1.0, i as f32 - 2.0));
            }
        });
    }
}
