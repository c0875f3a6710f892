//! The `demask` command line: one file a command in `command/`, the flags they share in `args/`,
//! what the user sees in `terminal/`, the measured claims in `proof/`, measured speed in `bench/`, where
//! the time of a command went in `timings/`.

mod args;
mod bench;
mod checkpoints;
mod cli;
mod command;
mod error;
mod hub;
mod memory;
mod proof;
mod terminal;
mod threads;
mod timings;
mod writing;

use std::process::ExitCode;

use clap::Parser;
use demask::kernels::memory::{Aligned, keep_freed};

#[global_allocator]
static ALLOCATOR: Aligned = Aligned;

fn main() -> ExitCode {
    keep_freed();
    let cli = cli::Cli::parse();
    cli.log.install();
    terminal::interrupt::install();
    let outcome = cli.command.run();
    timings::report(outcome.is_err());
    // Last, so that nothing stands below an error.
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}
