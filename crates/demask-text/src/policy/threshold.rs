//! All cells that are sure enough are committed (Fast-dLLM, arXiv 2505.22618, §3.3).

use super::{Ask, Candidates, Choice, Policy, Score, Step, scores, select};
use crate::TextError;

/// Commits every cell whose drawn token has a probability of at least `tau`, and at least one. Takes
/// as many steps as that needs, whatever the pace.
#[derive(Debug, Clone, Copy)]
pub struct Threshold {
    /// The probability to reach.
    pub tau: f64,
}

impl Policy for Threshold {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        Ask::all(step).scored(Score::Probability)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        let proposals = Score::Probability.propose(step, c)?;
        let chosen = select::threshold(&scores(&proposals), self.tau);
        Ok(Choice::write(&proposals, &chosen))
    }
}
