//! The one error of this crate.

use std::path::PathBuf;

use thiserror::Error;

/// What can go wrong in an evaluation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A data file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file's name does not say how to read it.
    #[error(
        "{}: unknown kind of file; evaluation reads .txt, .jsonl, and both with .gz", path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no text.
    #[error("{}: the file holds no text to evaluate on", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line of the file cannot be used.
    #[error("{} line {line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it and what is there instead.
        message: String,
    },
    /// The data do not fit what is to be measured.
    #[error("{0}")]
    Data(String),
    /// No metric has this name.
    #[error("unknown metric `{name}`{}; known: {known}", nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default())]
    UnknownMetric {
        /// What was asked for.
        name: String,
        /// The known name that is nearest to it.
        nearest: Option<&'static str>,
        /// All names.
        known: String,
    },
    /// A setting lies outside its range.
    #[error("evaluation setting `{name}` = {value}: needs {needed}")]
    Setting {
        /// Name of the setting, dotted for nested ones.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What would be accepted.
        needed: String,
    },
    /// A metric lacks something it is measured with.
    #[error("metric `{metric}` needs {needed}")]
    Needs {
        /// The metric.
        metric: &'static str,
        /// What is missing and how to give it.
        needed: String,
    },
    /// A number that must be finite is not.
    #[error("{what} is not a finite number; the checkpoint may be damaged or of another family")]
    NotFinite {
        /// Which number.
        what: String,
    },
    /// The observer asked to stop.
    #[error("the evaluation was stopped")]
    Stopped,
    /// The network refused or failed.
    #[error(transparent)]
    Network(#[from] demask_nn::NnError),
    /// Corruption or the objective failed.
    #[error(transparent)]
    Diffusion(#[from] demask_diffusion::DiffusionError),
    /// The tokenizer failed.
    #[error(transparent)]
    Model(#[from] demask_models::ModelError),
    /// Text could not be written.
    #[error("writing samples: {0}")]
    Text(#[from] demask_text::TextError),
    /// A tensor could not be read back.
    #[error("cannot read a tensor back from the device: {0}")]
    Tensor(String),
}

impl EvalError {
    pub(crate) fn setting(
        name: &'static str,
        value: impl std::fmt::Debug,
        needed: impl Into<String>,
    ) -> Self {
        Self::Setting {
            name,
            value: format!("{value:?}"),
            needed: needed.into(),
        }
    }
}
