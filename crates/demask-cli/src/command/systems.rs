//! `demask systems`

use anyhow::Result;
use demask::registry;

use crate::args::listing::ListingArgs;
use crate::terminal::table::Table;

/// List the published systems, where their parts live and which proof measures them
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  demask systems
  demask systems --json | jq '.[].proofs'")]
pub struct Systems {
    #[command(flatten)]
    listing: ListingArgs,
}

impl Systems {
    /// Prints the list.
    pub fn run(&self) -> Result<()> {
        self.listing.print(&table(), &registry::systems())
    }
}

/// The systems as a table.
pub fn table() -> Table {
    let mut table = Table::new(["system", "proofs", "command", "paper"]);
    for system in registry::systems() {
        let proofs = if system.proofs.is_empty() {
            "-".to_owned()
        } else {
            system.proofs.join(", ")
        };
        table.row([system.name, &proofs, system.command, system.paper]);
    }
    table
}
