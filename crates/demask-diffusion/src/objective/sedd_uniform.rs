//! Score entropy on the uniform graph (SEDD 2310.16834, `graph_lib.Uniform`).
//!
//! Rates are `1/V` between any two tokens. With `e1 = expm1(sigma)`, `r = e1/(e1 + V)`, `x = x_t` and log-scores `l_y`:
//!
//! - positive: `mean_y e^{l_y} - e^{l_x}/V`
//! - negative: `mean_y l_y - l_x/V`, times `r` where `x_t = x_0`, else plus `l_{x_0}/e1`
//! - constant: `(V-1)/V r (ln r - 1)` where `x_t = x_0`, else `((-ln r - 1)/r - (V-2))/V`
//!
//! and the loss is `sigma' (positive - negative + constant)`. Every loss cell counts: under uniform noise no token tells
//! whether it was hit. The raw outputs are the log-scores (`scale_by_sigma` holds for the absorbing graph only).

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::masking::{CELLS, TIMES, condition, count};
use super::sedd_absorbing::{plain_time, something_left};
use super::{
    Corrupted, LossInput, Normalise, Objective, Row, Rows, Vocabulary, Wanted, check_batch, column,
    indices, logits_of, values_of,
};
use crate::process::{Discrete, Uniform};
use crate::schedule::{Convention, Draw, Moment, Schedule, ScheduleConfig, TimeSampling};
use crate::{Ids, Noise, Result, Time};

/// Settings of [`SeddUniform`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeddUniformConfig {
    /// Noise level as a function of time.
    pub schedule: ScheduleConfig,
    /// How times are drawn; `reshape` must be `none`.
    pub time: TimeSampling,
    /// Whether the network is told the total noise.
    pub time_input: bool,
    /// What the summed loss is divided by. SEDD itself averages sums over sequences: `batch`.
    pub normalise: Normalise,
}

impl Default for SeddUniformConfig {
    fn default() -> Self {
        Self {
            schedule: ScheduleConfig::loglinear(Convention::Mdlm),
            time: TimeSampling {
                draw: Draw::Independent,
                ..TimeSampling::default()
            },
            time_input: true,
            normalise: Normalise::Tokens,
        }
    }
}

/// Denoising score entropy without a mask.
#[derive(Clone, Debug)]
pub struct SeddUniform {
    schedule: Arc<dyn Schedule>,
    process: Uniform,
    config: SeddUniformConfig,
}

impl SeddUniform {
    /// The objective on a vocabulary; every column of it but the mask takes part in the noise.
    pub fn new(config: &SeddUniformConfig, vocabulary: Vocabulary) -> Result<Self> {
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
}

/// Draws uniform noise and asks every loss cell.
pub(crate) fn replace(
    process: &Uniform,
    x0: &Ids,
    loss_cells: &[bool],
    noise: &Noise,
    moments: &[Moment],
    weight: impl Fn(&Moment) -> f64,
) -> Result<Corrupted> {
    let p = Time::per_sequence(moments.iter().map(|m| m.p).collect());
    let noisy = process.corrupt_ids(x0, &p, loss_cells, &noise.child(CELLS))?;
    let mut rows = Rows::default();
    for (b, l, target) in x0.iter() {
        let cell = b * x0.length() + l;
        if loss_cells[cell] {
            let (present, moment) = (noisy.get(b, l), &moments[b]);
            let (time, weight) = (moment.t, weight(moment));
            rows.push(Row {
                asked: cell,
                cell,
                target,
                present,
                time,
                weight,
            });
        }
    }
    let time = Time::per_sequence(moments.iter().map(|m| m.t).collect());
    Ok(rows.finish(noisy, time, count(loss_cells)))
}

impl Objective for SeddUniform {
    fn name(&self) -> &'static str {
        "sedd_uniform"
    }

    fn wants(&self) -> Wanted {
        Wanted::Logits
    }

    fn is_bound(&self) -> bool {
        self.config.time.spans(&*self.schedule) && self.config.normalise != Normalise::Sequence
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        check_batch(x0, loss_cells, self.process.vocab(), self.process.mask())?;
        let moments = self
            .config
            .time
            .sample(&*self.schedule, x0.batch(), &noise.child(TIMES));
        let mut corrupted = replace(&self.process, x0, loss_cells, noise, &moments, |moment| {
            self.schedule.sigma_rate(moment.t)
        })?;
        corrupted.sigma = condition(self.config.time_input, &moments);
        Ok(corrupted.normalised(self.config.normalise, loss_cells, x0.length()))
    }

