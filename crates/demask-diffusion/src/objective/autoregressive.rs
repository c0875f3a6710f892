//! Next-token prediction: the plain autoregressive likelihood, for judges, guides and the scoreboard.
//!
//! The input is the clean text under causal attention. The asked rows are the predicted cells; the network takes their
//! logits one position earlier (its shift). The first cell of a row has nothing before it and is not scored, so begin
//! rows with BOS.

use serde::{Deserialize, Serialize};

use super::masking::count;
use super::{Attention, Corrupted, Normalise, Objective, Row, Rows, Vocabulary, check_batch};
use crate::{DiffusionError, Ids, Noise, Result, Time};

/// Settings of [`Autoregressive`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AutoregressiveConfig {
    /// What the summed loss is divided by.
    pub normalise: Normalise,
}

/// Next-token prediction.
#[derive(Clone, Debug)]
pub struct Autoregressive {
    vocabulary: Vocabulary,
    config: AutoregressiveConfig,
}

impl Autoregressive {
    /// The objective on a vocabulary; a mask, where there is one, is never predicted.
    pub fn new(config: &AutoregressiveConfig, vocabulary: Vocabulary) -> Result<Self> {
        if vocabulary.size == 0 {
            return Err(DiffusionError::setting("vocab", 0, "must be at least 1"));
        }
        Ok(Self {
            vocabulary,
            config: config.clone(),
        })
    }
}

impl Objective for Autoregressive {
    fn name(&self) -> &'static str {
        "autoregressive"
    }

    fn attention(&self) -> Attention {
        Attention::Causal
    }

    fn shifted(&self) -> bool {
        true
    }

    /// It is the likelihood itself, given the first token.
    fn is_bound(&self) -> bool {
        self.config.normalise != Normalise::Sequence
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], _noise: &Noise) -> Result<Corrupted> {
        let mut cells = loss_cells.to_vec();
        if cells.len() == x0.data().len() {
            cells
                .iter_mut()
                .step_by(x0.length().max(1))
                .for_each(|cell| *cell = false);
        }
        check_batch(x0, &cells, self.vocabulary.size, self.vocabulary.mask)?;
        let mut rows = Rows::default();
        for (cell, &id) in x0
            .data()
            .iter()
            .enumerate()
            .filter(|&(cell, _)| cells[cell])
        {
            rows.push(Row {
                asked: cell,
                cell,
                target: id,
                present: id,
                time: 0.0,
                weight: 1.0,
            });
        }
        let time = Time::per_sequence(vec![0.0; x0.batch()]);
        let mut corrupted = rows.finish(x0.clone(), time, count(&cells));
        corrupted.forbidden = self.vocabulary.mask;
        Ok(corrupted.normalised(self.config.normalise, &cells, x0.length()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_every_cell_but_the_first() {
        let config = AutoregressiveConfig::default();
        let objective = Autoregressive::new(&config, Vocabulary::plain(9)).unwrap();
        let x0 = Ids::new(2, 3, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let cells = [true, true, true, true, true, false];
        let c = objective.corrupt(&x0, &cells, &Noise::new(0)).unwrap();
        assert_eq!(c.asked, [1, 2, 4]);
        assert_eq!(c.target, [2, 3, 5]);
        assert_eq!((c.normaliser, c.scored), (3.0, 3));
        assert_eq!(c.input, x0);
        assert_eq!(
            (objective.attention(), objective.shifted()),
            (Attention::Causal, true)
        );
    }
}
