//! The MLP of a block.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::weight::Linear;
use super::{MlpKind, ParamSource, TransformerConfig};
use crate::{NnError, ops};

/// SwiGLU when there is a gate, GELU otherwise.
#[derive(Module, Debug)]
pub struct Mlp {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

impl Mlp {
    pub(super) fn from_source(
        name: &str,
        config: &TransformerConfig,
        source: &mut dyn ParamSource,
        device: &Device,
    ) -> Result<Self, NnError> {
        let c = config;
        let mut linear = |part: &str, dims| {
            Linear::from_source(&format!("{name}.{part}"), dims, c.mlp_bias, source, device)
        };
        Ok(Self {
            gate: (c.mlp == MlpKind::SwiGlu)
                .then(|| linear("gate", [c.d_ff, c.d_model]))
                .transpose()?,
            up: linear("up", [c.d_ff, c.d_model])?,
            down: linear("down", [c.d_model, c.d_ff])?,
        })
    }

    /// `[rows, d_model]` to the same shape.
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = match &self.gate {
            Some(gate) => ops::swiglu(gate.forward(x.clone()), self.up.forward(x)),
            None => ops::gelu_tanh(self.up.forward(x)),
        };
        self.down.forward(inner)
    }

    pub(super) fn packed(self) -> Self {
        Self {
            gate: self.gate.map(Linear::packed),
            up: self.up.packed(),
            down: self.down.packed(),
        }
    }
}
