//! Schedules: the noise level as a function of time.
//!
//! | name | `p(t) = 1 - alpha(t)` | from |
//! |---|---|---|
//! | [`loglinear`] `mdlm` | `(1-eps) t` | MDLM 2406.07524, SEDD 2310.16834 |
//! | [`loglinear`] `bd3lms` | `t` | BD3-LM 2503.09573 |
//! | [`loglinear`] `llada` | `(1-eps) t + eps` | LLaDA 2502.09992 |
//! | [`geometric`] | `1 - exp(-s_min^(1-t) s_max^t)` | SEDD 2310.16834 |
//! | [`cosine`] `mdlm` | `(1-eps)(1 - cos(pi t/2))` | MDLM 2406.07524 |
//! | [`cosine`] `bd3lms` | `1 - (1-eps) cos(pi t/2)` | BD3-LM 2503.09573 |
//! | [`cosine_squared`] | `(1-eps) sin²(pi t/2)` | MDLM 2406.07524 |
//! | [`linear`] | `1 - exp(-(s_min + t (s_max - s_min)))` | MDLM 2406.07524 |
//! | [`power`] | `max(t^k, eps)` | BD3-LM 2503.09573 (square, square root) |
//! | [`logarithmic`] | `ln(1+t) / ln 2` | BD3-LM 2503.09573 |
//! | [`clipped`] | another schedule on a window of its time | BD3-LM 2503.09573, section 5 |
//!
//! For a masked model the exact bound on the likelihood does not depend on the schedule, only its variance does
//! (MDLM, section 3.5); the `toy` module checks this for each of them.

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DiffusionError, Result};

pub mod clipped;
pub mod cosine;
pub mod cosine_squared;
pub mod geometric;
pub mod linear;
pub mod logarithmic;
pub mod loglinear;
pub mod power;
pub mod time;

pub use clipped::Clipped;
pub use time::{Draw, Moment, Reshape, TimeSampling};

/// The noise level as a function of time `t` in `[0, 1]`, in `f64`.
///
/// `p` and `p_rate` define a schedule; the rest follows. Schedules that are given by `sigma` override what would lose
/// digits. At the ends of the interval values may be infinite (`sigma` where `p` is 1, `weight` where `p` is 0).
pub trait Schedule: Debug + Send + Sync {
    /// The name in tables and messages.
    fn name(&self) -> &'static str;

    /// The chance that a token has been hit by noise: `p = 1 - alpha`.
    fn p(&self, t: f64) -> f64;

    /// `dp/dt`.
    fn p_rate(&self, t: f64) -> f64;

    /// The chance that a token has not been hit: `alpha = 1 - p`.
    fn alpha(&self, t: f64) -> f64 {
        1.0 - self.p(t)
    }

    /// `dalpha/dt = -dp/dt`.
    fn alpha_rate(&self, t: f64) -> f64 {
        -self.p_rate(t)
    }

    /// Total noise: `sigma = -ln alpha`.
    fn sigma(&self, t: f64) -> f64 {
        -(-self.p(t)).ln_1p()
    }

    /// `dsigma/dt = -alpha'/alpha`.
    fn sigma_rate(&self, t: f64) -> f64 {
        self.p_rate(t) / self.alpha(t)
    }

    /// The weight of the cross-entropy of a masked token in the likelihood bound of the absorbing process:
    /// `sigma'/expm1(sigma) = -alpha'/(1 - alpha) = p'/p`.
    fn weight(&self, t: f64) -> f64 {
        self.p_rate(t) / self.p(t)
    }

    /// The time at which the noise level is `p`: the inverse of [`Schedule::p`], clamped to `[0, 1]`. Bisection to the
    /// last bit unless a schedule knows better.
    fn time_at(&self, p: f64) -> f64 {
        let (mut low, mut high) = (0.0f64, 1.0f64);
        if p <= self.p(low) {
            return low;
        }
        if p >= self.p(high) {
            return high;
        }
        loop {
            let middle = 0.5 * (low + high);
            if middle <= low || middle >= high {
                return middle;
            }
            if self.p(middle) < p {
                low = middle
            } else {
                high = middle
            }
        }
    }

    /// `(sigma_min, sigma_max)` as MDLM's importance sampling reads them: the total noise at the ends, where a schedule
    /// that starts without noise is taken to start at 1e-3.
    fn sigma_range(&self) -> (f64, f64) {
        let first = self.sigma(0.0);
        (if first > 0.0 { first } else { 1e-3 }, self.sigma(1.0))
    }
}

/// Which of the three log-linear (and two cosine) conventions in use is meant. They differ by about `eps` at the ends
/// and are not interchangeable when weights or thresholds are copied.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// `(1-eps) t`: never reaches 1.
    Mdlm,
    /// `t`: the whole interval.
    #[default]
    Bd3lms,
    /// `(1-eps) t + eps`: never reaches 0.
    Llada,
}

/// The conventions in which a cosine schedule is written.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CosineConvention {
    /// `alpha = eps + (1-eps) cos(pi t/2)`: from 0 to `1-eps`.
    #[default]
    Mdlm,
    /// `alpha = (1-eps) cos(pi t/2)`: from `eps` to 1.
    Bd3lms,
}

fn eps() -> f64 {
    1e-3
}

fn geometric_min() -> f64 {
    1e-4
}

fn geometric_max() -> f64 {
    20.0
}

fn linear_max() -> f64 {
    10.0
}

