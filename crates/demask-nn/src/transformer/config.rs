//! The configuration of the one transformer: every family is a value of this type.

use serde::{Deserialize, Serialize};

use crate::NnError;

/// Shape and options of a [`Transformer`](super::Transformer).
///
/// LLaDA, Dream (Qwen2), SDAR (Qwen3), Llama and the MDLM / BD3-LM diffusion transformer are all
/// values of this type; no family has a network of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Rows of the embedding and of the head, special tokens included.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads` (grouped-query attention when smaller).
    pub n_kv_heads: usize,
    /// Width of one head; `n_heads * head_dim` need not equal `d_model`.
    pub head_dim: usize,
    /// Inner width of the MLP.
    pub d_ff: usize,
    /// Longest sequence the network was trained for.
    pub max_length: usize,
    /// Which cells see which: what the network was trained with. A request states its own mask; this
    /// says which one is right for the network.
    #[serde(default)]
    pub attention: AttentionKind,
    /// Which normalisation stands before attention, before the MLP and before the head.
    #[serde(default)]
    pub norm: NormKind,
    /// Added to the variance inside every norm.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// RMS norm over each query and key head before the rotation (Qwen3, SDAR).
    #[serde(default)]
    pub qk_norm: bool,
    /// Bias on the query, key and value projections (Qwen2, Dream).
    #[serde(default)]
    pub qkv_bias: bool,
    /// Bias on the output projection of attention.
    #[serde(default)]
    pub out_bias: bool,
    /// Bias on the linears of the MLP (the MDLM diffusion transformer).
    #[serde(default)]
    pub mlp_bias: bool,
    /// Bias on the head (the MDLM diffusion transformer).
    #[serde(default)]
    pub head_bias: bool,
    /// Rotary position embedding; without it the network knows no positions.
    #[serde(default = "default_rotary")]
    pub rotary: Option<RotaryConfig>,
    /// The MLP of a block.
    #[serde(default)]
    pub mlp: MlpKind,
    /// Adaptive layer norm driven by the noise level (adaLN); without it time is ignored.
    #[serde(default)]
    pub time: Option<TimeConfig>,
    /// Number of classes of a network that is conditioned on a class label, at least 1; needs
    /// `time`, whose condition vector the label is added to. One more row than classes is learned,
    /// for "no label" (UDLM, arXiv 2412.10193).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<usize>,
    /// The head reuses the embedding matrix.
    #[serde(default)]
    pub tied_head: bool,
    /// Position `i - 1` predicts cell `i`, as in an autoregressive model (Dream, DiffuLLaMA).
    /// The network applies the shift itself: callers ask for cells, never for shifted rows.
    #[serde(default)]
    pub logit_shift: bool,
    /// Dropout after attention and after the MLP while training, at least 0 and below 1.
    #[serde(default)]
    pub dropout: f64,
}

/// Which keys a query may see when the request says nothing else.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AttentionKind {
    /// Every cell sees every cell (masked diffusion).
    #[default]
    Full,
    /// A cell sees itself and what stands before it (autoregressive).
    Causal,
    /// A cell sees its own block and all blocks before it (block diffusion).
    BlockCausal {
        /// Cells in a block.
        block: usize,
    },
}

/// The normalisation of a network.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum NormKind {
    /// Root-mean-square norm with a scale.
    #[default]
    Rms,
    /// Layer norm with a scale and, if asked, a shift.
    Layer {
        /// Whether the norm has a shift.
        bias: bool,
    },
}

/// Rotary position embedding (RoFormer, arXiv 2104.09864).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotaryConfig {
    /// Base of the geometric series of wavelengths, above 1.
    pub base: f64,
    /// Share of each head that is rotated, from its first dimension on, above 0 and at most 1; the
    /// rest passes through.
    #[serde(default = "one")]
    pub fraction: f64,
    /// Which dimensions form a pair.
    #[serde(default)]
    pub layout: RotaryLayout,
}

/// Which two dimensions of a head are rotated together.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RotaryLayout {
    /// Dimension `i` with `i + r/2` of the `r` rotated ones (Llama in transformers, Qwen, LLaDA).
    #[default]
    HalfSplit,
    /// Dimension `2i` with `2i + 1` (the original paper, llama2.c).
    Interleaved,
}

/// The MLP of a block.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MlpKind {
    /// A gate and two matrices: `down(silu(gate x) * up x)`.
    #[default]
    SwiGlu,
    /// Two matrices: `down(gelu(up x))` with the tanh form of GELU.
    GeluTanh,
}

