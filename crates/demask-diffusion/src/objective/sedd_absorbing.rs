//! Score entropy on the absorbing graph (SEDD 2310.16834, equation 9 and `graph_lib.Absorbing`).
//!
//! The network gives log-scores `ln s_y ~ ln p_t(y)/p_t(x_t)`. With `e1 = expm1(sigma)` a masked cell costs
//!
//! `sigma' { sum_{y != M} s_y - (1/e1) ln s_{x_0} + (1/e1) (ln(1/e1) - 1) }`
//!
//! and written cells cost nothing. `scale_by_sigma` first takes `ln e1 + ln(D-1)` off the raw outputs, `D` being the
//! columns with the mask; the published test `sigma < 0.5` between `expm1` and `exp - 1` guards `f32` and falls away in
//! `f64`.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::masking::{Masking, condition};
use super::{
    Corrupted, LossInput, Normalise, Objective, Vocabulary, Wanted, column, indices, logits_of,
};
use crate::schedule::{Convention, Draw, Reshape, Schedule, ScheduleConfig, TimeSampling};
use crate::{DiffusionError, Ids, Noise, Result};

/// Settings of [`SeddAbsorbing`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeddAbsorbingConfig {
    /// Noise level as a function of time.
    pub schedule: ScheduleConfig,
    /// How times are drawn; `reshape` must be `none`.
    pub time: TimeSampling,
    /// Whether the raw outputs are taken relative to `ln expm1(sigma) + ln(D-1)`, with `D` tokens in the vocabulary.
    pub scale_by_sigma: bool,
    /// Whether the network is told the total noise.
    pub time_input: bool,
    /// What the summed loss is divided by. SEDD itself averages sums over sequences: `batch`.
    pub normalise: Normalise,
}

impl Default for SeddAbsorbingConfig {
    fn default() -> Self {
        Self {
            schedule: ScheduleConfig::loglinear(Convention::Mdlm),
            time: TimeSampling {
                draw: Draw::Independent,
                ..TimeSampling::default()
            },
            scale_by_sigma: true,
            time_input: true,
            normalise: Normalise::Tokens,
        }
    }
}

/// Denoising score entropy with a mask.
#[derive(Clone, Debug)]
pub struct SeddAbsorbing {
    masking: Masking,
    scale_by_sigma: bool,
    time_input: bool,
    normalise: Normalise,
}

/// The score objectives read the schedule at each row's time, which a reshaped draw does not allow.
pub(crate) fn plain_time(time: &TimeSampling) -> Result<()> {
    if time.reshape == Reshape::None {
        return Ok(());
    }
    let reason = "this objective's loss is not a weighted cross-entropy: use reshape = \"none\"";
    Err(DiffusionError::setting("reshape", time.reshape, reason))
}

/// Scores, and the bound under uniform noise, divide by what is left of a text: at `alpha = 0` they are no number.
/// Noise only grows, and a time drawn from a window that begins before its end lies before the end.
pub(crate) fn something_left(time: &TimeSampling, schedule: &dyn Schedule) -> Result<()> {
    if schedule.alpha(time.min) > 0.0 {
        return Ok(());
    }
    let reason = "leaves nothing of a text at any time of the window, where this objective has no loss; begin earlier";
    Err(DiffusionError::setting("min", time.min, reason))
}

impl SeddAbsorbing {
    /// The objective on a vocabulary with a mask.
    pub fn new(config: &SeddAbsorbingConfig, vocabulary: Vocabulary) -> Result<Self> {
        plain_time(&config.time)?;
        let masking = Masking::new(config.schedule.build()?, config.time, vocabulary)?;
        something_left(&config.time, &*masking.schedule)?;
        Ok(Self {
            masking,
            scale_by_sigma: config.scale_by_sigma,
            time_input: config.time_input,
            normalise: config.normalise,
        })
    }

    /// The schedule, which turning raw outputs into scores needs.
    pub fn schedule(&self) -> &Arc<dyn Schedule> {
        &self.masking.schedule
    }

    /// What is taken off the raw outputs at total noise `sigma` with `columns` outputs.
    pub fn offset(&self, sigma: f64, columns: usize) -> f64 {
        if self.scale_by_sigma {
            sigma.exp_m1().ln() + (columns as f64 - 1.0).ln()
        } else {
            0.0
        }
    }
}

