//! Masked diffusion in `T` steps (D3PM 2107.03006; MDLM 2406.07524, appendix, `_d3pm_loss`).
//!
//! With `dt = 1/T`, `t` in `{1/T, .., 1}`, `alpha = 1 - t` and `x_M` the probability on the mask, a masked cell costs
//!
//! `T { (dt/t) [ln(alpha_t x_M/t + 1) - ln p(x_0)] + (1 - dt/t) [ln(alpha_t x_M/t + 1) - ln(alpha_s x_M/(t-dt) + 1)] }`
//!
//! Under the SUBS map `x_M = 0` and only `-ln p(x_0)/t` is left, whose step `t = 1/T` already holds the reconstruction.
//! The D3PM form predicts over the whole vocabulary and adds the reconstruction term: the cross-entropy of every cell at
//! time zero, so its input is `[2B, L]`, noisy rows first.
//!
//! Readings: tokens are hidden with `p = t` (the published code hides with `(1-1e-3) t` and keeps `alpha = 1-t` in the
//! loss); `t` is held at or below `1 - 1e-4`, as published; the grid is drawn evenly, without an `eps` at its start.

use serde::{Deserialize, Serialize};

use burn::tensor::{Tensor, activation::softmax};

use super::masking::{Masking, condition, count};
use super::{
    Corrupted, LossInput, Normalise, Objective, Row, Rows, Vocabulary, Wanted, column, logits_of,
    subs,
};
use crate::schedule::{Draw, Moment, ScheduleConfig, TimeSampling, time::moment_at};
use crate::{DiffusionError, Ids, Noise, Result, Time};

/// Largest time: keeps `ln alpha` finite.
const LAST: f64 = 1.0 - 1e-4;

/// Settings of [`D3pm`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct D3pmConfig {
    /// Number of steps `T`.
    pub steps: usize,
    /// MDLM's SUBS map (`true`) or the D3PM form with its reconstruction term.
    pub subs: bool,
    /// How the batch's times depend on each other.
    pub draw: Draw,
    /// Whether the network is told the time.
    pub time_input: bool,
    /// What the summed loss is divided by.
    pub normalise: Normalise,
}

impl Default for D3pmConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            subs: true,
            draw: Draw::Antithetic,
            time_input: false,
            normalise: Normalise::Tokens,
        }
    }
}

/// The finite-step objective.
#[derive(Clone, Debug)]
pub struct D3pm {
    masking: Masking,
    config: D3pmConfig,
}

/// The coefficients of one row: `k1 ln(a x_M + 1) - k2 ln p(x_0) - k3 ln(b x_M + 1)`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Coefficients {
    a: f64,
    b: f64,
    k1: f64,
    k2: f64,
    k3: f64,
}

impl Coefficients {
    /// At time `t` of `T` steps; `t = 0` is the reconstruction term.
    fn at(t: f64, steps: usize) -> Self {
        if t <= 0.0 {
            return Self {
                a: 0.0,
                b: 0.0,
                k1: 0.0,
                k2: 1.0,
                k3: 0.0,
            };
        }
        let (total, dt) = (steps as f64, 1.0 / steps as f64);
        let first = (dt / t).min(1.0);
        let s = t - dt;
        let b = if s > 0.0 && first < 1.0 {
            (1.0 - s) / s
        } else {
            0.0
        };
        Self {
            a: (1.0 - t) / t,
            b,
            k1: total,
            k2: total * first,
            k3: total * (1.0 - first),
        }
    }
}

impl D3pm {
    /// The objective on a vocabulary with a mask.
    pub fn new(config: &D3pmConfig, vocabulary: Vocabulary) -> Result<Self> {
        if config.steps == 0 {
            return Err(DiffusionError::setting("steps", 0, "must be at least 1"));
        }
        let time = TimeSampling {
            draw: config.draw,
            min: 0.0,
            ..TimeSampling::default()
        };
        let masking = Masking::new(ScheduleConfig::default().build()?, time, vocabulary)?;
        Ok(Self {
            masking,
            config: config.clone(),
        })
    }

