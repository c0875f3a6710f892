//! Matrix products: `C (+)= A · B + bias`.
//!
//! | name | file | what it is |
//! |---|---|---|
//! | matrix | `matrix.rs` | strided views of slices |
//! | format | `format.rs` | the number formats of a right operand: f32, bf16, int8, int4 |
//! | packed B | `packed.rs` | a right operand packed once, whole or part by part, and used often (weights) |
//! | pack | `pack/` | copying operands into panels (Goto & van de Geijn, 2008) |
//! | micro | `micro.rs` | the register tile |
//! | tiled | `tiled.rs` | the same on a tile unit (AMX) |
//! | half bytes | `half_bytes.rs` | int4 on it |
//! | parts | `parts.rs` | long products on it, cut for its caches |
//! | strip | `strip.rs` | tiles of rows by a strip of columns |
//! | epilogue | `epilogue.rs` | what becomes of finished sums: rounded, added, activated |
//! | driver | `driver.rs` | cache blocks and threads |
//! | products | `products.rs` | results of their own, several for one left operand, SwiGLU of two |
//! | hidden | `hidden.rs` | the hidden rows of an MLP that is trained, and their gradient |
//! | scores | `scores.rs` | what a sampler asks of each row of a product that is never stored |
//!
//! Element (i, j) of the result is a chain over increasing k, begun at 0 or at the old C, then plus `bias[j]`:
//! in f32 `c ← fma(A[i,k], B[k,j], c)`, in bf16 two such steps a time (or the sum of two products, where NEON has an
//! instruction for it; a tile unit sums 32 steps before it adds them to c, the even and the odd ones apart, and takes
//! denormals as 0, as Intel describes TDPBF16PS), in the integer formats one step a group. It depends on row i of A and column j of B alone.

mod driver;
mod epilogue;
pub(crate) mod format;
mod half_bytes;
mod hidden;
mod matrix;
pub(crate) mod micro;
pub(crate) mod pack;
mod packed;
mod parts;
mod products;
mod scores;
mod strip;
#[cfg(test)]
mod tests;
pub(crate) mod tiled;

pub use format::Format;
pub use hidden::{hidden_rows, hidden_rows_backward};
pub use matrix::{MatrixMut, MatrixRef};
pub use packed::{PackedB, Packer};
pub use products::{gated_product, product, product_in, product_plus, products};
pub use scores::scores;

use crate::element::{Bf16, Element};
use crate::memory::{MutPtr, Ptr};
use driver::Target;
use epilogue::Epilogue;

/// What happens to the old contents of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beta {
    /// `C = A · B`; the old contents are never read.
    Overwrite,
    /// `C = C + A · B`, with sums that begin at C.
    Accumulate,
    /// `C = C + (A · B + bias)`, with sums that begin at 0 and are added when they are done.
    Add,
}

/// The right operand of a product.
#[derive(Clone, Copy, Debug)]
pub enum Rhs<'a> {
    /// A view; it is packed in the call.
    Plain(MatrixRef<'a>),
    /// The same, and both operands are rounded to bf16.
    Bf16(MatrixRef<'a>),
    /// A view of values that were rounded before; the left operand is rounded, too.
    Rounded(MatrixRef<'a, Bf16>),
    /// Packed before.
    Packed(&'a PackedB),
}

impl Rhs<'_> {
    /// Rows: the inner dimension of the product.
    pub fn rows(&self) -> usize {
        match self {
            Self::Plain(b) | Self::Bf16(b) => b.rows(),
            Self::Rounded(b) => b.rows(),
            Self::Packed(b) => b.rows(),
        }
    }

    /// Columns of the product.
    pub fn cols(&self) -> usize {
        match self {
            Self::Plain(b) | Self::Bf16(b) => b.cols(),
            Self::Rounded(b) => b.cols(),
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

/// `C (+)= A · B (+ bias)`, the product in the number [`Format`] of B.
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
pub fn gemm<'b, T: Element>(
    c: MatrixMut<'_>,
    beta: Beta,
    a: MatrixRef<'_, T>,
    b: impl Into<Rhs<'b>>,
    bias: Option<&[f32]>,
) {
    let b = b.into();
    products::check(a, b, bias);
    let (m, n) = (a.rows(), b.cols());
    assert!(
        c.rows() == m && c.cols() == n,
        "gemm: the product is {m}x{n}, but C is {}x{}",
        c.rows(),
        c.cols()
    );
    let mut c = c;
    let c = MutPtr(c.ptr());
    let old = Ptr(c.get().cast_const());
    let epilogue = match beta {
        Beta::Overwrite => Epilogue::Store { c, load: false },
        Beta::Accumulate => Epilogue::Store { c, load: true },
        Beta::Add => Epilogue::Add { c, to: old },
    };
    driver::run(a, &[Target::new(b, bias, epilogue)]);
}
