//! `demask models`

use anyhow::Result;
use demask::models::{built_in, family};
use demask::nn::Dtype;
use serde_json::json;

use crate::args::listing::ListingArgs;
use crate::checkpoints;
use crate::terminal::table::Table;

/// List the built-in models and the families of checkpoints that open
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Built-in models are looked for in $DEMASK_CHECKPOINTS, in checkpoints/ of the current folder and the
folders above it, and in ../share/demask/checkpoints/ beside the binary. A model ORG/NAME of the
Hugging Face hub (ORG/NAME@REVISION for a branch, tag or commit) is downloaded once, into the cache
that the hub's own programs use, and needs no network from then on. A download that was cut off goes
on with the same command. The hub's variables are read: HF_TOKEN (private models, and those whose
licence must be accepted), HF_HOME and HF_HUB_CACHE (where the cache is), HF_ENDPOINT (another hub),
HF_HUB_OFFLINE=1 (never ask the network); so is the token that `hf auth login` keeps.

Examples:
  demask models
  demask models --json | jq '.families[].name'")]
pub struct Models {
    #[command(flatten)]
    listing: ListingArgs,
}

impl Models {
    /// Prints both lists.
    pub fn run(&self) -> Result<()> {
        let built_in = built_in::registry(&checkpoints::options(Dtype::F32));
        let families: Vec<_> = family::registry()
            .iter()
            .map(|family| family.info())
            .collect();
        if self.listing.json {
            let both = json!({ "built_in": built_in, "families": families });
            return self.listing.print(&Table::default(), &both);
        }
        let mut table = Table::new(["model", "where", "what"]);
        for model in &built_in {
            let place = match &model.folder {
                Some(folder) => folder.display().to_string(),
                None => "in this binary".to_owned(),
            };
            table.row([&model.name, &place, model.summary.as_deref().unwrap_or("-")]);
        }
        if built_in.is_empty() {
            table.row(["-", "-", "no built-in model was found"]);
        }
        self.listing.print(&table, &())?;
        crate::terminal::line("")?;
        self.listing.print(&family_table(), &())
    }
}

/// The families as a table.
pub fn family_table() -> Table {
    let mut table = Table::new(["family", "writes", "opens", "paper"]);
    for family in family::registry() {
        let info = family.info();
        table.row([info.name, info.writes, info.covers, info.paper]);
    }
    table
}
