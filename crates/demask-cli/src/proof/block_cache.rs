//! Keys and values of finished blocks may be kept: the text is the same to the bit, and a step forwards
//! the block that is being written instead of all that stands (BD3-LM 2503.09573, section 3).
//!
//! A random network of block-causal sight writes a text twice, with `cache` at `none` and at `block`.
//! Its weights do not matter to the claim: neither does the cache know them.

use std::time::Instant;

use anyhow::Result;
use demask::models::tokenizer::byte_bpe::bytes_only;
use demask::models::{Model, ModelSpec};
use demask::nn::{Dtype, Transformer};
use demask::text::{CacheConfig, DecodeConfig, Decoder, PolicyConfig, Prompt, Written};
use serde_json::json;

use super::{Cost, Finding, Proof, Workbench};
use crate::terminal::table::Table;

const LENGTH: usize = 384;
/// Blocks of BD3-LM.
const BLOCKS: [usize; 2] = [4, 16];
/// A cell a step, and as many steps as the grid says.
const POLICIES: [&str; 2] = ["first_hitting", "ancestral"];
/// At most this share of the cells is forwarded with the cache.
const SHARE: f64 = 0.1;
const BEGIN: u32 = 258;

/// See the module.
pub struct BlockCache;

impl Proof for BlockCache {
    fn name(&self) -> &'static str {
        "block-cache"
    }

    fn claim(&self) -> &'static str {
        "with the keys and values of finished blocks kept, the text is the same to the bit and at most \
         a tenth of the cells is forwarded"
    }

    fn paper(&self) -> &'static str {
        "BD3-LM 2503.09573, section 3"
    }

    fn seeds(&self) -> u64 {
        3
    }

    fn cost(&self) -> Cost {
        Cost::Seconds
    }

    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding> {
        let mut table = Table::new([
            "block",
            "policy",
            "seed",
            "forwards",
            "rows",
            "rows cached",
            "share",
            "time",
            "same text",
        ]);
        let mut holds = true;
        for block in BLOCKS {
            for policy in POLICIES {
                for seed in 0..seeds {
                    bench.step(format!("blocks of {block}, {policy}, seed {seed}"))?;
                    let model = random(block, seed)?;
                    let (plain, long) = written(&model, policy, seed, CacheConfig::None)?;
                    let (cached, short) = written(&model, policy, seed, CacheConfig::Block)?;
                    let same = plain.ids == cached.ids && plain.forwards == cached.forwards;
                    let share = cached.rows as f64 / plain.rows as f64;
                    holds &= same && share <= SHARE;
                    table.row([
                        block.to_string(),
                        policy.to_owned(),
                        seed.to_string(),
                        plain.forwards.to_string(),
                        plain.rows.to_string(),
                        cached.rows.to_string(),
                        format!("{share:.3}"),
                        format!("÷ {:.1}", long / short),
                        if same { "yes" } else { "no" }.to_owned(),
                    ]);
                }
            }
        }
        let settings = format!(
            "random network of 4 layers of width 128 without time input, {LENGTH} cells and as many \
             steps, temperature 1; the time depends on the machine and is no part of the claim"
        );
        Ok(Finding {
            table,
            holds,
            settings,
        })
    }
}

fn random(block: usize, seed: u64) -> Result<Model> {
    let spec: ModelSpec = serde_json::from_value(json!({
        "model_type": "demask",
        "kind": { "kind": "block_masked", "block": block },
        "network": {
            "vocab_size": 259, "d_model": 128, "n_layers": 4, "n_heads": 4, "n_kv_heads": 4,
            "head_dim": 32, "d_ff": 384, "max_length": LENGTH + block,
            "attention": { "kind": "block_causal", "block": block },
        },
        "ids": { "mask": 256, "eos": 257, "bos": BEGIN },
    }))?;
    let network = Transformer::init(&spec.network, seed, &Default::default())?.packed(Dtype::F32);
    Ok(Model {
        network,
        spec,
        tokenizer: bytes_only(&["<mask>", "<eos>", "<bos>"])?,
        unusual: Vec::new(),
    })
}

/// What is written, and the seconds it took.
fn written(model: &Model, policy: &str, seed: u64, cache: CacheConfig) -> Result<(Written, f64)> {
    let mut config = DecodeConfig {
        length: LENGTH,
        steps: LENGTH,
        policy: PolicyConfig::parse(policy)?,
        temperature: 1.0,
        cache,
        seed,
        ..DecodeConfig::for_model(&model.spec)?
    };
    config.eos.early_stop = false;
    let start = Instant::now();
    let mut texts = Decoder::new(model, config)?.run(&[Prompt::new(vec![BEGIN])], &mut ())?;
    Ok((texts.remove(0), start.elapsed().as_secs_f64()))
}
