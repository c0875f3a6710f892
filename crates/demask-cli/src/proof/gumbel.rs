//! Gumbel noise in `f64` draws from softmax(z/T) (LLaDA 2502.09992; why not in `f32`: 2409.02908).

use anyhow::Result;
use demask::diffusion::Noise;
use demask::text::uniforms::Numbers;
use demask::text::{Crossing, Draw, DrawKind};

use super::{Cost, Finding, Proof, Workbench};
use crate::terminal::table::Table;

const LOGITS: [f32; 8] = [2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0];
const TEMPERATURES: [f64; 3] = [0.5, 1.0, 2.0];
const DRAWS: u64 = 100_000;
/// Largest difference between a frequency and its probability.
const WITHIN: f64 = 0.01;

/// See the module.
pub struct Gumbel;

impl Proof for Gumbel {
    fn name(&self) -> &'static str {
        "gumbel"
    }

    fn claim(&self) -> &'static str {
        "over 1e5 draws on 8 logits every token's frequency is within 0.01 of softmax(z/T)"
    }

    fn paper(&self) -> &'static str {
        "LLaDA 2502.09992; 2409.02908"
    }

    fn seeds(&self) -> u64 {
        3
    }

    fn cost(&self) -> Cost {
        Cost::Seconds
    }

    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding> {
        let mut table = Table::new(["T", "seed", "token", "softmax", "frequency", "difference"]);
        let mut holds = true;
        for temperature in TEMPERATURES {
            let draw = Draw {
                temperature,
                top_p: None,
                crossing: Crossing::Keep,
                top_k: None,
                kind: DrawKind::Gumbel,
            };
            let softmax = draw.distribution(&LOGITS);
            for seed in 0..seeds {
                bench.step(format!("T = {temperature}, seed {seed}"))?;
                let counts = counts(&draw, &Noise::new(seed));
                let worst = (0..LOGITS.len())
                    .map(|token| (token, counts[token] as f64 / DRAWS as f64))
                    .max_by(|a, b| off(*a, &softmax).total_cmp(&off(*b, &softmax)));
                let Some((token, frequency)) = worst else {
                    continue;
                };
                let difference = off((token, frequency), &softmax);
                holds &= difference <= WITHIN;
                table.row([
                    temperature.to_string(),
                    seed.to_string(),
                    token.to_string(),
                    format!("{:.5}", softmax[token]),
                    format!("{frequency:.5}"),
                    format!("{difference:.5}"),
                ]);
            }
        }
        let settings = format!("{DRAWS} draws a row; the row shows the token that is farthest off");
        Ok(Finding {
            table,
            holds,
            settings,
        })
    }
}

fn off((token, frequency): (usize, f64), softmax: &[f64]) -> f64 {
    (frequency - softmax[token]).abs()
}

fn counts(draw: &Draw, noise: &Noise) -> Vec<u64> {
    let mut counts = vec![0; LOGITS.len()];
    for i in 0..DRAWS {
        let numbers = Numbers::Key(noise.child(i).key());
        counts[draw.token(&LOGITS, &numbers) as usize] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claim_holds() {
        let finding = Gumbel.run(1, &mut Workbench::quiet()).unwrap();
        assert!(finding.holds, "{}", finding.table.text(None));
    }
}
