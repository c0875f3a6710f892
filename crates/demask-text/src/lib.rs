//! Writing text with diffusion language models.
//!
//! The nouns, one trait and one folder or file each:
//!
//! - the [`canvas`] is the token grid that is being written;
//! - a [`denoiser`] maps the canvas to a prediction for the asked cells;
//! - a length plan ([`length`]) says how long the next block is and how its cells are shared out
//!   among steps;
//! - a [`cache`] says which cells are forwarded again and whose keys and values are reused;
//! - a [`guide`] changes a prediction;
//! - a [`constraint`] says what may stand where;
//! - a [`policy`] says which cells are committed, with which tokens, and which are opened again;
//! - the [`Decoder`] is the loop that composes them and emits [`StepEvent`]s.
//!
//! One step: length plan, forward pass, guides, constraints, policy (draw, score, select), commit,
//! reopen, event. The same seed gives the same text alone or in any batch: random numbers are
//! addressed by sample, step and cell ([`uniforms`]).
//!
//! [`infill`] reads templates with gaps, and [`ar`] writes from left to right with autoregressive
//! models and scores texts with them.

pub mod ar;
pub mod cache;
pub mod canvas;
pub mod compat;
mod config;
pub mod constraint;
mod decoder;
pub mod denoiser;
pub mod draw;
pub mod eos;
mod error;
pub mod event;
mod forbid;
pub mod guide;
pub mod infill;
pub mod length;
mod model;
mod notes;
pub mod policy;
mod prompt;
mod repetition;
mod scoring;
mod session;
mod shared;
mod text;
pub mod uniforms;

pub use cache::CacheConfig;
pub use canvas::{Canvas, Cell, Grid, Row};
pub use compat::Compat;
pub use config::{DecodeChanges, DecodeConfig};
pub use constraint::{Constraint, ConstraintConfig};
pub use decoder::Decoder;
pub use demask_diffusion::sampling::Crossing;
pub use denoiser::{CellScoring, DenoiseRequest, Denoiser, Predicted, Prediction, Scoring, Sight};
pub use draw::{Draw, DrawKind, Reading};
pub use eos::{EosConfig, end_tokens};
pub use error::TextError;
pub use event::{Finish, Observer, StepEvent, Write};
pub use guide::{Guide, GuideConfig};
pub use length::{LengthConfig, PaceConfig};
pub use policy::{Policy, PolicyConfig, PolicyInfo};
pub use prompt::{Prompt, Written};
pub use repetition::{RepetitionConfig, Then, unigram_entropy};
