//! What must not be written, apart from the constraints of a configuration: one set of rules for
//! every loop.

use demask_kernels::rowwise::TokenSet;

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
    never: TokenSet,
    /// Tokens that end a text.
    ends: Vec<u32>,
    /// The same.
    ending: TokenSet,
    /// They are not written as the first token of a text.
    never_first: bool,
    /// They are not written before a given cell.
    never_inside: bool,
    /// Tokens that do not begin with a space; empty when no prompt asks.
    spaceless: TokenSet,
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
        let ends = end_tokens(ids);
        Self {
            never: TokenSet::new(never),
            ending: TokenSet::new(ends.clone()),
            ends,
            never_first: config.eos.never_first && ours,
            never_inside: ours,
            spaceless: TokenSet::new(spaceless.collect()),
            bos: ids.bos,
        }
    }

    /// Tokens that end a text.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The sets of tokens that must not be written into a cell. `spaced`: its token must begin with a space.
    pub fn sets(&self, row: &Row, cell: usize, spaced: bool) -> Vec<TokenSet> {
        let mut sets = vec![self.never.clone()];
        // Where the template goes on after a gap, the text cannot end in it.
        let inside = self.never_inside && row.cells()[cell..].contains(&Cell::Fixed);
        if inside || self.never_first && is_first(row, cell, self.bos) {
            sets.push(self.ending.clone());
        }
        if spaced {
            sets.push(self.spaceless.clone());
        }
        sets
    }
}
