//! Keys and values that are kept from call to call.

use super::HeadsRef;
use crate::element::Element;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Keys or values `[rows, heads, head_dim]` of one sequence that grow at the end.
///
/// They lie head by head, `[heads, room, head_dim]`: attention reads all rows of a head one after the other, and finds
/// them so in the order in which a processor guesses what comes next. A value is `T`: in bf16 the nearest one, ties to
/// even, on every instruction set.
///
/// ```
/// use demask_kernels::attention::KeptHeads;
///
/// let mut keys = KeptHeads::<f32>::new([2, 1]);
/// keys.push(&[1.0, 10.0, 2.0, 20.0]);
/// keys.push(&[3.0, 30.0]);
/// assert_eq!(keys.rows_from(1), [2.0, 20.0, 3.0, 30.0]);
/// assert_eq!(keys.view().dims(), [1, 3, 2, 1]);
/// ```
#[derive(Clone, Debug)]
pub struct KeptHeads<T = f32> {
    values: Vec<T>,
    heads: usize,
    dim: usize,
    rows: usize,
    /// Rows that a head has room for.
    room: usize,
}

impl<T: Element> KeptHeads<T> {
    /// No rows, of so many heads of so many values.
    ///
    /// # Panics
    /// When either is 0.
    pub fn new([heads, dim]: [usize; 2]) -> Self {
        assert!(
            heads > 0 && dim > 0,
            "kept heads: {heads} heads of {dim} values"
        );
        Self {
            values: Vec::new(),
            heads,
            dim,
            rows: 0,
            room: 0,
        }
    }

    /// Adds rows, `[any, heads, head_dim]`.
    ///
    /// # Panics
    /// When they are not whole rows.
    pub fn push(&mut self, rows: &[f32]) {
        let (width, found) = (self.heads * self.dim, rows.len());
        assert!(
            found.is_multiple_of(width),
            "kept heads: {found} values are not whole rows of {} heads of {}",
            self.heads,
            self.dim
        );
        let new = found / width;
        self.reserve(new);
        let push = Push {
            values: &mut self.values,
            at: self.rows,
            room: self.room,
            rows,
            heads: self.heads,
            dim: self.dim,
        };
        dispatch(Isa::detect(), push);
        self.rows += new;
    }

    /// Makes room for so many rows more. What grows, grows by a quarter at least: rows that there is room for take memory.
    fn reserve(&mut self, more: usize) {
        let wanted = self.rows + more;
        if wanted <= self.room {
            return;
        }
        let room = wanted.max(self.room + self.room / 4);
        let mut values = vec![T::default(); self.heads * room * self.dim];
        let held = self.rows * self.dim;
        for head in 0..self.heads {
            let from = &self.values[head * self.room * self.dim..][..held];
            values[head * room * self.dim..][..held].copy_from_slice(from);
        }
        (self.values, self.room) = (values, room);
    }

    /// Keeps the first `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        self.rows = self.rows.min(rows);
    }

    /// `[rows, heads, head_dim]`.
    pub fn dims(&self) -> [usize; 3] {
        [self.rows, self.heads, self.dim]
    }

    /// All rows, as attention reads them: `[1, rows, heads, head_dim]`.
    pub fn view(&self) -> HeadsRef<'_, T> {
        let strides = [0, self.dim, self.room * self.dim];
        HeadsRef::with_strides(&self.values, [1, self.rows, self.heads, self.dim], strides)
    }

    /// A copy of the rows from `first` on, `[any, heads, head_dim]`.
    ///
    /// # Panics
    /// When there are fewer rows.
    pub fn rows_from(&self, first: usize) -> Vec<f32> {
        assert!(
            first <= self.rows,
            "kept heads: row {first} of {}",
            self.rows
        );
        let mut copy = Vec::with_capacity((self.rows - first) * self.heads * self.dim);
        for row in first..self.rows {
            for head in 0..self.heads {
                let at = (head * self.room + row) * self.dim;
                copy.extend(self.values[at..][..self.dim].iter().map(|&x| x.into()));
            }
        }
        copy
    }
}

/// Rounds rows to their places, with vectors as wide as the machine has them. Not with its own instruction for bf16, which
/// takes small numbers for 0.
struct Push<'a, T> {
    /// `[heads, room, dim]`.
    values: &'a mut [T],
    /// The first new row.
    at: usize,
    room: usize,
    /// `[new, heads, dim]`.
    rows: &'a [f32],
    heads: usize,
    dim: usize,
}

impl<T: Element> Kernel for Push<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (i, row) in self.rows.chunks_exact(self.heads * self.dim).enumerate() {
            for (head, from) in row.chunks_exact(self.dim).enumerate() {
                let at = (head * self.room + self.at + i) * self.dim;
                let to = &mut self.values[at..][..self.dim];
                for (to, &x) in to.iter_mut().zip(from) {
                    *to = x.into();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Bf16;
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;

    /// Row-major, and what [`KeptHeads`] ought to hold of it.
    fn grown<T: Element>(heads: usize, dim: usize, steps: &[(usize, usize)]) {
        let (mut kept, mut plain) = (KeptHeads::<T>::new([heads, dim]), Vec::<f32>::new());
        for (i, &(add, keep)) in steps.iter().enumerate() {
            let rows = Lcg(i as u64 + 1).vec(add * heads * dim);
            kept.push(&rows);
            plain.extend(rows.iter().map(|&x| -> f32 { T::from(x).into() }));
            kept.truncate(keep);
            plain.truncate(keep * heads * dim);
            let held = plain.len() / (heads * dim);
            assert_eq!(kept.dims(), [held, heads, dim]);
            let from = held / 2;
            assert_eq!(kept.rows_from(from), plain[from * heads * dim..]);
            assert_eq!(kept.view().dims(), [1, held, heads, dim]);
            for (i, &want) in plain.iter().enumerate() {
                let (row, head) = (i / dim / heads, i / dim % heads);
                // SAFETY: the view has this row of this head.
                let found = unsafe { *kept.view().row(0, row, head).add(i % dim) };
                assert_eq!(found.into(), want, "row {row} of head {head}");
            }
        }
    }

    #[test]
    fn rows_come_back_as_they_went_in() {
        let steps = [
            (0, 9),
            (1, 9),
            (2, 9),
            (5, 9),
            (40, 30),
            (1, 29),
            (3, 0),
            (7, 90),
        ];
        with_every_isa(|_| {
            for (heads, dim) in [(1, 1), (1, 70), (3, 5), (4, 64)] {
                grown::<f32>(heads, dim, &steps);
                grown::<Bf16>(heads, dim, &steps);
            }
        });
    }

    #[test]
    fn a_head_lies_in_one_piece() {
        let mut kept = KeptHeads::<f32>::new([2, 2]);
        kept.push(&[1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0]);
        assert_eq!(kept.values, [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]);
        // Half a bf16 step above 1 and 1.5 steps above it are rounded to even.
        let mut kept = KeptHeads::<Bf16>::new([1, 2]);
        kept.push(&[1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)]);
        assert_eq!(kept.rows_from(0), [1.0, 1.0 + 2f32.powi(-6)]);
    }

    #[test]
    #[should_panic(expected = "3 values are not whole rows of 2 heads of 2")]
    fn half_a_row_is_refused() {
        KeptHeads::<f32>::new([2, 2]).push(&[0.0; 3]);
    }
}
