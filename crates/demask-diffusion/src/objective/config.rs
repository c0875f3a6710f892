//! The objective as it stands in a recipe.

use crate::schedule::TimeSampling;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Objective;
use super::autoregressive::{Autoregressive, AutoregressiveConfig};
use super::bd3::{Bd3, Bd3Config};
use super::d3pm::{D3pm, D3pmConfig};
use super::generic::{Generic, GenericConfig};
use super::llada_pretrain::{LladaPretrain, LladaPretrainConfig};
use super::llada_sft::{LladaSft, LladaSftConfig};
use super::mdlm::{Mdlm, MdlmConfig};
use super::sedd_absorbing::{SeddAbsorbing, SeddAbsorbingConfig};
use super::sedd_uniform::{SeddUniform, SeddUniformConfig};
use super::shifted::{Shifted, ShiftedConfig};
use super::udlm::{Udlm, UdlmConfig};
use crate::process::Uniform;
use crate::{DiffusionError, Result};

/// The token values an objective works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Columns of the network's output, mask included where there is one.
    pub size: usize,
    /// The mask id, needed by every objective but the uniform and autoregressive ones. Uniform noise leaves it out of
    /// its values.
    pub mask: Option<u32>,
}

impl Vocabulary {
    /// A vocabulary of `size` ids with a mask.
    pub fn masked(size: usize, mask: u32) -> Self {
        Self {
            size,
            mask: Some(mask),
        }
    }

    /// A vocabulary of `size` ids without a mask.
    pub fn plain(size: usize) -> Self {
        Self { size, mask: None }
    }

    /// Uniform noise on this vocabulary: on every column but the mask.
    pub fn uniform(&self) -> Result<Uniform> {
        Uniform::without(self.size, self.mask)
    }

    /// The mask id, or an error that says why it is needed.
    pub fn need_mask(&self) -> Result<u32> {
        match self.mask {
            None => Err(DiffusionError::setting(
                "mask",
                "none",
                "this objective hides tokens behind a mask; the tokenizer must have one",
            )),
            Some(mask) if mask as usize >= self.size => Err(DiffusionError::Token {
                id: mask,
                place: format!("given as the mask of a vocabulary of {}", self.size),
                reason: "the mask must be one of the vocabulary's ids",
            }),
            Some(mask) => Ok(mask),
        }
    }
}

/// An objective as it stands in a recipe: `{ kind = "mdlm", schedule = { kind = "cosine" } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ObjectiveConfig {
    /// Masked diffusion in continuous time, a bound (MDLM 2406.07524).
    ///
    /// See [`mdlm`](super::mdlm).
    Mdlm(MdlmConfig),
    /// Masked diffusion with a finite number of steps (D3PM 2107.03006, MDLM 2406.07524).
    ///
    /// See [`d3pm`](super::d3pm).
    D3pm(D3pmConfig),
    /// Score entropy on the absorbing graph: tokens become the mask (SEDD 2310.16834).
    ///
    /// See [`sedd_absorbing`](super::sedd_absorbing).
    SeddAbsorbing(SeddAbsorbingConfig),
    /// Score entropy on the uniform graph: tokens become any token (SEDD 2310.16834).
    ///
    /// See [`sedd_uniform`](super::sedd_uniform).
    SeddUniform(SeddUniformConfig),
    /// Uniform noise in continuous time, a bound (UDLM 2412.10193).
    ///
    /// See [`udlm`](super::udlm).
    Udlm(UdlmConfig),
    /// Block diffusion, all blocks of a row in one pass (BD3-LM 2503.09573).
    ///
    /// See [`bd3`](super::bd3).
    Bd3(Bd3Config),
    /// Masked pre-training with weight `1/p` (LLaDA 2502.09992).
    ///
    /// See [`llada_pretrain`](super::llada_pretrain).
    LladaPretrain(LladaPretrainConfig),
    /// Masked fine-tuning on answers; prompts stay clean (LLaDA 2502.09992).
    ///
    /// See [`llada_sft`](super::llada_sft).
    LladaSft(LladaSftConfig),
    /// Masked diffusion from an autoregressive start, whose shift the network keeps (DiffuLLaMA 2410.17891, Dream 2508.15487).
    ///
    /// See [`shifted`](super::shifted).
    Shifted(ShiftedConfig),
    /// Next-token prediction, left to right.
    ///
    /// See [`autoregressive`](super::autoregressive).
    Autoregressive(AutoregressiveConfig),
    /// Masked diffusion with any schedule, weight and normaliser (`dllm` trainer).
    ///
    /// See [`generic`](super::generic).
    Generic(GenericConfig),
}

