//! Measured claims: every promise of `docs/systems.md` is a proof that anybody can run again.
//!
//! One file a proof; [`registry`] lists them.

use std::io::{self, Write};

use anyhow::Result;

use crate::terminal::table::Table;

/// A claim and the experiment that tests it.
pub trait Proof: Sync {
    /// The word on the command line.
    fn name(&self) -> &'static str;
    /// What is claimed, in a sentence, with the threshold.
    fn claim(&self) -> &'static str;
    /// Where the claim comes from: paper, equation or figure.
    fn paper(&self) -> &'static str;
    /// Roughly how long it takes on two cores with the default settings.
    fn cost(&self) -> &'static str;
    /// Runs the experiment.
    ///
    /// # Errors
    /// The experiment could not be run. A claim that does not hold is a [`Finding`], not an error.
    fn run(&self, settings: &Settings, reporter: &mut Reporter) -> Result<Finding>;
}

/// What a proof may be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// How many independent repetitions, each with its own seed; `None` leaves it to the proof.
    pub seeds: Option<u64>,
    /// Training steps of each network, for proofs that train; `None` leaves it to the proof.
    pub steps: Option<u64>,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The measurements.
    pub table: Table,
    /// Whether the claim holds.
    pub holds: bool,
    /// The settings that belong to the numbers.
    pub settings: String,
}

/// Says on stderr what is being done.
pub struct Reporter {
    quiet: bool,
}

impl Reporter {
    /// A reporter that speaks on stderr, or not at all.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// One line about what is done next.
    pub fn step(&mut self, text: impl std::fmt::Display) {
        if !self.quiet {
            // Progress that cannot be shown is no reason to stop measuring.
            let _ = writeln!(io::stderr(), "  {text}");
        }
    }
}

/// All proofs.
pub fn registry() -> &'static [&'static dyn Proof] {
    &[]
}
