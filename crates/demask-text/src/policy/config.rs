//! A policy as it stands in a configuration or on the command line.

use std::fmt;

use demask_diffusion::process::Uniform;
use demask_diffusion::solver::analytic::Graph;
use demask_models::{ModelKind, Predicts};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::leap::{Leap, Rule};
use super::*;
use crate::TextError;

/// What a policy must know of the model it writes with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Which process is reversed.
    pub kind: ModelKind,
    /// What the outputs mean.
    pub predicts: Predicts,
    /// The mask id, where there is one.
    pub mask: Option<u32>,
    /// The noise, where it is uniform.
    pub noise: Option<Uniform>,
}

/// A policy with its settings: `{"kind": "threshold", "tau": 0.9}`, or in one word
/// `threshold:tau=0.9` (see [`parse`](Self::parse)).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyConfig {
    /// Commits the cells whose drawn tokens are most probable (LLaDA).
    ///
    /// See [`low_confidence`].
    LowConfidence {},
    /// Commits random cells (LLaDA).
    ///
    /// See [`random`].
    Random {},
    /// Commits each cell with the chance of a linear noise schedule (Dream).
    ///
    /// See [`origin`].
    Origin {
        /// Last time of the grid, above 0 and below 1.
        #[serde(default = "origin_eps")]
        eps: f64,
    },
    /// As `low_confidence`, read after temperature and filters (Dream).
    ///
    /// See [`maskgit_plus`].
    MaskgitPlus {
        /// Temperature of a random choice among the cells; 0 or `null` takes the surest.
        #[serde(default)]
        alg_temp: Option<f64>,
    },
    /// Commits the cells whose best token leads the second by most (Dream).
    ///
    /// See [`topk_margin`].
    TopkMargin {
        /// Temperature of a random choice among the cells; 0 or `null` takes the surest.
        #[serde(default)]
        alg_temp: Option<f64>,
    },
    /// Commits the cells of least entropy (Dream).
    ///
    /// See [`entropy`].
    Entropy {
        /// Temperature of a random choice among the cells; 0 or `null` takes the surest.
        #[serde(default)]
        alg_temp: Option<f64>,
    },
    /// Commits every cell that is sure enough, at least one (Fast-dLLM).
    ///
    /// See [`threshold`].
    Threshold {
        /// Probability to reach, above 0 and at most 1.
        #[serde(default = "tau")]
        tau: f64,
    },
    /// Commits the `n` surest cells for the largest `n` with `(n + 1)(1 - p_n) < f` (Fast-dLLM).
    ///
    /// See [`factor`].
    Factor {
        /// Bound on the joint error, above 0; larger commits more.
        #[serde(default = "one")]
        f: f64,
    },
    /// Commits the cells of least entropy up to a bound on its sum (EB-Sampler).
    ///
    /// See [`entropy_bound`].
    EntropyBound {
        /// Bound in nats, 0 or larger; larger commits more.
        #[serde(default = "gamma")]
        gamma: f64,
    },
    /// Commits one random cell a step, at the time of the next event (BD3-LM).
    ///
    /// See [`first_hitting`].
    FirstHitting {},
    /// Draws from the posterior of the reverse process (MDLM, UDLM); the one for uniform noise.
    ///
    /// See [`ancestral`].
    Ancestral {
        /// Last time of the grid, 0 (BD3-LM) or larger and below 1.
        #[serde(default = "ancestral_eps")]
        eps: f64,
    },
    /// Staggered score times transition (SEDD); for models that predict scores.
    ///
    /// See [`leap`].
    Analytic {
        /// Last time of the grid, above 0 and below 1.
        #[serde(default = "ancestral_eps")]
        eps: f64,
    },
    /// Follows the reverse rates (SEDD); for models that predict scores.
    ///
    /// See [`leap`].
    Euler {
        /// Last time of the grid, above 0 and below 1.
        #[serde(default = "ancestral_eps")]
        eps: f64,
    },
}

fn origin_eps() -> f64 {
    1e-3
}

fn ancestral_eps() -> f64 {
    1e-5
}

fn tau() -> f64 {
    0.9
}

fn one() -> f64 {
    1.0
}

fn gamma() -> f64 {
    0.1
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self::LowConfidence {}
    }
}