impl Default for ObjectiveConfig {
    /// MDLM in continuous time.
    fn default() -> Self {
        Self::Mdlm(MdlmConfig::default())
    }
}

impl ObjectiveConfig {
    /// The objective on a vocabulary, or an error that names the setting that is out of range.
    pub fn build(&self, vocabulary: Vocabulary) -> Result<Arc<dyn Objective>> {
        Ok(match self {
            Self::Mdlm(config) => Arc::new(Mdlm::new(config, vocabulary)?),
            Self::D3pm(config) => Arc::new(D3pm::new(config, vocabulary)?),
            Self::SeddAbsorbing(config) => Arc::new(SeddAbsorbing::new(config, vocabulary)?),
            Self::SeddUniform(config) => Arc::new(SeddUniform::new(config, vocabulary)?),
            Self::Udlm(config) => Arc::new(Udlm::new(config, vocabulary)?),
            Self::Bd3(config) => Arc::new(Bd3::new(config, vocabulary)?),
            Self::LladaPretrain(config) => Arc::new(LladaPretrain::new(config, vocabulary)?),
            Self::LladaSft(config) => Arc::new(LladaSft::new(config, vocabulary)?),
            Self::Shifted(config) => Arc::new(Shifted::new(config, vocabulary)?),
            Self::Autoregressive(config) => Arc::new(Autoregressive::new(config, vocabulary)?),
            Self::Generic(config) => Arc::new(Generic::new(config, vocabulary)?),
        })
    }

    /// Every kind at its defaults: the list that registries and `--help` are made from.
    pub fn every() -> Vec<Self> {
        vec![
            Self::Mdlm(MdlmConfig::default()),
            Self::D3pm(D3pmConfig::default()),
            Self::SeddAbsorbing(SeddAbsorbingConfig::default()),
            Self::SeddUniform(SeddUniformConfig::default()),
            Self::Udlm(UdlmConfig::default()),
            Self::Bd3(Bd3Config::default()),
            Self::LladaPretrain(LladaPretrainConfig::default()),
            Self::LladaSft(LladaSftConfig::default()),
            Self::Shifted(ShiftedConfig::default()),
            Self::Autoregressive(AutoregressiveConfig::default()),
            Self::Generic(GenericConfig::default()),
        ]
    }

    /// The objective that a training with this one is validated with: the bound, where what is trained is
    /// bent from it. BD3-LM is measured in the whole window whatever it was trained in, UDLM with its
    /// bound where it trains plain cross-entropy.
    pub fn bound(&self) -> Self {
        match self {
            // Blocks of one cell that are always masked are exact as they are.
            Self::Bd3(bd3) if bd3.block == 1 && bd3.time.min >= 1.0 => self.clone(),
            Self::Bd3(bd3) => {
                let TimeSampling { min, max, .. } = TimeSampling::default();
                Self::Bd3(Bd3Config {
                    time: TimeSampling {
                        min,
                        max,
                        ..bd3.time
                    },
                    resample: false,
                    unit_weight_above_half: false,
                    ..bd3.clone()
                })
            }
            Self::Udlm(udlm) => Self::Udlm(UdlmConfig {
                use_simple_ce_loss: false,
                ..udlm.clone()
            }),
            other => other.clone(),
        }
    }

