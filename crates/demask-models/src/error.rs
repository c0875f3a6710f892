use std::path::Path;

use demask_nn::NnError;
use thiserror::Error;

/// What can go wrong with a checkpoint, its tokenizer or its chat template.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb ("read", "write", "create").
        action: &'static str,
        /// The file or folder.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Nothing opens under this name.
    #[error("no checkpoint `{name}`: {hint}")]
    NotFound {
        /// What was asked for.
        name: String,
        /// What was looked at and what would work.
        hint: String,
    },
    /// A container of tensors is damaged or not what it says.
    #[error("{file}: {problem}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A tensor has a number type that this build does not read.
    #[error(
        "{file}: tensor `{tensor}` is stored as {dtype}; F32, F16 and BF16 are read. \
         Convert the checkpoint to one of them first"
    )]
    Dtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its number type as the file names it.
        dtype: String,
    },
    /// A configuration file is unusable.
    #[error("{file}: {problem}")]
    Config {
        /// The file.
        file: String,
        /// The field, what was found, what is needed.
        problem: String,
    },
    /// No family knows this kind of checkpoint.
    #[error(
        "{file}: model type `{found}` is not supported{}. Known: {known}. A new family needs one file \
         in crates/demask-models/src/family: how config.json maps to a network configuration, \
         how its tensor names map to ours, and its special tokens",
        nearest.as_ref().map(|n| format!(" (the nearest known one is `{n}`)")).unwrap_or_default()
    )]
    UnknownFamily {
        /// The configuration file.
        file: String,
        /// Its model type.
        found: String,
        /// The known model type that is spelled most alike.
        nearest: Option<String>,
        /// All known model types.
        known: String,
    },
    /// The configuration and the tensors tell two stories.
    #[error("{config} contradicts {file}: {problem}")]
    Contradiction {
        /// The configuration file.
        config: String,
        /// The file of the tensors.
        file: String,
        /// Both numbers.
        problem: String,
    },
    /// The tokenizer files are missing or unusable.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// The file, or the folder when none was found.
        file: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A token id that no token has.
    #[error("token id {id} is outside the vocabulary of {vocab} ids")]
    TokenId {
        /// The id.
        id: u32,
        /// Ids below this one exist.
        vocab: usize,
    },
    /// A masked diffusion model whose mask token is not known.
    #[error(
        "{file}: this is a masked diffusion model but no mask token was found in config.json \
         (`mask_token_id`), tokenizer_config.json (`mask_token`) or the vocabulary ({tried}). \
         Add `\"mask_token_id\": <id>` to config.json"
    )]
    NoMaskToken {
        /// The checkpoint.
        file: String,
        /// The token texts that were looked up.
        tried: String,
    },
    /// A chat template could not be compiled or refused the messages.
    #[error("chat template: {0}")]
    Template(String),
    /// The network could not be built.
    #[error(transparent)]
    Network(#[from] NnError),
}

impl ModelError {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            action,
            path: path.display().to_string(),
            source,
        }
    }

    pub(crate) fn format(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Format {
            file: file.into(),
            problem: problem.into(),
        }
    }

    pub(crate) fn config(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config {
            file: file.into(),
            problem: problem.into(),
        }
    }

    pub(crate) fn tokenizer(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Tokenizer {
            file: file.into(),
            problem: problem.into(),
        }
    }
}
