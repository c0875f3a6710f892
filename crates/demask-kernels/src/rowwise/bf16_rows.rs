//! A table whose rows are stored in bf16: half the memory of a table of `f32`.

use super::same_size;
use crate::element::Bf16;
use crate::memory::MutPtr;
use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::threads;

/// A table `[rows, width]` of bf16 that grows at its end.
///
/// A value is the nearest bf16, ties to even, on every instruction set; reading widens it exactly.
///
/// ```
/// use demask_kernels::rowwise::Bf16Rows;
///
/// let mut table = Bf16Rows::with_capacity(2, 2);
/// table.push(&[1.0, 2.0, 0.5, 1.0 + 2f32.powi(-9)]);
/// let mut y = [0.0; 4];
/// table.gather(&[1, 0], &mut y);
/// assert_eq!(y, [0.5, 1.0, 1.0, 2.0]);
/// ```
#[derive(Clone, Debug)]
pub struct Bf16Rows {
    values: Vec<Bf16>,
    width: usize,
}

impl Bf16Rows {
    /// An empty table that has room for `rows` rows of `width` values.
    ///
    /// # Panics
    /// When the width is 0, or the rows do not fit in the address space.
    pub fn with_capacity(rows: usize, width: usize) -> Self {
        assert!(width > 0, "bf16 rows: rows of no values");
        let values = rows.checked_mul(width);
        let values = values
            .unwrap_or_else(|| panic!("bf16 rows: {rows} rows of {width} values are too many"));
        Self {
            values: Vec::with_capacity(values),
            width,
        }
    }

    /// Adds rows, `[any, width]`.
    ///
    /// # Panics
    /// When they are not whole rows.
    pub fn push(&mut self, rows: &[f32]) {
        let (width, found) = (self.width, rows.len());
        assert!(
            found.is_multiple_of(width),
            "bf16 rows: {found} values are not whole rows of {width}"
        );
        let before = self.values.len();
        self.values.resize(before + found, Bf16::default());
        let to = &mut self.values[before..];
        dispatch(Isa::detect(), Round { rows, to });
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<Bf16>()
    }

    /// `y[i] = table[ids[i]]`.
    ///
    /// # Shapes
    /// `ids`: `[n]`; `y`: `[n, width]`.
    ///
    /// # Panics
    /// When the shapes do not fit together or an id lies outside the table.
    pub fn gather(&self, ids: &[u32], y: &mut [f32]) {
        let (width, rows) = (self.width, self.rows());
        if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
            panic!("bf16 rows: id {id} is not one of the {rows} rows");
        }
        same_size("bf16 rows", &[ids.len(), width], &[y.len()]);
        let (len, y) = (y.len(), MutPtr(y.as_mut_ptr()));
        threads::over_rows(ids.len(), len, |a, b| {
            for (i, &id) in ids.iter().enumerate().take(b).skip(a) {
                // SAFETY: row i belongs to this part alone.
                let y = unsafe { y.slice(i * width, width) };
                let row = &self.values[id as usize * width..][..width];
                for (y, &x) in y.iter_mut().zip(row) {
                    *y = x.into();
                }
            }
        });
    }
}

/// Rounds values one by one, with vectors as wide as the machine has them. Not with its own instruction for it, which
/// takes small numbers for 0.
struct Round<'a> {
    rows: &'a [f32],
    to: &'a mut [Bf16],
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (to, &x) in self.to.iter_mut().zip(self.rows) {
            *to = x.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;

    #[test]
    fn rows_are_the_nearest_bf16() {
        let mut table = Bf16Rows::with_capacity(3, 2);
        // Halfway between 1 and 1 + 2⁻⁷ the even neighbour is 1, from the next one on it is 1 + 2⁻⁶.
        table.push(&[1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)]);
        table.push(&[f32::NEG_INFINITY, -0.0, 3.0, f32::NAN]);
        assert_eq!((table.rows(), table.width(), table.bytes()), (3, 2, 12));
        let mut y = [0.0; 6];
        table.gather(&[2, 0, 1], &mut y);
        assert!(y[0] == 3.0 && y[1].is_nan());
        assert_eq!(y[2..5], [1.0, 1.0 + 2f32.powi(-6), f32::NEG_INFINITY]);
        assert!(y[5] == 0.0 && y[5].is_sign_negative());
    }

    #[test]
    fn every_instruction_set_rounds_alike() {
        let rows: Vec<f32> = (0..70).map(|i| 2f32.powi(-i * 2) * 1.003).collect();
        let want: Vec<f32> = rows.iter().map(|&x| Bf16::from(x).into()).collect();
        with_every_isa(|isa| {
            let mut table = Bf16Rows::with_capacity(0, 7);
            table.push(&rows[..7]);
            table.push(&rows[7..]);
            let found: Vec<f32> = table.values.iter().map(|&x| x.into()).collect();
            assert_eq!(found, want, "{}", isa.name());
        });
    }

    #[test]
    #[should_panic(expected = "id 2 is not one of the 2 rows")]
    fn ids_outside_the_table_are_named() {
        let mut table = Bf16Rows::with_capacity(2, 1);
        table.push(&[0.0; 2]);
        table.gather(&[2], &mut [0.0]);
    }
}
