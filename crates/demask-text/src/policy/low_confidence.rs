//! The most confident cells are committed (LLaDA, arXiv 2502.09992, algorithm 5; after MaskGIT,
//! arXiv 2202.04200). Called "low-confidence remasking" there: the others are masked again.

use super::{Ask, Candidates, Choice, Policy, Score, Step, scores, select};
use crate::TextError;

/// Commits the quota of cells whose drawn tokens are most probable, read from the prediction
/// without temperature or noise.
#[derive(Debug, Clone, Copy, Default)]
pub struct LowConfidence;

impl Policy for LowConfidence {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        Ask::if_due(step).scored(Score::Probability)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        let proposals = Score::Probability.propose(step, c)?;
        let chosen = select::top(&scores(&proposals), step.quota);
        Ok(Choice::write(&proposals, &chosen))
    }
}
