//! Matrix products: `C (+)= A · B + bias`.
//!
//! | name | file | what it is |
//! |---|---|---|
//! | matrix | `matrix.rs` | strided views of slices |
//! | packed B | `packed.rs` | a right operand packed once and used often (weights) |
//! | pack | `pack.rs` | copying operands into panels (Goto & van de Geijn, 2008) |
//! | micro | `micro.rs` | the register tile |
//! | driver | `driver.rs` | cache blocks and threads |
//!
//! Element (i, j) of the result is the chain `c ← fma(A[i,k], B[k,j], c)` over increasing k, begun
//! at 0 or at the old C, then plus `bias[j]`: it depends on row i of A and column j of B alone.

mod driver;
mod matrix;
pub(crate) mod micro;
pub(crate) mod pack;
mod packed;
#[cfg(test)]
mod tests;

pub use matrix::{MatrixMut, MatrixRef};
pub use packed::PackedB;

use crate::simd::Isa;

/// What happens to the old contents of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beta {
    /// `C = A · B`; the old contents are never read.
    Overwrite,
    /// `C = C + A · B`.
    Accumulate,
}

/// The right operand of a product.
#[derive(Clone, Copy, Debug)]
pub enum Rhs<'a> {
    /// A view; it is packed in the call.
    Plain(MatrixRef<'a>),
    /// Packed before.
    Packed(&'a PackedB),
}

impl Rhs<'_> {
    /// Rows: the inner dimension of the product.
    pub fn rows(&self) -> usize {
        match self {
            Self::Plain(b) => b.rows(),
            Self::Packed(b) => b.rows(),
        }
    }

    /// Columns of the product.
    pub fn cols(&self) -> usize {
        match self {
            Self::Plain(b) => b.cols(),
            Self::Packed(b) => b.cols(),
        }
    }
}

impl<'a> From<MatrixRef<'a>> for Rhs<'a> {
    fn from(b: MatrixRef<'a>) -> Self {
        Self::Plain(b)
    }
}

impl<'a> From<&'a PackedB> for Rhs<'a> {
    fn from(b: &'a PackedB) -> Self {
        Self::Packed(b)
    }
}

/// `C (+)= A · B (+ bias)` in `f32`.
///
/// The bits of a result row depend only on that row of A, on B, on the old C (with
/// [`Beta::Accumulate`]) and on the bias, never on the other rows, the threads or whether B was
/// packed before.
///
/// # Shapes
/// `a` is m×k, `b` k×n, `c` m×n, `bias` n values. Any of m, n, k may be 0.
///
/// # Panics
/// When the shapes do not fit together.
pub fn gemm<'b>(
    c: MatrixMut<'_>,
    beta: Beta,
    a: MatrixRef<'_>,
    b: impl Into<Rhs<'b>>,
    bias: Option<&[f32]>,
) {
    let b = b.into();
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    assert!(
        b.rows() == k && c.rows() == m && c.cols() == n,
        "gemm: A is {m}x{k}, B is {}x{n}, but C is {}x{}",
        b.rows(),
        c.rows(),
        c.cols()
    );
    if let Some(bias) = bias {
        assert_eq!(
            bias.len(),
            n,
            "gemm: the bias must have a value for each of the {n} columns"
        );
    }
    let isa = match b {
        Rhs::Packed(p) => p.isa(),
        Rhs::Plain(_) => Isa::detect(),
    };
    driver::run(isa, c, beta, a, b, bias);
}
