//! Random cells are committed (LLaDA, arXiv 2502.09992, algorithm 4).

use super::{Ask, Candidates, Choice, Policy, Score, Step, scores, select};
use crate::TextError;
use crate::uniforms::Use;

/// Commits the quota of cells with the largest of one uniform number a cell. Which cells these are
/// is known before the forward pass, so only they are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

impl Random {
    fn scores(step: &Step<'_>, cells: &[usize]) -> Vec<f64> {
        cells
            .iter()
            .map(|&cell| step.uniform(Use::Score, cell))
            .collect()
    }
}

impl Policy for Random {
    fn ask(&mut self, step: &Step<'_>) -> Ask {
        if !step.held_back.last.is_empty() {
            // Which cells come last depends on their tokens.
            return Ask::if_due(step).scored(Score::Probability);
        }
        let chosen = select::top(&Self::scores(step, step.open), step.quota);
        Ask {
            cells: chosen.into_iter().map(|i| step.open[i]).collect(),
            ..Ask::default()
        }
        .scored(Score::Probability)
    }

    fn choose(&mut self, step: &Step<'_>, c: &Candidates<'_>) -> Result<Choice, TextError> {
        let mut proposals = Score::Probability.propose(step, c)?;
        let cells: Vec<usize> = proposals.iter().map(|p| p.cell).collect();
        for (proposal, score) in proposals.iter_mut().zip(Self::scores(step, &cells)) {
            if !step.held_back.last.contains(&proposal.token) {
                proposal.score = score;
            }
        }
        let chosen = select::top(&scores(&proposals), step.quota);
        Ok(Choice::write(&proposals, &chosen))
    }
}
