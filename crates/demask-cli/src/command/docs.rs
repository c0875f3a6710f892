//! `demask docs`: the generated pages, written from the same definitions the program runs on.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::CommandFactory;
use demask::registry::{self, Entry};

use crate::cli::Cli;
use crate::terminal::table::Table;

/// Write the generated pages (the reference, the map of the systems) as Markdown
#[derive(Debug, Clone, clap::Args)]
#[command(hide = true)]
pub struct Docs {
    /// The folder they are written to
    #[arg(default_value = "docs")]
    folder: PathBuf,
}

impl Docs {
    /// Writes the pages.
    pub fn run(&self) -> Result<()> {
        for (name, text) in pages() {
            let file = self.folder.join(name);
            std::fs::write(&file, text)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}

/// The generated pages and their names.
fn pages() -> [(&'static str, String); 2] {
    [("reference.md", reference()), ("systems.md", systems())]
}

/// The text of `docs/systems.md`.
fn systems() -> String {
    let mut table = Table::new(["system", "paper", "rooms", "command", "proofs"]);
    for system in registry::systems() {
        let proofs = match system.proofs {
            [] => "not yet".to_owned(),
            proofs => proofs
                .iter()
                .map(|p| format!("`demask proof {p}`"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let rooms: Vec<String> = system
            .rooms
            .iter()
            .map(|room| format!("`{room}`"))
            .collect();
        let command = format!("`{}`", system.command);
        table.row([
            system.name,
            system.paper,
            &rooms.join(", "),
            &command,
            &proofs,
        ]);
    }
    format!(
        "# Systems\n\nEvery published system, the rooms (below `crates/`) that hold its parts, a command that uses it \
         and the proofs that measure its claims. Written by `demask docs` from the registry; a test holds this file \
         to it.\n\n{}",
        table.markdown()
    )
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
    fn the_committed_pages_are_current() {
        for (name, text) in pages() {
            let path = format!("{}/../../docs/{name}", env!("CARGO_MANIFEST_DIR"));
            let committed = std::fs::read_to_string(path).unwrap_or_default();
            assert!(
                committed == text,
                "docs/{name} is out of date: run `cargo run -- docs` in the repository"
            );
        }
    }
}
