//! `demask docs`: the generated pages, written from the same definitions the program runs on.
//!
//! | page | file | from |
//! |---|---|---|
//! | `reference.md` | [`reference`] | the command line, the [`schema`] of every configuration, the registry |
//! | `recipe.schema.json` | [`schema`] | the types of a recipe and their comments |
//! | `systems.md` | this one | the registry |

mod keys;
mod reference;
mod schema;

use std::path::PathBuf;

use anyhow::{Context, Result};
use demask::registry;

use crate::terminal::table::Table;

/// Write the generated pages (the reference, the schema of recipes, the map of the systems)
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
fn pages() -> [(&'static str, String); 3] {
    [
        ("reference.md", reference::reference()),
        ("recipe.schema.json", schema::recipe_file()),
        ("systems.md", systems()),
    ]
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
