//! The learning rate over the steps of a training.
//!
//! | shape | rate after the warm-up | source |
//! |---|---|---|
//! | `constant` | the peak | MDLM, SEDD (arXiv 2406.07524, 2310.16834) |
//! | `cosine` | half a cosine from the peak to `floor * peak` | SGDR (arXiv 1608.03983), one period |
//! | `linear` | a straight line from the peak to `floor * peak` | |
//! | `wsd` | the peak, then a straight line over the last `decay` share of the steps | MiniCPM (arXiv 2404.06395); LLaDA's fine-tuning |
//! | `points` | straight lines through the given points; two points at one place are a jump | LLaDA's pre-training (arXiv 2502.09992) |
//!
//! Every rate is a pure function of the step, so that a resumed training needs no state for it.

use serde::{Deserialize, Serialize};

use crate::TrainError;

/// `[schedule]`: warm-up and shape of the learning rate.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// Steps in which the rate rises in a straight line to its peak.
    #[serde(default)]
    pub warmup: u64,
    /// What it does after that.
    #[serde(default)]
    pub shape: RateShape,
}

/// The learning rate after the warm-up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RateShape {
    /// It stays at the peak.
    #[default]
    Constant,
    /// Half a cosine from the peak down to the floor.
    Cosine {
        /// Share of the peak at the last step, in [0, 1].
        #[serde(default)]
        floor: f64,
    },
    /// A straight line from the peak down to the floor.
    Linear {
        /// Share of the peak at the last step, in [0, 1].
        #[serde(default)]
        floor: f64,
    },
    /// Warm-up, stable, decay: the peak, then a straight line down to the floor.
    Wsd {
        /// Share of all steps that the decay takes, in [0, 1].
        decay: f64,
        /// Share of the peak at the last step, in [0, 1].
        #[serde(default)]
        floor: f64,
    },
    /// Straight lines through points; the first factor holds before the first point, the last one
    /// after the last.
    Points {
        /// Pairs of a place, in [0, 1] from the end of the warm-up to the last step, and a factor on
        /// the peak, in [0, 1]; places rise. Two points at one place make a jump: LLaDA's
        /// pre-training is `[[0.52, 1.0], [0.52, 0.25], [0.87, 0.25], [1.0, 0.025]]`.
        points: Vec<[f64; 2]>,
    },
}

impl RateConfig {
    /// Factor on the peak rate in step `step` (from 0) of `steps`.
    ///
    /// The warm-up counts from 1, so that no step has rate 0; the last step has `floor`.
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        // 0 in the first step after the warm-up, 1 in the last step.
        let span = |from: u64| {
            let length = steps.saturating_sub(1).saturating_sub(from);
            if length == 0 {
                1.0
            } else {
                (step.saturating_sub(from) as f64 / length as f64).min(1.0)
            }
        };
        match &self.shape {
            RateShape::Constant => 1.0,
            RateShape::Cosine { floor } => {
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * span(self.warmup)).cos());
                floor + (1.0 - floor) * cosine
            }
            RateShape::Linear { floor } => 1.0 - (1.0 - floor) * span(self.warmup),
            RateShape::Wsd { decay, floor } => {
                let from = (steps as f64 * (1.0 - decay)).round() as u64;
                let from = from.max(self.warmup);
                if step < from {
                    1.0
                } else {
                    1.0 - (1.0 - floor) * span(from)
                }
            }
            RateShape::Points { points } => through(points, span(self.warmup)),
        }
    }

    pub(crate) fn validate(&self, steps: u64) -> Result<(), TrainError> {
        if self.warmup > steps {
            return Err(TrainError::recipe(format!(
                "schedule.warmup = {} is longer than run.steps = {steps}; shorten it, too",
                self.warmup
            )));
        }
        let share = |key: &str, value: f64| {
            if (0.0..=1.0).contains(&value) {
                Ok(())
            } else {
                Err(TrainError::recipe(format!(
                    "schedule.shape.{key} = {value}: must be in [0, 1]"
                )))
            }
        };
        match &self.shape {
            RateShape::Constant => Ok(()),
            RateShape::Cosine { floor } | RateShape::Linear { floor } => share("floor", *floor),
            RateShape::Wsd { decay, floor } => {
                share("decay", *decay)?;
                share("floor", *floor)
            }
            RateShape::Points { points } => {
                if points.is_empty() || points.windows(2).any(|pair| pair[1][0] < pair[0][0]) {
                    return Err(TrainError::recipe(
                        "schedule.shape.points: give at least one pair [place, factor], places rising",
                    ));
                }
                points
                    .iter()
                    .flatten()
                    .try_for_each(|value| share("points", *value))
            }
        }
    }
}

/// The factor at `place` on the straight lines through `points`. At a jump, what comes after it.
fn through(points: &[[f64; 2]], place: f64) -> f64 {
    let after = points.partition_point(|[at, _]| *at <= place);
    match (after.checked_sub(1).map(|i| points[i]), points.get(after)) {
        (Some([from, low]), Some([to, high])) => low + (high - low) * (place - from) / (to - from),
        (Some([_, last]), None) => last,
        (None, Some([_, first])) => *first,
        (None, None) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(shape: RateShape, warmup: u64, steps: u64) -> Vec<f64> {
        let config = RateConfig { warmup, shape };
        (0..steps).map(|step| config.factor(step, steps)).collect()
    }

    #[test]
    fn constant_after_a_warm_up_of_four() {
        let got = factors(RateShape::Constant, 4, 6);
        assert_eq!(got, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn linear_ends_at_the_floor() {
        let got = factors(RateShape::Linear { floor: 0.2 }, 0, 5);
        for (got, want) in got.iter().zip([1.0, 0.8, 0.6, 0.4, 0.2]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn cosine_is_half_way_in_the_middle() {
        let got = factors(RateShape::Cosine { floor: 0.0 }, 0, 5);
        for (got, want) in got
            .iter()
            .zip([1.0, 0.853_553_390_593, 0.5, 0.146_446_609_407, 0.0])
        {
            assert!((got - want).abs() < 1e-9, "{got} {want}");
        }
    }

    #[test]
    fn wsd_decays_in_its_last_share_only() {
        let got = factors(
            RateShape::Wsd {
                decay: 0.5,
                floor: 0.0,
            },
            2,
            10,
        );
        for (got, want) in got
            .iter()
            .zip([0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0])
        {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn points_are_joined_and_may_jump() {
        let points = vec![[0.25, 1.0], [0.5, 1.0], [0.5, 0.5], [1.0, 0.1]];
        let got = factors(RateShape::Points { points }, 0, 9);
        let want = [1.0, 1.0, 1.0, 1.0, 0.5, 0.4, 0.3, 0.2, 0.1];
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
        for bad in [vec![], vec![[0.5, 1.0], [0.2, 1.0]], vec![[0.5, 2.0]]] {
            let config = RateConfig {
                warmup: 0,
                shape: RateShape::Points { points: bad },
            };
            assert!(config.validate(10).is_err(), "{config:?}");
        }
    }

    #[test]
    fn a_step_past_the_end_keeps_the_floor() {
        let config = RateConfig {
            warmup: 0,
            shape: RateShape::Linear { floor: 0.1 },
        };
        assert!((config.factor(99, 10) - 0.1).abs() < 1e-12);
    }
}
