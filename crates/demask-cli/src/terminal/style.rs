//! Colours, and whether to use them.

use std::fmt::Display;

/// Colours go to a terminal unless `NO_COLOR` is set to something (<https://no-color.org>).
pub fn enabled(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
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
