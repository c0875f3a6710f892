//! What the texts of a run share, resolved from the configuration and the denoiser once.

use demask_diffusion::process::Uniform;
use demask_models::ModelKind;

use crate::TextError;
use crate::compat::Compat;
use crate::config::DecodeConfig;
use crate::denoiser::{Denoiser, Sight};
use crate::draw::Draw;
use crate::eos::{HeldBack, end_tokens};
use crate::guide::Guide;
use crate::length::LengthPlan;
use crate::policy::Target;
use crate::prompt::Prompt;
use crate::uniforms::Uniforms;

/// What all texts of a run share.
pub(crate) struct Shared<'a> {
    pub denoiser: &'a dyn Denoiser,
    pub config: &'a DecodeConfig,
    pub source: &'a dyn Uniforms,
    pub plan: Box<dyn LengthPlan>,
    /// Who sees whom in the network.
    pub sight: Sight,
    pub guides: Vec<Box<dyn Guide>>,
    pub draw: Draw,
    pub held_back: HeldBack,
    /// Tokens that end a text.
    pub ends: Vec<u32>,
    /// They are not written as the first token of a text.
    pub never_first: bool,
    /// Tokens that are never written: the mask, rows of no token, and what `logits_eos_inf` says.
    pub never: Vec<u32>,
    /// Tokens that do not begin with a space; empty when no prompt asks.
    pub spaceless: Vec<u32>,
    /// What policies are built for.
    pub target: Target,
    /// What stands in an open cell and in padding.
    pub mask: u32,
}

impl<'a> Shared<'a> {
    pub fn new(
        denoiser: &'a dyn Denoiser,
        config: &'a DecodeConfig,
        source: &'a dyn Uniforms,
    ) -> Result<Self, TextError> {
        config.check()?;
        let (kind, ids, vocab) = (denoiser.kind(), *denoiser.ids(), denoiser.vocab_size());
        if kind == ModelKind::Autoregressive {
            return Err(TextError::Unsupported {
                what: "the diffusion decoder".into(),
                with: "an autoregressive model".into(),
                reason: "such a model writes from left to right; use `ar::write`".into(),
            });
        }
        if kind.needs_mask() && ids.mask.is_none() {
            return Err(TextError::Unsupported {
                what: "a masked canvas".into(),
                with: "a model without a mask token".into(),
                reason: "name it in the tokenizer or as `ids.mask` in config.json".into(),
            });
        }
        let uniform = kind == ModelKind::Uniform;
        let noise = uniform.then(|| Uniform::without(vocab, ids.mask));
        let target = Target {
            kind,
            predicts: denoiser.predicts(),
            mask: ids.mask,
            noise: noise.transpose()?,
        };
        // Made once here so that a policy that does not fit is refused before the first text.
        config.policy.build(&target)?;
        let guides = config
            .guides
            .iter()
            .filter_map(|g| g.build(kind, ids.mask).transpose());
        let mut never = denoiser.unassigned();
        never.extend(ids.mask);
        if config.eos.logits_eos_inf {
            never.extend(ids.eos);
        }
        Ok(Self {
            denoiser,
            config,
            source,
            plan: config.plan.build(kind)?,
            sight: match kind {
                ModelKind::BlockMasked { block } => Sight::BlockCausal { block },
                _ => Sight::Full,
            },
            guides: guides.collect::<Result<_, _>>()?,
            draw: config.token_draw(),
            held_back: HeldBack::new(&config.eos, config.compat, config.temperature, &ids),
            ends: end_tokens(&ids),
            never_first: config.eos.never_first && config.compat == Compat::None,
            never,
            spaceless: Vec::new(),
            target,
            mask: ids.mask.or(ids.pad).or(ids.eos).unwrap_or(0),
        })
    }

    /// Looks up which tokens begin with a space, if a prompt needs to know.
    pub fn for_prompts(mut self, prompts: &[Prompt]) -> Self {
        if prompts.iter().any(|prompt| !prompt.spaced.is_empty()) {
            let ids = 0..self.denoiser.vocab_size() as u32;
            self.spaceless = ids
                .filter(|&id| !self.denoiser.begins_with_space(id))
                .collect();
        }
        self
    }

    /// Checks a prompt against the model.
    pub fn check(&self, index: usize, prompt: &Prompt) -> Result<(), TextError> {
        let vocab = self.denoiser.vocab_size();
        let given = prompt.ids.iter().chain(prompt.cells.iter().flatten());
        let refuse = |reason: String| Err(TextError::Prompt { index, reason });
        if let Some(id) = given.into_iter().find(|&&id| id as usize >= vocab) {
            return refuse(format!("token {id} is outside the vocabulary of {vocab}"));
        }
        let answer = self.answer_length(prompt);
        let (total, limit) = (prompt.ids.len() + answer, self.denoiser.max_length());
        if total > limit {
            return refuse(format!(
                "{} tokens and {answer} new ones are {total} cells, the model's context has {limit}; \
                 shorten the prompt or lower `length`",
                prompt.ids.len(),
            ));
        }
        Ok(())
    }

    fn answer_length(&self, prompt: &Prompt) -> usize {
        if prompt.cells.is_empty() {
            self.config.length
        } else {
            prompt.cells.len()
        }
    }
}
