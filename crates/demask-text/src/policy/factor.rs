//! As many cells as their joint error allows are committed (Fast-dLLM, arXiv 2505.22618, theorem 1).

use super::{Ask, Candidates, Choice, Policy, Score, Step, scores, select};
use crate::TextError;

/// Commits the `n` surest cells for the largest `n` with `(n + 1)(1 - p_(n)) < f`, and at least one.
/// Takes as many steps as that needs, whatever the pace.
#[derive(Debug, Clone, Copy)]
pub struct Factor {
    /// `f`: larger commits more.
    pub f: f64,
}

impl Policy for Factor {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        Ask::all(step).scored(Score::Probability)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        let proposals = Score::Probability.propose(step, c)?;
        let chosen = select::factor(&scores(&proposals), self.f);
        Ok(Choice::write(&proposals, &chosen))
    }
}
