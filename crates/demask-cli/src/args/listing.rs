//! `--json` of the commands that print tables.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;

use crate::terminal::on_stdout;
use crate::terminal::table::Table;

/// A table for people or for programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct ListingArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

impl ListingArgs {
    /// Prints the table, folded to the width of the terminal; or `json`, one object a row.
    pub fn print(&self, table: &Table, json: &impl serde::Serialize) -> Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, json).map_err(on_stdout)?;
            return Ok(writeln!(out).map_err(on_stdout)?);
        }
        Ok(out
            .write_all(table.text(width()).as_bytes())
            .map_err(on_stdout)?)
    }
}

/// Columns of the terminal, when standard output is one.
pub fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    crossterm::terminal::size()
        .ok()
        .map(|(columns, _)| usize::from(columns))
}
