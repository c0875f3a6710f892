//! Dream: "Dream 7B: Diffusion Large Language Models", arXiv 2508.15487.

use demask_nn::TransformerConfig;
use demask_nn::transformer::AttentionKind;
use serde_json::{Value, json};

use super::{
    ConfigFile, Family, FamilyInfo, MaskRule, Source, SpecialTokens, Tiny, TinyTokenizer,
    TinyVocab, llama,
};
use crate::spec::GenerationDefaults;
use crate::{ModelError, ModelKind, ModelSpec, chat};

/// Dream-v0 Base and Instruct, Dream-Coder, DiffuCoder: a Qwen2.5 network without causal mask
/// whose row `i - 1` predicts cell `i`.
#[derive(Debug)]
pub struct Dream;

impl Family for Dream {
    fn info(&self) -> &'static FamilyInfo {
        &FamilyInfo {
            name: "dream",
            model_types: &["Dream"],
            paper: "Dream 7B: Diffusion Large Language Models, arXiv 2508.15487",
            covers: "Dream-v0 Base and Instruct 7B, Dream-Coder 7B, DiffuCoder 7B",
            writes: "masked",
        }
    }

    fn spec(&self, config: &ConfigFile) -> Result<ModelSpec, ModelError> {
        config.only("use_mrope", &json!(false))?;
        if config.get("block_size").is_some() {
            return Err(config.error(
                "this Dream writes in blocks (`block_size`); only the models that see the whole \
                 text at once are supported",
            ));
        }
        let network = TransformerConfig {
            attention: AttentionKind::Full,
            qkv_bias: true,
            logit_shift: true,
            ..llama::network(config)?
        };
        let mut spec = llama::plain_spec("dream", ModelKind::Masked, network);
        spec.generation = GenerationDefaults {
            length: Some(512),
            steps: Some(512),
            policy: Some("entropy".into()),
            temperature: Some(0.2),
            top_p: Some(0.95),
            ..Default::default()
        };
        Ok(spec)
    }

    fn source(&self, _spec: &ModelSpec, name: &str) -> Source {
        llama::source(name)
    }

    fn specials(&self) -> SpecialTokens {
        SpecialTokens {
            mask: &["<|mask|>"],
            bos: &["<|beginoftext|>"],
            eos: &["<|endoftext|>"],
            pad: &["<|endoftext|>"],
            eot: &["<|im_end|>"],
            mask_rule: MaskRule::Usual(151_666),
        }
    }

    fn chat_template(&self) -> Option<&'static str> {
        Some(chat::DREAM)
    }

    fn tiny(&self) -> Tiny {
        Tiny {
            specials: &[
                "<|endoftext|>",
                "<|im_start|>",
                "<|im_end|>",
                "<|beginoftext|>",
                "<|mask|>",
            ],
            extra_rows: 3,
            tokenizer: TinyTokenizer::VocabMerges("DreamTokenizer"),
            config: tiny_config,
        }
    }
}

fn tiny_config(vocab: &TinyVocab) -> Value {
    llama::tiny("Dream", "DreamModel", vocab)
}
