//! llama2.c: a Llama network in its own file layout, <https://github.com/karpathy/llama2.c>.

use demask_nn::TransformerConfig;
use demask_nn::transformer::{AttentionKind, MlpKind, NormKind, RotaryConfig, RotaryLayout};
use serde_json::{Value, json};

use super::{
    ConfigFile, Family, FamilyInfo, Source, SpecialTokens, Tiny, TinyTokenizer, TinyVocab, llama,
};
use crate::format::Llama2cShape;
use crate::{ModelError, ModelKind, ModelSpec};

/// Checkpoints of llama2.c, version 0 (stories260K and its kin). They have a header in place of a
/// `config.json`, which is read as one.
#[derive(Debug)]
pub struct Llama2cFamily;

/// The header as a configuration.
pub(crate) fn config_of(label: &str, shape: Llama2cShape) -> Result<ConfigFile, ModelError> {
    ConfigFile::new(
        label,
        json!({
            "model_type": "llama2c", "dim": shape.dim, "hidden_dim": shape.hidden_dim,
            "n_layers": shape.n_layers, "n_heads": shape.n_heads, "n_kv_heads": shape.n_kv_heads,
            "vocab_size": shape.vocab_size, "max_seq_len": shape.max_seq_len, "tied": shape.tied,
        }),
    )
}

/// The configuration as a header.
pub(crate) fn shape_of(config: &ConfigFile) -> Result<Llama2cShape, ModelError> {
    Ok(Llama2cShape {
        dim: config.count("dim")?,
        hidden_dim: config.count("hidden_dim")?,
        n_layers: config.count("n_layers")?,
        n_heads: config.count("n_heads")?,
        n_kv_heads: config.count("n_kv_heads")?,
        vocab_size: config.count("vocab_size")?,
        max_seq_len: config.count("max_seq_len")?,
        tied: config.flag_or("tied", true)?,
    })
}

impl Family for Llama2cFamily {
    fn info(&self) -> &'static FamilyInfo {
        &FamilyInfo {
            name: "llama2c",
            model_types: &["llama2c"],
            paper: "llama2.c, github.com/karpathy/llama2.c",
            covers: "stories260K, stories15M and other version 0 files with their tokenizer.bin",
            writes: "autoregressive",
        }
    }

    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError> {
        let shape = shape_of(config)?;
        let network = TransformerConfig {
            vocab_size: shape.vocab_size,
            d_model: shape.dim,
            n_layers: shape.n_layers,
            n_heads: shape.n_heads,
            n_kv_heads: shape.n_kv_heads,
            head_dim: shape.dim.checked_div(shape.n_heads).unwrap_or(0),
            d_ff: shape.hidden_dim,
            max_length: shape.max_seq_len,
            attention: AttentionKind::Causal,
            norm: NormKind::Rms,
            norm_eps: 1e-5,
            qk_norm: false,
            qkv_bias: false,
            out_bias: false,
            mlp_bias: false,
            head_bias: false,
            rotary: Some(RotaryConfig {
                layout: RotaryLayout::Interleaved,
                ..RotaryConfig::new(10_000.0)
            }),
            mlp: MlpKind::SwiGlu,
            time: None,
            labels: None,
            tied_head: shape.tied,
            logit_shift: false,
            dropout: 0.0,
        };
        let mut spec = llama::plain_spec("llama2c", ModelKind::Autoregressive, network);
        // Its stories stand one after another with the begin token between them (`tinystories.py`).
        spec.frame.eos = false;
        Ok(spec)
    }

    fn source(&self, _spec: &ModelSpec, name: &str) -> Source {
        let name = match name.strip_prefix("layers.") {
            None => name
                .replace("embed.", "tok_embeddings.")
                .replace("final_norm.", "norm.")
                .replace("head.", "output."),
            Some(rest) => {
                let (layer, part) = rest.split_once('.').unwrap_or((rest, ""));
                let part = part
                    .replace("attn_norm.", "attention_norm.")
                    .replace("mlp_norm.", "ffn_norm.")
                    .replace("attn.", "attention.w")
                    .replace("mlp.gate.", "feed_forward.w1.")
                    .replace("mlp.down.", "feed_forward.w2.")
                    .replace("mlp.up.", "feed_forward.w3.");
                format!("layers.{layer}.{part}")
            }
        };
        Source::Take(name)
    }

    fn specials(&self) -> SpecialTokens {
        SpecialTokens {
            bos: &["<s>"],
            eos: &["</s>"],
            ..Default::default()
        }
    }

    fn is_buffer(&self, tensor: &str) -> bool {
        tensor.starts_with("freqs_")
    }

    fn tiny(&self) -> Tiny {
        Tiny {
            specials: &[],
            extra_rows: 0,
            tokenizer: TinyTokenizer::Llama2c,
            config: tiny_config,
        }
    }
}

fn tiny_config(vocab: &TinyVocab) -> Value {
    json!({
        "model_type": "llama2c", "dim": 16, "hidden_dim": 48, "n_layers": 2, "n_heads": 4,
        "n_kv_heads": 2, "vocab_size": vocab.rows, "max_seq_len": 64, "tied": true,
    })
}
