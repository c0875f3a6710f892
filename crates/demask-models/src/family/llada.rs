//! LLaDA: "Large Language Diffusion Models", arXiv 2502.09992.

use demask_nn::TransformerConfig;
use demask_nn::transformer::{AttentionKind, MlpKind, NormKind, RotaryConfig};
use serde_json::{Value, json};

use super::{
    ConfigFile, Family, FamilyInfo, MaskRule, Source, SpecialTokens, Tiny, TinyTokenizer, TinyVocab,
};
use crate::spec::{Frame, GenerationDefaults};
use crate::{ModelError, ModelKind, ModelSpec, Predicts, SpecialIds, chat};

/// LLaDA-8B Base and Instruct, LLaDA-1.5 and models tuned from them.
#[derive(Debug)]
pub struct Llada;

impl Family for Llada {
    fn info(&self) -> &'static FamilyInfo {
        &FamilyInfo {
            name: "llada",
            model_types: &["llada"],
            paper: "Large Language Diffusion Models, arXiv 2502.09992",
            covers: "LLaDA-8B Base and Instruct, LLaDA-1.5, dense models tuned from them",
            writes: "masked",
        }
    }

    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError> {
        if config.get("num_experts").is_some() || config.get("n_experts").is_some() {
            return Err(config.error(
                "this LLaDA has experts (LLaDA-MoE); mixtures of experts are not supported yet",
            ));
        }
        if config.get("d_model").is_none() && config.get("hidden_size").is_some() {
            return Err(config.error(
                "this LLaDA is configured like a Llama (`hidden_size`, no `d_model`), as LLaDA-V \
                 is; only the text models in their own layout are supported",
            ));
        }
        for (key, only) in [
            ("block_type", json!("llama")),
            ("layer_norm_type", json!("rms")),
            ("activation_type", json!("silu")),
            ("rope", json!(true)),
            ("alibi", json!(false)),
            ("scale_logits", json!(false)),
            ("input_emb_norm", json!(false)),
            ("attention_layer_norm", json!(false)),
            ("bias_for_layer_norm", json!(false)),
            ("clip_qkv", Value::Null),
        ] {
            config.only(key, &only)?;
        }
        let d_model = config.count("d_model")?;
        let n_heads = config.count("n_heads")?;
        let shared = config.flag_or("multi_query_attention", false)?;
        let bias = config.flag_or("include_bias", false)?;
        let d_ff = match config.count_if("mlp_hidden_size")? {
            Some(width) => width,
            None => config.count("mlp_ratio")?.saturating_mul(d_model),
        };
        let network = TransformerConfig {
            // The embedding may have more rows than the vocabulary has words.
            vocab_size: match config.count_if("embedding_size")? {
                Some(rows) => rows,
                None => config.count("vocab_size")?,
            },
            d_model,
            n_layers: config.count("n_layers")?,
            n_heads,
            n_kv_heads: config.count_or("n_kv_heads", if shared { 1 } else { n_heads })?,
            head_dim: d_model.checked_div(n_heads).unwrap_or(0),
            d_ff,
            max_length: config.count("max_sequence_length")?,
            attention: AttentionKind::Full,
            norm: NormKind::Rms,
            norm_eps: config.number_or("rms_norm_eps", 1e-5)?,
            qk_norm: false,
            qkv_bias: bias || config.flag_or("include_qkv_bias", false)?,
            out_bias: bias,
            mlp_bias: bias,
            head_bias: bias,
            rotary: Some(RotaryConfig::new(config.rope_base(10_000.0)?)),
            mlp: MlpKind::SwiGlu,
            time: None,
            labels: None,
            tied_head: config.flag_or("weight_tying", true)?,
            logit_shift: false,
            dropout: 0.0,
        };
        Ok(ModelSpec {
            family: "llada".into(),
            kind: ModelKind::Masked,
            network,
            ids: SpecialIds::default(),
            // The authors' evaluation of the base model puts nothing before a text.
            frame: Frame {
                bos: false,
                eos: true,
            },
            time_conditioning: false,
            predicts: Predicts::Clean,
            labels: Vec::new(),
            generation: GenerationDefaults {
                length: Some(128),
                steps: Some(128),
                // `generate.py` has one block of 128; its example and the model's card write in blocks of 32,
                // which keeps an answer of an instruct model from ending in a tail of end tokens.
                block: Some(32),
                policy: Some("low_confidence".into()),
                temperature: Some(0.0),
                ..Default::default()
            },
            sampling_eps: None,
            chat_template: None,
            provenance: None,
        })
    }

    fn source(&self, _spec: &ModelSpec, name: &str) -> Source {
        let name = match name.strip_prefix("layers.") {
            None => name
                .replace("embed.", "model.transformer.wte.")
                .replace("final_norm.", "model.transformer.ln_f.")
                .replace("head.", "model.transformer.ff_out."),
            Some(rest) => {
                let (layer, part) = rest.split_once('.').unwrap_or((rest, ""));
                let part = [
                    ("attn_norm.", "attn_norm."),
                    ("attn.q.", "q_proj."),
                    ("attn.k.", "k_proj."),
                    ("attn.v.", "v_proj."),
                    ("attn.o.", "attn_out."),
                    ("mlp_norm.", "ff_norm."),
                    ("mlp.gate.", "ff_proj."),
                    ("mlp.up.", "up_proj."),
                    ("mlp.down.", "ff_out."),
                ]
                .iter()
                .find_map(|(ours, theirs)| Some(format!("{theirs}{}", part.strip_prefix(ours)?)))
                .unwrap_or_else(|| part.to_string());
                format!("model.transformer.blocks.{layer}.{part}")
            }
        };
        Source::Take(name)
    }

    fn specials(&self) -> SpecialTokens {
        SpecialTokens {
            mask: &["<|mdm_mask|>"],
            bos: &["<|startoftext|>"],
            eos: &["<|endoftext|>"],
            pad: &["<|endoftext|>"],
            eot: &["<|eot_id|>"],
            mask_rule: MaskRule::Usual(126_336),
        }
    }

    fn chat_template(&self) -> Option<&'static str> {
        Some(chat::LLADA)
    }

    fn tiny(&self) -> Tiny {
        Tiny {
            specials: &[
                "<|startoftext|>",
                "<|endoftext|>",
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eot_id|>",
                "<|mdm_mask|>",
            ],
            extra_rows: 0,
            tokenizer: TinyTokenizer::Json,
            config: tiny_config,
        }
    }
}

fn tiny_config(vocab: &TinyVocab) -> Value {
    json!({
        "model_type": "llada", "architectures": ["LLaDAModelLM"],
        "activation_type": "silu", "alibi": false, "attention_layer_norm": false,
        "bias_for_layer_norm": false, "block_type": "llama", "d_model": 16,
        "embedding_size": vocab.rows, "include_bias": false, "include_qkv_bias": false,
        "input_emb_norm": false, "layer_norm_type": "rms", "mask_token_id": vocab.ids.mask,
        "eos_token_id": vocab.ids.eos, "pad_token_id": vocab.ids.pad,
        "max_sequence_length": 64, "mlp_hidden_size": 48, "mlp_ratio": 4,
        "multi_query_attention": null, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2,
        "rms_norm_eps": 1e-5, "rope": true, "rope_theta": 500_000.0, "scale_logits": false,
        "vocab_size": vocab.rows, "weight_tying": false,
    })
}