/// The time input of a diffusion transformer (DiT, arXiv 2212.09748): sinusoids of the noise level,
/// an MLP, and per block a linear to shift, scale and gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeConfig {
    /// Number of sinusoid features, even (256 in MDLM).
    pub frequencies: usize,
    /// Width of the condition vector (128 in MDLM).
    pub cond: usize,
}

fn default_eps() -> f64 {
    1e-5
}

fn default_rotary() -> Option<RotaryConfig> {
    Some(RotaryConfig::new(10_000.0))
}

fn one() -> f64 {
    1.0
}

impl RotaryConfig {
    /// Full rotation of the head, half-split pairs.
    pub fn new(base: f64) -> Self {
        Self {
            base,
            fraction: 1.0,
            layout: RotaryLayout::HalfSplit,
        }
    }

    /// How many of `head_dim` dimensions are rotated: the even number nearest below
    /// `fraction * head_dim`.
    pub fn rotated(&self, head_dim: usize) -> usize {
        ((head_dim as f64 * self.fraction) as usize) & !1
    }
}

/// Largest width, layer count or vocabulary that is believed.
const MAX_SIZE: usize = 1 << 24;
/// Longest context that is believed.
const MAX_LENGTH: usize = 1 << 30;

impl TransformerConfig {
    /// Says the first thing that makes the configuration unusable.
    ///
    /// # Errors
    /// [`NnError::Config`] with the field and the reason.
    pub fn validate(&self) -> Result<(), NnError> {
        let sizes = [
            ("vocab_size", self.vocab_size, MAX_SIZE),
            ("d_model", self.d_model, MAX_SIZE),
            ("n_layers", self.n_layers, MAX_SIZE),
            ("n_heads", self.n_heads, MAX_SIZE),
            ("n_kv_heads", self.n_kv_heads, MAX_SIZE),
            ("head_dim", self.head_dim, MAX_SIZE),
            ("d_ff", self.d_ff, MAX_SIZE),
            ("max_length", self.max_length, MAX_LENGTH),
        ];
        for (field, value, most) in sizes {
            if value == 0 {
                return Err(NnError::config(field, "must be at least 1"));
            }
            if value > most {
                return Err(NnError::config(
                    field,
                    format!("{value} is absurd (at most {most})"),
                ));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(NnError::config(
                "n_kv_heads",
                format!(
                    "{} does not divide n_heads = {}",
                    self.n_kv_heads, self.n_heads
                ),
            ));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return Err(NnError::config(
                "norm_eps",
                "must be a finite number, 0 or larger",
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(NnError::config("dropout", "must be at least 0 and below 1"));
        }
        if let Some(rotary) = &self.rotary {
            rotary.validate(self.head_dim)?;
        }
        if let AttentionKind::BlockCausal { block: 0 } = self.attention {
            return Err(NnError::config("attention.block", "must be at least 1"));
        }
        if let Some(time) = &self.time
            && (time.frequencies < 2 || !time.frequencies.is_multiple_of(2) || time.cond == 0)
        {
            return Err(NnError::config(
                "time",
                "frequencies must be an even number of 2 or more, cond at least 1",
            ));
        }
        match self.labels {
            Some(0) => Err(NnError::config("labels", "must be at least 1")),
            Some(n) if n > MAX_SIZE => {
                let reason = format!("{n} is absurd (at most {MAX_SIZE})");
                Err(NnError::config("labels", reason))
            }
            Some(_) if self.time.is_none() => Err(NnError::config(
                "labels",
                "needs `time`: labels enter through the condition vector of the noise level",
            )),
            _ => Ok(()),
        }
    }

    /// Number of trained values in the network.
    pub fn parameters(&self) -> u64 {
        let mut total = 0u64;
        super::params::for_each_shape(self, &mut |_, shape| {
            let count = shape.iter().map(|&n| n as u64);
            total = total.saturating_add(count.fold(1, u64::saturating_mul));
        });
        total
    }
}

impl RotaryConfig {
    pub(crate) fn validate(&self, head_dim: usize) -> Result<(), NnError> {
        if !(self.base.is_finite() && self.base > 1.0) {
            return Err(NnError::config(
                "rotary.base",
                "must be a finite number above 1",
            ));
        }
        if !(self.fraction > 0.0 && self.fraction <= 1.0) {
            return Err(NnError::config(
                "rotary.fraction",
                "must be above 0 and at most 1",
            ));
        }
        if self.rotated(head_dim) == 0 {
            return Err(NnError::config(
                "rotary.fraction",
                format!("rotates no dimension of a head of {head_dim}"),
            ));
        }
        Ok(())
    }
}
