//! Drawing times: independent or antithetic, plain or reshaped so that the weight is constant.

use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::{DiffusionError, Noise, Result};

/// How the times of a batch depend on each other.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(title = "Draw of times")]
pub enum Draw {
    /// Each is drawn alone.
    Independent,
    /// One in each of `n` equal strata (MDLM; a low-discrepancy draw after Variational Diffusion Models 2107.00630).
    ///
    /// `u_i := (u_i/n + i/n) mod 1`. Each `u_i` alone is uniform in its stratum, so a batch mean has far less variance.
    #[default]
    Antithetic,
}

/// How a uniform becomes a noise level.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Reshape {
    /// Uniform in `t`, the schedule's own weight.
    #[default]
    None,
    /// Uniform in the logarithm of the masked share, so that every cell has the same weight (MDLM, `importance_sampling`).
    ///
    /// `p = exp(f0 + t (fT - f0))` with `f0 = ln(1 - e^(-sigma_min))`, `fT = ln(1 - e^(-sigma_max))`: uniform in `ln p`,
    /// so the weight is the constant `-f0`. The recorded time is the one at which the schedule has this `p`, and a
    /// network with time input gets `sigma`.
    Importance,
    /// As `importance`, but a network with time input gets the plain `t` (MDLM, `change_of_variables`).
    ChangeOfVariables,
}

/// One drawn time with everything the objectives read from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The time.
    pub t: f64,
    /// Chance that a token is hit.
    pub p: f64,
    /// Weight of the cross-entropy of a masked token.
    pub weight: f64,
    /// What a network with time input is given: `sigma`, or `t` under [`Reshape::ChangeOfVariables`].
    pub condition: f64,
}

/// How times are drawn for a batch.
///
/// The plain time is `t = (max - min) u + min`. MDLM, SEDD and LLaDA's kin use `min = 1e-3`, `max = 1`. BD3-LM's clipped
/// schedules are other windows, drawn for each block by calling [`TimeSampling::sample`] with `batch * blocks`.
///
/// Reading of the spec: the constant weight is `-f0` as published. It leaves out `fT`, which is zero only when the
/// schedule reaches `p = 1`; dropping it enlarges the loss (by 0.014 % for log-linear), so the bound stays a bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Times")]
pub struct TimeSampling {
    /// How the times of a batch depend on each other.
    pub draw: Draw,
    /// How a uniform becomes a noise level.
    pub reshape: Reshape,
    /// Smallest time, in [0, 1].
    pub min: f64,
    /// Largest time, in (0, 1] and not below `min`.
    pub max: f64,
}

impl Default for TimeSampling {
    fn default() -> Self {
        Self {
            draw: Draw::Antithetic,
            reshape: Reshape::None,
            min: 1e-3,
            max: 1.0,
        }
    }
}

impl TimeSampling {
    /// Times in the window `[min, max]`, otherwise as default.
    pub fn window(min: f64, max: f64) -> Self {
        Self {
            min,
            max,
            ..Self::default()
        }
    }

    /// An error unless `0 <= min <= max <= 1` with `max > 0`.
    pub fn check(&self) -> Result<()> {
        if !(self.min >= 0.0 && self.min <= 1.0) {
            return Err(DiffusionError::setting(
                "min",
                self.min,
                "must lie in [0, 1]",
            ));
        }
        if !(self.max > 0.0 && self.max >= self.min && self.max <= 1.0) {
            return Err(DiffusionError::setting(
                "max",
                self.max,
                "must lie in [min, 1], above 0",
            ));
        }
        Ok(())
    }

    /// `count` moments of `schedule`.
    pub fn sample(&self, schedule: &dyn Schedule, count: usize, noise: &Noise) -> Vec<Moment> {
        self.from_uniforms(schedule, &noise.uniforms(count))
    }

    /// Whether the drawn noise levels go from (nearly) clean text to (nearly) nothing but noise, as a bound on the
    /// likelihood needs: what lies below the first level or above the last one is left out of the sum. A fifth of a
    /// percent at either end is let pass; it is what the published settings leave out.
    pub fn spans(&self, schedule: &dyn Schedule) -> bool {
        const ENDS: f64 = 2.5e-3;
        let [first, last] = [0.0, 1.0].map(|u| self.moment(schedule, u).p);
        first <= ENDS && last >= 1.0 - ENDS
    }

    /// The moments that independent uniforms `u` lead to.
    pub fn from_uniforms(&self, schedule: &dyn Schedule, u: &[f64]) -> Vec<Moment> {
        let n = u.len() as f64;
        let spread = |(i, &u): (usize, &f64)| match self.draw {
            Draw::Independent => u,
            Draw::Antithetic => (u / n + i as f64 / n) % 1.0,
        };
        u.iter()
            .enumerate()
            .map(|item| self.moment(schedule, spread(item)))
            .collect()
    }

