//! candle and burn as peers of `demask bench`; the protocol is in `bench/peers/README.md`.
//!
//! The process that is started reads the jobs and does none of them. It keeps a worker, the same program
//! again, whose environment says how many threads it has: the pools of both engines read that once, when
//! they start. A job with another number of threads gets another worker.

mod engine;
mod job;
mod network;
mod protocol;
mod random;
mod supervisor;
mod worker;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use engine::Engine;

/// candle or burn as a peer of `demask bench`
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Whose kernels do the work
    #[arg(long, value_enum)]
    engine: Engine,

    /// Do the jobs in this process, with the threads that its environment says
    #[arg(long, hide = true)]
    worker: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.worker {
        true => worker::serve(options.engine, io::stdin().lock(), io::stdout().lock()),
        false => supervisor::serve(options.engine, io::stdin().lock(), io::stdout().lock()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr itself is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
