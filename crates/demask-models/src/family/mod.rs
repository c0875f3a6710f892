//! Kinds of public checkpoints.
//!
//! | family | paper |
//! |---|---|
//! | [`demask`] | our own checkpoints |
//! | [`llada`] | Large Language Diffusion Models, arXiv 2502.09992 |
//! | [`dream`] | Dream 7B, arXiv 2508.15487 |
//! | [`sdar`] | SDAR, arXiv 2510.06303 (block diffusion on Qwen3) |
//! | [`mdlm`] | MDLM, arXiv 2406.07524; BD3-LM, arXiv 2503.09573 |
//! | [`llama`] | Llama 2, arXiv 2307.09288 (autoregressive) |
//! | [`qwen2`] | Qwen2, arXiv 2407.10671 (autoregressive) |
//! | [`qwen3`] | Qwen3, arXiv 2505.09388 (autoregressive) |
//! | [`llama2c`] | llama2.c, the same network in its own file layout (autoregressive) |
//!
//! A family is facts, not code that computes: how its `config.json` maps to a
//! [`TransformerConfig`](demask_nn::TransformerConfig), where each parameter of the network lies
//! in its files ([`Source`]), and how its special tokens are spelled. The network is the same for
//! all.

pub mod config;
pub mod demask;
pub mod dream;
mod ids;
pub mod llada;
pub mod llama;
pub mod llama2c;
pub mod mdlm;
pub mod qwen2;
pub mod qwen3;
mod random;
pub mod sdar;
mod source;

use serde::Serialize;
use serde_json::Value;

pub use config::ConfigFile;
pub(crate) use ids::resolve as resolve_ids;
pub use ids::{MaskRule, SpecialTokens};
pub use random::random;
pub use source::Source;
pub(crate) use source::{FamilySource, check};

use crate::{ModelError, ModelSpec, nearest};

/// A kind of public checkpoint.
pub trait Family: Sync {
    /// Name, paper and what is covered.
    fn info(&self) -> &'static FamilyInfo;

    /// Whether `config.json` belongs to this family.
    fn recognises(&self, config: &ConfigFile) -> bool {
        config.model_type().is_some_and(|found| {
            self.info()
                .model_types
                .iter()
                .any(|known| known.eq_ignore_ascii_case(found))
        })
    }

    /// Network, kind and generation defaults from `config.json`; special ids come later.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a missing or unusable field, and for an option of the original
    /// network that ours does not have.
    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError>;

    /// Where the parameter with this canonical name lies in the family's files.
    fn source(&self, spec: &ModelSpec, name: &str) -> Source;

    /// How the family's special tokens are spelled, and their ids in the original vocabulary.
    fn specials(&self) -> SpecialTokens {
        SpecialTokens::default()
    }

    /// Whether `config.json` settles all special ids by itself.
    fn names_all_ids(&self) -> bool {
        false
    }

    /// Tensors that are in the files but hold nothing trained (rotary tables and the like).
    fn is_buffer(&self, tensor: &str) -> bool {
        tensor.ends_with("rotary_emb.inv_freq")
    }

    /// Chat template to use when the checkpoint has none.
    fn chat_template(&self) -> Option<&'static str> {
        None
    }

    /// The model of the Hugging Face hub whose tokenizer the published checkpoints use, where they
    /// come without one.
    fn tokenizer(&self) -> Option<&'static str> {
        None
    }

    /// The smallest checkpoint of this family, for [`random`].
    fn tiny(&self) -> Tiny;
}

/// The smallest checkpoint of a family: two layers, a vocabulary of the 256 bytes and a few
/// special tokens.
#[derive(Debug, Clone, Copy)]
pub struct Tiny {
    /// Special tokens, with ids from 256 on.
    pub specials: &'static [&'static str],
    /// Rows of the embedding that the tokenizer has no token for.
    pub extra_rows: usize,
    /// The files that hold the tokenizer.
    pub tokenizer: TinyTokenizer,
    /// Writes `config.json` in the public layout.
    pub config: fn(&TinyVocab) -> Value,
}

/// The files in which a family publishes its tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TinyTokenizer {
    /// `tokenizer.json`.
    Json,
    /// `vocab.json`, `merges.txt` and a `tokenizer_config.json` that names this class.
    VocabMerges(&'static str),
    /// `tokenizer.bin`.
    Llama2c,
}

/// The vocabulary of a tiny checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct TinyVocab {
    /// Rows of the embedding.
    pub rows: usize,
    /// Special ids, where the family's vocabulary has them.
    pub ids: crate::SpecialIds,
}

/// What a family is, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FamilyInfo {
    /// Name.
    pub name: &'static str,
    /// What it stands for in `config.json`'s `model_type`.
    pub model_types: &'static [&'static str],
    /// Title and arXiv number.
    pub paper: &'static str,
    /// Checkpoints that open with it.
    pub covers: &'static str,
    /// How it writes: "masked", "block", "autoregressive".
    pub writes: &'static str,
}

/// All families.
pub fn registry() -> &'static [&'static dyn Family] {
    &[
        &demask::Demask,
        &llada::Llada,
        &dream::Dream,
        &sdar::Sdar,
        &mdlm::Mdlm,
        &llama::Llama,
        &qwen2::Qwen2,
        &qwen3::Qwen3,
        &llama2c::Llama2cFamily,
    ]
}

/// The family with this name.
pub fn by_name(name: &str) -> Option<&'static dyn Family> {
    registry()
        .iter()
        .copied()
        .find(|family| family.info().name == name)
}

/// The family that a `config.json` belongs to.
///
/// # Errors
/// [`ModelError::UnknownFamily`] when none knows its model type, [`ModelError::Config`] when it
/// has none.
pub fn recognise(config: &ConfigFile) -> Result<&'static dyn Family, ModelError> {
    if let Some(family) = registry()
        .iter()
        .copied()
        .find(|family| family.recognises(config))
    {
        return Ok(family);
    }
    let Some(found) = config.model_type() else {
        return Err(ModelError::config(
            config.label(),
            "has no `model_type`; it says which family a checkpoint belongs to",
        ));
    };
    let mut known: Vec<&str> = registry()
        .iter()
        .flat_map(|family| family.info().model_types.iter().copied())
        .collect();
    known.sort_unstable();
    let nearest = nearest(found, known.iter().copied()).map(str::to_owned);
    Err(ModelError::UnknownFamily {
        file: config.label().to_string(),
        found: found.to_string(),
        nearest,
        known: known.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_unique_and_found() {
        for family in registry() {
            assert_eq!(by_name(family.info().name).unwrap().info(), family.info());
        }
    }

    #[test]
    fn an_unknown_family_is_named_with_the_nearest_and_the_list() {
        let config = ConfigFile::new("config.json", json!({ "model_type": "lada" })).unwrap();
        let said = recognise(&config).err().unwrap().to_string();
        assert!(said.contains("`lada` is not supported (the nearest known one is `llada`)"));
        assert!(said.contains("mdlm, qwen2, qwen3, sdar"), "{said}");
        let config =
            ConfigFile::new("config.json", json!({ "model_type": "gpt_bigcode" })).unwrap();
        assert!(
            recognise(&config)
                .err()
                .unwrap()
                .to_string()
                .contains("`gpt_bigcode`")
        );
        let config = ConfigFile::new("config.json", json!({})).unwrap();
        assert!(
            recognise(&config)
                .err()
                .unwrap()
                .to_string()
                .contains("no `model_type`")
        );
    }
}
