//! Measured claims: every promise of `docs/systems.md` is a proof that anybody can run again.
//!
//! | proof | file | claim of |
//! |---|---|---|
//! | `exactness` | [`exactness`] | MDLM 2406.07524, section 3.5; BD3-LM 2503.09573 |
//! | `gumbel` | [`gumbel`] | LLaDA 2502.09992; 2409.02908 |
//! | `cached-ancestral` | [`cached_ancestral`] | MDLM 2406.07524 (`ddpm_cache`) |
//! | `block-cache` | [`block_cache`] | BD3-LM 2503.09573, section 3 |
//! | `variance` | [`variance`] | MDLM 2406.07524; BD3-LM 2503.09573 |
//! | `confidence` | [`confidence`] | LLaDA 2502.09992; Dream 2508.15487 |
//! | `guidance` | [`guidance`] | UDLM 2412.10193, D-CFG |
//! | `order` | [`order`] | BD3-LM 2503.09573, table 3 |
//! | `bf16` | [`bf16`] | Kalamkar et al. 1905.12322 |
//! | `sudoku` | [`sudoku`] | the card of `checkpoints/sudoku` |

mod bf16;
mod block_cache;
mod cached_ancestral;
mod confidence;
mod exactness;
mod guidance;
mod gumbel;
mod order;
mod sudoku;
mod variance;
mod workbench;

use std::fmt;

use anyhow::Result;
use serde::Serialize;

pub use workbench::Workbench;

use crate::terminal::table::Table;

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

    /// What it takes at its own number of seeds.
    fn cost(&self) -> Cost;

    /// Runs the experiment once for each seed.
    ///
    /// # Errors
    /// The experiment could not be run. A claim that does not hold is a [`Finding`], not an error.
    fn run(&self, seeds: u64, bench: &mut Workbench) -> Result<Finding>;
}

/// What a proof takes on two cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// No time to speak of.
    Seconds,
    /// It trains models first, which takes about this long.
    Trains(&'static str),
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seconds => "seconds",
            Self::Trains(time) => time,
        })
    }
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

/// All proofs.
pub fn registry() -> &'static [&'static dyn Proof] {
    &[
        &exactness::Exactness,
        &gumbel::Gumbel,
        &cached_ancestral::CachedAncestral,
        &block_cache::BlockCache,
        &variance::Variance,
        &confidence::Confidence,
        &guidance::Guidance,
        &order::Order,
        &bf16::Bf16,
        &sudoku::Sudoku,
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
