//! `--watch | --plain | --json`: how a written text is shown.

use std::io::{self, IsTerminal};

use crate::terminal::style;

/// How a written text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Live on the terminal.
    Watch,
    /// The text, when it is done.
    Plain,
    /// One JSON object.
    Json,
}

/// The flags that choose an [`Output`].
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Show the text live while it un-masks [default on a terminal, unless TERM is `dumb`]
    #[arg(long)]
    pub watch: bool,

    /// Print the text when it is done [default when piped]
    #[arg(long)]
    pub plain: bool,

    /// Print one JSON object: text, counts, seconds, seed and the whole configuration
    #[arg(long)]
    pub json: bool,
}

impl OutputArgs {
    /// The asked output, or what suits standard output.
    pub fn resolve(&self) -> Output {
        match (self.watch, self.plain, self.json) {
            (true, ..) => Output::Watch,
            (_, true, _) => Output::Plain,
            (.., true) => Output::Json,
            _ if io::stdout().is_terminal() && !style::is_dumb() => Output::Watch,
            _ => Output::Plain,
        }
    }
}
