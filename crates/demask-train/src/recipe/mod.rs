//! Recipes: one TOML file, one typed value, one training.
//!
//! | section | what it holds | type |
//! |---|---|---|
//! | `[run]` | name, seed, length of the training, how often it is checked and saved | [`RunConfig`] |
//! | `[data]` | files, how they become rows, what is kept for validation | [`DataConfig`] |
//! | `[tokenizer]` | trained on the data, or taken from a file or a checkpoint | [`TokenizerConfig`] |
//! | `[network]` | [`TransformerConfig`]; `vocab_size`, `max_length` and `labels` may be left out | |
//! | `[objective]` | what training minimises | [`ObjectiveConfig`] |
//! | `[optimizer]` | AdamW, clipping, batch, averaging of the weights | [`OptimizerConfig`] |
//! | `[schedule]` | the learning rate over the steps | [`RateConfig`] |
//! | `[init]` | random weights, or those of a checkpoint | [`InitConfig`] |
//! | `[lora]` | trains low-rank adapters on the checkpoint of `[init]`, nothing else | [`LoraConfig`] |
//! | `[search]` | the variance search of block diffusion | [`SearchConfig`] |
//! | `[card]` | what the model card says | [`CardConfig`] |
//! | `[generation]` | what the checkpoint recommends for generation | [`GenerationDefaults`] |
//!
//! Unknown keys are errors that name the nearest known one and the line.

mod read;
mod search;
mod sections;
mod suggest;

use demask_diffusion::objective::ObjectiveConfig;
use demask_models::GenerationDefaults;
use demask_nn::{LoraConfig, NnError, TransformerConfig};
use serde::{Deserialize, Serialize};

pub use read::roots_of;
pub use search::SearchConfig;
pub use sections::{
    CardConfig, CheckpointDtype, InitConfig, OptimizerConfig, RunConfig, TrainDtype,
};

use crate::TrainError;
use crate::data::DataConfig;
use crate::rate::RateConfig;
use crate::tokenizer::TokenizerConfig;

/// Everything that determines a training.
///
/// Two trainings of the same recipe on the same files end with the same bits, whatever the number
/// of threads and however often they were interrupted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name, seed and length of the training; how often it is checked and saved.
    pub run: RunConfig,
    /// What is learned from, and how it becomes rows.
    pub data: DataConfig,
    /// How text becomes tokens.
    pub tokenizer: TokenizerConfig,
    /// Shape of the network.
    ///
    /// `vocab_size` 0 is filled in from the tokenizer, `max_length` 0 from `data.length`, `labels` from the
    /// labels of the training data.
    #[serde(deserialize_with = "read::network")]
    #[schemars(schema_with = "read::network_schema")]
    pub network: TransformerConfig,
    /// What is minimised.
    pub objective: ObjectiveConfig,
    /// How it is minimised: AdamW, clipping, batch, averaging of the weights.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the steps.
    #[serde(default)]
    pub schedule: RateConfig,
    /// Where the first weights come from: random, or a checkpoint.
    #[serde(default)]
    pub init: InitConfig,
    /// Low-rank adapters on the checkpoint of `[init]`; everything else is then frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// The search for the window of times with the least variance (objective `bd3`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchConfig>,
    /// What the model card in the checkpoint says.
    #[serde(default)]
    pub card: CardConfig,
    /// What the checkpoint recommends for generation; what is left out, the decoder decides.
    #[serde(default, skip_serializing_if = "GenerationDefaults::is_empty")]
    pub generation: GenerationDefaults,
}

impl Recipe {
    /// Says the first thing that makes the recipe unusable, before any file is opened.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] with the key and the reason.
    pub fn validate(&self) -> Result<(), TrainError> {
        self.run.validate()?;
        self.data.validate()?;
        self.tokenizer.validate()?;
        self.optimizer.validate()?;
        self.schedule.validate(self.run.steps)?;
        let mut network = self.network.clone();
        network.vocab_size = network.vocab_size.max(1);
        network.max_length = network.max_length.max(self.data.length);
        self.validate_labels()?;
        network
            .validate()
            .map_err(|e| TrainError::recipe(e.to_string()))?;
        if let Some(lora) = &self.lora {
            lora.validate(&network).map_err(|e| match e {
                NnError::Config { field, reason } => {
                    TrainError::recipe(format!("{field} {reason}"))
                }
                other => other.into(),
            })?;
            if self.init == InitConfig::Random {
                return Err(TrainError::recipe(
                    "[lora] adapts a trained network: add init = { kind = \"checkpoint\", path = ... }",
                ));
            }
        }
        if let InitConfig::Checkpoint { anneal: 1.., .. } = &self.init
            && !matches!(self.objective, ObjectiveConfig::Shifted(_))
        {
            return Err(TrainError::recipe(format!(
                "init.anneal opens a causal mask for objective `shifted`, not for `{}`; leave it out",
                self.objective.kind()
            )));
        }
        if let Some(search) = &self.search {
            search.validate(&self.objective)?;
        }
        // Whole numbers of TOML end at 2^63: a recipe that could not be kept is refused here.
        self.table()?;
        if self.network.max_length != 0 && self.network.max_length < self.data.length {
            return Err(TrainError::recipe(format!(
                "data.length = {} is longer than network.max_length = {}",
                self.data.length, self.network.max_length
            )));
        }
        Ok(())
    }
}

impl Recipe {
    /// Checks that labels go from the data to a network that takes them.
    fn validate_labels(&self) -> Result<(), TrainError> {
        if !self.data.labelled() {
            return match self.network.labels {
                Some(labels) => Err(TrainError::recipe(format!(
                    "network.labels = {labels}, but the data have no labels: add `label` to the reader of every [[data.source]], or leave the key out"
                ))),
                None => Ok(()),
            };
        }
        if let ObjectiveConfig::Autoregressive(_) = self.objective {
            return Err(TrainError::recipe(
                "data.source.0.reader.label: objective `autoregressive` takes no labels; take them out, or write the class into reader.prompt",
            ));
        }
        if self.network.time.is_none() {
            return Err(TrainError::recipe(
                "data.source.0.reader.label needs network.time = { frequencies = 256, cond = 128 }: labels enter the network where the noise level does",
            ));
        }
        Ok(())
    }
}

/// Own keys of every section, for the error that says where a misplaced key belongs. A test holds
/// the list against the sections themselves.
const KEYS: &[(&str, &[&str])] = &[
    (
        "run",
        &[
            "name",
            "seed",
            "steps",
            "threads",
            "dtype",
            "eval_every",
            "eval_rows",
            "checkpoint_every",
            "checkpoint_dtype",
        ],
    ),
    (
        "data",
        &[
            "length",
            "layout",
            "split",
            "valid_share",
            "label_dropout",
            "source",
        ],
    ),
    (
        "optimizer",
        &[
            "lr",
            "betas",
            "eps",
            "weight_decay",
            "clip",
            "batch",
            "accumulation",
            "ema",
        ],
    ),
    ("schedule", &["warmup", "shape"]),
    ("lora", &["rank", "alpha", "targets"]),
    ("search", &["every", "batches", "windows"]),
    ("init", &["anneal"]),
    ("card", &["about", "limits", "licence"]),
    (
        "network",
        &[
            "d_model",
            "n_layers",
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "d_ff",
            "max_length",
            "vocab_size",
            "dropout",
            "tied_head",
            "qk_norm",
        ],
    ),
];
