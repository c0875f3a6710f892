//! Our own checkpoints: `config.json` is a [`ModelSpec`], tensors carry the canonical names.

use serde_json::{Value, json};

use super::{
    ConfigFile, Family, FamilyInfo, Source, SpecialTokens, Tiny, TinyTokenizer, TinyVocab,
};
use crate::{ModelError, ModelSpec};

/// Our own checkpoints.
#[derive(Debug)]
pub struct Demask;

/// The `model_type` of our own checkpoints.
pub const NAME: &str = "demask";

impl Family for Demask {
    fn info(&self) -> &'static FamilyInfo {
        &FamilyInfo {
            name: NAME,
            model_types: &[NAME],
            paper: "this repository",
            covers: "checkpoints trained or saved by demask",
            writes: "any",
        }
    }

    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError> {
        serde_json::from_value(Value::Object(config.fields().clone()))
            .map_err(|e| config.error(e.to_string()))
    }

    fn source(&self, _spec: &ModelSpec, name: &str) -> Source {
        Source::Take(name.to_string())
    }

    fn specials(&self) -> SpecialTokens {
        SpecialTokens {
            mask: &["<|mask|>"],
            bos: &["<|bos|>"],
            eos: &["<|eos|>"],
            pad: &["<|pad|>"],
            ..Default::default()
        }
    }

    fn names_all_ids(&self) -> bool {
        true
    }

    fn tiny(&self) -> Tiny {
        Tiny {
            specials: &["<|mask|>", "<|bos|>", "<|eos|>", "<|pad|>"],
            extra_rows: 0,
            tokenizer: TinyTokenizer::Json,
            config: tiny_config,
        }
    }
}

fn tiny_config(vocab: &TinyVocab) -> Value {
    json!({
        "model_type": NAME,
        "kind": { "kind": "masked" },
        "network": {
            "vocab_size": vocab.rows, "d_model": 16, "n_layers": 2, "n_heads": 2,
            "n_kv_heads": 1, "head_dim": 8, "d_ff": 32, "max_length": 64, "tied_head": true,
        },
        "ids": vocab.ids,
        "frame": { "bos": true, "eos": true },
    })
}