impl PolicyConfig {
    /// Reads `name` or `name:key=value,key=value`.
    ///
    /// # Errors
    /// [`TextError::Unknown`] for a name or key that does not exist, with the nearest one;
    /// [`TextError::Setting`] for a value that cannot be used.
    ///
    /// ```
    /// use demask_text::policy::PolicyConfig;
    /// let policy = PolicyConfig::parse("threshold:tau=0.8").unwrap();
    /// assert_eq!(policy, PolicyConfig::Threshold { tau: 0.8 });
    /// let message = PolicyConfig::parse("treshold").unwrap_err().to_string();
    /// assert!(message.contains("did you mean `threshold`?"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let name = name.trim();
        let info = registry()
            .iter()
            .find(|info| info.name == name)
            .ok_or_else(|| {
                TextError::unknown("policy", name, registry().iter().map(|info| info.name))
            })?;
        let mut value = Map::from_iter([("kind".to_owned(), Value::from(name))]);
        for setting in settings.split(',').filter(|s| !s.trim().is_empty()) {
            let (key, number) = setting.split_once('=').ok_or_else(|| {
                TextError::setting(
                    "policy",
                    text,
                    format!("`{}` is not key=value", setting.trim()),
                )
            })?;
            let (key, number) = (key.trim(), number.trim());
            if !info.keys.iter().any(|known| known.name == key) {
                let what = format!("key of policy `{name}`");
                return Err(TextError::unknown(
                    what,
                    key,
                    info.keys.iter().map(|k| k.name),
                ));
            }
            let parsed = match number {
                "none" => Value::Null,
                _ => {
                    let parsed = number
                        .parse::<f64>()
                        .ok()
                        .and_then(serde_json::Number::from_f64);
                    let number = parsed.ok_or_else(|| {
                        let reason = format!("`{key}` needs a finite number, not `{number}`");
                        TextError::setting("policy", text, reason)
                    })?;
                    Value::Number(number)
                }
            };
            if value.insert(key.to_owned(), parsed).is_some() {
                return Err(TextError::setting(
                    "policy",
                    text,
                    format!("`{key}` is given twice"),
                ));
            }
        }
        let config: Self = serde_json::from_value(Value::Object(value))
            .map_err(|error| TextError::setting("policy", text, error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.info().name
    }

    /// Its key and value, if it has one.
    fn setting(&self) -> Option<(&'static str, Option<f64>)> {
        match *self {
            Self::LowConfidence {} | Self::Random {} | Self::FirstHitting {} => None,
            Self::Origin { eps }
            | Self::Ancestral { eps }
            | Self::Analytic { eps }
            | Self::Euler { eps } => Some(("eps", Some(eps))),
            Self::MaskgitPlus { alg_temp }
            | Self::TopkMargin { alg_temp }
            | Self::Entropy { alg_temp } => Some(("alg_temp", alg_temp)),
            Self::Threshold { tau } => Some(("tau", Some(tau))),
            Self::Factor { f } => Some(("f", Some(f))),
            Self::EntropyBound { gamma } => Some(("gamma", Some(gamma))),
        }
    }

    /// Its entry in the table.
    pub fn info(&self) -> &'static PolicyInfo {
        match self {
            Self::LowConfidence {} => &registry::LOW_CONFIDENCE,
            Self::Random {} => &registry::RANDOM,
            Self::Origin { .. } => &registry::ORIGIN,
            Self::MaskgitPlus { .. } => &registry::MASKGIT_PLUS,
            Self::TopkMargin { .. } => &registry::TOPK_MARGIN,
            Self::Entropy { .. } => &registry::ENTROPY,
            Self::Threshold { .. } => &registry::THRESHOLD,
            Self::Factor { .. } => &registry::FACTOR,
            Self::EntropyBound { .. } => &registry::ENTROPY_BOUND,
            Self::FirstHitting {} => &registry::FIRST_HITTING,
            Self::Ancestral { .. } => &registry::ANCESTRAL,
            Self::Analytic { .. } => &registry::ANALYTIC,
            Self::Euler { .. } => &registry::EULER,
        }
    }

    /// Whether it keeps the pace of `steps`.
    pub fn is_paced(&self) -> bool {
        self.info().paced
    }

    /// Whether it writes as many cells in a step as the pace says. The others have a pace of their
    /// own: the chances of a reverse process, or how sure the prediction is.
    pub fn reads_pace(&self) -> bool {
        matches!(
            self,
            Self::LowConfidence {}
                | Self::Random {}
                | Self::MaskgitPlus { .. }
                | Self::TopkMargin { .. }
                | Self::Entropy { .. }
        )
    }

