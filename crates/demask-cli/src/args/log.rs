//! `-v`: what the library says while it works.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::LevelFilter;

use crate::terminal::style;

/// How much the program tells about its work, on stderr.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LogArgs {
    /// Say more about the work, on stderr; twice for details, three times for everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
}

impl LogArgs {
    /// The least important level that is shown.
    pub fn level(&self) -> LevelFilter {
        match self.verbose {
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }

    /// Sends log lines to stderr.
    pub fn install(&self) {
        tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_max_level(self.level())
            .with_ansi(style::enabled(io::stderr().is_terminal()))
            .with_target(self.verbose > 1)
            .without_time()
            .init();
    }
}
