//! Evaluation of language models: what a model says of held-out text, and what a judge says of the
//! text it writes.
//!
//! - a [`LanguageModel`] is what evaluation asks of a model: one forward pass, a tokenizer, the way
//!   it writes;
//! - [`data`] reads evaluation files and cuts them to windows and prompt/answer pairs;
//! - a [`metric`] is one number, or a few, about a model or about texts: one file each;
//! - [`evaluate`] runs the metrics of an [`EvalConfig`] and gives a [`Report`].
//!
//! Everything is in nats unless a row says bits. Sums run over all tokens of all batches in a fixed
//! order and are divided once: never a mean of means. All randomness comes from the seed of the
//! configuration and is indexed by draw and window, so the batch size changes no number.
#![warn(missing_docs)]

mod config;
pub mod data;
mod error;
mod evaluate;
pub mod metric;
mod model;
mod observer;
mod report;
mod score;
pub mod task;
#[cfg(test)]
mod toy;

/// Where the tensors of a [`LanguageModel`] live.
pub use burn::tensor::Device;
pub use config::{DataConfig, EvalConfig, SamplesConfig};
pub use error::EvalError;
pub use evaluate::{Bench, Sample, Subject, Writer, evaluate};
pub use metric::{Metric, MetricInfo, MetricName, registry};
pub use model::LanguageModel;
pub use observer::{EvalObserver, Progress, Silent};
pub use report::{Report, Row};
