//! What can go wrong between here and the hub, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Error, anyhow};
use demask::models::ModelError;
use indicatif::DecimalBytes;

use super::name::Name;
use super::refusal::Refusal;
use super::settings::Settings;
use crate::error::{usage, with_advice};

/// A result of this module.
pub type Result<T> = std::result::Result<T, Trouble>;

/// What went wrong.
#[derive(Debug)]
pub enum Trouble {
    /// The hub was not reached.
    Unreachable(String),
    /// The connection broke off.
    Lost(String),
    /// The hub answered with a status that is no success.
    Refused(Refusal),
    /// The token has characters that cannot be sent.
    Token,
    /// The address of the hub is none.
    Address(String),
    /// A commit was asked for, and the hub answers with this one.
    Commit(String),
    /// The answer is none of the hub's.
    Answer(String),
    /// The repository has no file of this name.
    Lacks(String),
    /// The repository has no weights that are read; it has these.
    Weights(Vec<String>),
    /// A file came, but not as announced.
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        wrong: String,
    },
    /// The disk has too little room.
    Room {
        /// Bytes that are missing.
        needed: u64,
        /// Bytes that are free.
        room: u64,
        /// Where.
        path: PathBuf,
    },
    /// The cache cannot be written.
    Disk {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// What was downloaded is no checkpoint that is read.
    Model(ModelError),
}

impl Trouble {
    /// The system refused to read or write a file of the cache.
    pub fn disk(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Disk { path, error }
    }

    /// Whether another try may do.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Lost(_) => true,
            Self::Refused(refusal) => refusal.status >= 500,
            _ => false,
        }
    }

    /// The failure as the user reads it.
    pub fn explain(self, name: &Name, settings: &Settings) -> Error {
        let endpoint = &settings.endpoint;
        match self {
            Self::Unreachable(cause) => with_advice(
                anyhow!("cannot reach {endpoint} to download `{name}`: {cause}"),
                format!(
                    "there is no folder `{name}` here, so the name was looked for on the hub; if it is a model \
                     there, check the network (HTTPS_PROXY names a proxy, HF_ENDPOINT another address of the \
                     hub), and the same command goes on; a model that was downloaded once needs none"
                ),
            ),
            Self::Lost(cause) => with_advice(
                anyhow!("the download of `{name}` broke off: {cause}"),
                "the same command goes on from here",
            ),
            Self::Refused(refusal) => refusal.explain(name, settings),
            Self::Token => with_advice(
                usage("the token of the hub has characters that no token has".to_owned()),
                "set HF_TOKEN to the token alone, or unset it; `hf auth login` renews the one it \
                 keeps",
            ),
            Self::Address(cause) => with_advice(
                usage(format!(
                    "HF_ENDPOINT `{endpoint}` is no address of a hub: {cause}"
                )),
                "unset it, or set it to an address like https://huggingface.co",
            ),
            Self::Commit(other) => with_advice(
                anyhow!("{endpoint} answers with the commit {other} instead of `{name}`"),
                "check HF_ENDPOINT and the proxy: something between here and the hub changes what \
                 it passes on",
            ),
            Self::Answer(cause) => with_advice(
                anyhow!("the answer of {endpoint} is none of a Hugging Face hub: {cause}"),
                "check HF_ENDPOINT and the proxy",
            ),
            Self::Lacks(file) => with_advice(
                anyhow!("`{name}` has no {file} on the hub"),
                format!(
                    "see {endpoint}/{}: it may be no model, or one in parts",
                    name.repository
                ),
            ),
            Self::Weights(others) => {
                let found = match others.is_empty() {
                    true => "none".to_owned(),
                    false => others
                        .iter()
                        .take(3)
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(", "),
                };
                with_advice(
                    anyhow!(
                        "`{name}` has no model.safetensors and no model.safetensors.index.json on \
                         the hub; its weights: {found}"
                    ),
                    "only safetensors is read yet: look for a conversion of the model, or convert \
                     it with transformers' `save_pretrained` and give the folder",
                )
            }
            Self::Damaged { file, wrong } => with_advice(
                anyhow!("{file} of `{name}` {wrong}; it was thrown away"),
                "run the same command again; if it fails again, something between here and the hub \
                 changes what it passes on (a proxy, HF_ENDPOINT)",
            ),
            Self::Room { needed, room, path } => with_advice(
                anyhow!(
                    "`{name}` needs {} more in {}, where {} are free",
                    DecimalBytes(needed),
                    path.display(),
                    DecimalBytes(room)
                ),
                "free some, or set HF_HOME to a folder on a larger disk",
            ),
            Self::Disk { path, error } => {
                let full = matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::FileTooLarge
                );
                let advice = match full {
                    true => {
                        "free some space, and the same command goes on from here; or set HF_HOME \
                         to a folder on a larger disk"
                    }
                    false => "set HF_HOME to a folder that can be written",
                };
                let text = format!("cannot keep {} of `{name}`", path.display());
                with_advice(Error::new(error).context(text), advice)
            }
            Self::Model(error) => error.into(),
        }
    }
}

impl From<ureq::Error> for Trouble {
    fn from(error: ureq::Error) -> Self {
        use ureq::Error as E;
        match error {
            // What another try or another network may mend.
            E::Io(_)
            | E::Timeout(_)
            | E::HostNotFound
            | E::ConnectionFailed
            | E::ConnectProxyFailed(_)
            | E::InvalidProxyUrl
            | E::Tls(_)
            | E::Rustls(_) => Self::Unreachable(error.to_string()),
            E::TooManyRedirects => {
                Self::Answer("each answer leads to another address, without an end".to_owned())
            }
            E::BodyExceedsLimit(limit) => Self::Answer(format!(
                "its list of files has more than {}",
                DecimalBytes(limit)
            )),
            // The address and the token are good: what is not understood came from there.
            _ => Self::Answer(error.to_string()),
        }
    }
}

impl From<ModelError> for Trouble {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}
