//! The MLP of a block.

use burn::module::Module;
use burn::tensor::Tensor;
use demask_kernels::Precision;

use super::loader::Loader;
use super::lora::{Attach, Projection, Seeds};
use super::norm::Norm;
use super::weight::Linear;
use super::{MlpKind, TransformerConfig};
use crate::ops::{self, MlpBranch};
use crate::{Dtype, NnError};

/// SwiGLU when there is a gate, GELU otherwise.
#[derive(Module, Debug)]
pub struct Mlp {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

impl Mlp {
    pub(super) fn load(
        name: &str,
        config: &TransformerConfig,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let c = config;
        let mut linear =
            |part: &str, dims| Linear::load(&format!("{name}.{part}"), dims, c.mlp_bias, loader);
        Ok(Self {
            gate: (c.mlp == MlpKind::SwiGlu)
                .then(|| linear("gate", [c.d_ff, c.d_model]))
                .transpose()?,
            up: linear("up", [c.d_ff, c.d_model])?,
            down: linear("down", [c.d_model, c.d_ff])?,
        })
    }

    /// `[rows, d_model]` to the same shape, added to `onto` if it is given.
    pub(super) fn forward(&self, x: Tensor<2>, onto: Option<Tensor<2>>, seeds: Seeds) -> Tensor<2> {
        let [up, down] = [(&self.up, Projection::Up), (&self.down, Projection::Down)]
            .map(|(linear, which)| (linear, seeds.of(which)));
        match &self.gate {
            Some(gate) => Linear::gated((gate, seeds.of(Projection::Gate)), up, down, x, onto),
            None => (down.0).added(ops::gelu_tanh(up.0.forward_with(x, up.1)), onto, down.1),
        }
    }

    /// The branch of dense weights after `norm`, if nothing else takes part: no packed weight, no adapter.
    pub(super) fn branch(&self, norm: &Norm) -> Option<MlpBranch> {
        Some(MlpBranch {
            norm: norm.of_branch(),
            gate: match &self.gate {
                Some(gate) => Some(gate.dense()?),
                None => None,
            },
            up: self.up.dense()?,
            down: self.down.dense()?,
        })
    }

    pub(super) fn in_precision(self, precision: Precision) -> Self {
        Self {
            gate: self.gate.map(|gate| gate.in_precision(precision)),
            up: self.up.in_precision(precision),
            down: self.down.in_precision(precision),
        }
    }

    pub(super) fn adapted(self, name: &str, attach: &mut Attach) -> Result<Self, NnError> {
        let mut adapt =
            |linear: Linear, part: &str| linear.adapted(&format!("{name}.{part}"), attach);
        Ok(Self {
            gate: self.gate.map(|gate| adapt(gate, "gate")).transpose()?,
            up: adapt(self.up, "up")?,
            down: adapt(self.down, "down")?,
        })
    }

    pub(super) fn merged(self) -> Self {
        Self {
            gate: self.gate.map(Linear::merged),
            up: self.up.merged(),
            down: self.down.merged(),
        }
    }

    /// Bytes of the packed weights.
    pub(super) fn packed_bytes(&self) -> usize {
        let all = [Some(&self.up), Some(&self.down), self.gate.as_ref()];
        all.into_iter().flatten().map(Linear::packed_bytes).sum()
    }

    pub(super) fn packed(self, dtype: Dtype) -> Self {
        Self {
            gate: self.gate.map(|gate| gate.packed(dtype)),
            up: self.up.packed(dtype),
            down: self.down.packed(dtype),
        }
    }
}
