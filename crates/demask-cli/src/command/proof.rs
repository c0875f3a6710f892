//! `demask proof`

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, anyhow};
use demask::models::nearest;
use serde_json::{Value, json};

use crate::args::listing::{ListingArgs, width};
use crate::args::value;
use crate::error::{usage, with_advice};
use crate::proof::{Cost, Finding, Proof as Claim, Workbench, registry};
use crate::terminal::interrupt::Listener;
use crate::terminal::table::Table;
use crate::terminal::{line, note};

/// Measure a claim of the documentation again
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
The exit code is 1 when a claim does not hold. Proofs that train models keep them in --work: after
Ctrl-C the same command goes on, and run again it trains nothing. Their data lies in the repository,
so run them there.

Examples:
  demask proof --list
  demask proof exactness
  demask proof gumbel --seeds 10 --json
  demask proof                        # those that take seconds
  demask proof --all                  # those that train models, too: hours")]
pub struct Proof {
    /// The proof; all that take seconds when none is named
    name: Option<String>,

    /// All proofs, also those that train models for hours
    #[arg(long, conflicts_with_all = ["name", "list"])]
    all: bool,

    /// List the proofs and what they claim
    #[arg(long, conflicts_with = "name")]
    list: bool,

    /// Independent repetitions, each with its own seed [default: the proof's own]
    #[arg(long, value_name = "N", value_parser = value::count, allow_negative_numbers = true)]
    seeds: Option<usize>,

    /// Where the models that proofs train are kept
    #[arg(long, value_name = "DIR", default_value = Workbench::WORK)]
    work: PathBuf,

    #[command(flatten)]
    listing: ListingArgs,
}

/// What the flags come to.
pub struct Plan {
    proofs: Vec<&'static dyn Claim>,
    seeds: Option<u64>,
    work: PathBuf,
    list: bool,
    json: bool,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.proofs.iter().map(|proof| proof.name()).collect();
        f.debug_tuple("Plan")
            .field(&(names, self.seeds, &self.work, self.list, self.json))
            .finish()
    }
}

impl Proof {
    /// Finds the proofs.
    pub fn resolve(&self) -> Result<Plan> {
        let proofs = match &self.name {
            None => registry()
                .iter()
                .copied()
                .filter(|proof| self.all || self.list || proof.cost() == Cost::Seconds)
                .collect(),
            Some(name) => vec![find(name)?],
        };
        let seeds = self.seeds.map(|seeds| seeds as u64);
        Ok(Plan {
            proofs,
            seeds,
            work: self.work.clone(),
            list: self.list,
            json: self.listing.json,
        })
    }

    /// Lists or runs them.
    pub fn run(&self) -> Result<()> {
        let plan = self.resolve()?;
        if plan.list {
            return self.listing.print(&table(), &table().json());
        }
        let _listener = Listener::new();
        let mut bench = Workbench {
            quiet: false,
            work: plan.work,
        };
        let mut failed = Vec::new();
        let mut records = Vec::new();
        for proof in plan.proofs {
            note(format!("{}: {}", proof.name(), proof.claim()));
            let begin = Instant::now();
            let finding = proof.run(plan.seeds.unwrap_or(proof.seeds()), &mut bench)?;
            let seconds = begin.elapsed().as_secs_f64();
            if !finding.holds {
                failed.push(proof.name());
            }
            if plan.json {
                records.push(record(proof, &finding, seconds));
            } else {
                print(proof, &finding, seconds)?;
            }
        }
        if plan.json {
            line(&serde_json::to_string_pretty(&records)?)?;
        }
        if failed.is_empty() {
            return Ok(());
        }
        Err(anyhow!("the claim of {} does not hold", failed.join(", ")))
    }
}

fn find(name: &str) -> Result<&'static dyn Claim> {
    let names = || registry().iter().map(|proof| proof.name());
    registry()
        .iter()
        .copied()
        .find(|proof| proof.name() == name)
        .ok_or_else(|| {
            let advice = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`demask proof --list` shows all of them".to_owned(),
            };
            with_advice(usage(format!("no proof `{name}`")), advice)
        })
}

fn print(proof: &dyn Claim, finding: &Finding, seconds: f64) -> Result<()> {
    let verdict = if finding.holds {
        "holds"
    } else {
        "DOES NOT HOLD"
    };
    line(&format!("{} — {}", proof.name(), proof.paper()))?;
    line(&format!("{}\n", proof.claim()))?;
    line(&finding.table.text(width()))?;
    Ok(line(&format!(
        "{verdict} ({}; {seconds:.1} s)\n",
        finding.settings
    ))?)
}

fn record(proof: &dyn Claim, finding: &Finding, seconds: f64) -> Value {
    json!({
        "name": proof.name(),
        "claim": proof.claim(),
        "paper": proof.paper(),
        "holds": finding.holds,
        "settings": finding.settings,
        "seconds": seconds,
        "rows": finding.table.json(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// The proofs as a table.
pub fn table() -> Table {
    let mut table = Table::new(["proof", "takes", "paper", "claim"]);
    for proof in registry() {
        let cost = proof.cost().to_string();
        table.row([proof.name(), &cost, proof.paper(), proof.claim()]);
    }
    table
}
