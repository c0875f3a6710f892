//! Branches of a block, each a single node of the autodiff graph: `x + f(norm(x))`.
//!
//! Composed of single operations a branch makes the framework add residuals, and gradients wherever a tensor is used
//! twice, in passes over memory of their own; a node that holds the whole branch adds where it writes anyway. Kept
//! for the backward pass is what is dear to compute; what takes one pass over the rows (the norm, SwiGLU) is computed
//! again. Rows that only products read are stored as these read them, in bf16 where the products are: half the
//! memory to be moved.
//!
//! Weights that read the same rows are laid one above the other, so that their products are one.

mod attention;
mod mlp;

pub use attention::attention_branch;
pub use mlp::mlp_branch;

use std::borrow::Cow;

use burn_flex::FlexTensor;
use demask_kernels::{Element, Reused, rowwise};

use super::norm_kind::Norm;
use super::storage::{Contiguous, tensor};

/// The norm before a branch: its scale, and its shift if it has one.
struct Before<'a> {
    norm: Norm,
    weight: &'a [f32],
    shift: Option<&'a [f32]>,
}

impl Before<'_> {
    /// The rows that the branch reads, and the statistics of the norm.
    fn forward<T: Element>(&self, x: &[f32]) -> (Reused<T>, Vec<f32>) {
        let mut y = Reused::take(x.len());
        let stats = self.norm.forward(x, self.weight, self.shift, &mut y);
        (y, stats)
    }

    /// The gradients of x, of the scale and of the shift, from that of what the branch read, `dy`, and that of the
    /// sum, `past`, in whose place the first one is left.
    fn backward(
        &self,
        x: &[f32],
        stats: &[f32],
        dy: &[f32],
        past: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let width = self.weight.len();
        let dshift = wanted[2].then(|| tensor(rowwise::column_sums(dy, width), [width]));
        if !(wanted[0] || wanted[1]) {
            return [None, None, dshift];
        }
        let mut dx = Contiguous::new(&past);
        drop(past);
        let dweight =
            (self.norm).backward_onto(x, self.weight, stats, dy, dx.values_mut(), wanted[1]);
        [
            wanted[0].then(|| dx.into_tensor()),
            dweight.map(|dw| tensor(dw, [width])),
            dshift,
        ]
    }
}

/// Values one after the other: of matrices, one above the other.
fn stack<'a, const N: usize>(parts: [&'a Contiguous; N]) -> Cow<'a, [f32]> {
    let present: Vec<&[f32]> = parts.into_iter().filter_map(Contiguous::present).collect();
    match present.as_slice() {
        [only] => Cow::Borrowed(only),
        parts => Cow::Owned(rowwise::stack(parts)),
    }
}

/// The biases of stacked matrices with these numbers of rows, zeros for one that is absent; `None` when all are.
fn stack_biases<const N: usize>(parts: [&Contiguous; N], rows: [usize; N]) -> Option<Vec<f32>> {
    let present = parts.iter().any(|bias| bias.present().is_some());
    present.then(|| {
        let parts = parts.iter().zip(rows);
        let values = parts.map(|(bias, rows)| match bias.present() {
            Some(values) => Cow::Borrowed(values),
            None => Cow::Owned(vec![0.0; rows]),
        });
        values.collect::<Vec<_>>().concat()
    })
}

/// The parts of the gradient of stacked values, those that are wanted, in these shapes.
fn unstack<const N: usize, const D: usize>(
    values: &[f32],
    shapes: [[usize; D]; N],
    wanted: [bool; N],
) -> [Option<FlexTensor>; N] {
    let mut rest = values;
    let mut wanted = wanted.into_iter();
    shapes.map(|shape| {
        let (part, after) = rest.split_at(shape.iter().product());
        rest = after;
        (wanted.next() == Some(true)).then(|| tensor(rowwise::stack(&[part]), shape))
    })
}
