//! The command line as a value.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::args::log::LogArgs;
use crate::command::bench::Bench;
use crate::command::completions::Completions;
use crate::command::docs::Docs;
use crate::command::eval::Eval;
use crate::command::generate::Generate;
use crate::command::infill::Infill;
use crate::command::inspect::Inspect;
use crate::command::models::Models;
use crate::command::policies::Policies;
use crate::command::proof::Proof;
use crate::command::systems::Systems;
use crate::command::train::Train;

/// Diffusion models for text: run, train, measure.
#[derive(Debug, Parser)]
#[command(
    name = "demask",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The commands; the help of each is the doc comment of its own type.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Command {
    Generate(Generate),
    Infill(Infill),
    Train(Train),
    Eval(Eval),
    Inspect(Inspect),
    Proof(Proof),
    Bench(Bench),
    Models(Models),
    Policies(Policies),
    Systems(Systems),
    Completions(Completions),
    Docs(Docs),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever the command says; see [`crate::error::report`].
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Generate(command) => command.run(),
            Self::Infill(command) => command.run(),
            Self::Train(command) => command.run(),
            Self::Eval(command) => command.run(),
            Self::Inspect(command) => command.run(),
            Self::Proof(command) => command.run(),
            Self::Bench(command) => command.run(),
            Self::Models(command) => command.run(),
            Self::Policies(command) => command.run(),
            Self::Systems(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Docs(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests;
