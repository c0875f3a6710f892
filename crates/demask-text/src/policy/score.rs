//! Scores: how sure a prediction is of one cell.

use demask_kernels::rowwise::{self, Asked};

use super::{Candidates, Reads, Step};
use crate::TextError;
use crate::draw::Reading;
use crate::eos::HeldBack;

/// What confidence is read from. Larger is surer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// The probability of the drawn token, without temperature or filters (LLaDA).
    Probability,
    /// The probability of the drawn token, after temperature and filters (Dream `maskgit_plus`).
    Drawn,
    /// The largest probability minus the second, after temperature and filters (Dream
    /// `topk_margin`).
    Margin,
    /// `sum p ln p` after temperature and filters (Dream `entropy`; its `p ln(p + 1e-10)`, a guard
    /// against 0, is larger by at most 1e-10 a token).
    NegEntropy,
}

/// A token drawn for a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Proposal {
    /// The cell.
    pub cell: usize,
    /// The token.
    pub token: u32,
    /// Its probability without temperature or filters.
    pub probability: f64,
    /// Entropy of the prediction without temperature or filters, in nats.
    pub entropy: f64,
    /// How sure the prediction is; minus infinity for a token that is held back.
    pub score: f64,
}

impl Score {
    /// Draws a token for each candidate and scores it.
    ///
    /// # Errors
    /// Where no token is possible.
    pub fn propose(
        self,
        step: &Step<'_>,
        candidates: &Candidates<'_>,
    ) -> Result<Vec<Proposal>, TextError> {
        let readings = candidates.read(step, self != Self::Probability)?;
        let rows = readings.iter().zip(candidates.cells()).enumerate();
        Ok(rows
            .map(|(i, (reading, &cell))| {
                let logits = || candidates.logits(i);
                self.one(step.held_back, cell, reading, logits)
            })
            .collect())
    }

    /// What the scores of a step are asked for with.
    pub(super) fn reads(self) -> Reads {
        Reads::Scores {
            chances: self != Self::Probability,
        }
    }

    /// `logits`: those of the cell, where the softmax is to be taken of some of them.
    fn one<'a>(
        self,
        held: &HeldBack,
        cell: usize,
        reading: &Reading,
        logits: impl Fn() -> &'a [f32],
    ) -> Proposal {
        let token = reading.token;
        let probability = reading.plain.probability(reading.logit);
        let score = if held.last.contains(&token) {
            f64::NEG_INFINITY
        } else {
            match self {
                Self::Probability if held.left_out.is_empty() => probability,
                Self::Probability => without(logits(), token, &held.left_out),
                Self::Drawn => reading.drawn(),
                Self::Margin => reading.margin(),
                Self::NegEntropy => reading.neg_entropy(),
            }
        };
        Proposal {
            cell,
            token,
            probability,
            entropy: reading.plain.entropy(),
            score,
        }
    }
}

/// The probability of `token` in the softmax of a row from which `left_out` is taken.
fn without(logits: &[f32], token: u32, left_out: &[u32]) -> f64 {
    if left_out.contains(&token) {
        return 0.0;
    }
    let mut row = logits.to_vec();
    left_out
        .iter()
        .for_each(|&id| row[id as usize] = f32::NEG_INFINITY);
    let softmax = rowwise::score(&row, row.len(), &Asked::default(), &[])[0].plain;
    softmax.probability(row[token as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_by_hand() {
        let logits = [0.5f32.ln(), 0.25f32.ln(), 0.25f32.ln()];
        assert!((without(&logits, 1, &[]) - 0.25).abs() < 1e-7);
        assert!((without(&logits, 1, &[0]) - 0.5).abs() < 1e-7);
        assert_eq!(without(&logits, 0, &[0]), 0.0);
    }
}
