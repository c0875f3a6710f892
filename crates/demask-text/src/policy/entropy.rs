//! The cells whose distribution has least entropy are committed
//! (Dream, arXiv 2508.15487, `alg = "entropy"`; read after temperature and filters).

use super::{Ask, Candidates, Choice, Policy, Score, Step, dream};
use crate::TextError;

/// Commits the quota of cells whose distribution has least entropy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entropy {
    /// Temperature of a random choice among the cells; `None` and 0 take the surest.
    pub alg_temp: Option<f64>,
}

impl Policy for Entropy {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        Ask::if_due(step).scored(Score::NegEntropy)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        dream(Score::NegEntropy, self.alg_temp, step, c)
    }
}
