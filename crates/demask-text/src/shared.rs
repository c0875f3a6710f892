//! What the texts of a run share, resolved from the configuration and the denoiser once.

use demask_diffusion::process::Uniform;
use demask_models::ModelKind;

use crate::TextError;
use crate::config::DecodeConfig;
use crate::denoiser::{Denoiser, Sight};
use crate::draw::Draw;
use crate::eos::HeldBack;
use crate::forbid::Forbid;
use crate::guide::{Guide, GuideConfig};
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
    /// The class of the texts.
    pub label: Option<u32>,
    pub draw: Draw,
    pub held_back: HeldBack,
    pub forbid: Forbid,
    /// What policies are built for.
    pub target: Target,
    /// What stands in an open cell and in padding.
    pub mask: u32,
}

impl<'a> Shared<'a> {
    /// Resolves the configuration for a denoiser and these prompts.
    pub fn new(
        denoiser: &'a dyn Denoiser,
        config: &'a DecodeConfig,
        source: &'a dyn Uniforms,
        prompts: &[Prompt],
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
        config.cache.check(kind)?;
        // Made once here so that a policy that does not fit is refused before the first text.
        config.policy.build(&target)?;
        let label = config.label_of(denoiser.labels())?;
        // Where nothing is left of the label, the prediction without it is enough.
        let forgets = label.is_some() && config.guides == [GuideConfig::FORGET];
        let label = label.filter(|_| !forgets);
        let guides = config
            .guides
            .iter()
            .filter(|_| !forgets)
            .filter_map(|g| g.build(&target, label).transpose());
        let guides = guides.collect::<Result<Vec<_>, _>>()?;
        if guides
            .iter()
            .filter(|g| g.mixes_posteriors().is_some())
            .count()
            > 1
        {
            return Err(TextError::Unsupported {
                what: "a second guide".into(),
                with: "uniform noise".into(),
                reason: "it mixes posteriors, of which a step has two: with and without the label; leave \
                         one guide"
                    .into(),
            });
        }
        Ok(Self {
            denoiser,
            config,
            source,
            plan: config.plan.build(kind, denoiser.max_length())?,
            sight: match kind {
                ModelKind::BlockMasked { block } => Sight::BlockCausal { block },
                _ => Sight::Full,
            },
            guides,
            label,
            draw: config.token_draw(),
            held_back: HeldBack::new(&config.eos, config.compat, config.temperature, &ids),
            forbid: Forbid::new(denoiser, config, prompts),
            target,
            mask: ids.mask.or(ids.pad).or(ids.eos).unwrap_or(0),
        })
    }
}