    /// The grid point of a continuous time in `(0, 1)`.
    fn on_grid(&self, t: f64) -> f64 {
        let steps = self.config.steps as f64;
        (((t * steps).floor() + 1.0) / steps).min(LAST)
    }

    /// Adds the clean rows at time zero.
    fn with_reconstruction(&self, noisy: Corrupted, x0: &Ids, loss_cells: &[bool]) -> Corrupted {
        let (batch, length) = (x0.batch(), x0.length());
        let mut rows = Rows {
            asked: noisy.asked,
            target: noisy.target,
            present: noisy.present,
            row_time: noisy.row_time,
            cell: noisy.cell,
            weight: noisy.weight,
        };
        for (cell, &id) in x0
            .data()
            .iter()
            .enumerate()
            .filter(|&(cell, _)| loss_cells[cell])
        {
            let asked = batch * length + cell;
            rows.push(Row {
                asked,
                cell,
                target: id,
                present: id,
                time: 0.0,
                weight: 1.0,
            });
        }
        let (input, time) = below(noisy.input, x0, &noisy.time);
        rows.finish(input, time, noisy.scored)
    }
}

/// `[noisy; clean]` stacked by rows, the clean rows at time zero.
pub(crate) fn below(noisy: Ids, clean: &Ids, time: &Time) -> (Ids, Time) {
    let mut ids = Ids::filled(2 * clean.batch(), clean.length(), 0);
    let cells = clean.data().len();
    ids.data_mut()[..cells].copy_from_slice(noisy.data());
    ids.data_mut()[cells..].copy_from_slice(clean.data());
    let mut times = time.data().to_vec();
    times.resize(2 * clean.batch(), 0.0);
    (ids, Time::per_sequence(times))
}

