//! A line on stderr that says what is being done, until there is something to say about it.

use std::io::{self, IsTerminal, Write};

use super::{note, style};
use crate::args::listing::width;

/// The line. Where it would stand among the rows of a table, it is taken back.
#[derive(Debug)]
pub struct Passing {
    taken_back: bool,
    shown: bool,
}

impl Passing {
    /// `among_rows`: people read on standard output what comes of the work.
    pub fn new(among_rows: bool) -> Self {
        Self {
            taken_back: among_rows
                && io::stdout().is_terminal()
                && style::enabled(io::stderr().is_terminal()),
            shown: false,
        }
    }

    /// Says what is done now.
    pub fn show(&mut self, text: &str) {
        if !self.taken_back {
            return note(text);
        }
        self.clear();
        // A line that wraps could not be taken back.
        let room = width().filter(|width| *width > 1);
        let room = room.map_or(usize::MAX, |width| width - 1);
        let text: String = text.chars().take(room).collect();
        self.write(&style::dim(text, true));
        self.shown = true;
    }

    /// Takes the line back.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.write("\r\u{1b}[2K");
        }
    }

    fn write(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // The work does not fail because nobody can be told about it.
        let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.clear();
    }
}
