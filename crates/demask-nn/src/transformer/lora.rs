//! Low-rank adapters (LoRA, arXiv 2106.09685): `W' = W + (alpha / rank) B A`, of which only `A` and
//! `B` are trained.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use demask_kernels::Precision;
use serde::{Deserialize, Serialize};

use super::loader::Loader;
use super::{MlpKind, TransformerConfig};
use crate::{NnError, ops};

/// A projection of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// Queries of attention.
    #[serde(alias = "q_proj")]
    Q,
    /// Keys of attention.
    #[serde(alias = "k_proj")]
    K,
    /// Values of attention.
    #[serde(alias = "v_proj")]
    V,
    /// Output of attention.
    #[serde(alias = "o_proj")]
    O,
    /// Gate of a SwiGLU MLP.
    #[serde(alias = "gate_proj")]
    Gate,
    /// First matrix of the MLP.
    #[serde(alias = "up_proj")]
    Up,
    /// Last matrix of the MLP.
    #[serde(alias = "down_proj")]
    Down,
}

impl Projection {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The last part of the canonical name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::O => "o",
            Self::Gate => "gate",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Which projections of every block get an adapter, and of what size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rows of `A` and columns of `B`: the size of the adapters.
    pub rank: usize,
    /// The product `B A` is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Dropout on the input of `A` while training, at least 0 and below 1.
    pub dropout: f64,
    /// The adapted projections of every block.
    pub targets: Vec<Projection>,
}

impl Default for LoraConfig {
    /// Rank 8 and scale 2 on the projections of attention.
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            targets: vec![Projection::Q, Projection::K, Projection::V, Projection::O],
        }
    }
}

impl LoraConfig {
    /// `alpha / rank`.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Says the first thing that makes the adapters unusable on a network of shape `config`.
    ///
    /// # Errors
    /// [`NnError::Config`] with the field and the reason.
    pub fn validate(&self, config: &TransformerConfig) -> Result<(), NnError> {
        if self.rank == 0 {
            return Err(NnError::config("lora.rank", "must be at least 1"));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            let reason = "must be a finite number above 0";
            return Err(NnError::config("lora.alpha", reason));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let reason = "must be at least 0 and below 1";
            return Err(NnError::config("lora.dropout", reason));
        }
        let targets = &self.targets;
        if targets.is_empty() {
            return Err(NnError::config("lora.targets", "must name a projection"));
        }
        if let Some(i) = (1..targets.len()).find(|&i| targets[..i].contains(&targets[i])) {
            let reason = format!("names `{}` twice", targets[i].name());
            return Err(NnError::config("lora.targets", reason));
        }
        if targets.contains(&Projection::Gate) && config.mlp != MlpKind::SwiGlu {
            let reason = "has `gate`, but the MLP of this network has no gate";
            return Err(NnError::config("lora.targets", reason));
        }
        Ok(())
    }

    /// Whether the linear of this canonical name has an adapter.
    pub(super) fn adapts(&self, linear: &str) -> bool {
        let last = linear.rsplit('.').next();
        linear.starts_with("layers.") && self.targets.iter().any(|t| Some(t.name()) == last)
    }
}

/// The adapter of one linear: `x` becomes `scale · x Aᵀ Bᵀ`.
#[derive(Module, Debug)]
pub struct Lora {
    a: Param<Tensor<2>>,
    b: Param<Tensor<2>>,
    scale: f64,
    dropout: f64,
}

impl Lora {
    /// Reads `{name}.lora_A.weight` `[rank, in]` and `{name}.lora_B.weight` `[out, rank]`.
    fn load(
        name: &str,
        [outputs, inputs]: [usize; 2],
        config: &LoraConfig,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let rank = config.rank;
        Ok(Self {
            a: loader.param(&format!("{name}.lora_A.weight"), [rank, inputs])?,
            b: loader.param(&format!("{name}.lora_B.weight"), [outputs, rank])?,
            scale: config.scale(),
            dropout: config.dropout,
        })
    }

