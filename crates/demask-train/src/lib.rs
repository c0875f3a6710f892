//! Training of diffusion language models, from a recipe to a checkpoint.
//!
//! `recipe → data → objective.corrupt → network → objective.loss → optimiser → checkpoint`
//!
//! | noun | room | sentence |
//! |---|---|---|
//! | recipe | [`recipe`] | one TOML value that fully describes a training |
//! | data | [`data`] | files become documents, documents rows, rows the batch of a step |
//! | tokenizer | [`tokenizer`] | trained on the data, or taken from a file |
//! | rate | [`rate`] | the learning rate as a function of the step |
//! | optimiser | [`optimizer`] | AdamW, clipping, averaging of the weights |
//! | trainer | [`trainer`] | the loop that composes them |
//! | run folder | [`run_dir`] | what a training leaves behind, and what it goes on from |
//!
//! Three promises, each held by a test: a training that was interrupted, also by `kill -9`, ends
//! with the same bits as one that was not; no crash, full disk or loss that is no number costs more
//! than the steps since the last saved state; and a recipe key that means nothing is an error.

#![warn(missing_docs)]

mod error;

pub mod data;
pub mod optimizer;
pub mod rate;
pub mod recipe;
pub mod run_dir;
pub mod tokenizer;
pub mod trainer;

pub use error::TrainError;
pub use recipe::Recipe;
pub use run_dir::{Metrics, RunDir};
pub use trainer::{TrainEvent, TrainObserver, TrainOptions, TrainSummary, train};
