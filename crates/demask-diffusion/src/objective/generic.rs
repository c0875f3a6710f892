//! Masked diffusion with any schedule and normaliser, as the `dllm` trainer writes it.
//!
//! Weight `-alpha'/(1 - alpha + 1e-6)`; the sum is divided by tokens, sequences (each by its own length first) or the
//! batch.

use serde::{Deserialize, Serialize};

use super::masking::{Masking, condition};
use super::sedd_absorbing::plain_time;
use super::{Attention, Corrupted, Normalise, Objective, Vocabulary};
use crate::schedule::{Draw, ScheduleConfig, TimeSampling};
use crate::{Ids, Noise, Result};

/// Keeps the weight finite at `t = 0`.
const FLOOR: f64 = 1e-6;

/// Settings of [`Generic`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GenericConfig {
    /// Noise level as a function of time.
    pub schedule: ScheduleConfig,
    /// How times are drawn; `reshape` must be `none`.
    pub time: TimeSampling,
    /// Masked cells have the weight of the schedule (`true`) or 1.
    pub weighted: bool,
    /// Whether the network predicts cell `i` from position `i-1`.
    pub shift: bool,
    /// Whether the network is told the total noise.
    pub time_input: bool,
    /// What the summed loss is divided by.
    pub normalise: Normalise,
}

impl Default for GenericConfig {
    fn default() -> Self {
        Self {
            schedule: ScheduleConfig::default(),
            time: TimeSampling {
                draw: Draw::Independent,
                ..TimeSampling::default()
            },
            weighted: true,
            shift: false,
            time_input: false,
            normalise: Normalise::Tokens,
        }
    }
}

/// Masked diffusion with every choice open.
#[derive(Clone, Debug)]
pub struct Generic {
    masking: Masking,
    config: GenericConfig,
}

impl Generic {
    /// The objective on a vocabulary with a mask.
    pub fn new(config: &GenericConfig, vocabulary: Vocabulary) -> Result<Self> {
        plain_time(&config.time)?;
        let masking = Masking::new(config.schedule.build()?, config.time, vocabulary)?;
        Ok(Self {
            masking,
            config: config.clone(),
        })
    }
}

impl Objective for Generic {
    fn name(&self) -> &'static str {
        "generic"
    }

    fn attention(&self) -> Attention {
        Attention::Full
    }

    fn shifted(&self) -> bool {
        self.config.shift
    }

    fn is_bound(&self) -> bool {
        self.config.weighted && self.masking.bounds(self.config.normalise)
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        let moments = self.masking.moments(x0, loss_cells, noise)?;
        let schedule = self.masking.schedule.clone();
        let weighted = self.config.weighted;
        let mut c = self
            .masking
            .hide(x0, loss_cells, noise, &moments, |moment| {
                if weighted {
                    schedule.p_rate(moment.t) / (moment.p + FLOOR)
                } else {
                    1.0
                }
            })?;
        c.sigma = condition(self.config.time_input, &moments);
        Ok(c.normalised(self.config.normalise, loss_cells, x0.length()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(normalise: Normalise) -> Corrupted {
        let config = GenericConfig {
            normalise,
            ..GenericConfig::default()
        };
        let objective = Generic::new(&config, Vocabulary::masked(9, 8)).unwrap();
        let cells: Vec<bool> = (0..24).map(|i| i % 12 < 6 || i >= 12).collect();
        objective
            .corrupt(&Ids::filled(2, 12, 1), &cells, &Noise::new(11))
            .unwrap()
    }

    #[test]
    fn weights_and_normalisers() {
        let c = run(Normalise::Tokens);
        assert_eq!(c.normaliser, 18.0);
        assert!(
            c.weight
                .iter()
                .zip(&c.row_time)
                .all(|(w, t)| (w - 1.0 / (t + 1e-6)).abs() < 1e-9)
        );
        assert_eq!(run(Normalise::Batch).normaliser, 2.0);
        assert_eq!(run(Normalise::Masked).normaliser, c.asked.len() as f64);
        let by = run(Normalise::Sequence);
        assert_eq!(by.normaliser, 2.0);
        for i in 0..c.asked.len() {
            let answer = if c.cell[i] < 12 { 6.0 } else { 12.0 };
            assert!((by.weight[i] - c.weight[i] / answer).abs() < 1e-12);
        }
    }
}
