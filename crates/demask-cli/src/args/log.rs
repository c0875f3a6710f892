//! `-v` and `--timings`: what is said about the work while it is done, and where its time went.

use std::io::{self, IsTerminal};

use demask::nn::span;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::terminal::style;
use crate::timings;

/// How much the program tells about its work, on stderr.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LogArgs {
    /// Say more about the work, on stderr; twice for details, three times for everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,

    /// Say at the end where the time went, on stderr: seconds of each operation without what is inside
    /// it, its products a second and their share of what this machine can do
    #[arg(long, global = true)]
    pub timings: bool,
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

    /// Sends log lines to stderr, and begins to take the time if it is asked for.
    pub fn install(&self) {
        self.subscriber().init();
    }

    fn subscriber(&self) -> impl Subscriber + Send + Sync + 'static {
        // Spans of operations are no lines of a log: there are thousands a second.
        let lines = Targets::new()
            .with_default(self.level())
            .with_target(span::TARGET, LevelFilter::OFF);
        let log = fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(style::enabled(io::stderr().is_terminal()))
            .with_target(self.verbose > 1)
            .without_time()
            .with_filter(lines);
        let operations = match self.timings {
            true => Targets::new().with_target(span::TARGET, LevelFilter::TRACE),
            false => Targets::new(),
        };
        let timing = self.timings.then(timings::start).with_filter(operations);
        registry().with(timing).with(log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cost_nothing_unless_they_are_timed() {
        let hint = |verbose, timings| {
            let log = LogArgs { verbose, timings };
            log.subscriber().max_level_hint()
        };
        assert_eq!(hint(0, false), Some(LevelFilter::WARN));
        assert_eq!(hint(1, false), Some(LevelFilter::INFO));
        assert_eq!(hint(0, true), Some(LevelFilter::TRACE));
        // Where everything is logged they would come through by their level.
        let operation = tracing::subscriber::with_default(registry(), || {
            span::part("linear").metadata().unwrap()
        });
        let is_never = |timings| {
            let log = LogArgs {
                verbose: 3,
                timings,
            };
            log.subscriber().register_callsite(operation).is_never()
        };
        assert!(is_never(false) && !is_never(true));
    }
}
