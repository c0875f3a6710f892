//! `demask train`

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use demask::train::recipe::roots_of;
use demask::train::{Recipe, RunDir, TrainOptions, TrainSummary};

use crate::args::value;
use crate::error::{Interrupted, usage};
use crate::terminal::interrupt::Listener;
use crate::terminal::line;
use crate::terminal::progress::TrainProgress;

/// Train a model from a recipe
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Ctrl-C ends after the current step; the state is saved and `--resume` goes on from it, to the same
bits as a training that was never stopped. A second Ctrl-C ends at once.

Examples:
  demask train recipes/story.toml
  demask train recipes/story.toml --set run.steps=300 --set optimizer.lr=1e-3
  demask train recipes/story.toml --dtype bf16
  demask train --resume runs/story")]
pub struct Train {
    /// The recipe; not needed with --resume
    #[arg(value_name = "RECIPE.toml", required_unless_present = "resume")]
    recipe: Option<PathBuf>,

    /// Change one value of the recipe, for example run.steps=300 (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = value::assignment)]
    set: Vec<String>,

    /// What products are computed in, short for --set run.dtype=TYPE; the weights stay f32
    #[arg(long, value_name = "TYPE", value_parser = ["f32", "bf16"])]
    dtype: Option<String>,

    /// Go on with the training in this run folder
    #[arg(long, value_name = "RUN", conflicts_with = "run_dir")]
    resume: Option<PathBuf>,

    /// Where the training is kept [default: runs/NAME, with the name from the recipe]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// What the flags come to.
#[derive(Debug)]
pub struct Plan {
    recipe: Recipe,
    run: PathBuf,
    resume: bool,
    roots: Vec<PathBuf>,
}

impl Train {
    /// Reads the recipe and applies the flags.
    pub fn resolve(&self) -> Result<Plan> {
        let mut changes = self.set.clone();
        changes.extend(self.dtype.iter().map(|dtype| format!("run.dtype={dtype}")));
        let (recipe, roots) = match (&self.recipe, &self.resume) {
            (Some(path), _) => (Recipe::load(path, &changes)?, roots_of(path)),
            (None, Some(run)) => (RunDir::recipe(run, &changes)?, roots_of(run)),
            (None, None) => return Err(usage("a recipe or --resume is needed")),
        };
        let run = (self.resume.clone())
            .or_else(|| self.run_dir.clone())
            .unwrap_or_else(|| PathBuf::from("runs").join(&recipe.run.name));
        Ok(Plan {
            recipe,
            run,
            resume: self.resume.is_some(),
            roots,
        })
    }

    /// Trains.
    pub fn run(&self) -> Result<()> {
        let plan = self.resolve()?;
        let listener = Listener::new();
        let mut progress = TrainProgress::new();
        let options = TrainOptions {
            resume: plan.resume,
            roots: plan.roots.clone(),
            ..Default::default()
        };
        let summary = demask::train::train(&plan.recipe, &plan.run, options, &mut progress)?;
        drop(listener);
        report(&summary)
    }
}

/// Says on stdout where the model is, and on stderr how to go on.
fn report(summary: &TrainSummary) -> Result<()> {
    line(&summary.checkpoint.display().to_string())?;
    let mut stderr = io::stderr().lock();
    if let Some(command) = summary.resume_command() {
        writeln!(
            stderr,
            "stopped after step {} of {}; go on with `{command}`",
            summary.step, summary.steps
        )?;
        return Err(Interrupted.into());
    }
    writeln!(
        stderr,
        "write with `demask generate --model {}`",
        summary.checkpoint.display()
    )?;
    Ok(())
}
