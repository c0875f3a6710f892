//! What the user sees: colours, tables, the live canvas, progress, Ctrl-C.

use std::io::{self, IsTerminal, Write};

pub mod columns;
pub mod downloads;
pub mod interrupt;
pub mod layout;
pub mod passing;
pub mod progress;
pub mod style;
pub mod table;
pub mod view;

/// A line on standard output.
///
/// # Errors
/// Writing failed; a closed pipe among others.
pub fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}").map_err(on_stdout)
}

/// A failure to write to standard output, which it names.
pub fn on_stdout(error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(
        error.kind(),
        format!("cannot write to standard output: {error}"),
    )
}

/// A line on stderr for people: a summary, or what is being done.
pub fn note(text: impl std::fmt::Display) {
    let colour = style::enabled(io::stderr().is_terminal());
    // The work does not fail because nobody can be told about it.
    let _ = writeln!(io::stderr().lock(), "{}", style::dim(text, colour));
}
