//! MDLM: "Simple and Effective Masked Diffusion Language Models", arXiv 2406.07524; BD3-LM:
//! "Block Diffusion", arXiv 2503.09573. The same diffusion transformer.

use demask_diffusion::sampling::Crossing;
use demask_nn::TransformerConfig;
use demask_nn::transformer::{AttentionKind, MlpKind, NormKind, RotaryConfig, TimeConfig};
use serde_json::{Value, json};

use super::{
    ConfigFile, Family, FamilyInfo, MaskRule, Source, SpecialTokens, Tiny, TinyTokenizer, TinyVocab,
};
use crate::spec::{Frame, GenerationDefaults};
use crate::{ModelError, ModelKind, ModelSpec, Predicts, SpecialIds};

/// MDLM and BD3-LM on OpenWebText, in the layout of their published safetensors and of their
/// training code: the tensor names are the same, `backbone.*`.
#[derive(Debug)]
pub struct Mdlm;

/// Sinusoids of the time embedding.
const FREQUENCIES: usize = 256;

impl Mdlm {
    /// The published classes say `hidden_dim` and `model_length`, the training code's
    /// configuration `hidden_size` and `length`.
    fn either(config: &ConfigFile, a: &str, b: &str) -> Result<usize, ModelError> {
        match config.count_if(a)? {
            Some(n) => Ok(n),
            None => config.count_if(b)?.ok_or_else(|| {
                config.error(format!(
                    "has neither `{a}` nor `{b}`; one of them is needed"
                ))
            }),
        }
    }
}

impl Family for Mdlm {
    fn info(&self) -> &'static FamilyInfo {
        &FamilyInfo {
            name: "mdlm",
            model_types: &["mdlm", "bd3lm"],
            paper: "MDLM, arXiv 2406.07524; BD3-LM, arXiv 2503.09573",
            covers: "mdlm-owt, bd3lm-owt in all block sizes (with the GPT-2 tokenizer beside them)",
            writes: "masked or block",
        }
    }

    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError> {
        let d_model = Self::either(config, "hidden_dim", "hidden_size")?;
        let max_length = Self::either(config, "model_length", "length")?;
        let n_heads = config.count("n_heads")?;
        let adaptive = config.flag_or("adaln", true)?;
        let kind = kind(config, max_length)?;
        let network = TransformerConfig {
            vocab_size: config.count("vocab_size")?,
            d_model,
            n_layers: config.count("n_blocks")?,
            n_heads,
            n_kv_heads: n_heads,
            head_dim: d_model.checked_div(n_heads).unwrap_or(0),
            d_ff: d_model.saturating_mul(4),
            max_length,
            attention: match kind {
                ModelKind::BlockMasked { block } => AttentionKind::BlockCausal { block },
                ModelKind::Autoregressive => AttentionKind::Causal,
                _ => AttentionKind::Full,
            },
            norm: NormKind::Layer { bias: false },
            norm_eps: 1e-5,
            qk_norm: false,
            qkv_bias: false,
            out_bias: false,
            mlp_bias: true,
            head_bias: true,
            rotary: Some(RotaryConfig::new(10_000.0)),
            mlp: MlpKind::GeluTanh,
            time: match adaptive {
                true => Some(TimeConfig {
                    frequencies: FREQUENCIES,
                    cond: config.count("cond_dim")?,
                }),
                false => None,
            },
            labels: None,
            tied_head: false,
            logit_shift: false,
            dropout: 0.0,
        };
        let clipped = config.get("sampling_eps_min").is_some();
        let sampling_eps = match clipped {
            true => Some([
                config.number_or("sampling_eps_min", 1e-3)?,
                config.number_or("sampling_eps_max", 1.0)?,
            ]),
            false => None,
        };
        Ok(ModelSpec {
            family: "mdlm".into(),
            kind,
            network,
            ids: SpecialIds::default(),
            // The runs on OpenWebText put both around each window of a stream of documents.
            frame: Frame::default(),
            time_conditioning: adaptive && config.flag_or("time_conditioning", false)?,
            predicts: Predicts::Clean,
            labels: Vec::new(),
            generation: generation(kind),
            sampling_eps,
            chat_template: None,
            provenance: None,
        })
    }

    fn source(&self, spec: &ModelSpec, name: &str) -> Source {
        let take = |name: &str| Source::Take(format!("backbone.{name}"));
        let Some(rest) = name.strip_prefix("layers.") else {
            return take(
                &name
                    .replace("embed.weight", "vocab_embed.embedding")
                    .replace("time.in.", "sigma_map.mlp.0.")
                    .replace("time.out.", "sigma_map.mlp.2.")
                    .replace("final_adaln.", "output_layer.adaLN_modulation.")
                    .replace("final_norm.", "output_layer.norm_final.")
                    .replace("head.", "output_layer.linear."),
            );
        };
        let (layer, part) = rest.split_once('.').unwrap_or((rest, ""));
        for (group, prefix) in ["attn.q.", "attn.k.", "attn.v."].into_iter().enumerate() {
            if let Some(kind) = part.strip_prefix(prefix) {
                let rows_of_q = spec.network.n_heads * spec.network.head_dim;
                debug_assert_eq!(rows_of_q, spec.network.n_kv_heads * spec.network.head_dim);
                return Source::Part {
                    name: format!("backbone.blocks.{layer}.attn_qkv.{kind}"),
                    part: group,
                    parts: 3,
                };
            }
        }
        let part = part
            .replace("adaln.", "adaLN_modulation.")
            .replace("attn_norm.", "norm1.")
            .replace("attn.o.", "attn_out.")
            .replace("mlp_norm.", "norm2.")
            .replace("mlp.up.", "mlp.0.")
            .replace("mlp.down.", "mlp.2.");
        take(&format!("blocks.{layer}.{part}"))
    }

    fn specials(&self) -> SpecialTokens {
        SpecialTokens {
            mask: &["[MASK]", "<|mask|>"],
            // GPT-2 has one token for both; MDLM packs texts between two of them.
            bos: &["<|endoftext|>"],
            eos: &["<|endoftext|>"],
            mask_rule: MaskRule::LastRow,
            ..Default::default()
        }
    }

    fn is_buffer(&self, tensor: &str) -> bool {
        tensor.ends_with("rotary_emb.inv_freq") || tensor.starts_with("sampling_eps_")
    }

    fn tokenizer(&self) -> Option<&'static str> {
        Some("openai-community/gpt2")
    }

    fn tiny(&self) -> Tiny {
        Tiny {
            specials: &["<|endoftext|>"],
            extra_rows: 1,
            tokenizer: TinyTokenizer::VocabMerges("GPT2Tokenizer"),
            config: tiny_config,
        }
    }
}

