//! What a checkpoint is, apart from its weights and its tokenizer.

use std::collections::HashSet;

use demask_diffusion::ObjectiveConfig;
use demask_diffusion::sampling::Crossing;
use demask_nn::TransformerConfig;
use demask_nn::transformer::AttentionKind;
use serde::{Deserialize, Serialize};

/// A checkpoint in words: its network, how it writes, its special tokens.
///
/// Serialised, this is the `config.json` of our own checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name of the family, as in [`crate::family::registry`]; "demask" for our own checkpoints.
    #[serde(rename = "model_type")]
    pub family: String,
    /// How the model writes text.
    pub kind: ModelKind,
    /// The network.
    pub network: TransformerConfig,
    /// Special tokens.
    #[serde(default)]
    pub ids: SpecialIds,
    /// Where begin and end tokens stand.
    #[serde(default)]
    pub frame: Frame,
    /// The noise level is given to the network; otherwise a network with a time input is fed zero
    /// (MDLM and BD3-LM were trained that way).
    #[serde(default)]
    pub time_conditioning: bool,
    /// What the outputs of the network mean.
    #[serde(default, skip_serializing_if = "Predicts::is_clean")]
    pub predicts: Predicts,
    /// The names of the classes of a network with labels (`network.labels` of them, each once), in
    /// the order of their numbers; empty for a network without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What the authors recommend for generation.
    #[serde(default, skip_serializing_if = "GenerationDefaults::is_empty")]
    pub generation: GenerationDefaults,
    /// The range of masked shares the network was trained on, where it was clipped (BD3-LM). A note for
    /// people: texts are written at the shares of their steps whatever stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_eps: Option<[f64; 2]>,
    /// Chat template (Jinja), when the checkpoint has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Where the weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

impl ModelSpec {
    /// The token that begins a document, if the model knows such documents.
    pub fn begin(&self) -> Option<u32> {
        self.ids.bos.filter(|_| self.frame.bos)
    }

    /// The token that ends a document, if the model knows such documents.
    pub fn end(&self) -> Option<u32> {
        self.ids.eos.filter(|_| self.frame.eos)
    }

    /// Checks that the classes of the network are named, each once.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn check_labels(&self) -> Result<(), String> {
        let (named, classes) = (self.labels.len(), self.network.labels.unwrap_or(0));
        if named != classes {
            return Err(format!(
                "`labels` names {named} classes, but `network.labels` = {classes}; every class needs one name"
            ));
        }
        let mut seen = HashSet::with_capacity(named);
        for (number, name) in self.labels.iter().enumerate() {
            if name.trim().is_empty() {
                return Err(format!("`labels` gives class {number} an empty name"));
            }
            if !seen.insert(name) {
                return Err(format!(
                    "`labels` names `{name}` twice; the names of classes must differ"
                ));
            }
        }
        Ok(())
    }
}

/// Where begin and end tokens stand around a document the model was trained on. Prompts are begun
/// and texts are scored the same way. A token that the model does not have stands nowhere.
///
/// Where nothing is said, both stand: a model rarely has a token it was not trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// The begin token stands before the document.
    pub bos: bool,
    /// The end token stands after it.
    pub eos: bool,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            bos: true,
            eos: true,
        }
    }
}

/// How a model writes text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelKind {
    /// Masked cells become tokens, in any order.
    Masked,
    /// Every cell holds a token and may change (uniform noise).
    Uniform,
    /// Masked diffusion inside a block, block after block.
    BlockMasked {
        /// Cells in a block.
        block: usize,
    },
    /// Left to right.
    Autoregressive,
}

/// What the outputs of a network mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Predicts {
    /// Logits of the clean token (MDLM, LLaDA, Dream, BD3-LM, UDLM, next-token models).
    #[default]
    Clean,
    /// Log-scores `ln p_t(y)/p_t(x_t)` (SEDD, arXiv 2310.16834).
    LogScores {
        /// They stand relative to `ln expm1(sigma) + ln(V - 1)`: absorbing graph only.
        scale_by_sigma: bool,
    },
}

impl Predicts {
    /// What a network trained with `objective` predicts.
    pub fn trained_with(objective: &ObjectiveConfig) -> Self {
        match objective {
            ObjectiveConfig::SeddAbsorbing(sedd) => Self::LogScores {
                scale_by_sigma: sedd.scale_by_sigma,
            },
            ObjectiveConfig::SeddUniform(_) => Self::LogScores {
                scale_by_sigma: false,
            },
            _ => Self::Clean,
        }
    }

    fn is_clean(&self) -> bool {
        *self == Self::Clean
    }
}

impl ModelKind {
    /// How a model writes that was trained with `objective`.
    pub fn trained_with(objective: &ObjectiveConfig) -> Self {
        match objective {
            ObjectiveConfig::SeddUniform(_) | ObjectiveConfig::Udlm(_) => Self::Uniform,
            ObjectiveConfig::Bd3(bd3) => Self::BlockMasked { block: bd3.block },
            ObjectiveConfig::Autoregressive(_) => Self::Autoregressive,
            ObjectiveConfig::Mdlm(_)
            | ObjectiveConfig::D3pm(_)
            | ObjectiveConfig::SeddAbsorbing(_)
            | ObjectiveConfig::LladaPretrain(_)
            | ObjectiveConfig::LladaSft(_)
            | ObjectiveConfig::Shifted(_)
            | ObjectiveConfig::Generic(_) => Self::Masked,
        }
    }

    /// Which cells of a finished text see which in a network that writes this way.
    pub fn attention(self) -> AttentionKind {
        match self {
            Self::Masked | Self::Uniform => AttentionKind::Full,
            Self::BlockMasked { block } => AttentionKind::BlockCausal { block },
            Self::Autoregressive => AttentionKind::Causal,
        }
    }

    /// Whether the model starts from mask tokens, and so needs one.
    pub fn needs_mask(self) -> bool {
        matches!(self, Self::Masked | Self::BlockMasked { .. })
    }
}

/// Ids of the special tokens, where the model has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialIds {
    /// Stands in an open cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<u32>,
    /// Begins a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// Ends a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos: Option<u32>,
    /// Fills a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad: Option<u32>,
    /// Ends a turn of a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eot: Option<u32>,
}

impl SpecialIds {
    /// The ids that are set, with the name of their role, in a fixed order.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u32)> {
        [
            ("mask", self.mask),
            ("bos", self.bos),
            ("eos", self.eos),
            ("pad", self.pad),
            ("eot", self.eot),
        ]
        .into_iter()
        .filter_map(|(name, id)| id.map(|id| (name, id)))
    }
}

/// What the authors of a checkpoint recommend for generation. A value that is not set is decided
/// by the decoder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerationDefaults {
    /// New tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Denoising steps over the whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Cells in a block that is finished before the next one starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// Policy, as it is written on the command line: `threshold:tau=0.9`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Sampling temperature; 0 takes the most likely token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus: tokens are dropped once the probability before them exceeds this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Whether the token that crosses the nucleus stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crossing: Option<Crossing>,
    /// Number of most likely tokens that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Scale of classifier-free guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cfg: Option<f64>,
}

impl GenerationDefaults {
    /// Whether nothing is recommended.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where the weights of one of our own checkpoints come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The recipe that trained it (TOML text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// The checkpoint or family it started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Optimiser steps taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Tokens seen in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Seed of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Version of demask that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the model is, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Anything a user of the weights should know (data, licence, limits).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}
