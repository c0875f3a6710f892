//! Colours, and whether to use them.

use std::fmt::Display;

/// Colours go to a terminal that has them unless `NO_COLOR` is set to something (<https://no-color.org>).
pub fn enabled(is_terminal: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    is_terminal && !refused && !is_dumb()
}

/// Whether the terminal says of itself that it knows nothing but lines (`TERM=dumb`: the shell of an
/// editor, a log).
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The word that opens an error.
pub fn error(text: impl Display, colour: bool) -> String {
    paint("1;31", text, colour)
}

/// The word that opens advice.
pub fn help(text: impl Display, colour: bool) -> String {
    paint("1;36", text, colour)
}

/// What matters less.
pub fn dim(text: impl Display, colour: bool) -> String {
    paint("2", text, colour)
}

/// What the eye should find first.
pub fn bold(text: impl Display, colour: bool) -> String {
    paint("1", text, colour)
}

/// As [`bold`], and nothing at all for no text.
pub fn bold_unless_empty(text: &str, colour: bool) -> String {
    if text.is_empty() {
        String::new()
    } else {
        bold(text, colour)
    }
}

/// A token that was written in this step.
pub fn fresh(text: impl Display, colour: bool) -> String {
    paint("1;32", text, colour)
}

fn paint(code: &str, text: impl Display, colour: bool) -> String {
    if colour {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_string()
    }
}