    fn loss(&self, prediction: LossInput, corrupted: &Corrupted) -> Result<Tensor<1>> {
        let logits = logits_of(self.name(), prediction, corrupted)?;
        let logits = values_of(logits, &self.process);
        let [rows, columns] = logits.dims();
        let v = columns as f64;
        // negative = scale * (mean - l_x/V) + own * l_{x_0}
        let (mut scale, mut own, mut constant) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..rows {
            let e1 = self.schedule.sigma(corrupted.row_time[i]).exp_m1();
            let r = e1 / (e1 + v);
            if corrupted.present[i] == corrupted.target[i] {
                scale.push(r);
                own.push(0.0);
                constant.push((v - 1.0) / v * r * (r.ln() - 1.0));
            } else {
                scale.push(1.0);
                own.push(1.0 / e1);
                constant.push(((-r.ln() - 1.0) / r - (v - 2.0)) / v);
            }
        }
        let (scale, own) = (column(&scale, &logits), column(&own, &logits));
        let constant = column(&constant, &logits);
        let weight = column(&corrupted.weight, &logits);
        let [present, target] = [&corrupted.present, &corrupted.target].map(|ids| {
            let places: Vec<u32> = ids.iter().map(|&id| self.process.place(id)).collect();
            indices(&places, &logits)
        });

        let at_present = logits.clone().gather(1, present).reshape([rows]);
        let at_target = logits.clone().gather(1, target).reshape([rows]);
        let mean = logits.clone().mean_dim(1).reshape([rows]);
        let mean_exp = logits.exp().mean_dim(1).reshape([rows]);
        let positive = mean_exp - at_present.clone().exp() / v;
        let negative = (mean - at_present / v) * scale + at_target * own;
        Ok((positive - negative + constant) * weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn loss(present: u32, row: [f32; 2]) -> f32 {
        loss_on(Vocabulary::plain(2), [0, present], &row)
    }

    /// The loss of a cell from `[x_0, x_t]` and the log-scores of its row.
    fn loss_on(vocabulary: Vocabulary, [target, present]: [u32; 2], row: &[f32]) -> f32 {
        let config = SeddUniformConfig {
            schedule: ScheduleConfig::default(),
            ..SeddUniformConfig::default()
        };
        let objective = SeddUniform::new(&config, vocabulary).unwrap();
        let mut c = objective
            .corrupt(&Ids::filled(1, 1, target), &[true], &Noise::new(0))
            .unwrap();
        c.present = vec![present];
        c.row_time = vec![0.5];
        c.weight = vec![2.0];
        let data = burn::tensor::TensorData::new(row.to_vec(), [1, row.len()]);
        let logits = Tensor::<2>::from_data(data, &Device::flex());
        objective
            .loss(LossInput::Logits(logits), &c)
            .unwrap()
            .into_scalar()
    }

    #[test]
    fn by_hand() {
        // p = 1/2: e1 = 1, sigma' = 2, V = 2, r = 1/3; one neighbour y with rate 1/2.
        // x_t = x_0 = 0, score 2 on token 1: 2 * 1/2 { 2 - 1/3 ln 2 + 1/3 (ln 1/3 - 1) } = 1.069420...
        let found = loss(0, [0.0, 2f32.ln()]);
        let wanted = 2.0 - 2f64.ln() / 3.0 + ((1.0f64 / 3.0).ln() - 1.0) / 3.0;
        assert!((f64::from(found) - wanted).abs() < 1e-5, "{found} {wanted}");
        assert!((wanted - 1.069_413_5).abs() < 1e-6, "{wanted}");
        // x_t = 1, score 2 on token 0, true ratio 3: 2 - 3 ln 2 + 3 (ln 3 - 1) = 0.216395...
        let found = loss(1, [2f32.ln(), 0.0]);
        assert!((found - 0.216_395_3).abs() < 1e-5, "{found}");
    }

    #[test]
    fn the_mask_plays_no_part() {
        let plain = |present, row: [f32; 2]| loss_on(Vocabulary::plain(2), [0, present], &row);
        let (a, b) = (0.4, 1.3);
        for present in [0, 1] {
            let wanted = plain(present, [a, b]);
            let first = Vocabulary::masked(3, 0);
            assert_eq!(loss_on(first, [1, present + 1], &[9.0, a, b]), wanted);
            let middle = Vocabulary::masked(3, 1);
            assert_eq!(loss_on(middle, [0, 2 * present], &[a, 9.0, b]), wanted);
            let last = Vocabulary::masked(3, 2);
            assert_eq!(loss_on(last, [0, present], &[a, b, 9.0]), wanted);
        }
    }

    #[test]
    fn the_true_ratio_costs_nothing() {
        assert!(loss(0, [0.0, (1.0f32 / 3.0).ln()]).abs() < 1e-6);
        assert!(loss(1, [3f32.ln(), 0.0]).abs() < 1e-6);
    }
}
