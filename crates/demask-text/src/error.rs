use demask_diffusion::DiffusionError;
use demask_models::{ModelError, nearest};
use demask_nn::NnError;
use thiserror::Error;

/// What can go wrong in writing text.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A setting is unusable. `flag` is its name on the command line and in the configuration.
    #[error("`{flag}` = {value}: {reason}")]
    Setting {
        /// Name of the setting.
        flag: &'static str,
        /// The value that was given.
        value: String,
        /// What would be accepted.
        reason: String,
    },
    /// A name that stands in no table.
    #[error("unknown {what} `{name}`{}; known: {known}", suggestion(nearest))]
    Unknown {
        /// What was looked for: a policy, a key of a policy.
        what: String,
        /// The name that was given.
        name: String,
        /// The known name that is nearest to it.
        nearest: Option<String>,
        /// All known names.
        known: String,
    },
    /// A prompt that cannot be used.
    #[error("prompt {index}: {reason}")]
    Prompt {
        /// Which prompt, counted from 0.
        index: usize,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A template with a marker that cannot be read.
    #[error("template, character {at}: {reason}")]
    Template {
        /// Where, in characters from the start.
        at: usize,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The denoiser gave numbers that no token can be drawn from.
    #[error(
        "the prediction of cell {cell} at step {step} {reason}; the weights or the settings of the request are broken"
    )]
    Logits {
        /// The cell within its row.
        cell: usize,
        /// The step of the row.
        step: usize,
        /// What the numbers are.
        reason: &'static str,
    },
    /// The constraints leave nothing to write.
    #[error(
        "no token is left for cell {cell} at step {step}: the constraints ({constraints}) forbid all of them"
    )]
    Constraint {
        /// The cell within its row.
        cell: usize,
        /// The step of the row.
        step: usize,
        /// The constraints in force.
        constraints: String,
    },
    /// Two parts that cannot work together.
    #[error("{what} cannot be used with {with}: {reason}")]
    Unsupported {
        /// The part that was asked for.
        what: String,
        /// What it does not fit.
        with: String,
        /// Why, and what would work.
        reason: String,
    },
    /// A denoiser failed for a reason of its own.
    #[error("denoiser: {0}")]
    Denoiser(String),
    /// The network refused a request.
    #[error(transparent)]
    Network(#[from] NnError),
    /// The checkpoint or its tokenizer failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The mathematics refused a value.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

impl TextError {
    pub(crate) fn setting(
        flag: &'static str,
        value: impl std::fmt::Display,
        reason: impl Into<String>,
    ) -> Self {
        Self::Setting {
            flag,
            value: value.to_string(),
            reason: reason.into(),
        }
    }

    /// A prediction of which nothing can be drawn.
    pub(crate) fn impossible(cell: usize, step: usize) -> Self {
        let reason = "leaves no token possible";
        Self::Logits { cell, step, reason }
    }

    /// An unknown name, with the nearest of `known` when it is near enough to be meant.
    pub(crate) fn unknown<'a>(
        what: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let nearest = nearest(name, known.iter().copied()).map(str::to_owned);
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        Self::Unknown {
            what: what.into(),
            name: name.to_owned(),
            nearest,
            known,
        }
    }
}