/// The noise level as a function of time `t`, from 0 (clean) to 1 (noise).
///
/// As it stands in a recipe: `{ kind = "cosine", eps = 1e-3 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(title = "Noise schedule")]
pub enum ScheduleConfig {
    /// Masked share `t`, in three conventions that differ at the ends.
    ///
    /// See [`loglinear`].
    Loglinear {
        /// Which of the three conventions.
        #[serde(default)]
        convention: Convention,
        /// Distance from the end that the convention avoids.
        #[serde(default = "eps")]
        eps: f64,
    },
    /// Total noise rises geometrically.
    ///
    /// See [`geometric`].
    Geometric {
        /// Total noise at `t = 0`.
        #[serde(default = "geometric_min")]
        sigma_min: f64,
        /// Total noise at `t = 1`.
        #[serde(default = "geometric_max")]
        sigma_max: f64,
    },
    /// Masked share `1 - cos(pi t/2)`, in two conventions.
    ///
    /// See [`cosine`].
    Cosine {
        /// Which of the two conventions.
        #[serde(default)]
        convention: CosineConvention,
        /// Distance from the end that the convention avoids.
        #[serde(default = "eps")]
        eps: f64,
    },
    /// Masked share `sin²(pi t/2)`.
    ///
    /// See [`cosine_squared`].
    CosineSquared {
        /// Share that is still unmasked at `t = 1`.
        #[serde(default = "eps")]
        eps: f64,
    },
    /// Total noise rises linearly.
    ///
    /// See [`linear`].
    Linear {
        /// Total noise at `t = 0`.
        #[serde(default)]
        sigma_min: f64,
        /// Total noise at `t = 1`.
        #[serde(default = "linear_max")]
        sigma_max: f64,
    },
    /// Masked share `t^k`: square and square root among others.
    ///
    /// See [`power`].
    Power {
        /// The exponent `k`, above 0: 2 is "square", 0.5 is "square root".
        exponent: f64,
        /// The floor of the masked share.
        #[serde(default = "eps")]
        eps: f64,
    },
    /// Masked share `ln(1+t)/ln 2`.
    ///
    /// See [`logarithmic`].
    Logarithmic {},
    /// Another schedule, read through a window of its time.
    ///
    /// See [`clipped`].
    Clipped {
        /// Lower end of the window in the inner schedule's time.
        min: f64,
        /// Upper end of the window in the inner schedule's time.
        max: f64,
        /// The schedule that is read through the window.
        schedule: Box<ScheduleConfig>,
    },
}

impl Default for ScheduleConfig {
    /// Log-linear with `p = t`.
    fn default() -> Self {
        Self::loglinear(Convention::Bd3lms)
    }
}

impl ScheduleConfig {
    /// Log-linear in one of its conventions, with the usual `eps` of 1e-3.
    pub fn loglinear(convention: Convention) -> Self {
        Self::Loglinear {
            convention,
            eps: eps(),
        }
    }

    /// The schedule, or an error that names the setting that is out of range.
    pub fn build(&self) -> Result<Arc<dyn Schedule>> {
        Ok(match *self {
            Self::Loglinear { convention, eps } => Arc::new(loglinear::Loglinear {
                convention,
                eps: fraction("eps", eps)?,
            }),
            Self::Geometric {
                sigma_min,
                sigma_max,
            } => {
                rising(sigma_min, sigma_max)?;
                if sigma_min <= 0.0 {
                    return Err(DiffusionError::setting(
                        "sigma_min",
                        sigma_min,
                        "must be above 0",
                    ));
                }
                Arc::new(geometric::Geometric {
                    sigma_min,
                    sigma_max,
                })
            }
            Self::Cosine { convention, eps } => Arc::new(cosine::Cosine {
                convention,
                eps: fraction("eps", eps)?,
            }),
            Self::CosineSquared { eps } => Arc::new(cosine_squared::CosineSquared {
                eps: fraction("eps", eps)?,
            }),
            Self::Linear {
                sigma_min,
                sigma_max,
            } => {
                rising(sigma_min, sigma_max)?;
                Arc::new(linear::Linear {
                    sigma_min,
                    sigma_max,
                })
            }
            Self::Power { exponent, eps } => {
                if !(exponent.is_finite() && exponent > 0.0) {
                    return Err(DiffusionError::setting(
                        "exponent",
                        exponent,
                        "must be above 0",
                    ));
                }
                Arc::new(power::Power {
                    exponent,
                    eps: fraction("eps", eps)?,
                })
            }
            Self::Logarithmic {} => Arc::new(logarithmic::Logarithmic),
            Self::Clipped {
                min,
                max,
                ref schedule,
            } => Arc::new(Clipped::new(schedule.build()?, min, max)?),
        })
    }
}

/// A value in `[0, 1)`.
pub(crate) fn fraction(name: &'static str, value: f64) -> Result<f64> {
    if (0.0..1.0).contains(&value) {
        Ok(value)
    } else {
        Err(DiffusionError::setting(
            name,
            value,
            "must be at least 0 and below 1",
        ))
    }
}

/// `0 <= min < max`, both finite.
fn rising(min: f64, max: f64) -> Result<()> {
    if !(min.is_finite() && min >= 0.0) {
        return Err(DiffusionError::setting(
            "sigma_min",
            min,
            "must be finite and at least 0",
        ));
    }
    if !(max.is_finite() && max > min) {
        return Err(DiffusionError::setting(
            "sigma_max",
            max,
            "must be finite and above sigma_min",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
