//! What is given before anything is written, and what came out.

use serde::{Deserialize, Serialize};

use crate::TextError;
use crate::denoiser::Denoiser;
use crate::event::Finish;
use crate::length::LengthConfig;

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

    /// Checks this prompt, number `index` of a run, against a model and the plan of a text; `length` is
    /// that of an answer without a template.
    pub(crate) fn check(
        &self,
        index: usize,
        denoiser: &dyn Denoiser,
        length: usize,
        plan: LengthConfig,
    ) -> Result<(), TextError> {
        let refuse = |reason| Err(TextError::Prompt { index, reason });
        let vocab = denoiser.vocab_size();
        let mut ids = self.ids.iter().chain(self.cells.iter().flatten());
        if let Some(id) = ids.find(|&&id| id as usize >= vocab) {
            return refuse(format!("token {id} is outside the vocabulary of {vocab}"));
        }
        let (given, context) = (self.ids.len(), denoiser.max_length());
        let limit = plan.max_length(context);
        let answer = if self.cells.is_empty() {
            length
        } else {
            self.cells.len()
        };
        // Nothing has been laid out yet, so that a length may be anything.
        let total = given as u128 + answer as u128;
        if total > limit as u128 && limit > context {
            return refuse(format!(
                "{given} tokens and {answer} new ones are {total} cells, more than the {limit} of the \
                 longest text; lower `length`"
            ));
        }
        if total > limit as u128 {
            let more = match plan {
                LengthConfig::Blocks { slide: false, .. } => {
                    ", or let the canvas slide (`plan.slide`)"
                }
                _ => "",
            };
            let room = limit.saturating_sub(given);
            let advice = if self.cells.is_empty() && room > 0 {
                format!("lower `length` to {room}, or shorten the prompt{more}")
            } else {
                format!("shorten the prompt or lower `length`{more}")
            };
            return refuse(format!(
                "{given} tokens and {answer} new ones are {total} cells, the model's context has {limit}; \
                 {advice}"
            ));
        }
        Ok(())
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
    /// The text of the answer up to the end token that cuts it; with the given text of a template,
    /// which is never cut off.
    pub text: String,
    /// The tokens of all cells of the answer as they stood at the end; one that is still open holds
    /// the mask.
    pub ids: Vec<u32>,
    /// The cells that `text` is made of: `ids[..kept]`.
    pub kept: usize,
    /// An end token cuts the text: it is `ids[kept]`, written and not given.
    pub ended: bool,
    /// Tokens of the prompt; for a template, its given tokens too.
    pub prompt_tokens: usize,
    /// Tokens that were written, up to the end token that cuts the text.
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