    /// The temperature of its paper, which holds where nobody sets another: 1 for the reverse
    /// processes, which are samplers of the model as it is (MDLM, UDLM, SEDD, BD3-LM), 0 for the
    /// rules that rank cells (LLaDA, Dream, Fast-dLLM). Dream's `origin` is one of the first by its
    /// form, but published with 0.
    pub fn usual_temperature(&self) -> f64 {
        match self {
            Self::Ancestral { .. }
            | Self::Analytic { .. }
            | Self::Euler { .. }
            | Self::FirstHitting {} => 1.0,
            Self::LowConfidence {}
            | Self::Random {}
            | Self::Origin { .. }
            | Self::MaskgitPlus { .. }
            | Self::TopkMargin { .. }
            | Self::Entropy { .. }
            | Self::Threshold { .. }
            | Self::Factor { .. }
            | Self::EntropyBound { .. } => 0.0,
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`TextError::Setting`] with the key and what would be accepted.
    pub fn check(&self) -> Result<(), TextError> {
        let Some((key, Some(value))) = self.setting() else {
            return Ok(());
        };
        let (good, wanted) = match key {
            // At time 0 no cell is left masked, and no score is defined.
            "eps" if matches!(self, Self::Ancestral { .. }) => (
                (0.0..1.0).contains(&value),
                "0 (the grid of BD3-LM) or larger, and below 1",
            ),
            "eps" => (value > 0.0 && value < 1.0, "above 0 and below 1"),
            "tau" => (value > 0.0 && value <= 1.0, "above 0 and at most 1"),
            "f" => (value > 0.0 && value.is_finite(), "a finite number above 0"),
            _ => (
                value >= 0.0 && value.is_finite(),
                "a finite number, 0 or larger",
            ),
        };
        if good {
            return Ok(());
        }
        Err(TextError::setting(
            "policy",
            self,
            format!("`{key}` must be {wanted}"),
        ))
    }

    /// Uniform noise leaves no cell open, so that only the steps that know its posterior or its
    /// scores can write; which of them, the outputs of the network say.
    fn fits(&self, target: &Target) -> Result<(), TextError> {
        if target.kind != ModelKind::Uniform {
            return Ok(());
        }
        let refuse = |reason: &str| {
            Err(TextError::Unsupported {
                what: format!("policy `{}`", self.name()),
                with: "a model of uniform noise".into(),
                reason: reason.into(),
            })
        };
        match (self, target.predicts) {
            (Self::Ancestral { .. }, Predicts::Clean)
            | (Self::Analytic { .. } | Self::Euler { .. }, Predicts::LogScores { .. }) => Ok(()),
            (Self::Ancestral { .. }, _) => {
                refuse("its outputs are scores, not clean tokens; use `analytic` or `euler`")
            }
            (Self::Analytic { .. } | Self::Euler { .. }, _) => {
                refuse("its outputs are clean tokens, not scores; use `ancestral`")
            }
            (_, Predicts::Clean) => refuse("no cell of it is ever open; use `ancestral`"),
            (_, _) => refuse("no cell of it is ever open; use `analytic`"),
        }
    }

    /// The policy for one row of a model.
    ///
    /// # Errors
    /// A setting out of range, or a policy that cannot write with this model.
    pub fn build(&self, target: &Target) -> Result<Box<dyn Policy>, TextError> {
        self.check()?;
        self.fits(target)?;
        let leap = |rule, eps| {
            let graph = match target.mask {
                Some(mask) if target.kind.needs_mask() => Graph::Absorbing { mask },
                _ => Graph::Uniform,
            };
            Leap::new(rule, eps, graph, target.predicts, target.noise)
        };
        Ok(match *self {
            Self::LowConfidence {} => Box::new(low_confidence::LowConfidence),
            Self::Random {} => Box::new(random::Random),
            Self::Origin { eps } => Box::new(origin::Origin { eps }),
            Self::MaskgitPlus { alg_temp } => Box::new(maskgit_plus::MaskgitPlus { alg_temp }),
            Self::TopkMargin { alg_temp } => Box::new(topk_margin::TopkMargin { alg_temp }),
            Self::Entropy { alg_temp } => Box::new(entropy::Entropy { alg_temp }),
            Self::Threshold { tau } => Box::new(threshold::Threshold { tau }),
            Self::Factor { f } => Box::new(factor::Factor { f }),
            Self::EntropyBound { gamma } => Box::new(entropy_bound::EntropyBound { gamma }),
            Self::FirstHitting {} => Box::new(first_hitting::FirstHitting::default()),
            Self::Ancestral { eps } => {
                let uniform = target.noise;
                Box::new(ancestral::Ancestral { eps, uniform })
            }
            Self::Analytic { eps } => Box::new(leap(Rule::Analytic, eps)?),
            Self::Euler { eps } => Box::new(leap(Rule::Euler, eps)?),
        })
    }
}

/// The form that [`PolicyConfig::parse`] reads back.
impl fmt::Display for PolicyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.setting() {
            Some((key, Some(value))) => write!(f, ":{key}={value}"),
            _ => Ok(()),
        }
    }
}
