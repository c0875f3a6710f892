use burn::tensor::Tensor;

use super::{layer_norm, linear, rms_norm};
use demask_kernels::Precision;

/// A linear of a branch: `x Wᵀ + b`.
#[derive(Debug, Clone)]
pub struct BranchLinear {
    /// `W`, `[out, in]`.
    pub weight: Tensor<2>,
    /// `b`, `[out]`.
    pub bias: Option<Tensor<1>>,
}

/// The norm before a branch.
#[derive(Debug, Clone)]
pub struct BranchNorm {
    /// What the normed rows are multiplied by, `[width]`.
    pub scale: Tensor<1>,
    /// What is added to them then, `[width]`.
    pub shift: Option<Tensor<1>>,
    /// What is added to the variance.
    pub eps: f64,
    /// Layer norm if set, root-mean-square norm otherwise.
    pub centred: bool,
}

impl BranchLinear {
    /// The operation alone.
    pub(super) fn apply(self, x: Tensor<2>, precision: Precision) -> Tensor<2> {
        linear(x, self.weight, self.bias, precision)
    }
}

impl BranchNorm {
    /// The operation alone.
    pub(super) fn apply(self, x: Tensor<2>) -> Tensor<2> {
        let y = match self.centred {
            true => layer_norm(x, self.scale, self.eps),
            false => rms_norm(x, self.scale, self.eps),
        };
        match self.shift {
            Some(shift) => y + shift.unsqueeze(),
            None => y,
        }
    }
}