    /// The `kind` in a recipe.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mdlm(_) => "mdlm",
            Self::D3pm(_) => "d3pm",
            Self::SeddAbsorbing(_) => "sedd_absorbing",
            Self::SeddUniform(_) => "sedd_uniform",
            Self::Udlm(_) => "udlm",
            Self::Bd3(_) => "bd3",
            Self::LladaPretrain(_) => "llada_pretrain",
            Self::LladaSft(_) => "llada_sft",
            Self::Shifted(_) => "shifted",
            Self::Autoregressive(_) => "autoregressive",
            Self::Generic(_) => "generic",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_round_trips_and_builds() {
        for config in ObjectiveConfig::every() {
            let text = toml::to_string(&config).unwrap();
            assert_eq!(
                toml::from_str::<ObjectiveConfig>(&text).unwrap(),
                config,
                "{text}"
            );
            let bare = format!("kind = \"{}\"", config.kind());
            assert_eq!(toml::from_str::<ObjectiveConfig>(&bare).unwrap(), config);
            let objective = config.build(Vocabulary::masked(8, 7)).unwrap();
            assert_eq!(objective.name(), config.kind());
            let unknown = format!("{bare}\nfoo = 1");
            assert!(
                toml::from_str::<ObjectiveConfig>(&unknown).is_err(),
                "{unknown}"
            );
        }
    }

    #[test]
    fn what_is_bent_in_training_is_measured_straight() {
        let read = |text: &str| toml::from_str::<ObjectiveConfig>(text).unwrap();
        let clipped =
            read("kind = \"bd3\"\nblock = 4\nresample = true\ntime = { min = 0.45, max = 0.95 }");
        assert_eq!(clipped.bound(), read("kind = \"bd3\"\nblock = 4"));
        let simple = read("kind = \"udlm\"\nuse_simple_ce_loss = true");
        assert_eq!(simple.bound(), read("kind = \"udlm\""));
        let exact = read("kind = \"bd3\"\nblock = 1\ntime = { min = 1.0, max = 1.0 }");
        for config in ObjectiveConfig::every().into_iter().chain([exact]) {
            assert_eq!(config.bound(), config);
        }
    }

    #[test]
    fn a_mask_is_asked_for_where_it_is_needed() {
        for config in ObjectiveConfig::every() {
            let free = matches!(config.kind(), "sedd_uniform" | "udlm" | "autoregressive");
            assert_eq!(
                config.build(Vocabulary::plain(8)).is_ok(),
                free,
                "{config:?}"
            );
            if !free {
                assert!(
                    config.build(Vocabulary::masked(8, 8)).is_err(),
                    "{config:?}"
                );
            }
        }
    }

    #[test]
    fn a_window_without_a_loss_is_refused() {
        // At time 1 nothing is left under the schedule of BD3-LM, and 1e-3 under that of MDLM.
        let window = "time = { min = 1.0, max = 1.0 }";
        for kind in ["udlm", "sedd_uniform", "sedd_absorbing"] {
            let build = |convention: &str| {
                let schedule =
                    format!("schedule = {{ kind = \"loglinear\", convention = \"{convention}\" }}");
                let text = format!("kind = \"{kind}\"\n{window}\n{schedule}");
                let config: ObjectiveConfig = toml::from_str(&text).unwrap();
                config.build(Vocabulary::masked(8, 7))
            };
            let said = build("bd3lms").unwrap_err().to_string();
            assert!(
                said.contains("min") && said.contains("begin earlier"),
                "{said}"
            );
            assert!(build("mdlm").is_ok());
        }
        let bd3: ObjectiveConfig =
            toml::from_str(&format!("kind = \"bd3\"\nblock = 1\n{window}")).unwrap();
        assert!(bd3.build(Vocabulary::masked(8, 7)).is_ok());
    }
}
