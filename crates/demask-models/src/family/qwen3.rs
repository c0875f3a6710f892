//! Qwen3: "Qwen3 Technical Report", arXiv 2505.09388.

use demask_nn::TransformerConfig;
use serde_json::{Value, json};

use super::{ConfigFile, Family, FamilyInfo, Source, SpecialTokens, Tiny, TinyVocab, llama, qwen2};
use crate::{ModelError, ModelKind, ModelSpec};

/// Autoregressive dense Qwen3.
#[derive(Debug)]
pub struct Qwen3;

/// The part of `config.json` that Qwen3 and SDAR share.
pub(super) fn network(config: &ConfigFile) -> Result<TransformerConfig, ModelError> {
    let bias = config.flag_or("attention_bias", false)?;
    Ok(TransformerConfig {
        // Qwen3's heads are 128 wide whatever the width of the network.
        head_dim: config.count_or("head_dim", 128)?,
        qk_norm: true,
        qkv_bias: bias,
        out_bias: bias,
        ..llama::network(config)?
    })
}

impl Family for Qwen3 {
    fn info(&self) -> &'static FamilyInfo {
        &FamilyInfo {
            name: "qwen3",
            model_types: &["qwen3"],
            paper: "Qwen3 Technical Report, arXiv 2505.09388",
            covers: "autoregressive dense Qwen3 without rotary scaling, as judge or guide",
            writes: "autoregressive",
        }
    }

    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError> {
        let mut spec = llama::plain_spec("qwen3", ModelKind::Autoregressive, network(config)?);
        // The files name a begin token; Qwen3 was trained without one.
        spec.frame.bos = false;
        Ok(spec)
    }

    fn source(&self, _spec: &ModelSpec, name: &str) -> Source {
        llama::source(name)
    }

    fn specials(&self) -> SpecialTokens {
        qwen2::specials()
    }

    fn tiny(&self) -> Tiny {
        qwen2::tiny(tiny_config)
    }
}

fn tiny_config(vocab: &TinyVocab) -> Value {
    let mut config = llama::tiny("qwen3", "Qwen3ForCausalLM", vocab);
    config["head_dim"] = json!(8);
    config["attention_bias"] = json!(false);
    config["use_sliding_window"] = json!(false);
    config
}
