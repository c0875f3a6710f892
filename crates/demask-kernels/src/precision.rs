//! What products of `f32` operands are computed in.

use crate::Element;
use crate::gemm::{MatrixRef, Rhs};

/// What products of `f32` operands are computed in. Sums are `f32` in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// `f32`.
    #[default]
    F32,
    /// Both operands are rounded to bf16, which has eight significant bits: about 0.4 % of error in an operand,
    /// twice the speed or more where the processor multiplies bf16.
    Bf16,
}

impl Precision {
    /// The lower-case name: `f32` or `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// `b` as the right operand of a product in this precision, packed in the call. Values that are rounded
    /// already are multiplied as bf16 in either.
    pub fn rhs<T: Element>(self, b: MatrixRef<'_, T>) -> Rhs<'_> {
        T::rhs(b, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::product;

    #[test]
    fn bf16_rounds_both_operands() {
        // 1 + 2⁻⁹ has ten significant bits: in bf16 it is 1.
        let fine = [1.0 + 2f32.powi(-9)];
        let b = MatrixRef::new(&fine, 1, 1);
        let exact = product(b, Precision::F32.rhs(b), None);
        assert_eq!(exact, [fine[0] * fine[0]]);
        assert_eq!(product(b, Precision::Bf16.rhs(b), None), [1.0]);
    }
}
