//! Keeping the last prediction until a token changes gives the samples of the plain ancestral
//! sampler with at most one forward pass a cell (MDLM 2406.07524, `ddpm_cache`).

use std::sync::Arc;

use anyhow::{Context, Result};
use demask::diffusion::process::Absorbing;
use demask::diffusion::schedule::ScheduleConfig;
use demask::diffusion::solver::{Ancestral, Cells, ForwardCache, ReverseStep, Rows, time_grid};
use demask::diffusion::{Ids, Noise, sampling};
use demask::nn::{Input, Transformer, TransformerConfig};

use super::{Cost, Finding, Proof, Workbench};
use crate::terminal::table::Table;

const LENGTH: usize = 32;
const STEPS: usize = 500;
const VOCAB: usize = 33;
const MASK: u32 = 32;

/// See the module.
pub struct CachedAncestral;

impl Proof for CachedAncestral {
    fn name(&self) -> &'static str {
        "cached-ancestral"
    }

    fn claim(&self) -> &'static str {
        "with the last prediction kept until a token changes, the samples are the same and a text of \
         L cells takes at most L forward passes"
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
            let network = network(seed)?;
            let (plain, all) = sample(&network, seed, false)?;
            let (cached, few) = sample(&network, seed, true)?;
            let same = plain == cached;
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
             log-linear schedule"
        );
        Ok(Finding {
            table,
            holds,
            settings,
        })
    }
}

fn network(seed: u64) -> Result<Transformer> {
    let config: TransformerConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": VOCAB, "d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2,
        "head_dim": 16, "d_ff": 64, "max_length": LENGTH,
    }))?;
    Ok(Transformer::init(&config, seed, &Default::default())?)
}

/// A text and the forward passes it took.
fn sample(network: &Transformer, seed: u64, cached: bool) -> Result<(Vec<u32>, usize)> {
    let schedule = ScheduleConfig::default().build()?;
    let process = Arc::new(Absorbing::new(VOCAB, MASK)?);
    let ancestral = Ancestral::new(process, schedule, Some(MASK));
    let positions: Vec<u32> = (0..LENGTH as u32).collect();
    let noise = Noise::new(seed);
    let mut ids = vec![MASK; LENGTH];
    let mut cache = ForwardCache::new();
    let mut probabilities = Vec::new();
    let mut forwards = 0;
    let grid = time_grid(STEPS, 1e-5);
    for step in 0..grid.len() {
        let seen = Ids::new(1, LENGTH, ids.clone())?;
        // With no mask left every cell is copied, whatever the network says.
        let open = ids.contains(&MASK);
        if !cached || (open && cache.needs_forward(&seen)) {
            probabilities = predict(network, &ids)?;
            forwards += 1;
        }
        let rows = Rows::f64(&probabilities, VOCAB)?;
        let cells = Cells {
            ids: &ids,
            positions: &positions,
            noise: noise.child(step as u64),
        };
        ids = match grid.get(step + 1) {
            Some(&next) => ancestral.step(rows, &cells, next, grid[step])?,
            None => ancestral.last(rows, &cells, grid[step])?,
        };
    }
    Ok((ids, forwards))
}

/// Distributions over the tokens of every cell, the mask left out.
fn predict(network: &Transformer, ids: &[u32]) -> Result<Vec<f64>> {
    let output = network.forward(Input::ids(ids.to_vec(), 1, LENGTH))?;
    let logits = output.logits.context("the network gave no logits")?;
    let data = logits.into_data().convert::<f64>();
    let values = data
        .as_slice::<f64>()
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let rows = values.chunks(VOCAB).flat_map(|row| {
        let mut row = row.to_vec();
        row[MASK as usize] = f64::NEG_INFINITY;
        sampling::softmax(&row, 1.0)
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_holds_and_the_cache_spares_passes() {
        let finding = CachedAncestral.run(3, &mut Workbench::quiet()).unwrap();
        assert!(finding.holds, "{}", finding.table.text(None));
        assert_eq!(finding.table.rows[0][1], (STEPS + 1).to_string());
    }
}
