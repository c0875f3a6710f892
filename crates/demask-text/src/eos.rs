//! End tokens: when they may be written, when they end a text, and where it is cut.

use demask_models::SpecialIds;
use serde::{Deserialize, Serialize};

use crate::canvas::{Cell, Row};
use crate::compat::Compat;

/// The rules about end tokens. The first two are LLaDA's answer to long tails of end tokens (arXiv
/// 2502.09992, appendix B.4) under their names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EosConfig {
    /// The end-of-text token is never written.
    pub logits_eos_inf: bool,
    /// End-of-text and end-of-turn tokens are committed last: they have the lowest confidence, at
    /// any temperature.
    pub confidence_eos_eot_inf: bool,
    /// A text ends when an end token and everything before it is written.
    pub early_stop: bool,
    /// No end token is written where nothing but the begin token stands before it: the most likely
    /// text after no prompt is often the empty one. Compatibility modes leave the rule out.
    pub never_first: bool,
}

impl Default for EosConfig {
    fn default() -> Self {
        Self {
            logits_eos_inf: false,
            confidence_eos_eot_inf: false,
            early_stop: true,
            never_first: true,
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

/// Whether a cell ends the text: an end token that was written. One that was given is part of the
/// template.
pub(crate) fn is_end(row: &Row, cell: usize, ends: &[u32]) -> bool {
    row.cells()[cell] == Cell::Written && ends.contains(&row.ids()[cell])
}

/// Whether nothing but the begin token stands before a cell.
pub(crate) fn is_first(row: &Row, cell: usize, bos: Option<u32>) -> bool {
    row.ids()[..cell].iter().all(|id| Some(*id) == bos)
}

/// The end token that cuts the text, as a cell of the row: the first one written after the last given
/// cell. One before it cuts nothing, for the template says that the text goes on.
pub(crate) fn cut(row: &Row, ends: &[u32]) -> Option<usize> {
    let given = row.cells().iter().rposition(|cell| *cell == Cell::Fixed);
    let from = row.start().max(given.map_or(0, |cell| cell + 1));
    (from..row.length()).find(|&cell| is_end(row, cell, ends))
}

/// The end token that cuts the text, once everything before it is settled.
pub(crate) fn ended_at(row: &Row, ends: &[u32]) -> Option<usize> {
    cut(row, ends).filter(|&end| {
        let before = &row.cells()[row.start()..end];
        !before.iter().any(|cell| cell.is_unsettled())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Cell::{Fixed, Open, Provisional, Written};

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
    fn a_given_end_token_is_no_end() {
        let given = row(&[1, 2, 7, 9], &[Fixed, Written, Fixed, Open]);
        assert_eq!((ended_at(&given, &[7]), cut(&given, &[7])), (None, None));
        let later = row(&[1, 7, 7, 9], &[Fixed, Fixed, Written, Open]);
        assert_eq!(
            (ended_at(&later, &[7]), cut(&later, &[7])),
            (Some(2), Some(2))
        );
    }

    #[test]
    fn cut_at_the_first_end_token_that_was_written() {
        let cut = |cells: [Cell; 5]| cut(&row(&[7, 1, 7, 2, 7], &cells), &[7]);
        assert_eq!(cut([Fixed, Written, Written, Written, Written]), Some(2));
        assert_eq!(cut([Fixed, Written, Fixed, Open, Written]), Some(4));
        assert_eq!(cut([Fixed, Written, Fixed, Written, Open]), None);
    }

    #[test]
    fn given_text_is_never_cut_off() {
        // A compatibility mode lets an end token stand before given text.
        let inside = row(&[1, 7, 3, 9], &[Fixed, Written, Fixed, Open]);
        assert_eq!((ended_at(&inside, &[7]), cut(&inside, &[7])), (None, None));
        let both = row(&[1, 7, 3, 7], &[Fixed, Written, Fixed, Written]);
        assert_eq!(
            (ended_at(&both, &[7]), cut(&both, &[7])),
            (Some(3), Some(3))
        );
    }

    #[test]
    fn where_a_text_ends_it_is_cut() {
        let states = [Fixed, Open, Written, Provisional];
        let mut ended = 0;
        for code in 0..4usize.pow(4) * 2usize.pow(4) {
            let cells: Vec<Cell> = (0..4).map(|i| states[(code >> (2 * i)) % 4]).collect();
            let ids: Vec<u32> = (0..4).map(|i| [2, 7][(code >> (8 + i)) % 2]).collect();
            let row = row(&ids, &cells);
            if let Some(end) = ended_at(&row, &[7]) {
                assert_eq!(cut(&row, &[7]), Some(end), "{ids:?} {cells:?}");
                assert!(!row.cells()[end..].contains(&Fixed));
                ended += 1;
            }
        }
        assert!(ended > 100, "{ended}");
    }

    #[test]
    fn the_first_cell_stands_after_nothing_or_begin_tokens() {
        let row = row(&[5, 5, 3, 7], &[Fixed, Fixed, Open, Open]);
        let first = |bos| (0..4).map(|cell| is_first(&row, cell, bos)).collect();
        let found: Vec<Vec<bool>> = vec![first(Some(5)), first(None)];
        assert_eq!(
            found,
            [[true, true, true, false], [true, false, false, false]]
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
