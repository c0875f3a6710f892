//! The three products of a linear that is trained: its output, and the gradients of its input and its weight.

use demask_kernels::Precision;
use demask_kernels::gemm::{self, MatrixRef};
use tracing::span::EnteredSpan;

use crate::span;

/// A weight `[out, in]` that is packed anew in each product, because training changes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dense<'a> {
    weight: MatrixRef<'a>,
    precision: Precision,
}

impl<'a> Dense<'a> {
    pub fn new(weight: &'a [f32], [out, inner]: [usize; 2], precision: Precision) -> Self {
        Self {
            weight: MatrixRef::new(weight, out, inner),
            precision,
        }
    }

    /// `x Wᵀ + b` for `x` `[rows, in]`.
    pub fn forward(&self, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let x = self.input(x);
        let _span = self.span(x.rows());
        gemm::product(x, self.precision.rhs(self.weight.t()), bias)
    }

    /// `to + (x Wᵀ + b)` for `to` `[rows, out]`.
    pub fn forward_plus(&self, to: &[f32], x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let x = self.input(x);
        let _span = self.span(x.rows());
        gemm::product_plus(to, x, self.precision.rhs(self.weight.t()), bias)
    }

    /// `g W`: from the gradient of the output, `[rows, out]`, to that of the input.
    pub fn input_gradient(&self, g: &[f32]) -> Vec<f32> {
        let g = self.output(g);
        let _span = self.span(g.rows());
        gemm::product(g, self.precision.rhs(self.weight), None)
    }

    /// `gᵀ x`: the gradient of the weight.
    pub fn weight_gradient(&self, g: &[f32], x: &[f32]) -> Vec<f32> {
        let (g, x) = (self.output(g), self.input(x));
        let _span = self.span(g.rows());
        gemm::product(g.t(), self.precision.rhs(x), None)
    }

    fn input<'x>(&self, x: &'x [f32]) -> MatrixRef<'x> {
        let inner = self.weight.cols();
        MatrixRef::new(x, x.len() / inner, inner)
    }

    fn output<'x>(&self, g: &'x [f32]) -> MatrixRef<'x> {
        let out = self.weight.rows();
        MatrixRef::new(g, g.len() / out, out)
    }

    fn span(&self, rows: usize) -> EnteredSpan {
        let work = 2 * rows * self.weight.rows() * self.weight.cols();
        span::product("linear", self.precision.name(), work)
    }
}
