//! `demask docs`: the reference, written from the same definitions the program runs on.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use demask::registry::{self, Entry};

use crate::cli::Cli;
use crate::terminal::table::Table;

/// Write the reference (commands, models, policies, objectives …) as Markdown
#[derive(Debug, Clone, clap::Args)]
#[command(hide = true)]
pub struct Docs {
    /// The file
    #[arg(default_value = "docs/reference.md")]
    file: PathBuf,
}

impl Docs {
    /// Writes the file.
    pub fn run(&self) -> Result<()> {
        std::fs::write(&self.file, reference())
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// The text of `docs/reference.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Reference\n\nWritten by `demask docs` from the definitions the program runs on; a test \
         holds this file to them.\n\n## Commands\n",
    );
    let mut root = Cli::command().term_width(100);
    root.build();
    for command in root.get_subcommands_mut() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        let name = command.get_name().to_owned();
        let help = command.render_long_help().to_string();
        text += &format!("\n### demask {name}\n\n```text\n{}\n```\n", trimmed(&help));
    }
    for (title, table) in tables() {
        text += &format!("\n## {title}\n\n{}", table.markdown());
    }
    text
}

fn tables() -> Vec<(&'static str, Table)> {
    vec![
        ("Families of checkpoints", super::models::family_table()),
        ("Policies", super::policies::table()),
        ("Metrics", metrics()),
        ("Processes", entries(registry::processes())),
        ("Schedules", entries(registry::schedules())),
        ("Objectives", entries(registry::objectives())),
        ("Systems", super::systems::table()),
        ("Proofs", super::proof::table()),
    ]
}

fn metrics() -> Table {
    let mut table = Table::new(["name", "what", "needs", "paper"]);
    for metric in demask::eval::registry() {
        table.row([metric.name, metric.summary, metric.needs, metric.paper]);
    }
    table
}

fn entries(list: &[Entry]) -> Table {
    let mut table = Table::new(["name", "what", "paper"]);
    for entry in list {
        table.row([entry.name, entry.summary, entry.paper]);
    }
    table
}

/// Help without the spaces that clap leaves at the ends of lines.
fn trimmed(help: &str) -> String {
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    lines.join("\n").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == reference(),
            "docs/reference.md is out of date: run `cargo run -- docs` in the repository"
        );
    }
}
