//! Checkpoints: what they are, how they are opened and written, and their tokenizers.
//!
//! - [`family`]: kinds of public checkpoints, each mapped to the one transformer.
//! - [`format`](mod@format): containers of named tensors, read lazily and written atomically.
//! - [`tokenizer`]: text to token ids and back.
//! - [`chat`]: messages to the text a chat model expects.
//! - [`pass`]: a corrupted batch to the input of a network.
//!
//! [`Model::open`] opens a folder, a file or a built-in checkpoint; [`Checkpoint`] is the same
//! before the network is built, for [`inspect`](Checkpoint::report). Loading never executes what a
//! file holds, trusts no length in it, and allocates no more than the file justifies. Chat
//! templates are programs: they run in a sandbox without files and with a bounded number of steps.

pub mod built_in;
pub mod chat;
pub mod checkpoint;
mod error;
pub mod family;
pub mod format;
mod inspect;
mod model;
mod nearest;
pub mod pass;
mod spec;
pub mod tokenizer;

pub use built_in::EmbeddedCheckpoint;
pub use chat::{ChatTemplate, Message};
pub use checkpoint::{Checkpoint, OpenOptions};
pub use error::ModelError;
pub use format::SaveDtype;
pub use inspect::{DtypeCount, NamedId, Report, TokenizerReport};
pub use model::Model;
pub use nearest::nearest;
pub use spec::{Frame, GenerationDefaults, ModelKind, ModelSpec, Predicts, Provenance, SpecialIds};
pub use tokenizer::Tokenizer;
