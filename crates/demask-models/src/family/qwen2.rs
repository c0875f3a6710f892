//! Qwen2 and Qwen2.5: "Qwen2 Technical Report", arXiv 2407.10671.

use demask_nn::TransformerConfig;
use serde_json::Value;

use super::{
    ConfigFile, Family, FamilyInfo, Source, SpecialTokens, Tiny, TinyTokenizer, TinyVocab, llama,
};
use crate::{ModelError, ModelKind, ModelSpec};

/// Autoregressive dense Qwen2 and Qwen2.5.
#[derive(Debug)]
pub struct Qwen2;

impl Family for Qwen2 {
    fn info(&self) -> &'static FamilyInfo {
        &FamilyInfo {
            name: "qwen2",
            model_types: &["qwen2"],
            paper: "Qwen2 Technical Report, arXiv 2407.10671",
            covers: "autoregressive dense Qwen2 and Qwen2.5, as judge or guide",
            writes: "autoregressive",
        }
    }

    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError> {
        let network = TransformerConfig {
            qkv_bias: true,
            ..llama::network(config)?
        };
        let mut spec = llama::plain_spec("qwen2", ModelKind::Autoregressive, network);
        // Some files name a begin token; Qwen2 was trained without one.
        spec.frame.bos = false;
        Ok(spec)
    }

    fn source(&self, _spec: &ModelSpec, name: &str) -> Source {
        llama::source(name)
    }

    fn specials(&self) -> SpecialTokens {
        specials()
    }

    fn tiny(&self) -> Tiny {
        tiny(tiny_config)
    }
}

/// The special tokens of Qwen2, which Qwen3 kept.
pub(super) fn specials() -> SpecialTokens {
    SpecialTokens {
        eos: &["<|endoftext|>"],
        pad: &["<|endoftext|>"],
        eot: &["<|im_end|>"],
        ..Default::default()
    }
}

/// A tiny checkpoint with the tokenizer of Qwen2, which Qwen3 kept, and with it the name of its class.
pub(super) fn tiny(config: fn(&TinyVocab) -> Value) -> Tiny {
    Tiny {
        specials: &["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        extra_rows: 0,
        tokenizer: TinyTokenizer::VocabMerges("Qwen2Tokenizer"),
        config,
    }
}

fn tiny_config(vocab: &TinyVocab) -> Value {
    llama::tiny("qwen2", "Qwen2ForCausalLM", vocab)
}
