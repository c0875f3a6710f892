//! `demask policies`

use anyhow::Result;
use demask::text::policy::registry;

use crate::args::listing::ListingArgs;
use crate::terminal::table::Table;

/// List the policies: which cells are written in a step
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  demask policies
  demask policies --json | jq '.[].name'
  demask generate --policy threshold:tau=0.8 \"Once upon a time\"")]
pub struct Policies {
    #[command(flatten)]
    listing: ListingArgs,
}

impl Policies {
    /// Prints the list.
    pub fn run(&self) -> Result<()> {
        self.listing.print(&table(), &registry())
    }
}

/// The policies as a table.
pub fn table() -> Table {
    let mut table = Table::new(["policy", "settings", "paper", "what"]);
    for policy in registry() {
        let settings = policy
            .keys
            .iter()
            .map(|key| format!("{}={}", key.name, key.default));
        let settings = settings.collect::<Vec<_>>().join(", ");
        let settings = if settings.is_empty() { "-" } else { &settings };
        table.row([policy.name, settings, policy.paper, policy.summary]);
    }
    table
}
