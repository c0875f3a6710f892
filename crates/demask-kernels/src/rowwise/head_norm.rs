//! RMS norm of each head of a part of a fused buffer.

use super::rms_norm::{Backward, Forward};
use super::sum_over_rows;
use crate::element::Element;
use crate::memory::MutPtr;
use crate::simd::{Isa, dispatch};
use crate::threads;

/// Heads side by side in rows of a wider buffer: row r begins at `r · stride + skip`.
#[derive(Clone, Copy, Debug)]
pub struct HeadRows {
    /// Number of rows.
    pub rows: usize,
    /// Values from one row of the buffer to the next.
    pub stride: usize,
    /// Values of a row before the first head.
    pub skip: usize,
    /// Number of heads.
    pub heads: usize,
    /// Values of a head.
    pub head_dim: usize,
}

impl HeadRows {
    /// Values of a row. As below, what does not fit the address space is found by the operations.
    fn width(&self) -> usize {
        self.heads.saturating_mul(self.head_dim)
    }

    /// Values of all rows, at most `usize::MAX`.
    pub fn len(&self) -> usize {
        self.rows.saturating_mul(self.width())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn check(&self, held: usize) {
        let width = self.heads.checked_mul(self.head_dim);
        let end = width.and_then(|width| width.checked_add(self.skip));
        let rows = self.rows.checked_mul(self.stride);
        assert!(
            end.is_some_and(|end| end <= self.stride) && rows.is_some_and(|rows| rows <= held),
            "head_norm: {self:?} does not lie in {held} values"
        );
        assert!(self.head_dim > 0, "head_norm: heads of no values");
    }
}

/// `y = x / √(mean(x²) + eps) · weight` of each head, as [`rms_norm`](super::rms_norm()) of the same rows.
///
/// # Shapes
/// `x`: a buffer with the heads of `at`; `weight`: `[head_dim]`; `y`: `[rows, heads, head_dim]`; `inverse`:
/// `[rows, heads]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn head_norm<T: Element>(
    x: &[T],
    at: HeadRows,
    weight: &[f32],
    eps: f32,
    y: &mut [T],
    inverse: &mut [f32],
) {
    at.check(x.len());
    let (width, heads, n) = (at.width(), at.heads, at.head_dim);
    assert!(
        y.len() == at.len() && inverse.len() == at.rows * heads && weight.len() == n,
        "head_norm: {at:?}, but y, inverse and weight hold {}, {} and {} values",
        y.len(),
        inverse.len(),
        weight.len()
    );
    if at.is_empty() {
        return;
    }
    let isa = Isa::detect();
    let (y, inverse) = (MutPtr(y.as_mut_ptr()), MutPtr(inverse.as_mut_ptr()));
    threads::over_rows(at.rows, at.len() * 4, |a, b| {
        for r in a..b {
            // SAFETY: rows do not overlap.
            let (y, inverse) =
                unsafe { (y.slice(r * width, width), inverse.slice(r * heads, heads)) };
            let kernel = Forward {
                x: &x[r * at.stride + at.skip..][..width],
                n,
                weight: Some(weight),
                shift: None,
                eps,
                y,
                inverse,
            };
            dispatch(isa, kernel);
        }
    });
}

/// Gradients of [`head_norm`]: `dx` overwrites the heads of `at` in a buffer like that of x and leaves the rest of it.
///
/// # Shapes
/// As in [`head_norm`]; `dy` as `y`, `dweight`: `[head_dim]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn head_norm_backward<X: Element, D: Element>(
    x: &[X],
    at: HeadRows,
    weight: &[f32],
    inverse: &[f32],
    dy: &[D],
    dx: &mut [D],
    dweight: &mut [f32],
) {
    at.check(x.len());
    at.check(dx.len());
    let (width, heads, n) = (at.width(), at.heads, at.head_dim);
    assert!(
        dy.len() == at.len()
            && inverse.len() == at.rows * heads
            && weight.len() == n
            && dweight.len() == n,
        "head_norm: {at:?}, but dy, inverse, weight and dweight hold {}, {}, {} and {} values",
        dy.len(),
        inverse.len(),
        weight.len(),
        dweight.len()
    );
    if at.is_empty() {
        dweight.fill(0.0);
        return;
    }
    let (isa, dx) = (Isa::detect(), MutPtr(dx.as_mut_ptr()));
    let total = sum_over_rows(at.rows, n, at.len() * 8, |a, b, dweight| {
        for r in a..b {
            let from = r * at.stride + at.skip;
            let kernel = Backward::<X, D, false> {
                x: &x[from..][..width],
                n,
                weight: Some(weight),
                inverse: &inverse[r * heads..][..heads],
                dy: &dy[r * width..][..width],
                // SAFETY: rows do not overlap.
                dx: unsafe { dx.slice(from, width) },
                dweight: &mut *dweight,
            };
            dispatch(isa, kernel);
        }
    });
    dweight.copy_from_slice(&total);
}

