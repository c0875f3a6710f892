//! The bound of a perfect denoiser is the entropy, whatever the schedule (MDLM 2406.07524, section
//! 3.5), in a world of 64 sequences where both are known.

use anyhow::Result;
use demask::diffusion::Noise;
use demask::diffusion::objective::ObjectiveConfig;
use demask::diffusion::objective::bd3::Bd3Config;
use demask::diffusion::objective::mdlm::MdlmConfig;
use demask::diffusion::schedule::{ScheduleConfig, TimeSampling};
use demask::diffusion::toy::{Toy, schedules};

use super::{Cost, Finding, Proof, Workbench};
use crate::terminal::table::Table;

const BATCHES: usize = 200;
const BATCH: usize = 128;
/// Standard errors that the mean may be away from the entropy.
const WITHIN: f64 = 3.0;

/// See the module.
pub struct Exactness;

impl Proof for Exactness {
    fn name(&self) -> &'static str {
        "exactness"
    }

    fn claim(&self) -> &'static str {
        "for every schedule the Monte-Carlo bound of a perfect denoiser equals the entropy within 3 \
         standard errors"
    }

    fn paper(&self) -> &'static str {
        "MDLM 2406.07524, section 3.5; BD3-LM 2503.09573"
    }

    fn seeds(&self) -> u64 {
        3
    }

    fn cost(&self) -> Cost {
        Cost::Seconds
    }

    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding> {
        let toy = Toy::example();
        let entropy = toy.entropy();
        let mut table = Table::new(["objective", "schedule", "bound", "entropy", "±", "off by ±"]);
        let mut holds = true;
        for config in objectives()? {
            let schedule = schedule_of(&config)?;
            bench.step(format!("{} {schedule}", config.kind()))?;
            // The seeds of a row are one long experiment: its means are pooled.
            let mut mean = 0.0;
            let mut variance = 0.0;
            for seed in 0..seeds {
                let found = toy.bound(&config, BATCHES, BATCH, &Noise::new(seed))?;
                mean += found.mean / seeds as f64;
                variance += found.standard_error.powi(2) / (seeds * seeds) as f64;
            }
            let off = (mean - entropy) / variance.sqrt();
            holds &= off.abs() <= WITHIN;
            let numbers = [mean, entropy, variance.sqrt()].map(|x| format!("{x:.5}"));
            let [mean, entropy, error] = numbers;
            table.row([
                config.kind(),
                &schedule,
                &mean,
                &entropy,
                &error,
                &format!("{off:+.2}"),
            ]);
        }
        let settings = format!(
            "3 cells, 4 letters, nats a sequence; {seeds} seed(s) of {BATCHES} batches of {BATCH}; ends of 1e-6, where \
             the conventions of a schedule all but meet, geometric from 1e-5 to 20, linear from 0 to 12"
        );
        Ok(Finding {
            table,
            holds,
            settings,
        })
    }
}

/// MDLM with every schedule, and block diffusion.
fn objectives() -> Result<Vec<ObjectiveConfig>> {
    let mut all = Vec::new();
    for schedule in schedules() {
        let time = times(&schedule)?;
        all.push(ObjectiveConfig::Mdlm(MdlmConfig {
            schedule,
            time,
            ..MdlmConfig::default()
        }));
    }
    for block in [1, 2] {
        let time = times(&ScheduleConfig::default())?;
        let config = Bd3Config {
            block,
            time,
            ignore_bos: false,
            ..Bd3Config::default()
        };
        all.push(ObjectiveConfig::Bd3(config));
    }
    Ok(all)
}

/// Times from a masked share of at most 1e-4 on: what lies below is worth less than 1e-3 nats, and
/// the weights stay tame.
fn times(schedule: &ScheduleConfig) -> Result<TimeSampling> {
    let first = schedule.build()?.time_at(1e-4);
    Ok(TimeSampling {
        min: first.min(1e-4),
        ..TimeSampling::default()
    })
}

/// A schedule in one word, with the settings that tell it from its kin.
fn schedule_of(config: &ObjectiveConfig) -> Result<String> {
    let value = serde_json::to_value(config)?;
    let Some(schedule) = value.get("schedule").and_then(|s| s.as_object()) else {
        return Ok("-".to_owned());
    };
    let word = |key: &str| schedule.get(key).map(|v| v.to_string().replace('"', ""));
    let settings = ["convention", "exponent"].into_iter().filter_map(word);
    let block = value.get("block").map(|block| format!("block {block}"));
    let words: Vec<String> = word("kind")
        .into_iter()
        .chain(settings)
        .chain(block)
        .collect();
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_holds() {
        let finding = Exactness.run(1, &mut Workbench::quiet()).unwrap();
        assert!(finding.holds, "{}", finding.table.text(None));
        assert!(finding.table.rows.len() >= 12);
    }
}
