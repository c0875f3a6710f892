//! What can go wrong in a training, and what to do about it.

use std::path::PathBuf;

use thiserror::Error;

/// Every error of this crate.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A recipe cannot be read: a typo, a wrong type, a value out of range.
    #[error("{source_name}{}: {message}", line.map(|n| format!(":{n}")).unwrap_or_default())]
    Recipe {
        /// The recipe file, or `--set`.
        source_name: String,
        /// Line in the file, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong, and the nearest right thing.
        message: String,
    },
    /// A file that a recipe names is nowhere.
    #[error("{what} `{asked}` not found; looked at {}. Relative paths are taken from the current folder, then from the folder above the recipe's", tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" and "))]
    NotFound {
        /// What the path is for.
        what: String,
        /// The path as written.
        asked: String,
        /// Every place that was tried.
        tried: Vec<PathBuf>,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A data file has something wrong in it.
    #[error("{}{}: {message}", path.display(), line.map(|n| format!(":{n}")).unwrap_or_default())]
    Data {
        /// The data file.
        path: PathBuf,
        /// Line in the (unpacked) file, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// All files are readable, but what they hold cannot be trained on.
    #[error("data: {0}")]
    Corpus(String),
    /// A tokenizer cannot be trained or opened.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// Another process trains in this run folder.
    #[error(
        "{} is in use: another process is training there. Wait for it, or give this run another name (--set run.name=...)",
        path.display()
    )]
    Locked {
        /// The run folder.
        path: PathBuf,
    },
    /// The run folder already holds a training.
    #[error(
        "{} already holds a training at step {step}. Continue it with `demask train --resume {0}`, or give this run another name (--set run.name=...)",
        path.display()
    )]
    RunExists {
        /// The run folder.
        path: PathBuf,
        /// Its newest step.
        step: u64,
    },
    /// There is nothing to continue from.
    #[error("{}: {message}", path.display())]
    NothingToResume {
        /// The run folder.
        path: PathBuf,
        /// Why nothing can be continued.
        message: String,
    },
    /// A run cannot be continued with other settings or other data.
    #[error("cannot resume {}: {message}", path.display())]
    ResumeMismatch {
        /// The run folder.
        path: PathBuf,
        /// What differs.
        message: String,
    },
    /// A saved state is torn or foreign.
    #[error("training state {}: {message}", path.display())]
    State {
        /// The state folder or file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The checkpoint of `[init]` is not one for the network of the recipe.
    #[error(
        "initial weights from {}: {message}. Make [network] the shape of that checkpoint (`demask inspect` shows it)",
        path.display()
    )]
    Init {
        /// The checkpoint folder.
        path: PathBuf,
        /// Which tensor, and both shapes.
        message: String,
    },
    /// The loss or the gradient stopped being a number.
    #[error(
        "the {what} is not a finite number at step {step}. {}. The same settings would end here again: start a new run with a lower optimizer.lr, more schedule.warmup or a smaller optimizer.clip",
        match kept {
            Some(kept) => format!(
                "The state saved last is kept ({}), and its weights as `checkpoint` in the run folder",
                kept.display()
            ),
            None => "No state had been saved yet".into(),
        }
    )]
    NotFinite {
        /// The step, from 1.
        step: u64,
        /// Loss, or gradient of a named parameter.
        what: String,
        /// The folder of the newest saved state, if one was saved: its weights gave a number.
        kept: Option<PathBuf>,
    },
    /// The objective refused its configuration or a batch.
    #[error(transparent)]
    Diffusion(#[from] demask_diffusion::DiffusionError),
    /// The network refused its configuration or an input.
    #[error(transparent)]
    Network(#[from] demask_nn::NnError),
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Model(#[from] demask_models::ModelError),
}

impl TrainError {
    /// An input or output error on `path`.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// An error about a value of the recipe that no file position belongs to.
    pub(crate) fn recipe(message: impl Into<String>) -> Self {
        Self::Recipe {
            source_name: "recipe".into(),
            line: None,
            message: message.into(),
        }
    }
}

/// What to do about the usual refusals of a file system.
fn hint(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull => {
            ". Free some space; --resume then goes on from the last state that was saved, if there was one"
        }
        PermissionDenied | ReadOnlyFilesystem => {
            ". Choose a folder that can be written (--run-dir)"
        }
        _ => "",
    }
}