    /// The moment of one uniform that has already been spread.
    pub fn moment(&self, schedule: &dyn Schedule, u: f64) -> Moment {
        let t = (self.max - self.min) * u + self.min;
        if self.reshape == Reshape::None {
            return moment_at(schedule, t);
        }
        let (sigma_min, sigma_max) = schedule.sigma_range();
        let first = (-(-sigma_min).exp()).ln_1p();
        let last = (-(-sigma_max).exp()).ln_1p();
        let p = (first + t * (last - first)).exp();
        let weight = -first;
        match self.reshape {
            Reshape::ChangeOfVariables => Moment {
                t,
                p,
                weight,
                condition: t,
            },
            _ => Moment {
                t: schedule.time_at(p),
                p,
                weight,
                condition: -(-p).ln_1p(),
            },
        }
    }
}

/// The moment of `schedule` at `t`.
pub fn moment_at(schedule: &dyn Schedule, t: f64) -> Moment {
    Moment {
        t,
        p: schedule.p(t),
        weight: schedule.weight(t),
        condition: schedule.sigma(t),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Convention, ScheduleConfig};

    #[test]
    fn antithetic_has_one_in_each_stratum() {
        let schedule = ScheduleConfig::default().build().unwrap();
        let sampling = TimeSampling {
            min: 0.0,
            ..TimeSampling::default()
        };
        let moments = sampling.sample(&*schedule, 8, &Noise::new(1));
        for (i, moment) in moments.iter().enumerate() {
            assert_eq!((moment.t * 8.0).floor() as usize, i);
        }
        // u = 1/2 everywhere: t_i = (i + 1/2) / 4
        let moments = sampling.from_uniforms(&*schedule, &[0.5; 4]);
        let times: Vec<f64> = moments.iter().map(|m| m.t).collect();
        assert_eq!(times, [0.125, 0.375, 0.625, 0.875]);
    }

    #[test]
    fn windows_are_affine() {
        let schedule = ScheduleConfig::default().build().unwrap();
        let sampling = TimeSampling {
            draw: Draw::Independent,
            ..TimeSampling::window(0.45, 0.95)
        };
        let moment = sampling.from_uniforms(&*schedule, &[0.2])[0];
        assert!((moment.t - 0.55).abs() < 1e-15);
        assert!((moment.weight - 1.0 / 0.55).abs() < 1e-12);
        let one = TimeSampling::window(1.0, 1.0).moment(&*schedule, 0.3);
        assert_eq!((one.t, one.p, one.weight), (1.0, 1.0, 1.0));
    }

    #[test]
    fn importance_makes_the_weight_constant() {
        let schedule = ScheduleConfig::loglinear(Convention::Mdlm).build().unwrap();
        let sampling = TimeSampling {
            draw: Draw::Independent,
            reshape: Reshape::Importance,
            ..TimeSampling::default()
        };
        let moments = sampling.from_uniforms(&*schedule, &[0.1, 0.9]);
        // f0 = ln(1 - e^-0.001) = -6.908255237315471...
        for moment in &moments {
            assert!(
                (moment.weight - 6.908_255_237_315).abs() < 1e-9,
                "{}",
                moment.weight
            );
            assert!((schedule.p(moment.t) - moment.p).abs() < 1e-15);
            assert!((moment.condition - schedule.sigma(moment.t)).abs() < 1e-12);
        }
        // t = 0.1009: p = exp(-6.908255237315471 + 0.1009 * (6.908255237315 - 0.001000500333584))
        assert!(
            (moments[0].p - (-6.908_255_237_315f64 * 0.8991 - 0.1009 * 0.001_000_500_333).exp())
                .abs()
                < 1e-12
        );
        let change = TimeSampling {
            reshape: Reshape::ChangeOfVariables,
            ..sampling
        };
        let moment = change.from_uniforms(&*schedule, &[0.1])[0];
        assert_eq!((moment.p, moment.weight), (moments[0].p, moments[0].weight));
        assert_eq!(moment.condition, moment.t);
        assert!((moment.t - 0.1009).abs() < 1e-15);
    }

    #[test]
    fn bad_windows_are_errors() {
        assert!(TimeSampling::window(-0.1, 1.0).check().is_err());
        assert!(TimeSampling::window(0.5, 0.4).check().is_err());
        assert!(TimeSampling::window(0.0, f64::NAN).check().is_err());
        assert!(TimeSampling::window(0.0, 0.0).check().is_err());
        assert!(TimeSampling::window(1.0, 1.0).check().is_ok());
    }
}
