//! End tokens: when they may be written, when they end a text, and where it is cut.

use demask_models::SpecialIds;
use serde::{Deserialize, Serialize};

use crate::canvas::Row;
use crate::compat::Compat;

/// The rules about end tokens. The first two are LLaDA's answer to long tails of end tokens (arXiv
/// 2502.09992, appendix B.4) under their names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EosConfig {
    /// The end-of-text token is never written.
    pub logits_eos_inf: bool,
    /// End-of-text and end-of-turn tokens are committed last: they have the lowest confidence, at
    /// any temperature.
    pub confidence_eos_eot_inf: bool,
    /// A text ends when an end token and everything before it is written.
    pub early_stop: bool,
}

impl Default for EosConfig {
    fn default() -> Self {
        Self {
            logits_eos_inf: false,
            confidence_eos_eot_inf: false,
            early_stop: true,
        }
    }
}

/// The tokens that end a text: end of text and end of turn.
pub fn end_tokens(ids: &SpecialIds) -> Vec<u32> {
    ids.eos.into_iter().chain(ids.eot).collect()
}

/// How end tokens bend the confidences of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldBack {
    /// Their score is below every other.
    pub last: Vec<u32>,
    /// They are left out of the softmax that confidences are read from, and have confidence 0
    /// (what LLaDA's published code does).
    pub left_out: Vec<u32>,
}

impl HeldBack {
    /// The reading of `confidence_eos_eot_inf` in force.
    ///
    /// Ours holds both tokens back at any temperature. LLaDA's published code writes the
    /// end-of-text token into the noisy logits, which at temperature 0 are the logits themselves
    /// and otherwise have no effect.
    pub fn new(config: &EosConfig, compat: Compat, temperature: f64, ids: &SpecialIds) -> Self {
        if !config.confidence_eos_eot_inf {
            return Self::default();
        }
        if compat == Compat::LladaOfficial {
            let eos = ids.eos.filter(|_| temperature == 0.0);
            return Self {
                last: vec![],
                left_out: eos.into_iter().chain(ids.eot).collect(),
            };
        }
        Self {
            last: end_tokens(ids),
            left_out: vec![],
        }
    }
}

/// The first end token of the answer that nothing open stands before, as a cell of the row.
///
/// A text is not ended where given cells follow: the template says that it goes on.
pub(crate) fn ended_at(row: &Row, ends: &[u32]) -> Option<usize> {
    use crate::canvas::Cell;
    let settled = |i: &usize| !row.cells()[*i].is_unsettled();
    let end = (row.start()..row.length())
        .take_while(settled)
        .find(|&i| ends.contains(&row.ids()[i]))?;
    let goes_on = row.cells()[end + 1..].contains(&Cell::Fixed);
    (!goes_on).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Cell::{self, Fixed, Open, Written};

    fn row(ids: &[u32], cells: &[Cell]) -> Row {
        Row::new(ids.to_vec(), cells.to_vec(), vec![0; ids.len()], 1)
    }

    #[test]
    fn a_text_ends_when_everything_before_the_end_is_written() {
        let ended = |ids: &[u32], cells: &[Cell]| ended_at(&row(ids, cells), &[7]);
        assert_eq!(
            ended(&[1, 2, 7, 9], &[Fixed, Written, Written, Open]),
            Some(2)
        );
        assert_eq!(ended(&[1, 9, 7, 9], &[Fixed, Open, Written, Open]), None);
        assert_eq!(
            ended(&[7, 2, 3, 9], &[Fixed, Written, Written, Open]),
            None,
            "the prompt's own"
        );
        assert_eq!(
            ended(&[1, 2, 7, 4], &[Fixed, Written, Written, Fixed]),
            None,
            "template goes on"
        );
    }

    #[test]
    fn both_readings_of_holding_back() {
        let ids = SpecialIds {
            eos: Some(1),
            eot: Some(2),
            ..SpecialIds::default()
        };
        let on = EosConfig {
            confidence_eos_eot_inf: true,
            ..EosConfig::default()
        };
        let held = |compat, t| HeldBack::new(&on, compat, t, &ids);
        assert_eq!(held(Compat::None, 0.7).last, [1, 2]);
        assert_eq!(held(Compat::LladaOfficial, 0.0).left_out, [1, 2]);
        assert_eq!(held(Compat::LladaOfficial, 0.7).left_out, [2]);
        assert_eq!(
            HeldBack::new(&EosConfig::default(), Compat::None, 0.0, &ids),
            HeldBack::default()
        );
    }
}
