//! Measured claims: every promise of `docs/systems.md` is a proof that anybody can run again.
//!
//! | proof | file | claim of |
//! |---|---|---|
//! | `exactness` | [`exactness`] | MDLM 2406.07524, section 3.5; BD3-LM 2503.09573 |
//! | `gumbel` | [`gumbel`] | LLaDA 2502.09992; 2409.02908 |
//! | `cached-ancestral` | [`cached_ancestral`] | MDLM 2406.07524 (`ddpm_cache`) |

mod cached_ancestral;
mod exactness;
mod gumbel;

use anyhow::Result;
use serde::Serialize;

use crate::error::Interrupted;
use crate::terminal::table::Table;
use crate::terminal::{interrupt, note};

/// A claim and the experiment that tests it.
pub trait Proof: Sync {
    /// The word on the command line.
    fn name(&self) -> &'static str;

    /// What is claimed, in a sentence, with the threshold.
    fn claim(&self) -> &'static str;

    /// Where the claim comes from.
    fn paper(&self) -> &'static str;

    /// How many seeds are run unless another number is asked for.
    fn seeds(&self) -> u64;

    /// Runs the experiment once for each seed.
    ///
    /// # Errors
    /// The experiment could not be run. A claim that does not hold is a [`Finding`], not an error.
    fn run(&self, seeds: u64, reporter: &mut Reporter) -> Result<Finding>;
}

/// What came out of a proof.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The measurements.
    pub table: Table,
    /// Whether the claim holds.
    pub holds: bool,
    /// The settings that belong to the numbers.
    pub settings: String,
}

/// Says on stderr what is being done, and hears Ctrl-C.
#[derive(Debug, Default)]
pub struct Reporter {
    /// Nothing is said.
    pub quiet: bool,
}

impl Reporter {
    /// One line about what is done next.
    ///
    /// # Errors
    /// The user asked to stop.
    pub fn step(&mut self, text: impl std::fmt::Display) -> Result<()> {
        if interrupt::pressed() {
            return Err(Interrupted.into());
        }
        if !self.quiet {
            note(format!("  {text}"));
        }
        Ok(())
    }
}

/// All proofs.
pub fn registry() -> &'static [&'static dyn Proof] {
    &[
        &exactness::Exactness,
        &gumbel::Gumbel,
        &cached_ancestral::CachedAncestral,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proof_that_a_system_names_exists() {
        for name in demask::registry::systems()
            .iter()
            .flat_map(|system| system.proofs)
        {
            assert!(
                registry().iter().any(|proof| proof.name() == *name),
                "no proof `{name}`"
            );
        }
    }

    #[test]
    fn every_proof_belongs_to_a_system() {
        for proof in registry() {
            let mut named = demask::registry::systems()
                .iter()
                .flat_map(|system| system.proofs);
            assert!(
                named.any(|name| *name == proof.name()),
                "{} stands alone",
                proof.name()
            );
        }
    }
}
