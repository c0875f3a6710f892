//! What a training says while it runs.

use std::ops::ControlFlow;
use std::path::Path;

use super::TrainSummary;
use crate::data::DataNote;
use crate::run_dir::Metrics;

/// Something that happened.
#[derive(Debug)]
pub enum TrainEvent<'a> {
    /// The data is read and the network built.
    Started {
        /// Trained values.
        parameters: u64,
        /// Tokens in the vocabulary.
        vocabulary: usize,
        /// Tokens for training and for validation.
        tokens: [usize; 2],
        /// Rows of a step.
        rows: usize,
        /// The step to go on from, 0 for a new training.
        step: u64,
        /// Steps asked for.
        steps: u64,
    },
    /// A step was taken.
    Step(&'a Metrics),
    /// The averaged weights were validated.
    Validated {
        /// After this step.
        step: u64,
        /// Mean loss of the validation rows.
        loss: f64,
    },
    /// The variance search chose the window of times that is trained with from here on.
    Searched {
        /// After this step.
        step: u64,
        /// Its ends.
        window: [f64; 2],
        /// Variance of the loss between batches in it.
        variance: f64,
    },
    /// A state was saved.
    Saved {
        /// After this step.
        step: u64,
        /// Its folder.
        state: &'a Path,
        /// The checkpoint beside it.
        checkpoint: &'a Path,
    },
    /// Something about the data that a user should know.
    Data(&'a DataNote),
    /// Something that is not as it should be and was helped.
    Warning(String),
    /// The training ended.
    Finished(&'a TrainSummary),
}

/// Watches a training, and can stop it.
pub trait TrainObserver {
    /// Called for every event in order. `Break` ends the training after the current step: its state
    /// and checkpoint are saved, and it can be resumed.
    fn event(&mut self, event: &TrainEvent) -> ControlFlow<()>;
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl TrainObserver for Silent {
    fn event(&mut self, _event: &TrainEvent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(&TrainEvent) -> ControlFlow<()>> TrainObserver for F {
    fn event(&mut self, event: &TrainEvent) -> ControlFlow<()> {
        self(event)
    }
}
