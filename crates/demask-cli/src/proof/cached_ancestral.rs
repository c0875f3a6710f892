//! A step of the ancestral sampler that reveals nothing needs no forward pass: the decoder writes what
//! the plain sampler does, with at most one pass a cell (MDLM 2406.07524, `ddpm_cache`).
//!
//! The plain sampler is written out here: it asks the network about all cells in every step and
//! draws from the posterior. The other text is that of `demask generate --policy ancestral`.

use anyhow::Result;
use demask::diffusion::process::Absorbing;
use demask::diffusion::solver::grid_time;
use demask::diffusion::{Noise, sampling};
use demask::models::{ModelKind, SpecialIds};
use demask::nn::{Asked, Input, Transformer, TransformerConfig};
use demask::text::uniforms::{At, Uniforms, Use};
use demask::text::{
    DecodeConfig, Decoder, DenoiseRequest, Denoiser, DrawKind, PolicyConfig, Prediction, Prompt,
    TextError,
};

use super::{Cost, Finding, Proof, Workbench};
use crate::terminal::table::Table;

const LENGTH: usize = 32;
const STEPS: usize = 500;
/// The last time of the grid.
const EPS: f64 = 1e-5;
const VOCAB: usize = 33;
const MASK: u32 = 32;

/// See the module.
pub struct CachedAncestral;

impl Proof for CachedAncestral {
    fn name(&self) -> &'static str {
        "cached-ancestral"
    }

    fn claim(&self) -> &'static str {
        "without a forward pass in the steps that reveal nothing, the samples are the same and a text \
         of L cells takes at most L forward passes"
    }

    fn paper(&self) -> &'static str {
        "MDLM 2406.07524"
    }

    fn seeds(&self) -> u64 {
        3
    }

    fn cost(&self) -> Cost {
        Cost::Seconds
    }

    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding> {
        let mut table = Table::new(["seed", "forwards", "forwards cached", "cells", "same text"]);
        let mut holds = true;
        for seed in 0..seeds {
            bench.step(format!("seed {seed}"))?;
            let network = Network::random(seed)?;
            let (plain, all) = plain(&network, seed)?;
            let (written, few) = written(&network, seed)?;
            let same = plain == written;
            holds &= same && few <= LENGTH;
            let numbers = [seed as usize, all, few, LENGTH].map(|n| n.to_string());
            table.row(
                numbers
                    .into_iter()
                    .chain([if same { "yes" } else { "no" }.to_owned()]),
            );
        }
        let settings = format!(
            "random network of 2 layers without time input, {LENGTH} cells, {STEPS} steps, \
             temperature 1, the decoder against the plain sampler"
        );
        Ok(Finding {
            table,
            holds,
            settings,
        })
    }
}

/// A network without a time input, over letters and a mask.
struct Network {
    network: Transformer,
    ids: SpecialIds,
}

impl Network {
    fn random(seed: u64) -> Result<Self> {
        let config: TransformerConfig = serde_json::from_value(serde_json::json!({
            "vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2,
            "head_dim": 16, "d_ff": 64, "max_length": LENGTH,
        }))?;
        let ids = SpecialIds {
            mask: Some(MASK),
            ..SpecialIds::default()
        };
        let network = Transformer::init(&config, seed, &Default::default())?;
        Ok(Self { network, ids })
    }

    /// The logits of these cells of one row, `[asked, VOCAB]`.
    fn logits(&self, ids: &[u32], asked: Vec<u32>) -> Result<Vec<f32>, TextError> {
        let output = self.network.forward(Input {
            asked: Asked::Rows(asked),
            ..Input::ids(ids.to_vec(), 1, ids.len())
        })?;
        let failed = |what: String| TextError::Denoiser(what);
        let logits = output
            .logits
            .ok_or_else(|| failed("the network gave no logits".into()))?;
        let data = logits.into_data().convert::<f32>();
        data.try_into_vec::<f32>()
            .map_err(|error| failed(format!("logits: {error:?}")))
    }
}

impl Denoiser for Network {
    fn kind(&self) -> ModelKind {
        ModelKind::Masked
    }

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn ids(&self) -> &SpecialIds {
        &self.ids
    }

    fn max_length(&self) -> usize {
        LENGTH
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        Ok(Prediction::of_logits(
            self.logits(&request.ids, request.asked.clone())?,
            request.key_lengths.clone(),
        ))
    }
}

/// What the decoder writes, and the forward passes it took.
fn written(network: &Network, seed: u64) -> Result<(Vec<u32>, usize)> {
    let config = DecodeConfig {
        length: LENGTH,
        steps: STEPS,
        policy: PolicyConfig::Ancestral { eps: EPS },
        temperature: 1.0,
        draw: DrawKind::Categorical,
        seed,
        ..DecodeConfig::default()
    };
    let texts = Decoder::new(network, config)?.run(&[Prompt::default()], &mut ())?;
    Ok((texts[0].ids.clone(), texts[0].forwards))
}

/// What the plain sampler writes with the same random numbers, and the forward passes it took.
fn plain(network: &Network, seed: u64) -> Result<(Vec<u32>, usize)> {
    let noise = Noise::new(seed);
    let mut ids = vec![MASK; LENGTH];
    for step in 0..=STEPS {
        let logits = network.logits(&ids, (0..LENGTH as u32).collect())?;
        let [t, s] = [step, step + 1].map(|i| grid_time(i, STEPS, EPS));
        for (cell, row) in logits.chunks(VOCAB).enumerate() {
            if ids[cell] != MASK {
                continue;
            }
            let mut row = row.to_vec();
            row[MASK as usize] = f32::NEG_INFINITY;
            let uniform = |purpose| {
                let at = At {
                    sample: 0,
                    step,
                    cell,
                    purpose,
                };
                noise.at(at, 1)[0]
            };
            if step == STEPS {
                // MDLM's noise removal.
                ids[cell] = sampling::argmax(&row) as u32;
            } else if uniform(Use::Reveal) < Absorbing::reveal_chance(s, t) {
                let p = sampling::softmax(&row, 1.0);
                ids[cell] = sampling::categorical(&p, uniform(Use::Token)) as u32;
            }
        }
    }
    Ok((ids, STEPS + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_holds_and_passes_are_spared() {
        let finding = CachedAncestral.run(3, &mut Workbench::quiet()).unwrap();
        assert!(finding.holds, "{}", finding.table.text(None));
        assert_eq!(finding.table.rows[0][1], (STEPS + 1).to_string());
    }
}
