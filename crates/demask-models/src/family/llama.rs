//! Llama: "Llama 2", arXiv 2307.09288; the network that most others are named after.

use demask_nn::TransformerConfig;
use demask_nn::transformer::{AttentionKind, MlpKind, NormKind, RotaryConfig};
use serde_json::{Value, json};

use super::{
    ConfigFile, Family, FamilyInfo, Source, SpecialTokens, Tiny, TinyTokenizer, TinyVocab,
};
use crate::spec::{Frame, GenerationDefaults};
use crate::{ModelError, ModelKind, ModelSpec, Predicts, SpecialIds};

/// Autoregressive Llama models in the layout of transformers.
#[derive(Debug)]
pub struct Llama;

/// The part of `config.json` that Llama, Qwen2, Dream and Qwen3 share.
pub(super) fn network(config: &ConfigFile) -> Result<TransformerConfig, ModelError> {
    config.only("hidden_act", &json!("silu"))?;
    config.only("use_sliding_window", &json!(false))?;
    let d_model = config.count("hidden_size")?;
    let n_heads = config.count("num_attention_heads")?;
    Ok(TransformerConfig {
        vocab_size: config.count("vocab_size")?,
        d_model,
        n_layers: config.count("num_hidden_layers")?,
        n_heads,
        n_kv_heads: config.count_or("num_key_value_heads", n_heads)?,
        head_dim: match config.count_if("head_dim")? {
            Some(width) => width,
            None => d_model.checked_div(n_heads).unwrap_or(0),
        },
        d_ff: config.count("intermediate_size")?,
        max_length: config.count("max_position_embeddings")?,
        attention: AttentionKind::Causal,
        norm: NormKind::Rms,
        norm_eps: config.number_or("rms_norm_eps", 1e-6)?,
        qk_norm: false,
        qkv_bias: false,
        out_bias: false,
        mlp_bias: false,
        head_bias: false,
        rotary: Some(RotaryConfig::new(config.rope_base(10_000.0)?)),
        mlp: MlpKind::SwiGlu,
        time: None,
        labels: None,
        tied_head: config.flag_or("tie_word_embeddings", false)?,
        logit_shift: false,
        dropout: 0.0,
    })
}

/// A description around a network, with nothing recommended.
pub(super) fn plain_spec(family: &str, kind: ModelKind, network: TransformerConfig) -> ModelSpec {
    ModelSpec {
        family: family.into(),
        kind,
        network,
        ids: SpecialIds::default(),
        frame: Frame::default(),
        time_conditioning: false,
        predicts: Predicts::Clean,
        labels: Vec::new(),
        generation: GenerationDefaults::default(),
        sampling_eps: None,
        chat_template: None,
        provenance: None,
    }
}

/// Tensor names of transformers' Llama; Qwen2, Dream, Qwen3 and SDAR have the same.
pub(super) fn source(name: &str) -> Source {
    let name = match name.strip_prefix("layers.") {
        None => name
            .replace("embed.", "model.embed_tokens.")
            .replace("final_norm.", "model.norm.")
            .replace("head.", "lm_head."),
        Some(rest) => {
            let (layer, part) = rest.split_once('.').unwrap_or((rest, ""));
            let part = [
                ("attn_norm.", "input_layernorm."),
                ("attn.q.", "self_attn.q_proj."),
                ("attn.k.", "self_attn.k_proj."),
                ("attn.v.", "self_attn.v_proj."),
                ("attn.o.", "self_attn.o_proj."),
                ("attn.", "self_attn."),
                ("mlp_norm.", "post_attention_layernorm."),
                ("mlp.gate.", "mlp.gate_proj."),
                ("mlp.up.", "mlp.up_proj."),
                ("mlp.down.", "mlp.down_proj."),
            ]
            .iter()
            .find_map(|(ours, theirs)| Some(format!("{theirs}{}", part.strip_prefix(ours)?)))
            .unwrap_or_else(|| part.to_string());
            format!("model.layers.{layer}.{part}")
        }
    };
    Source::Take(name)
}

/// A tiny `config.json` in the layout that [`network`] reads.
pub(super) fn tiny(model_type: &str, architecture: &str, vocab: &TinyVocab) -> Value {
    json!({
        "model_type": model_type, "architectures": [architecture], "hidden_act": "silu",
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": vocab.rows,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0,
        "rope_scaling": null, "tie_word_embeddings": false,
        "bos_token_id": vocab.ids.bos, "eos_token_id": vocab.ids.eos,
        "pad_token_id": vocab.ids.pad, "mask_token_id": vocab.ids.mask,
    })
}

impl Family for Llama {
    fn info(&self) -> &'static FamilyInfo {
        &FamilyInfo {
            name: "llama",
            model_types: &["llama"],
            paper: "Llama 2, arXiv 2307.09288",
            covers: "autoregressive Llama models without rotary scaling, as judge or guide",
            writes: "autoregressive",
        }
    }

    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError> {
        let bias = config.flag_or("attention_bias", false)?;
        let network = TransformerConfig {
            qkv_bias: bias,
            out_bias: bias,
            mlp_bias: config.flag_or("mlp_bias", false)?,
            ..network(config)?
        };
        Ok(plain_spec("llama", ModelKind::Autoregressive, network))
    }

    fn source(&self, _spec: &ModelSpec, name: &str) -> Source {
        source(name)
    }

    fn specials(&self) -> SpecialTokens {
        SpecialTokens {
            bos: &["<s>", "<|begin_of_text|>"],
            eos: &["</s>", "<|end_of_text|>"],
            eot: &["<|eot_id|>"],
            ..Default::default()
        }
    }

    fn tiny(&self) -> Tiny {
        Tiny {
            specials: &["<s>", "</s>"],
            extra_rows: 0,
            tokenizer: TinyTokenizer::Json,
            config: tiny_config,
        }
    }
}

fn tiny_config(vocab: &TinyVocab) -> Value {
    tiny("llama", "LlamaForCausalLM", vocab)
}