/// The published samplers: the reverse process at temperature 1, which is the policy's own; BD3-LM's
/// in a nucleus of 0.9 whose crossing token is dropped.
fn generation(kind: ModelKind) -> GenerationDefaults {
    let policy = kind.needs_mask().then(|| "ancestral".into());
    match kind {
        ModelKind::BlockMasked { block } => GenerationDefaults {
            block: Some(block),
            policy,
            top_p: Some(0.9),
            crossing: Some(Crossing::Drop),
            ..Default::default()
        },
        _ => GenerationDefaults {
            policy,
            ..Default::default()
        },
    }
}

fn tiny_config(vocab: &TinyVocab) -> Value {
    json!({
        "model_type": "mdlm", "architectures": ["MDLM"], "hidden_dim": 16, "n_blocks": 2,
        "n_heads": 2, "cond_dim": 8, "model_length": 64, "vocab_size": vocab.rows,
        "dropout": 0.1, "time_conditioning": false,
    })
}

/// Block diffusion when the model was trained with the doubled input of BD3-LM; a block as long as
/// the context is plain masked diffusion.
fn kind(config: &ConfigFile, max_length: usize) -> Result<ModelKind, ModelError> {
    if config.flag_or("causal", false)? {
        return Ok(ModelKind::Autoregressive);
    }
    let doubled = config.flag_or("cross_attn", config.model_type() == Some("bd3lm"))?;
    Ok(match config.count_if("block_size")? {
        Some(0) => return Err(config.error("`block_size` = 0; a block has at least 1 cell")),
        Some(block) if doubled && block < max_length => ModelKind::BlockMasked { block },
        _ => ModelKind::Masked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recommends_the_published_samplers() {
        let recommended = |changes: Value| {
            let mut config = json!({
                "model_type": "mdlm", "hidden_dim": 16, "n_blocks": 2, "n_heads": 2, "cond_dim": 8,
                "model_length": 64, "vocab_size": 32,
            });
            for (key, value) in changes.as_object().unwrap() {
                config[key] = value.clone();
            }
            let config = ConfigFile::new("config.json", config).unwrap();
            Mdlm.spec(&config).unwrap().generation
        };
        let ancestral = GenerationDefaults {
            policy: Some("ancestral".into()),
            ..Default::default()
        };
        assert_eq!(recommended(json!({})), ancestral);
        let block = GenerationDefaults {
            block: Some(4),
            top_p: Some(0.9),
            crossing: Some(Crossing::Drop),
            ..ancestral
        };
        let bd3 = json!({ "model_type": "bd3lm", "block_size": 4 });
        assert_eq!(recommended(bd3), block);
        assert!(recommended(json!({ "causal": true })).is_empty());
    }
}
