//! The `demask` command line: one file a command in `command/`, the flags they share in `args/`,
//! what the user sees in `terminal/`, the measured claims in `proof/`, measured speed in `bench/`.

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
mod writing;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    memory::keep();
    let cli = cli::Cli::parse();
    cli.log.install();
    terminal::interrupt::install();
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}
