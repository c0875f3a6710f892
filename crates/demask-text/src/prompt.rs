//! What is given before anything is written, and what came out.

use serde::{Deserialize, Serialize};

use crate::canvas::Row;
use crate::eos::is_end;
use crate::event::Finish;

/// What a text starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompt {
    /// The tokens before the answer. A mask among them is an open cell and is written too.
    pub ids: Vec<u32>,
    /// The answer, where parts of it are given: a token is fixed, `None` is written. Empty: as many
    /// open cells as the configuration says.
    pub cells: Vec<Option<u32>>,
    /// Cells of the answer whose token must begin with a space, because the given text before them
    /// left it to them (see [`infill`](crate::infill)).
    pub spaced: Vec<usize>,
}

impl Prompt {
    /// An answer after these tokens.
    pub fn new(ids: Vec<u32>) -> Self {
        Self {
            ids,
            ..Self::default()
        }
    }

    /// A template after these tokens.
    pub fn template(ids: Vec<u32>, cells: Vec<Option<u32>>) -> Self {
        Self {
            ids,
            cells,
            spaced: Vec::new(),
        }
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(ids: Vec<u32>) -> Self {
        Self::new(ids)
    }
}

/// A text that was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// Which prompt.
    pub prompt: usize,
    /// Which sample of the prompt.
    pub sample: usize,
    /// The text of the answer up to the first end token; with the given text of a template.
    pub text: String,
    /// The tokens of all cells of the answer as they stood at the end; one that is still open holds
    /// the mask.
    pub ids: Vec<u32>,
    /// Tokens of the prompt; for a template, its given tokens too.
    pub prompt_tokens: usize,
    /// Tokens that were written before the first end token.
    pub new_tokens: usize,
    /// Cells that were still open at the end.
    pub open: usize,
    /// Steps taken, skipped empty ones included.
    pub steps: usize,
    /// Forward passes this text took part in.
    pub forwards: usize,
    /// Canvas positions that were forwarded for this text, those of guides included.
    pub rows: usize,
    /// Why it ended.
    pub finish: Finish,
    /// What was done differently from what was asked, in sentences for people.
    pub notes: Vec<String>,
}

/// The cells of the answer before the first end token that was written, as indices of the row.
pub(crate) fn kept(row: &Row, ends: &[u32]) -> std::ops::Range<usize> {
    let end = (row.start()..row.length())
        .find(|&i| is_end(row, i, ends))
        .unwrap_or(row.length());
    row.start()..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Cell::{self, Fixed, Open, Written};

    #[test]
    fn cut_at_the_first_end_token_that_was_written() {
        let row = |cells: [Cell; 5]| Row::new(vec![7, 1, 7, 2, 7], cells.to_vec(), vec![0; 5], 1);
        assert_eq!(
            kept(&row([Fixed, Written, Written, Written, Written]), &[7]),
            1..2
        );
        assert_eq!(
            kept(&row([Fixed, Written, Fixed, Open, Written]), &[7]),
            1..4
        );
        assert_eq!(
            kept(&row([Fixed, Written, Fixed, Written, Open]), &[7]),
            1..5
        );
    }
}
