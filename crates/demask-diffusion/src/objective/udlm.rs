//! Uniform noise in continuous time (UDLM 2412.10193, equation 18).
//!
//! With `xbar = V alpha x_0 + 1 - alpha`, `xbar_th` the same of `p_theta`, and `z = x_t`:
//!
//! `L = alpha'/(V alpha) [ V/xbar_z - V/xbar_th_z - sum_j (xbar_j/xbar_z)(ln xbar_th_z - ln xbar_th_j + ln xbar_j - ln xbar_z) ]`
//!
//! Every loss cell counts. The sum over `j` is taken apart so that only `sum_j ln xbar_th_j` runs over the vocabulary:
//! `xbar_j` is `1 - alpha` everywhere but on `x_0`, and `sum_j xbar_j = V`.
//!
//! Readings: UDLM fixes `alpha = 1 - t` (`alpha' = -1`); here the schedule is free and its default gives just that. The
//! reconstruction term (off by default, as in UDLM's runs: `zero_recon_loss`) is the cross-entropy of every cell at time
//! zero on the clean input; with it the input is `[2B, L]`, noisy rows first. `use_simple_ce_loss` trains the plain
//! cross-entropy of every cell; to report the bound, evaluate with the option off.

use std::sync::Arc;

use burn::tensor::{Tensor, activation::softmax};
use serde::{Deserialize, Serialize};

use super::d3pm::below;
use super::masking::{TIMES, condition};
use super::sedd_absorbing::{plain_time, something_left};
use super::sedd_uniform::replace;
use super::{
    Corrupted, LossInput, Normalise, Objective, Row, Rows, Vocabulary, Wanted, check_batch, column,
    indices, logits_of, subs, values_of,
};
use crate::process::{Discrete, Uniform};
use crate::schedule::{Schedule, ScheduleConfig, TimeSampling, time::moment_at};
use crate::{Ids, Noise, Result};

/// Settings of [`Udlm`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UdlmConfig {
    /// Noise level as a function of time.
    pub schedule: ScheduleConfig,
    /// How times are drawn; `reshape` must be `none`.
    pub time: TimeSampling,
    /// Drops the reconstruction term and the second half of the batch that it needs.
    pub zero_recon_loss: bool,
    /// Trains the plain cross-entropy instead of the bound.
    pub use_simple_ce_loss: bool,
    /// Whether the network is told the total noise.
    pub time_input: bool,
    /// What the summed loss is divided by.
    pub normalise: Normalise,
}

impl Default for UdlmConfig {
    fn default() -> Self {
        Self {
            schedule: ScheduleConfig::default(),
            time: TimeSampling::default(),
            zero_recon_loss: true,
            use_simple_ce_loss: false,
            time_input: true,
            normalise: Normalise::Tokens,
        }
    }
}

/// The continuous-time bound under uniform noise.
#[derive(Clone, Debug)]
pub struct Udlm {
    schedule: Arc<dyn Schedule>,
    process: Uniform,
    config: UdlmConfig,
}

impl Udlm {
    /// The objective on a vocabulary; every column of it but the mask takes part in the noise.
    pub fn new(config: &UdlmConfig, vocabulary: Vocabulary) -> Result<Self> {
        config.time.check()?;
        plain_time(&config.time)?;
        let schedule = config.schedule.build()?;
        something_left(&config.time, &*schedule)?;
        Ok(Self {
            schedule,
            process: vocabulary.uniform()?,
            config: config.clone(),
        })
    }

    /// The bound of rows whose time is above zero, unweighted, `[A]`.
    fn bound(&self, logits: Tensor<2>, corrupted: &Corrupted) -> Tensor<1> {
        let logits = values_of(logits, &self.process);
        let [rows, columns] = logits.dims();
        let v = columns as f64;
        // loss = c0 - c1/xbar_th_z - c2 ln xbar_th_z + c3 sum_j ln xbar_th_j + c4 ln xbar_th_{x_0}
        let mut alphas = Vec::with_capacity(rows);
        let mut c: [Vec<f64>; 5] = Default::default();
        for i in 0..rows {
            let t = corrupted.row_time[i];
            let (alpha, p) = (self.schedule.alpha(t), self.schedule.p(t));
            let own = v * alpha + p;
            let present = if corrupted.present[i] == corrupted.target[i] {
                own
            } else {
                p
            };
            let scale = self.schedule.alpha_rate(t) / (v * alpha);
            let entropy = (v - 1.0) * p * p.ln() + own * own.ln() - v * present.ln();
            c[0].push(scale * (v / present - entropy / present));
            c[1].push(scale * v);
            c[2].push(scale * v / present);
            c[3].push(scale * p / present);
            c[4].push(scale * v * alpha / present);
            alphas.push(alpha);
        }
        let alpha = column(&alphas, &logits).reshape([rows, 1]);
        let [c0, c1, c2, c3, c4] = c.map(|values| column(&values, &logits));
        let [present, target] = [&corrupted.present, &corrupted.target].map(|ids| {
            let places: Vec<u32> = ids.iter().map(|&id| self.process.place(id)).collect();
            indices(&places, &logits)
        });
        let xbar = softmax(logits, 1) * alpha.clone() * v + (alpha.neg() + 1.0);
        let at_present = xbar.clone().gather(1, present).reshape([rows]);
        let log = xbar.log();
        let at_target = log.clone().gather(1, target).reshape([rows]);
        let sum = log.sum_dim(1).reshape([rows]);
        c0 - c1 / at_present.clone() - c2 * at_present.log() + c3 * sum + c4 * at_target
    }
}