    /// `[rows, in]` to `[rows, out]`; `dropout` is the seed of the mask on `x` while training.
    pub(super) fn forward(
        &self,
        x: Tensor<2>,
        dropout: Option<u64>,
        precision: Precision,
    ) -> Tensor<2> {
        let x = match dropout {
            Some(seed) => ops::dropout(x, self.dropout, seed),
            None => x,
        };
        let inner = ops::linear(x, self.a.val(), None, precision);
        ops::linear(inner, self.b.val(), None, precision) * self.scale
    }

    /// `scale · B A`, `[out, in]`.
    pub(super) fn delta(&self) -> Tensor<2> {
        ops::linear(self.b.val(), self.a.val().transpose(), None, Precision::F32) * self.scale
    }
}

/// Gives the linears of a network their adapters, in the order of the forward pass.
pub(super) struct Attach<'a> {
    pub config: &'a LoraConfig,
    pub loader: Loader<'a>,
}

impl Attach<'_> {
    /// The adapter of the linear `name` of shape `[out, in]`, if it is to have one.
    pub(super) fn adapter(
        &mut self,
        name: &str,
        dims: [usize; 2],
    ) -> Result<Option<Lora>, NnError> {
        let config = self.config;
        config
            .adapts(name)
            .then(|| Lora::load(name, dims, config, &mut self.loader))
            .transpose()
    }
}

/// Seeds of the dropout in front of the adapters of one block in one pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeds {
    seed: Option<u64>,
    layer: usize,
}

impl Seeds {
    pub(super) fn new(seed: Option<u64>, layer: usize) -> Self {
        Self { seed, layer }
    }

    /// The seed for one projection. The places begin far above those of the residual stream, so
    /// that no two masks of a pass are the same.
    pub(super) fn of(self, projection: Projection) -> Option<u64> {
        let place = (1 << 24) + 7 * self.layer as u64 + projection as u64;
        self.seed.map(|seed| seed.wrapping_add(place << 32))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::super::weight::Linear;
    use super::*;
    use crate::{Dtype, ParamSource};

    /// Values by the last parts of their names.
    struct Values;

    impl ParamSource for Values {
        fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
            let values: Vec<f32> = match name {
                "layers.0.attn.q.weight" => vec![1.0, 0.0, 0.0, 1.0, 2.0, -1.0],
                "layers.0.attn.q.bias" => vec![0.0, 0.5, 0.0],
                "layers.0.attn.q.lora_A.weight" => vec![1.0, 2.0],
                "layers.0.attn.q.lora_B.weight" => vec![1.0, 0.0, -3.0],
                _ => return Err(NnError::source(name, "unknown")),
            };
            Ok(TensorData::new(values, shape.to_vec()))
        }
    }

    #[test]
    fn an_adapted_linear_by_hand() {
        let (device, name) = (Device::flex(), "layers.0.attn.q");
        let config = LoraConfig {
            rank: 1,
            alpha: 2.0,
            ..LoraConfig::default()
        };
        let mut values = Values;
        let mut loader = Loader {
            source: &mut values,
            device: &device,
            pack: None,
        };
        let plain = Linear::load(name, [3, 2], true, &mut loader).unwrap();
        let mut attach = Attach {
            config: &config,
            loader,
        };
        let adapted = plain.clone().adapted(name, &mut attach).unwrap();
        let x = || Tensor::<2>::from_floats([[1.0, 1.0], [0.0, -1.0]], &device);
        let y = |linear: &Linear| linear.forward(x()).into_data().try_to_vec::<f32>().unwrap();
        // Rows of W x + b: (1, 1, 1) + (0, .5, 0) and (0, -1, 1) + (0, .5, 0).
        assert_eq!(y(&plain), [1.0, 1.5, 1.0, 0.0, -0.5, 1.0]);
        // A x = 3 and -2, times scale 2, times B = (1, 0, -3).
        let by_hand = [7.0, 1.5, -17.0, -4.0, -0.5, 13.0];
        assert_eq!(y(&adapted), by_hand);
        assert_eq!(y(&adapted.clone().packed(Dtype::F32)), by_hand);
        assert_eq!(y(&adapted.merged()), by_hand);
    }
}