impl Objective for D3pm {
    fn name(&self) -> &'static str {
        "d3pm"
    }

    fn wants(&self) -> Wanted {
        if self.config.subs {
            Wanted::CrossEntropy
        } else {
            Wanted::Logits
        }
    }

    /// The steps cover all noise levels, whatever their number.
    fn is_bound(&self) -> bool {
        self.config.normalise != Normalise::Sequence
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        let schedule = &*self.masking.schedule;
        let mut moments: Vec<Moment> = self
            .masking
            .moments(x0, loss_cells, noise)?
            .iter()
            .map(|moment| moment_at(schedule, self.on_grid(moment.t)))
            .collect();
        let subs = self.config.subs;
        let weight = |moment: &Moment| {
            if subs {
                Coefficients::at(moment.t, self.config.steps).k2
            } else {
                1.0
            }
        };
        let mut corrupted = self.masking.hide(x0, loss_cells, noise, &moments, weight)?;
        if !subs {
            corrupted = self.with_reconstruction(corrupted, x0, loss_cells);
            let zero = moment_at(schedule, 0.0);
            moments.resize(2 * x0.batch(), zero);
        }
        debug_assert_eq!(corrupted.scored, count(loss_cells));
        corrupted.sigma = condition(self.config.time_input, &moments);
        Ok(corrupted.normalised(self.config.normalise, loss_cells, x0.length()))
    }

    fn loss(&self, prediction: LossInput, corrupted: &Corrupted) -> Result<Tensor<1>> {
        if self.config.subs {
            return subs::weighted_cross_entropy(prediction, corrupted);
        }
        let logits = logits_of(self.name(), prediction, corrupted)?;
        let rows = logits.dims()[0];
        let mask = self.masking.mask() as usize;
        if mask >= logits.dims()[1] {
            return Err(DiffusionError::shape(
                "logits",
                "a column for the mask",
                logits.dims(),
            ));
        }
        let steps = self.config.steps;
        let all: Vec<Coefficients> = corrupted
            .row_time
            .iter()
            .map(|&t| Coefficients::at(t, steps))
            .collect();
        let part = |pick: fn(&Coefficients) -> f64| {
            let values: Vec<f64> = all.iter().map(pick).collect();
            column(&values, &logits)
        };
        let (a, b) = (part(|c| c.a), part(|c| c.b));
        let (k1, k2, k3) = (part(|c| c.k1), part(|c| c.k2), part(|c| c.k3));
        let weight = column(&corrupted.weight, &logits);
        let on_mask = softmax(logits.clone(), 1)
            .narrow(1, mask, 1)
            .reshape([rows]);
        let entropy = subs::cross_entropy(logits, &corrupted.target, None)?;
        let loss = (on_mask.clone() * a).log1p() * k1 + entropy * k2 - (on_mask * b).log1p() * k3;
        Ok(loss * weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn objective(steps: usize, subs: bool) -> D3pm {
        let config = D3pmConfig {
            steps,
            subs,
            ..D3pmConfig::default()
        };
        D3pm::new(&config, Vocabulary::masked(3, 2)).unwrap()
    }

    #[test]
    fn times_lie_on_the_grid() {
        let objective = objective(4, true);
        let x0 = Ids::filled(64, 2, 0);
        let c = objective
            .corrupt(&x0, &[true; 128], &Noise::new(1))
            .unwrap();
        let mut counts = [0; 4];
        for &t in c.time.data() {
            counts[(t * 4.0).round() as usize - 1] += 1;
            assert!([0.25, 0.5, 0.75, LAST].contains(&t));
        }
        assert_eq!(counts, [16; 4]);
        for (t, weight) in c.row_time.iter().zip(&c.weight) {
            assert!((weight - 1.0 / t).abs() < 1e-12);
        }
    }

    #[test]
    fn full_form_by_hand() {
        // T = 4, t = 1/2, logits 0: x_M = p(x_0) = 1/3, dt/t = 1/2, alpha_t/t = 1, alpha_s/s = 0.75/0.25 = 3:
        // 4 { 1/2 [ln(4/3) + ln 3] + 1/2 [ln(4/3) - ln 2] } = 4 ln(4/3) + 2 ln 3 - 2 ln 2
        let objective = objective(4, false);
        let mut c = objective
            .corrupt(&Ids::filled(1, 1, 0), &[true], &Noise::new(0))
            .unwrap();
        assert_eq!((c.input.batch(), c.input.row(1)), (2, &[0u32][..]));
        assert_eq!(c.time.at(1, 0), 0.0);
        c.asked = vec![0, 1];
        c.target = vec![0, 0];
        c.row_time = vec![0.5, 0.0];
        c.weight = vec![1.0, 1.0];
        let logits = Tensor::<2>::zeros([2, 3], &Device::flex());
        let loss = objective.loss(LossInput::Logits(logits), &c).unwrap();
        let loss: Vec<f32> = loss.into_data().try_to_vec().unwrap();
        assert!((loss[0] - 1.961_658_5).abs() < 1e-5, "{loss:?}");
        assert!((loss[1] - 3f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn the_first_step_has_no_second_term() {
        let c = Coefficients::at(0.25, 4);
        assert_eq!((c.b, c.k2, c.k3), (0.0, 4.0, 0.0));
        assert_eq!(Coefficients::at(LAST, 1).k2, 1.0);
    }

    #[test]
    fn needs_the_right_input() {
        let objective = objective(4, false);
        let c = objective
            .corrupt(&Ids::filled(1, 1, 0), &[true], &Noise::new(0))
            .unwrap();
        let entropy = Tensor::<1>::zeros([1], &Device::flex());
        let error = objective
            .loss(LossInput::CrossEntropy(entropy), &c)
            .unwrap_err();
        assert!(error.to_string().contains("needs the logits"));
        assert!(
            D3pm::new(
                &D3pmConfig {
                    steps: 0,
                    ..D3pmConfig::default()
                },
                Vocabulary::masked(3, 2)
            )
            .is_err()
        );
    }
}
