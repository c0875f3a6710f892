//! From a prompt to a text on the screen: what `generate` and `infill` share.
//!
//! [`plan`] resolves flags and files to one value, [`prompt`] makes tokens of it, [`watch`] shows
//! the work, [`report`] what came of it; [`unknown`] knows what a tokenizer cannot write.

pub mod plan;
pub mod prompt;
pub mod report;
pub mod unknown;
pub mod watch;

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;
use demask::models::{Checkpoint, Model, ModelKind};
use demask::text::{DecodeConfig, Decoder, Observer, Prompt, StepEvent, TextError, Written, ar};

use crate::args::output::Output;
use crate::error::{Interrupted, usage};
use crate::terminal::interrupt::{self, Listener};
use crate::terminal::note;
use crate::writing::plan::WritePlan;
use crate::writing::watch::Watch;
use crate::{checkpoints, threads};

/// What came of a plan.
pub struct Outcome {
    /// The texts.
    pub written: Vec<Written>,
    /// Seconds of writing, loading not counted.
    pub seconds: f64,
}

impl Outcome {
    /// Whether the user stopped the work.
    pub fn is_stopped(&self) -> bool {
        interrupt::pressed()
    }

    /// The exit of a command after its text is shown.
    pub fn exit(&self) -> Result<()> {
        if self.is_stopped() {
            Err(Interrupted.into())
        } else {
            Ok(())
        }
    }
}

/// Builds the network of a checkpoint; says so when somebody is waiting at a terminal.
pub fn load(checkpoint: Checkpoint, plan: &WritePlan) -> Result<Model> {
    threads::limit(plan.threads)?;
    if io::stderr().is_terminal() {
        note(format!(
            "loading {} ({:.1} M parameters)",
            plan.model,
            checkpoint.spec.network.parameters() as f64 / 1e6
        ));
    }
    Ok(checkpoint.load(&checkpoints::options(plan.dtype))?)
}

/// Writes the texts of a plan.
pub fn write(model: &Model, plan: &WritePlan, prompt: &Prompt, output: Output) -> Result<Outcome> {
    let listener = Listener::new();
    let mut watch = match output {
        Output::Watch => Some(Watch::new(model)),
        Output::Plain | Output::Json => None,
    };
    let mut failed: Option<io::Error> = None;
    let mut observer = |event: &StepEvent| {
        if let Some(Err(error)) = watch.as_mut().map(|watch| watch.event(event)) {
            failed.get_or_insert(error);
        }
        if interrupt::pressed() || failed.is_some() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    let begin = Instant::now();
    let prompts = std::slice::from_ref(prompt);
    let written = decode(model, &plan.decode, prompts, &mut observer);
    let seconds = begin.elapsed().as_secs_f64();
    let shown = watch.as_mut().map_or(Ok(()), Watch::finish);
    drop(listener);
    let written = written.map_err(explain)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    shown?;
    Ok(Outcome { written, seconds })
}

/// Runs the decoder, or the left-to-right writer for a model of that kind.
pub fn decode(
    model: &Model,
    config: &DecodeConfig,
    prompts: &[Prompt],
    observer: &mut dyn Observer,
) -> Result<Vec<Written>, TextError> {
    match model.spec.kind {
        ModelKind::Autoregressive => ar::write(model, config, prompts, observer),
        _ => Decoder::new(model, config.clone())?.run(prompts, observer),
    }
}

/// What the user asked for and cannot have is a usage error; the rest is a failure.
pub fn explain(error: TextError) -> anyhow::Error {
    match error {
        TextError::Setting { .. }
        | TextError::Unknown { .. }
        | TextError::Unsupported { .. }
        | TextError::Template { .. } => usage(error.to_string()),
        // A command has one prompt.
        TextError::Prompt { reason, .. } => usage(format!("prompt: {reason}")),
        other => other.into(),
    }
}
