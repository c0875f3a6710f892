//! What must not be written, apart from the constraints of a configuration: one set of rules for
//! every loop.

use crate::canvas::{Cell, Row};
use crate::compat::Compat;
use crate::config::DecodeConfig;
use crate::denoiser::Denoiser;
use crate::eos::{end_tokens, is_first};
use crate::prompt::Prompt;

/// The tokens that are forbidden, and where.
#[derive(Debug, Clone)]
pub(crate) struct Forbid {
    /// Never written: the mask, rows of no token, and what `logits_eos_inf` says.
    never: Vec<u32>,
    /// Tokens that end a text.
    ends: Vec<u32>,
    /// They are not written as the first token of a text.
    never_first: bool,
    /// They are not written before a given cell.
    never_inside: bool,
    /// Tokens that do not begin with a space; empty when no prompt asks.
    spaceless: Vec<u32>,
    bos: Option<u32>,
}

impl Forbid {
    /// The rules of a configuration for a model and these prompts.
    pub fn new(denoiser: &dyn Denoiser, config: &DecodeConfig, prompts: &[Prompt]) -> Self {
        let ids = denoiser.ids();
        let mut never = denoiser.unassigned();
        never.extend(ids.mask);
        if config.eos.logits_eos_inf {
            never.extend(ids.eos);
        }
        // Looking at every token takes time: only where a prompt needs to know.
        let spaced = prompts.iter().any(|prompt| !prompt.spaced.is_empty());
        let vocab = if spaced { denoiser.vocab_size() } else { 0 };
        let spaceless = (0..vocab as u32).filter(|&id| !denoiser.begins_with_space(id));
        // Published loops know of no begin token and no templates.
        let ours = config.compat == Compat::None;
        Self {
            never,
            ends: end_tokens(ids),
            never_first: config.eos.never_first && ours,
            never_inside: ours,
            spaceless: spaceless.collect(),
            bos: ids.bos,
        }
    }

    /// Tokens that end a text.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Sets the logits of a cell's forbidden tokens to minus infinity. `spaced`: its token must
    /// begin with a space.
    pub fn apply(&self, row: &Row, cell: usize, spaced: bool, logits: &mut [f32]) {
        let mut forbid = |ids: &[u32]| {
            for &id in ids {
                if let Some(logit) = logits.get_mut(id as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        };
        forbid(&self.never);
        // Where the template goes on after a gap, the text cannot end in it.
        let inside = self.never_inside && row.cells()[cell..].contains(&Cell::Fixed);
        if inside || self.never_first && is_first(row, cell, self.bos) {
            forbid(&self.ends);
        }
        if spaced {
            forbid(&self.spaceless);
        }
    }
}
