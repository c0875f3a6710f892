//! The command line as a value.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::args::log::LogArgs;
use crate::command::completions::Completions;

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

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[allow(
        missing_docs,
        reason = "the help is the doc comment of the command itself"
    )]
    Completions(Completions),
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever the command says; see [`crate::error::report`].
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Completions(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
