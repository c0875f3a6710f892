//! The trainer: the loop that composes data, objective, network and optimiser.
//!
//! A step draws its rows, corrupts them, asks the network for the logits that the objective wants,
//! sums the losses, walks back, and updates the weights once all passes of the step are summed.
//! Every random number is a function of the seed, the step and the place in the batch; nothing
//! random is stored, so that a state is the step, the weights and the moments.

mod batch;
mod observer;
mod params;
mod pass;
mod rehearsal;
mod search;
mod session;
mod setup;

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use demask_diffusion::{Noise, Objective};
use demask_nn::Transformer;

pub use observer::{Silent, TrainEvent, TrainObserver};
pub use rehearsal::Rehearsal;

use crate::data::Row;
use crate::optimizer::{Communicator, Single};
use crate::run_dir::RunDir;
use crate::{Recipe, TrainError};
use session::Session;

/// What a training is given beside its recipe.
pub struct TrainOptions {
    /// Go on from the newest state in the run folder.
    pub resume: bool,
    /// Folders in which relative paths of the recipe are looked for, in order. See
    /// [`roots_of`](crate::recipe::roots_of).
    pub roots: Vec<PathBuf>,
    /// Where the network lives.
    pub device: Device,
    /// The other processes of a data-parallel training.
    pub communicator: Box<dyn Communicator>,
    /// Seconds since some fixed moment.
    pub clock: Box<dyn Fn() -> f64 + Send>,
}

impl Default for TrainOptions {
    /// A new training on the CPU, alone, with files looked for in the current folder.
    fn default() -> Self {
        let start = Instant::now();
        Self {
            resume: false,
            roots: vec![PathBuf::from(".")],
            device: Device::flex(),
            communicator: Box::new(Single),
            clock: Box::new(move || start.elapsed().as_secs_f64()),
        }
    }
}

/// What a training came to.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSummary {
    /// The run folder.
    pub run: PathBuf,
    /// The checkpoint folder.
    pub checkpoint: PathBuf,
    /// Steps taken, over all sittings.
    pub step: u64,
    /// Steps asked for.
    pub steps: u64,
    /// Whether the observer asked to stop before the end.
    pub stopped: bool,
    /// Loss of the last step.
    pub loss: f64,
    /// Last validation loss and its step.
    pub valid: Option<(u64, f64)>,
    /// Tokens seen.
    pub tokens: u64,
    /// Seconds trained, over all sittings.
    pub seconds: f64,
}

impl TrainSummary {
    /// The command that goes on with a training that was stopped.
    pub fn resume_command(&self) -> Option<String> {
        let path = self.run.display().to_string();
        let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@".contains(c);
        let path = match path.chars().all(plain) {
            true => path,
            // As a shell reads it.
            false => format!("'{}'", path.replace('\'', "'\\''")),
        };
        self.stopped
            .then(|| format!("demask train --resume {path}"))
    }
}

/// The loss of `objective` on a batch of rows, as a step of training measures it: the sum over the
/// asked rows divided by the normaliser, without dropout and without gradients. The same noise gives
/// the same value.
///
/// # Errors
/// Rows that the objective or the network cannot take.
pub fn batch_loss(
    network: &Transformer,
    objective: &dyn Objective,
    rows: &[Row],
    noise: &Noise,
) -> Result<f64, TrainError> {
    let batch = batch::Batch::new(rows)?;
    let found = pass::pass(network, objective, &batch, noise, Default::default())?;
    let sum = found
        .sum
        .map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()));
    Ok(sum / found.normaliser)
}

/// Trains `recipe` in the run folder `run`.
///
/// Ends after `run.steps` steps, or after the step in which the observer asks to stop; both save
/// the state and the checkpoint.
///
/// # Errors
/// Every [`TrainError`]. Whatever the error, the states in the run folder are whole, and a training
/// that had taken steps can be resumed.
pub fn train(
    recipe: &Recipe,
    run: &Path,
    options: TrainOptions,
    observer: &mut (dyn TrainObserver + Send),
) -> Result<TrainSummary, TrainError> {
    recipe.validate()?;
    let run = RunDir::open(run)?;
    let whole = || Session::start(recipe, run, options, observer)?.run(observer);
    // In a pool, where the thread that trains works beside the others instead of waiting for them: the caller's, or one
    // of all cores.
    if recipe.run.threads.is_none() && rayon::current_thread_index().is_some() {
        return whole();
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(recipe.run.threads.unwrap_or(0))
        .build()
        .map_err(|e| {
            let asked = match recipe.run.threads {
                Some(threads) => format!("run.threads = {threads}"),
                None => "a thread for every core (run.threads sets another number)".into(),
            };
            TrainError::recipe(format!("{asked}: {e}"))
        })?
        .install(whole)
}
