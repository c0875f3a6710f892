//! The cells whose drawn tokens are most probable are committed
//! (Dream, arXiv 2508.15487, `alg = "maskgit_plus"`; the probability is read after temperature and filters).

use super::{Ask, Candidates, Choice, Policy, Score, Step, dream};
use crate::TextError;

/// Commits the quota of cells whose drawn tokens are most probable.
#[derive(Debug, Clone, Copy, Default)]
pub struct MaskgitPlus {
    /// Temperature of a random choice among the cells; `None` and 0 take the surest.
    pub alg_temp: Option<f64>,
}

impl Policy for MaskgitPlus {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        Ask::if_due(step).scored(Score::Drawn)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        dream(Score::Drawn, self.alg_temp, step, c)
    }
}
