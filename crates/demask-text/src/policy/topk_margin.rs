//! The cells whose best token leads the second by most are committed
//! (Dream, arXiv 2508.15487, `alg = "topk_margin"`; margins: arXiv 2502.06768).

use super::{Ask, Candidates, Choice, Policy, Score, Step, dream};
use crate::TextError;

/// Commits the quota of cells whose best token leads the second by most.
#[derive(Debug, Clone, Copy, Default)]
pub struct TopkMargin {
    /// Temperature of a random choice among the cells; `None` and 0 take the surest.
    pub alg_temp: Option<f64>,
}

impl Policy for TopkMargin {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        Ask::if_due(step).scored(Score::Margin)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        dream(Score::Margin, self.alg_temp, step, c)
    }
}
