//! As many cells as their entropy allows are committed (EB-Sampler, arXiv 2505.24857).

use super::{Ask, Candidates, Choice, Policy, Score, Step, select};
use crate::TextError;

/// Commits the cells of least entropy as long as their entropies without the largest, a bound on
/// what independent draws lose, sum to at most `gamma` nats. Takes as many steps as that needs,
/// whatever the pace.
#[derive(Debug, Clone, Copy)]
pub struct EntropyBound {
    /// The bound, in nats.
    pub gamma: f64,
}

impl Policy for EntropyBound {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        Ask::all(step).scored(Score::Probability)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        let proposals = Score::Probability.propose(step, c)?;
        let entropies: Vec<f64> = proposals
            .iter()
            .map(|proposal| {
                let held = step.held_back.last.contains(&proposal.token);
                if held {
                    f64::INFINITY
                } else {
                    proposal.entropy
                }
            })
            .collect();
        let chosen = select::entropy_bound(&entropies, self.gamma);
        Ok(Choice::write(&proposals, &chosen))
    }
}