#[cfg(test)]
mod tests {
    use super::super::{rms_norm, rms_norm_backward};
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;
    use crate::threads::with_threads;
    use proptest::prelude::*;

    #[test]
    #[should_panic(expected = "head_norm: HeadRows { rows: 8589934592")]
    fn rows_beyond_the_address_space_are_refused() {
        HeadRows {
            rows: 1 << 33,
            stride: 1 << 31,
            skip: 0,
            heads: 1 << 31,
            head_dim: 1,
        }
        .check(0);
    }

    #[test]
    #[should_panic(expected = "does not lie in 3 values")]
    fn a_width_that_wraps_is_refused() {
        let at = HeadRows {
            rows: 1,
            stride: 3,
            skip: usize::MAX,
            heads: 1,
            head_dim: 2,
        };
        head_norm(&[0.0; 3], at, &[0.0; 2], 1.0, &mut [0.0; 2], &mut [0.0]);
    }

    #[test]
    fn any_number_of_rows_without_heads() {
        let at = HeadRows {
            rows: usize::MAX,
            stride: 0,
            skip: 0,
            heads: 0,
            head_dim: 2,
        };
        head_norm::<f32>(&[], at, &[1.0; 2], 1.0, &mut [], &mut []);
        let mut dweight = [9.0; 2];
        head_norm_backward::<f32, f32>(&[], at, &[1.0; 2], &[], &[], &mut [], &mut dweight);
        assert_eq!(dweight, [0.0; 2]);
    }

    fn check(at: HeadRows, seed: u64) {
        let HeadRows {
            rows,
            stride,
            skip,
            heads,
            head_dim,
        } = at;
        let (width, mut rng) = (heads * head_dim, Lcg(seed));
        let (x, weight, dy) = (
            rng.vec(rows * stride),
            rng.vec(head_dim),
            rng.vec(rows * width),
        );
        let own = skip..skip + width;
        let part: Vec<f32> = x
            .chunks_exact(stride)
            .flat_map(|row| &row[own.clone()])
            .copied()
            .collect();
        with_every_isa(|_| {
            let run = || {
                let (mut y, mut inverse) = (vec![0.0; part.len()], vec![0.0; rows * heads]);
                head_norm(&x, at, &weight, 1e-5, &mut y, &mut inverse);
                let (mut dx, mut dw) = (vec![5.0; x.len()], vec![0.0; head_dim]);
                head_norm_backward(&x, at, &weight, &inverse, &dy, &mut dx, &mut dw);
                (y, inverse, dx, dw)
            };
            assert!(with_threads(1, run) == with_threads(3, run));
            let (y, inverse, dx, dw) = run();
            let (mut y1, mut inverse1) = (vec![0.0; part.len()], vec![0.0; rows * heads]);
            rms_norm(
                &part,
                head_dim,
                Some(&weight),
                None,
                1e-5,
                &mut y1,
                &mut inverse1,
            );
            let (mut dx1, mut dw1) = (vec![0.0; part.len()], vec![0.0; head_dim]);
            let out = Some(&mut dw1[..]);
            rms_norm_backward(
                &part,
                head_dim,
                Some(&weight),
                &inverse1,
                &dy,
                &mut dx1,
                out,
            );
            assert!((&y, &inverse) == (&y1, &inverse1));
            for (row, want) in dx.chunks_exact(stride).zip(dx1.chunks_exact(width)) {
                assert_eq!(&row[own.clone()], want);
                let rest = row[..skip].iter().chain(&row[skip + width..]);
                assert!(rest.into_iter().all(|&v| v == 5.0));
            }
            // The sum of the same values in chunks of other rows.
            assert!(dw.iter().zip(&dw1).all(|(a, b)| (a - b).abs() < 1e-4));
        });
    }

    #[test]
    fn is_the_norm_of_the_same_rows() {
        let at = HeadRows {
            rows: 70,
            stride: 61,
            skip: 7,
            heads: 2,
            head_dim: 20,
        };
        check(at, 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn random_rows_are_the_norm_of_the_same_rows(
            (rows, heads, head_dim) in (1usize..150, 1usize..5, 1usize..70),
            (skip, after) in (0usize..40, 0usize..40),
            seed in 1u64..1000,
        ) {
            let stride = skip + heads * head_dim + after;
            check(HeadRows { rows, stride, skip, heads, head_dim }, seed);
        }
    }
}
