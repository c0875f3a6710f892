//! The three products of a linear that is trained: its output, and the gradients of its input and its weight.

use demask_kernels::gemm::{self, MatrixRef, Rhs};
use demask_kernels::{Element, Precision, Reused};
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
        gemm::product(x, self.rhs(), bias)
    }

    /// The same, stored for another operation.
    pub fn forward_in<T: Element, U: Element>(&self, x: &[T], bias: Option<&[f32]>) -> Reused<U> {
        let x = self.input(x);
        let _span = self.span(x.rows());
        gemm::product_in(x, self.rhs(), bias)
    }

    /// `to + (x Wᵀ + b)` for `to` `[rows, out]`.
    pub fn forward_plus<T: Element>(&self, to: &[f32], x: &[T], bias: Option<&[f32]>) -> Vec<f32> {
        let x = self.input(x);
        let _span = self.span(x.rows());
        gemm::product_plus(to, x, self.rhs(), bias)
    }

    /// `g W`: from the gradient of the output, `[rows, out]`, to that of the input.
    pub fn input_gradient(&self, g: &[f32]) -> Vec<f32> {
        let g = self.output(g);
        let _span = self.span(g.rows());
        gemm::product(g, self.precision.rhs(self.weight), None)
    }

    /// The same, stored for another operation.
    pub fn input_gradient_in<T: Element, U: Element>(&self, g: &[T]) -> Reused<U> {
        let g = self.output(g);
        let _span = self.span(g.rows());
        gemm::product_in(g, self.precision.rhs(self.weight), None)
    }

    /// The hidden rows of an MLP that begins with the weights `up` and, if it is gated, `gate`, each with its bias, and
    /// the active ones; see [`gemm::hidden_rows`].
    pub fn hidden_rows<T: Element>(
        x: &[T],
        gate: Option<(Self, Option<&[f32]>)>,
        up: (Self, Option<&[f32]>),
    ) -> (Reused<T>, Reused<T>) {
        let x = up.0.input(x);
        let products = 1 + usize::from(gate.is_some());
        let _span = up.0.span(products * x.rows());
        gemm::hidden_rows(x, gate.map(|(w, bias)| (w.rhs(), bias)), (up.0.rhs(), up.1))
    }

    /// [`input_gradient`](Self::input_gradient) and on to the hidden rows, in their place; gives the active ones, see
    /// [`gemm::hidden_rows_backward`].
    pub fn hidden_gradient<T: Element>(
        &self,
        g: &[f32],
        gated: bool,
        hidden: &mut [T],
    ) -> Reused<T> {
        let g = self.output(g);
        let _span = self.span(g.rows());
        gemm::hidden_rows_backward(g, self.precision.rhs(self.weight), gated, hidden)
    }

    /// `gᵀ x`: the gradient of the weight.
    pub fn weight_gradient<T: Element, U: Element>(&self, g: &[T], x: &[U]) -> Vec<f32> {
        let (g, x) = (self.output(g), self.input(x));
        let _span = self.span(g.rows());
        gemm::product(g.t(), self.precision.rhs(x), None)
    }

    /// The weight as the right operand of the forward product.
    fn rhs(&self) -> Rhs<'a> {
        self.precision.rhs(self.weight.t())
    }

    /// Rows that the weight reads, as a matrix.
    fn input<'x, T: Element>(&self, x: &'x [T]) -> MatrixRef<'x, T> {
        self.check::<T>();
        let inner = self.weight.cols();
        MatrixRef::new(x, x.len() / inner, inner)
    }

    /// Rows that the weight gives, as a matrix.
    fn output<'x, T: Element>(&self, g: &'x [T]) -> MatrixRef<'x, T> {
        self.check::<T>();
        let out = self.weight.rows();
        MatrixRef::new(g, g.len() / out, out)
    }

    /// Rounded rows enter products in bf16 only: in f32 the other operand would be rounded for them.
    fn check<T: Element>(&self) {
        debug_assert!(T::PRECISION == Precision::F32 || self.precision == Precision::Bf16);
    }

    fn span(&self, rows: usize) -> EnteredSpan {
        let work = 2 * rows * self.weight.rows() * self.weight.cols();
        span::product("linear", self.precision.name(), work)
    }
}
