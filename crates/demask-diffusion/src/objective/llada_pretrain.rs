//! LLaDA's pre-training (2502.09992, section 2.2 and the published guidelines).
//!
//! `t ~ U(0,1)` a sequence, `p = (1-eps) t + eps`, each cell masked with `p`, and `L = 1/(B L) sum_{masked} CE / p`. In
//! one batch of a hundred the length is cut to `U{1..4096}`.
//!
//! Readings: the weight is `1/p` as published, not the schedule's `(1-eps)/p`, which makes the loss larger by the
//! factor `1/(1-eps)`: still a bound. The cut is drawn once for a batch; its upper end is the batch's own length. The mask is no candidate of
//! the softmax ([`Corrupted::forbidden`]), where the published code leaves it in: no target is a mask, so that the loss
//! here is never larger.

use serde::{Deserialize, Serialize};

use super::masking::{Masking, OTHER};
use super::{Corrupted, Normalise, Objective, Vocabulary};
use crate::schedule::{Convention, Draw, ScheduleConfig, TimeSampling, fraction};
use crate::{DiffusionError, Ids, Noise, Result};

/// Settings of [`LladaPretrain`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LladaPretrainConfig {
    /// Smallest chance of a mask, in [0, 1).
    pub eps: f64,
    /// How the batch's times depend on each other; LLaDA draws each alone.
    pub draw: Draw,
    /// Share of batches whose length is cut at random, in [0, 1]; 0 turns it off.
    pub random_length: f64,
    /// What the summed loss is divided by.
    pub normalise: Normalise,
}

impl Default for LladaPretrainConfig {
    fn default() -> Self {
        Self {
            eps: 1e-3,
            draw: Draw::Independent,
            random_length: 0.01,
            normalise: Normalise::Tokens,
        }
    }
}

/// LLaDA's masking at `p = (1-eps) t + eps`.
pub(crate) fn masking(eps: f64, draw: Draw, vocabulary: Vocabulary) -> Result<Masking> {
    let schedule = ScheduleConfig::Loglinear {
        convention: Convention::Llada,
        eps,
    }
    .build()?;
    let time = TimeSampling {
        draw,
        min: 0.0,
        ..TimeSampling::default()
    };
    Masking::new(schedule, time, vocabulary)
}

/// Masked pre-training.
#[derive(Clone, Debug)]
pub struct LladaPretrain {
    masking: Masking,
    config: LladaPretrainConfig,
}

impl LladaPretrain {
    /// The objective on a vocabulary with a mask.
    pub fn new(config: &LladaPretrainConfig, vocabulary: Vocabulary) -> Result<Self> {
        if !(0.0..=1.0).contains(&config.random_length) {
            let reason = "must lie in [0, 1]";
            return Err(DiffusionError::setting(
                "random_length",
                config.random_length,
                reason,
            ));
        }
        let eps = fraction("eps", config.eps)?;
        Ok(Self {
            masking: masking(eps, config.draw, vocabulary)?,
            config: config.clone(),
        })
    }

    /// The length this batch is cut to.
    fn length(&self, whole: usize, noise: &Noise) -> usize {
        if noise.child(0).uniform() < self.config.random_length {
            1 + noise.child(1).below(whole)
        } else {
            whole
        }
    }
}

impl Objective for LladaPretrain {
    fn name(&self) -> &'static str {
        "llada_pretrain"
    }

    /// A batch that is cut leaves cells out.
    fn is_bound(&self) -> bool {
        self.config.random_length == 0.0 && self.masking.bounds(self.config.normalise)
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        let whole = x0.length();
        let moments = self.masking.moments(x0, loss_cells, noise)?;
        let weight = |moment: &crate::schedule::Moment| 1.0 / moment.p;
        let length = self.length(whole, &noise.child(OTHER));
        if length >= whole {
            let c = self.masking.hide(x0, loss_cells, noise, &moments, weight)?;
            return Ok(c.normalised(self.config.normalise, loss_cells, whole));
        }
        let rows: Vec<&[u32]> = x0.rows().map(|row| &row[..length]).collect();
        let short = Ids::from_rows(&rows)?;
        let cells: Vec<bool> = loss_cells
            .chunks(whole)
            .flat_map(|row| row[..length].iter().copied())
            .collect();
        let c = self.masking.hide(&short, &cells, noise, &moments, weight)?;
        let mut c = c.normalised(self.config.normalise, &cells, length);
        for cell in &mut c.cell {
            let (b, l) = (*cell as usize / length, *cell as usize % length);
            *cell = (b * whole + l) as u32;
        }
        Ok(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(random_length: f64) -> LladaPretrain {
        let config = LladaPretrainConfig {
            random_length,
            ..LladaPretrainConfig::default()
        };
        LladaPretrain::new(&config, Vocabulary::masked(9, 8)).unwrap()
    }

    #[test]
    fn weight_is_one_over_p() {
        let x0 = Ids::filled(4, 32, 1);
        let c = objective(0.0)
            .corrupt(&x0, &[true; 128], &Noise::new(2))
            .unwrap();
        assert_eq!((c.normaliser, c.input.length()), (128.0, 32));
        for i in 0..c.asked.len() {
            let p = 0.999 * c.row_time[i] + 0.001;
            assert!((c.weight[i] - 1.0 / p).abs() < 1e-12);
        }
    }

    #[test]
    fn lengths_are_cut() {
        let x0 = Ids::new(2, 32, (0..64).map(|i| i % 8).collect()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let c = objective(1.0)
                .corrupt(&x0, &[true; 64], &Noise::new(seed))
                .unwrap();
            let n = c.input.length();
            assert!((1..=32).contains(&n));
            assert_eq!((c.scored, c.normaliser), (2 * n, 2.0 * n as f64));
            for i in 0..c.asked.len() {
                assert_eq!(c.target[i], x0.data()[c.cell[i] as usize]);
                assert_eq!(c.asked[i] as usize % n, c.cell[i] as usize % 32);
            }
            seen.insert(n);
        }
        assert!(seen.len() > 20, "{seen:?}");
        let cut = (0..2000)
            .filter(|&seed| {
                let c = objective(0.01)
                    .corrupt(&x0, &[true; 64], &Noise::new(seed))
                    .unwrap();
                c.input.length() < 32
            })
            .count();
        assert!((5..40).contains(&cut), "{cut} of 2000 at 1 %");
    }

    #[test]
    fn settings_outside_are_errors() {
        let config = LladaPretrainConfig {
            random_length: 1.5,
            ..LladaPretrainConfig::default()
        };
        assert!(LladaPretrain::new(&config, Vocabulary::masked(9, 8)).is_err());
        let config = LladaPretrainConfig {
            eps: -0.1,
            ..LladaPretrainConfig::default()
        };
        assert!(LladaPretrain::new(&config, Vocabulary::masked(9, 8)).is_err());
    }
}
