//! Scores: how sure a prediction is of one cell.

use demask_diffusion::sampling;

use super::{Candidates, Step};
use crate::TextError;

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
    /// `sum p ln(p + 1e-10)` after temperature and filters (Dream `entropy`).
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
        candidates
            .iter()
            .map(|(cell, logits)| self.one(step, cell, logits))
            .collect()
    }

    fn one(self, step: &Step<'_>, cell: usize, logits: &[f32]) -> Result<Proposal, TextError> {
        let distribution = step.draw.distribution(logits);
        let token = step.token(cell, logits, &distribution)?;
        let probability = probability(logits, token, &[]);
        let held = step.held_back;
        let score = if held.last.contains(&token) {
            f64::NEG_INFINITY
        } else {
            match self {
                Self::Probability if held.left_out.is_empty() => probability,
                Self::Probability => self::probability(logits, token, &held.left_out),
                Self::Drawn => distribution[token as usize],
                Self::Margin => sampling::confidence_margin(&distribution),
                Self::NegEntropy => sampling::confidence_neg_entropy(&distribution),
            }
        };
        Ok(Proposal {
            cell,
            token,
            probability,
            score,
        })
    }
}

/// The probability of `token` in the softmax of a row from which `left_out` is taken.
pub(crate) fn probability(logits: &[f32], token: u32, left_out: &[u32]) -> f64 {
    if left_out.contains(&token) {
        return 0.0;
    }
    let mut row: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    left_out
        .iter()
        .for_each(|&id| row[id as usize] = f64::NEG_INFINITY);
    sampling::log_softmax(&mut row);
    row[token as usize].exp()
}

/// The entropy of the softmax of a row, in nats.
pub(crate) fn entropy(logits: &[f32]) -> f64 {
    let p = sampling::softmax(logits, 1.0);
    p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_by_hand() {
        assert!((entropy(&[0.0, 0.0, f32::NEG_INFINITY]) - std::f64::consts::LN_2).abs() < 1e-8);
        let logits = [0.5f32.ln(), 0.25f32.ln(), 0.25f32.ln()];
        assert!((probability(&logits, 1, &[]) - 0.25).abs() < 1e-7);
        assert!((probability(&logits, 1, &[0]) - 0.5).abs() < 1e-7);
        assert_eq!(probability(&logits, 0, &[0]), 0.0);
    }
}
