//! Diffusion that starts from an autoregressive network and keeps its shift (DiffuLLaMA 2410.17891; Dream 2508.15487).
//!
//! The logits at `i` predict token `i+1`: `logits := [l_0, l_0, l_1, ..]`, attention is full, cells are hidden with `p = t`.
//! The network applies the shift; the asked rows are the hidden cells themselves. The loss is the average over the
//! *masked* cells of `w CE`, with `w = 1/t` (DiffuLLaMA) or the CART weights (Dream), which replace `1/t`.
//!
//! Readings: CART counts every written cell of the row as context, prompt and padding included; its `p` is 0.1 in
//! Dream-Coder's fine-tuning configuration (0.8 is its code's default, 0.3 that of the `dllm` trainer). Annealing the
//! causal mask is the trainer's business (`init.anneal` of a recipe). The mask is no candidate of the softmax; DiffuLLaMA
//! and Dream leave it in.

use serde::{Deserialize, Serialize};

use super::masking::Masking;
use super::{Corrupted, Normalise, Objective, Vocabulary, cart};
use crate::schedule::{Draw, ScheduleConfig, TimeSampling};
use crate::{DiffusionError, Ids, Noise, Result};

/// How a hidden cell is weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenWeight {
    /// By `1/t` (DiffuLLaMA).
    #[default]
    InverseTime,
    /// Every cell alike.
    Equal,
    /// By its written neighbours (CART of Dream).
    ///
    /// See [`cart::weights`].
    Cart {
        /// How fast a neighbour's help fades with distance, above 0 and at most 1.
        #[serde(default = "cart_p")]
        p: f64,
    },
}

fn cart_p() -> f64 {
    0.1
}

/// Settings of [`Shifted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ShiftedConfig {
    /// How a hidden cell is weighted.
    pub weight: TokenWeight,
    /// How times are drawn.
    pub time: TimeSampling,
    /// What the summed loss is divided by.
    pub normalise: Normalise,
}

impl Default for ShiftedConfig {
    fn default() -> Self {
        Self {
            weight: TokenWeight::InverseTime,
            time: TimeSampling {
                draw: Draw::Independent,
                ..TimeSampling::default()
            },
            normalise: Normalise::Masked,
        }
    }
}

/// Masked diffusion with the shift of an autoregressive network.
#[derive(Clone, Debug)]
pub struct Shifted {
    masking: Masking,
    config: ShiftedConfig,
}

impl Shifted {
    /// The objective on a vocabulary with a mask.
    pub fn new(config: &ShiftedConfig, vocabulary: Vocabulary) -> Result<Self> {
        if let TokenWeight::Cart { p } = config.weight
            && !(p > 0.0 && p <= 1.0)
        {
            return Err(DiffusionError::setting("p", p, "must lie in (0, 1]"));
        }
        let masking = Masking::new(ScheduleConfig::default().build()?, config.time, vocabulary)?;
        Ok(Self {
            masking,
            config: config.clone(),
        })
    }
}

impl Objective for Shifted {
    fn name(&self) -> &'static str {
        "shifted"
    }

    fn shifted(&self) -> bool {
        true
    }

    fn is_bound(&self) -> bool {
        self.config.weight == TokenWeight::InverseTime && self.masking.bounds(self.config.normalise)
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        let moments = self.masking.moments(x0, loss_cells, noise)?;
        let weight = self.config.weight;
        let mut c = self
            .masking
            .hide(x0, loss_cells, noise, &moments, |moment| match weight {
                TokenWeight::InverseTime => moment.weight,
                TokenWeight::Equal | TokenWeight::Cart { .. } => 1.0,
            })?;
        if let TokenWeight::Cart { p } = weight {
            let mask = self.masking.mask();
            let all: Vec<f64> = (0..x0.batch())
                .flat_map(|b| {
                    let row = c.input.row(b);
                    let written: Vec<bool> = row.iter().map(|&id| id != mask).collect();
                    cart::weights(&written, p)
                })
                .collect();
            c.weight = c.cell.iter().map(|&cell| all[cell as usize]).collect();
        }
        Ok(c.normalised(self.config.normalise, loss_cells, x0.length()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(weight: TokenWeight) -> Corrupted {
        let config = ShiftedConfig {
            weight,
            ..ShiftedConfig::default()
        };
        let objective = Shifted::new(&config, Vocabulary::masked(9, 8)).unwrap();
        assert!(objective.shifted());
        objective
            .corrupt(&Ids::filled(2, 12, 1), &[true; 24], &Noise::new(7))
            .unwrap()
    }

    #[test]
    fn averages_over_the_masked_cells() {
        let c = run(TokenWeight::InverseTime);
        assert!(!c.asked.is_empty());
        assert_eq!(c.normaliser, c.asked.len() as f64);
        assert!(
            c.weight
                .iter()
                .zip(&c.row_time)
                .all(|(w, t)| (w - 1.0 / t).abs() < 1e-12)
        );
    }

    #[test]
    fn cart_weights_replace_the_time_weight() {
        let c = run(TokenWeight::Cart { p: 0.3 });
        let written: Vec<bool> = c.input.row(0).iter().map(|&id| id != 8).collect();
        let wanted = cart::weights(&written, 0.3);
        for i in (0..c.asked.len()).filter(|&i| c.cell[i] < 12) {
            assert_eq!(c.weight[i], wanted[c.cell[i] as usize]);
        }
        assert!(run(TokenWeight::Equal).weight.iter().all(|&w| w == 1.0));
    }

    #[test]
    fn bad_p_is_an_error() {
        let config = ShiftedConfig {
            weight: TokenWeight::Cart { p: 0.0 },
            ..ShiftedConfig::default()
        };
        assert!(Shifted::new(&config, Vocabulary::masked(9, 8)).is_err());
    }
}
