//! How a failure reaches the user: one line `error: …`, its causes, and one line `help: …` that
//! says what to do.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Error;
use demask::train::TrainError;

use crate::terminal::layout::harmless;
use crate::terminal::style;

/// Exit code of a run that failed.
const FAILED: u8 = 1;
/// Exit code of a run that was asked for in a way that cannot work (the same as clap's).
const USAGE: u8 = 2;
/// Exit code of a run that the user stopped (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// The request itself is wrong: a value, a name or a combination of flags.
#[derive(Debug)]
pub struct Usage(String);

/// The user pressed Ctrl-C.
#[derive(Debug)]
pub struct Interrupted;

/// A cause that carries advice. The advice is printed on its own line, never among the causes.
#[derive(Debug)]
struct Advised {
    advice: String,
    inner: Error,
}

/// A usage error, exit code 2.
pub fn usage(message: impl Into<String>) -> Error {
    Error::new(Usage(message.into()))
}

/// Adds the line that says what to do.
pub trait Advise<T> {
    /// Attaches `advice` to the failure.
    fn advise(self, advice: impl FnOnce() -> String) -> anyhow::Result<T>;
}

impl<T, E: Into<Error>> Advise<T> for Result<T, E> {
    fn advise(self, advice: impl FnOnce() -> String) -> anyhow::Result<T> {
        self.map_err(|error| with_advice(error.into(), advice()))
    }
}

/// Attaches advice to an error.
pub fn with_advice(inner: Error, advice: impl Into<String>) -> Error {
    Error::new(Advised {
        advice: advice.into(),
        inner,
    })
}

/// Prints the failure on stderr and gives the exit code. A reader that closed the pipe early
/// (`| head`) is not a failure.
pub fn report(error: &Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    if is_interruption(error) {
        return ExitCode::from(INTERRUPTED);
    }
    let mut stderr = io::stderr().lock();
    // Nobody is left to tell when stderr itself is closed.
    let _ = stderr.write_all(render(error, style::enabled(io::stderr().is_terminal())).as_bytes());
    ExitCode::from(if is_usage(error) { USAGE } else { FAILED })
}

/// Whether the user pressed Ctrl-C.
pub fn is_interruption(error: &Error) -> bool {
    find::<Interrupted>(error).is_some()
}

/// The text of a failure: message, causes that add something, advice.
fn render(error: &Error, colour: bool) -> String {
    let mut messages: Vec<String> = Vec::new();
    let mut advice: Vec<&str> = Vec::new();
    for_each_cause(error, &mut |cause| {
        if let Some(advised) = cause.downcast_ref::<Advised>() {
            advice.push(&advised.advice);
            return;
        }
        let message = cause.to_string();
        // Library errors often repeat their source in their own text: say it once.
        if messages
            .last()
            .is_none_or(|above| !above.contains(&message))
        {
            messages.push(message);
        }
    });
    let mut text = String::new();
    for (i, message) in messages.iter().enumerate() {
        let head = if i == 0 {
            style::error("error:", colour)
        } else {
            "  because:".to_owned()
        };
        // A message may quote a file.
        let message = harmless(message.trim_end()).replace('\n', "\n  ");
        text += &format!("{head} {message}\n");
    }
    for line in advice {
        text += &format!(
            "{} {}\n",
            style::help("help:", colour),
            line.replace('\n', "\n      ")
        );
    }
    text
}

/// Walks the chain of causes, through advice.
fn for_each_cause<'a>(error: &'a Error, f: &mut dyn FnMut(&'a (dyn std::error::Error + 'static))) {
    for cause in error.chain() {
        f(cause);
        if let Some(advised) = cause.downcast_ref::<Advised>() {
            for_each_cause(&advised.inner, f);
        }
    }
}

fn find<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut found = None;
    for_each_cause(error, &mut |cause| {
        found = found.or(cause.downcast_ref::<T>())
    });
    found
}

/// Whether the request is at fault: a flag, or a recipe and the run folder it names.
fn is_usage(error: &Error) -> bool {
    let of_recipe = |error: &TrainError| {
        matches!(
            error,
            TrainError::Recipe { .. }
                | TrainError::NotFound { .. }
                | TrainError::RunExists { .. }
                | TrainError::NothingToResume { .. }
                | TrainError::ResumeMismatch { .. }
        )
    };
    find::<Usage>(error).is_some() || find::<TrainError>(error).is_some_and(of_recipe)
}

fn is_broken_pipe(error: &Error) -> bool {
    let mut broken = false;
    for_each_cause(error, &mut |cause| {
        broken |= cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        broken |= cause
            .downcast_ref::<serde_json::Error>()
            .is_some_and(|e| e.io_error_kind() == Some(io::ErrorKind::BrokenPipe));
    });
    broken
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl std::error::Error for Usage {}
impl std::error::Error for Interrupted {}
impl std::error::Error for Advised {}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_follow_the_message_and_advice_comes_last() {
        let io = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let error = Err::<(), _>(io)
            .advise(|| "give a folder".into())
            .context("cannot open `m`")
            .unwrap_err();
        assert_eq!(
            render(&error, false),
            "error: cannot open `m`\n  because: no such file\nhelp: give a folder\n"
        );
    }

    #[test]
    fn what_a_message_quotes_cannot_steer_the_terminal() {
        let error = Error::msg("unknown model type `\u{1b}]0;x\u{7}`");
        let text = render(&error, false);
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{text:?}");
    }

    #[test]
    fn a_cause_that_only_repeats_is_left_out() {
        let error = Error::msg("lengths lie").context("header: lengths lie");
        assert_eq!(render(&error, false), "error: header: lengths lie\n");
    }

    #[test]
    fn usage_and_interruption_are_found_below_context_and_advice() {
        let error = with_advice(usage("no"), "yes").context("outer");
        assert!(find::<Usage>(&error).is_some());
        assert!(find::<Interrupted>(&error).is_none());
        assert!(is_broken_pipe(&Error::new(io::Error::from(
            io::ErrorKind::BrokenPipe
        ))));
        assert!(!is_broken_pipe(&error));
    }
}
