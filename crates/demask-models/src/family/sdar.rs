//! SDAR: "SDAR: A Synergistic Diffusion-AutoRegression Paradigm for Scalable Sequence Generation",
//! arXiv 2510.06303. Block diffusion on a dense Qwen3 network.

use demask_nn::TransformerConfig;
use demask_nn::transformer::AttentionKind;
use serde_json::{Value, json};

use super::{
    ConfigFile, Family, FamilyInfo, MaskRule, Source, SpecialTokens, Tiny, TinyTokenizer,
    TinyVocab, llama, qwen3,
};
use crate::spec::GenerationDefaults;
use crate::{ModelError, ModelKind, ModelSpec};

/// SDAR 1.7B, 4B, 8B and TraDo: a Qwen3 network that writes block after block.
#[derive(Debug)]
pub struct Sdar;

/// Cells in a block where the configuration says nothing.
const USUAL_BLOCK: usize = 4;

impl Family for Sdar {
    fn info(&self) -> &'static FamilyInfo {
        &FamilyInfo {
            name: "sdar",
            model_types: &["sdar"],
            paper: "SDAR, arXiv 2510.06303",
            covers: "dense SDAR 1.7B, 4B, 8B chat models in all block sizes, TraDo 4B and 8B",
            writes: "block",
        }
    }

    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError> {
        if config.get("num_experts").is_some() {
            return Err(config.error("mixtures of experts are not supported yet"));
        }
        let block = config.count_or("block_size", USUAL_BLOCK)?;
        if block == 0 {
            return Err(config.error("`block_size` = 0; a block has at least 1 cell"));
        }
        let network = TransformerConfig {
            attention: AttentionKind::BlockCausal { block },
            ..qwen3::network(config)?
        };
        let mut spec = llama::plain_spec("sdar", ModelKind::BlockMasked { block }, network);
        // As Qwen3, which it was made from: some files name a begin token that it never saw.
        spec.frame.bos = false;
        spec.generation = GenerationDefaults {
            block: Some(block),
            policy: Some("low_confidence".into()),
            ..Default::default()
        };
        Ok(spec)
    }

    fn source(&self, _spec: &ModelSpec, name: &str) -> Source {
        llama::source(name)
    }

    fn specials(&self) -> SpecialTokens {
        SpecialTokens {
            mask: &["<|MASK|>", "<MASK>", "<|mask|>"],
            eos: &["<|endoftext|>"],
            pad: &["<|endoftext|>"],
            eot: &["<|im_end|>"],
            mask_rule: MaskRule::Usual(151_669),
            ..Default::default()
        }
    }

    fn tiny(&self) -> Tiny {
        Tiny {
            specials: &["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|MASK|>"],
            extra_rows: 0,
            tokenizer: TinyTokenizer::Json,
            config: tiny_config,
        }
    }
}

fn tiny_config(vocab: &TinyVocab) -> Value {
    let mut config = llama::tiny("sdar", "SDARForCausalLM", vocab);
    config["head_dim"] = json!(8);
    config["block_size"] = json!(USUAL_BLOCK);
    config["attention_bias"] = json!(false);
    config
}