impl Objective for Udlm {
    fn name(&self) -> &'static str {
        "udlm"
    }

    fn wants(&self) -> Wanted {
        if self.config.use_simple_ce_loss {
            Wanted::CrossEntropy
        } else {
            Wanted::Logits
        }
    }

    fn is_bound(&self) -> bool {
        !self.config.use_simple_ce_loss
            && self.config.time.spans(&*self.schedule)
            && self.config.normalise != Normalise::Sequence
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        check_batch(x0, loss_cells, self.process.vocab(), self.process.mask())?;
        let config = &self.config;
        let mut moments = config
            .time
            .sample(&*self.schedule, x0.batch(), &noise.child(TIMES));
        let mut corrupted = replace(&self.process, x0, loss_cells, noise, &moments, |_| 1.0)?;
        if !config.zero_recon_loss && !config.use_simple_ce_loss {
            let mut rows = Rows {
                asked: corrupted.asked,
                target: corrupted.target,
                present: corrupted.present,
                row_time: corrupted.row_time,
                cell: corrupted.cell,
                weight: corrupted.weight,
            };
            let cells = x0.data().len();
            for (cell, &id) in x0
                .data()
                .iter()
                .enumerate()
                .filter(|&(cell, _)| loss_cells[cell])
            {
                let asked = cells + cell;
                rows.push(Row {
                    asked,
                    cell,
                    target: id,
                    present: id,
                    time: 0.0,
                    weight: 1.0,
                });
            }
            let (input, time) = below(corrupted.input, x0, &corrupted.time);
            corrupted = rows.finish(input, time, corrupted.scored);
            moments.resize(2 * x0.batch(), moment_at(&*self.schedule, 0.0));
        }
        corrupted.sigma = condition(config.time_input, &moments);
        corrupted.forbidden = self.process.mask();
        Ok(corrupted.normalised(config.normalise, loss_cells, x0.length()))
    }

    fn loss(&self, prediction: LossInput, corrupted: &Corrupted) -> Result<Tensor<1>> {
        if self.config.use_simple_ce_loss {
            return subs::weighted_cross_entropy(prediction, corrupted);
        }
        let logits = logits_of(self.name(), prediction, corrupted)?;
        let [rows, columns] = logits.dims();
        let weight = column(&corrupted.weight, &logits);
        // Rows are in rising order, so the reconstruction rows, at time zero, are the last ones.
        let noisy = corrupted.row_time.iter().take_while(|&&t| t > 0.0).count();
        if noisy == rows {
            return Ok(self.bound(logits, corrupted) * weight);
        }
        let entropy = subs::cross_entropy(
            logits.clone().slice([noisy..rows, 0..columns]),
            &corrupted.target[noisy..],
            self.process.mask(),
        )?;
        if noisy == 0 {
            return Ok(entropy * weight);
        }
        let head = Corrupted {
            target: corrupted.target[..noisy].to_vec(),
            present: corrupted.present[..noisy].to_vec(),
            row_time: corrupted.row_time[..noisy].to_vec(),
            ..corrupted.clone()
        };
        let bound = self.bound(logits.slice([0..noisy, 0..columns]), &head);
        Ok(Tensor::cat(vec![bound, entropy], 0) * weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    fn objective(zero_recon_loss: bool) -> Udlm {
        let config = UdlmConfig {
            zero_recon_loss,
            ..UdlmConfig::default()
        };
        Udlm::new(&config, Vocabulary::plain(2)).unwrap()
    }

    fn loss(objective: &Udlm, present: u32) -> Vec<f64> {
        let mut c = objective
            .corrupt(&Ids::filled(1, 1, 0), &[true], &Noise::new(0))
            .unwrap();
        c.present[0] = present;
        c.row_time[0] = 0.5;
        let row = [0.5f64.ln(), 0.5f64.ln()];
        let options = (&Device::flex(), DType::F64);
        let logits =
            Tensor::<2>::from_data(vec![row; c.asked.len()].as_slice().concat_rows(), options);
        objective
            .loss(LossInput::Logits(logits), &c)
            .unwrap()
            .into_data()
            .try_to_vec()
            .unwrap()
    }

    /// Rows of two as tensor data.
    trait ConcatRows {
        fn concat_rows(&self) -> burn::tensor::TensorData;
    }

    impl ConcatRows for [[f64; 2]] {
        fn concat_rows(&self) -> burn::tensor::TensorData {
            burn::tensor::TensorData::new(self.concat(), [self.len(), 2])
        }
    }

    #[test]
    fn by_hand() {
        // V = 2, alpha = 1/2, x_0 = 0, p_theta = (1/2, 1/2): xbar = (3/2, 1/2), xbar_th = (1, 1), alpha'/(V alpha) = -1.
        // z = 0: -[ 4/3 - 2 - (1 (0) + 1/3 (ln 1/2 - ln 3/2)) ] = 2/3 - ln 3 / 3
        let found = loss(&objective(true), 0)[0];
        assert!(
            (found - (2.0 / 3.0 - 3f64.ln() / 3.0)).abs() < 1e-12,
            "{found}"
        );
        // z = 1: -[ 4 - 2 - 3 (ln 3/2 - ln 1/2) ] = 3 ln 3 - 2
        let found = loss(&objective(true), 1)[0];
        assert!((found - (3.0 * 3f64.ln() - 2.0)).abs() < 1e-12, "{found}");
    }

    #[test]
    fn reconstruction_is_the_cross_entropy_at_time_zero() {
        let objective = objective(false);
        let c = objective
            .corrupt(&Ids::filled(2, 3, 1), &[true; 6], &Noise::new(0))
            .unwrap();
        assert_eq!((c.input.batch(), c.asked.len(), c.scored), (4, 12, 6));
        assert_eq!(c.input.row(3), [1, 1, 1]);
        let sigma = c.sigma.unwrap();
        assert_eq!((sigma.at(2, 0), sigma.at(3, 0)), (0.0, 0.0));
        let found = loss(&objective, 1);
        assert_eq!(found.len(), 2);
        assert!((found[0] - (3.0 * 3f64.ln() - 2.0)).abs() < 1e-12);
        assert!((found[1] - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn the_mask_plays_no_part() {
        // The tokens 0 and 1 of a plain vocabulary are 1 and 2 behind a mask at 0, and 0 and 2 around one at 1.
        let options = (&Device::flex(), DType::F64);
        for (use_simple_ce_loss, mask, ids) in [
            (false, 0, [1, 2]),
            (false, 1, [0, 2]),
            (true, 0, [1, 2]),
            (true, 1, [0, 2]),
        ] {
            let config = UdlmConfig {
                use_simple_ce_loss,
                zero_recon_loss: false,
                ..UdlmConfig::default()
            };
            let losses = |vocabulary, ids: [u32; 2], masked: bool| -> Vec<f64> {
                let objective = Udlm::new(&config, vocabulary).unwrap();
                let x0 = Ids::new(1, 4, [0, 1, 1, 0].map(|i| ids[i]).to_vec()).unwrap();
                let c = objective.corrupt(&x0, &[true; 4], &Noise::new(7)).unwrap();
                assert!(c.input.data().iter().all(|id| ids.contains(id)));
                let mut rows = Vec::new();
                for i in 0..c.asked.len() {
                    let mut row = vec![0.3 * i as f64, -0.7];
                    if masked {
                        row.insert(mask as usize, 5.0);
                    }
                    rows.extend(row);
                }
                let shape = [c.asked.len(), rows.len() / c.asked.len()];
                let data = burn::tensor::TensorData::new(rows, shape);
                let logits = LossInput::Logits(Tensor::from_data(data, options));
                let loss = objective.loss(logits, &c).unwrap();
                loss.into_data().try_to_vec().unwrap()
            };
            let plain = losses(Vocabulary::plain(2), [0, 1], false);
            let found = losses(Vocabulary::masked(3, mask), ids, true);
            assert_eq!(plain.len(), found.len());
            for (p, f) in plain.iter().zip(&found) {
                assert!((p - f).abs() < 1e-12, "{plain:?} {found:?}");
            }
        }
        let objective = Udlm::new(&UdlmConfig::default(), Vocabulary::masked(3, 1)).unwrap();
        let mask = Ids::filled(1, 1, 1);
        assert!(objective.corrupt(&mask, &[true], &Noise::new(0)).is_err());
    }

    #[test]
    fn a_perfect_prediction_costs_nothing() {
        let objective = objective(true);
        let mut c = objective
            .corrupt(&Ids::filled(1, 1, 0), &[true], &Noise::new(0))
            .unwrap();
        for present in [0, 1] {
            c.present = vec![present];
            c.row_time = vec![0.3];
            let data = [[0.0, -800.0]].as_slice().concat_rows();
            let logits = Tensor::<2>::from_data(data, (&Device::flex(), DType::F64));
            let loss: f64 = objective
                .loss(LossInput::Logits(logits), &c)
                .unwrap()
                .into_scalar();
            assert!(loss.abs() < 1e-12, "{loss}");
        }
    }
}