impl Objective for SeddAbsorbing {
    fn name(&self) -> &'static str {
        "sedd_absorbing"
    }

    fn wants(&self) -> Wanted {
        Wanted::Logits
    }

    fn is_bound(&self) -> bool {
        self.masking.bounds(self.normalise)
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        let moments = self.masking.moments(x0, loss_cells, noise)?;
        let schedule = self.schedule().clone();
        let mut corrupted = self
            .masking
            .hide(x0, loss_cells, noise, &moments, |moment| {
                schedule.sigma_rate(moment.t)
            })?;
        corrupted.forbidden = None;
        corrupted.sigma = condition(self.time_input, &moments);
        Ok(corrupted.normalised(self.normalise, loss_cells, x0.length()))
    }

    fn loss(&self, prediction: LossInput, corrupted: &Corrupted) -> Result<Tensor<1>> {
        let logits = logits_of(self.name(), prediction, corrupted)?;
        let [rows, columns] = logits.dims();
        let mask = self.masking.mask() as usize;
        if mask >= columns {
            return Err(DiffusionError::shape(
                "logits",
                "a column for the mask",
                [rows, columns],
            ));
        }
        let sigma: Vec<f64> = corrupted
            .row_time
            .iter()
            .map(|&t| self.schedule().sigma(t))
            .collect();
        let offset: Vec<f64> = sigma
            .iter()
            .map(|&sigma| self.offset(sigma, columns))
            .collect();
        let inverse: Vec<f64> = sigma.iter().map(|sigma| 1.0 / sigma.exp_m1()).collect();
        let constant: Vec<f64> = inverse.iter().map(|r| r * (r.ln() - 1.0)).collect();

        let offset = column(&offset, &logits).reshape([rows, 1]);
        let inverse = column(&inverse, &logits);
        let constant = column(&constant, &logits);
        let weight = column(&corrupted.weight, &logits);
        let target = indices(&corrupted.target, &logits);
        // The entry of the token that stands there, the mask, is no ratio: exp(-inf) takes it out of the sum.
        let mut bar = vec![0.0; columns];
        bar[mask] = f64::NEG_INFINITY;
        let options = (&logits.device(), logits.dtype());
        let bar = Tensor::<2>::from_data(TensorData::new(bar, [1, columns]), options);

        let log_score = logits - offset;
        let own = log_score.clone().gather(1, target).reshape([rows]);
        let sum = (log_score + bar).exp().sum_dim(1).reshape([rows]);
        Ok((sum - own * inverse + constant) * weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn objective(scale_by_sigma: bool) -> SeddAbsorbing {
        let config = SeddAbsorbingConfig {
            schedule: ScheduleConfig::default(),
            scale_by_sigma,
            ..SeddAbsorbingConfig::default()
        };
        SeddAbsorbing::new(&config, Vocabulary::masked(3, 2)).unwrap()
    }

    fn loss(objective: &SeddAbsorbing, row: [f32; 3]) -> f32 {
        let mut c = objective
            .corrupt(&Ids::filled(1, 1, 0), &[true], &Noise::new(0))
            .unwrap();
        c.asked = vec![0];
        c.target = vec![0];
        c.row_time = vec![0.5];
        c.weight = vec![2.0];
        let logits = Tensor::<2>::from_data([row], &Device::flex());
        objective
            .loss(LossInput::Logits(logits), &c)
            .unwrap()
            .into_scalar()
    }

    #[test]
    fn by_hand() {
        // p = t = 1/2: sigma = ln 2, e1 = 1, sigma' = 2. Scores (2, 3): 2 { 5 - ln 2 + (0 - 1) } = 8 - 2 ln 2.
        let found = loss(&objective(false), [2f32.ln(), 3f32.ln(), 9.0]);
        assert!((found - 6.613_706).abs() < 1e-5, "{found}");
        // Scaled: ln e1 = 0, ln(D-1) = ln 2 comes off: scores (1, 1.5): 2 { 2.5 - 0 - 1 } = 3.
        let found = loss(&objective(true), [2f32.ln(), 3f32.ln(), 9.0]);
        assert!((found - 3.0).abs() < 1e-5, "{found}");
    }

    #[test]
    fn the_true_score_costs_nothing() {
        // One possible token: the true ratio is 1/e1 = 1 on it and 0 elsewhere.
        let found = loss(&objective(false), [0.0, -60.0, 0.0]);
        assert!(found.abs() < 1e-6, "{found}");
    }

    #[test]
    fn reshaped_times_are_refused() {
        let time = TimeSampling {
            reshape: Reshape::Importance,
            ..TimeSampling::default()
        };
        let config = SeddAbsorbingConfig {
            time,
            ..SeddAbsorbingConfig::default()
        };
        assert!(SeddAbsorbing::new(&config, Vocabulary::masked(3, 2)).is_err());
    }
}
