//! LLaDA's fine-tuning on answers (2502.09992, section 2.3 and the published guidelines).
//!
//! The prompt is never masked; answers are padded with EOS to the batch's length, and those EOS are hidden, scored and
//! counted like other tokens. `L = 1/B sum_b sum_{masked l} CE / (p_b answer_length_b)`.
//!
//! The caller says what the answer is: the loss cells, padding EOS included. Rows without an answer do not count in `B`.
//! As in pre-training the mask is no candidate of the softmax; the published code leaves it in.

use serde::{Deserialize, Serialize};

use super::llada_pretrain::masking;
use super::masking::Masking;
use super::{Corrupted, Normalise, Objective, Vocabulary};
use crate::schedule::{Draw, fraction};
use crate::{Ids, Noise, Result};

/// Settings of [`LladaSft`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LladaSftConfig {
    /// Smallest chance of a mask, in [0, 1).
    pub eps: f64,
    /// How the batch's times depend on each other; LLaDA draws each alone.
    pub draw: Draw,
}

impl Default for LladaSftConfig {
    fn default() -> Self {
        Self {
            eps: 1e-3,
            draw: Draw::Independent,
        }
    }
}

/// Masked fine-tuning.
#[derive(Clone, Debug)]
pub struct LladaSft {
    masking: Masking,
}

impl LladaSft {
    /// The objective on a vocabulary with a mask.
    pub fn new(config: &LladaSftConfig, vocabulary: Vocabulary) -> Result<Self> {
        Ok(Self {
            masking: masking(fraction("eps", config.eps)?, config.draw, vocabulary)?,
        })
    }
}

impl Objective for LladaSft {
    fn name(&self) -> &'static str {
        "llada_sft"
    }

    /// The weights hold `1/answer_length`, so the sum over the scored cells is no bound a token.
    fn is_bound(&self) -> bool {
        false
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        let moments = self.masking.moments(x0, loss_cells, noise)?;
        let c = self
            .masking
            .hide(x0, loss_cells, noise, &moments, |moment| 1.0 / moment.p)?;
        Ok(c.normalised(Normalise::Sequence, loss_cells, x0.length()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_stay_and_answers_weigh_by_their_length() {
        let config = LladaSftConfig::default();
        let objective = LladaSft::new(&config, Vocabulary::masked(9, 8)).unwrap();
        let x0 = Ids::filled(3, 8, 1);
        // Answers of 4 and 6 cells, and a row without one.
        let cells: Vec<bool> = (0..24)
            .map(|i| matches!((i / 8, i % 8), (0, 4..) | (1, 2..)))
            .collect();
        let c = objective.corrupt(&x0, &cells, &Noise::new(4)).unwrap();
        assert_eq!((c.scored, c.normaliser), (10, 2.0));
        assert!(c.input.row(0)[..4].iter().all(|&id| id == 1));
        assert!(c.input.row(2).iter().all(|&id| id == 1));
        assert!(!c.asked.is_empty());
        for i in 0..c.asked.len() {
            let answer = if c.cell[i] < 8 { 4.0 } else { 6.0 };
            let p = 0.999 * c.row_time[i] + 0.001;
            assert!((c.weight[i] - 1.0 / (p * answer)).abs() < 1e-12);
        }
    }
}
