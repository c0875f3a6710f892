//! `[search]`: the variance search of block diffusion.

use demask_diffusion::ObjectiveConfig;
use demask_diffusion::objective::bd3::Bd3Config;
use demask_diffusion::objective::variance::{BATCHES, Window, candidates};
use serde::{Deserialize, Serialize};

use super::sections::check;
use crate::TrainError;

/// `[search]`: every so many steps, the window of times is chosen anew (BD3-LM, arXiv 2503.09573,
/// section 5.2): the one whose bound varies least between batches.
///
/// All candidates are measured with the averaged weights on the same validation rows under the same
/// noise, and the best one is trained with until the next turn; `objective.time` holds until the
/// first. With a search, validation is always with the whole window, where the loss is the bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// Steps between two turns.
    pub every: u64,
    /// Batches of `optimizer.batch` rows for each candidate, from 2 to 100. They go around the
    /// validation rows, each time with new noise.
    #[serde(default = "default_batches")]
    pub batches: usize,
    /// Candidates `[min, max]`; the 36 published ones when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<[f64; 2]>,
}

fn default_batches() -> usize {
    BATCHES
}

impl SearchConfig {
    /// The candidates.
    pub fn candidates(&self) -> Vec<Window> {
        if self.windows.is_empty() {
            return candidates();
        }
        let window = |&[min, max]: &[f64; 2]| Window { min, max };
        self.windows.iter().map(window).collect()
    }

    /// The objective that is searched, if a search means anything for it.
    pub(crate) fn validate<'a>(
        &self,
        objective: &'a ObjectiveConfig,
    ) -> Result<&'a Bd3Config, TrainError> {
        check(
            self.every >= 1,
            "search.every",
            self.every,
            "must be at least 1",
        )?;
        let wanted = format!("must be from 2 to {BATCHES}");
        let enough = (2..=BATCHES).contains(&self.batches);
        check(enough, "search.batches", self.batches, &wanted)?;
        for [min, max] in &self.windows {
            let inside = *min >= 0.0 && min < max && *max <= 1.0;
            let value = format!("[{min}, {max}]");
            let wanted = "a window is [min, max] with 0 <= min < max <= 1";
            check(inside, "search.windows", value, wanted)?;
        }
        match objective {
            ObjectiveConfig::Bd3(bd3) => Ok(bd3),
            other => Err(TrainError::recipe(format!(
                "[search] chooses the window of objective `bd3`, not of `{}`; leave the section out",
                other.kind()
            ))),
        }
    }
}
