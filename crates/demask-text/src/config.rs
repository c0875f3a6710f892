//! The whole configuration of a run, and what changes it.

use demask_diffusion::sampling::Crossing;
use demask_models::{ModelKind, ModelSpec, Predicts};
use serde::{Deserialize, Serialize};

use crate::TextError;
use crate::cache::CacheConfig;
use crate::compat::Compat;
use crate::constraint::ConstraintConfig;
use crate::draw::{Draw, DrawKind};
use crate::eos::EosConfig;
use crate::guide::GuideConfig;
use crate::length::{LengthConfig, PaceConfig};
use crate::policy::PolicyConfig;
use crate::repetition::RepetitionConfig;

/// Everything that decides what is written, apart from the model and the prompt. The same value
/// with the same model and prompt gives the same bits, in any batch and on any number of threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Decoder")]
pub struct DecodeConfig {
    /// New cells after the prompt. A template brings its own.
    pub length: usize,
    /// Denoising steps over the whole answer, shared out among its blocks by their open cells. A
    /// policy that takes as many steps as it needs (`threshold`, `factor`, `entropy_bound`,
    /// `first_hitting`) does not read it, as in its paper; the notes of a text say when it took more.
    pub steps: usize,
    /// How the answer is cut into blocks.
    pub plan: LengthConfig,
    /// How many cells each step of a block commits, under a policy that has no pace of its own
    /// ([`PolicyConfig::reads_pace`]).
    pub pace: PaceConfig,
    /// Which cells are committed in a step.
    pub policy: PolicyConfig,
    /// Temperature: 0 takes the most likely token, 1 draws from the prediction as it is. Where nobody
    /// sets it, it is the policy's own ([`PolicyConfig::usual_temperature`]).
    pub temperature: f64,
    /// Nucleus: tokens are dropped once the probability before them exceeds this, above 0 and at most 1;
    /// `null` keeps all.
    pub top_p: Option<f64>,
    /// Whether the token that crosses `top_p` stays: `keep` (Dream, and most samplers) or `drop`
    /// (BD3-LM: tokens stay while the probability up to and with them is at most `top_p`).
    pub crossing: Crossing,
    /// Only this many of the most likely tokens are kept; `null` keeps all.
    pub top_k: Option<usize>,
    /// How a token is drawn at a temperature above 0; at 0 it plays no part.
    pub draw: DrawKind,
    /// The class of the texts, of a model that was trained with labels; `null` is a text of any class.
    pub label: Option<String>,
    /// What changes a prediction, in this order.
    pub guides: Vec<GuideConfig>,
    /// What may stand where.
    pub constraints: Vec<ConstraintConfig>,
    /// Whose keys and values are reused from step to step.
    pub cache: CacheConfig,
    /// The rules about end tokens.
    pub eos: EosConfig,
    /// What becomes of a text that repeats itself.
    pub repetition: RepetitionConfig,
    /// Quirks of a published sampler to reproduce.
    pub compat: Compat,
    /// Seed of everything random.
    pub seed: u64,
    /// Texts for each prompt. Sample `i` of a prompt is the same however many are asked for.
    pub samples: usize,
}

impl Default for DecodeConfig {
    /// 128 cells in 128 steps, low-confidence remasking, greedy.
    fn default() -> Self {
        Self {
            length: 128,
            steps: 128,
            plan: LengthConfig::Whole,
            pace: PaceConfig::Fixed,
            policy: PolicyConfig::default(),
            temperature: 0.0,
            top_p: None,
            crossing: Crossing::Keep,
            top_k: None,
            draw: DrawKind::Gumbel,
            label: None,
            guides: Vec::new(),
            constraints: Vec::new(),
            cache: CacheConfig::None,
            eos: EosConfig::default(),
            repetition: RepetitionConfig::default(),
            compat: Compat::None,
            seed: 0,
            samples: 1,
        }
    }
}

/// Changes to a [`DecodeConfig`]: the settings of the command line, each of which may be missing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecodeChanges {
    /// New cells. Without `steps`, a configuration of one step a cell stays one.
    pub length: Option<usize>,
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Cells in a block.
    pub block: Option<usize>,
    /// A policy, as [`PolicyConfig::parse`] reads it. Without `temperature`, one that is usual for
    /// the old policy becomes the one that is usual for the new.
    pub policy: Option<String>,
    /// Temperature.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Number of most likely tokens kept.
    pub top_k: Option<usize>,
    /// The class of the texts.
    pub label: Option<String>,
    /// Scale of classifier-free guidance; 0 takes it out.
    pub cfg: Option<f64>,
    /// Seed.
    pub seed: Option<u64>,
    /// Texts for each prompt.
    pub samples: Option<usize>,
}

impl DecodeConfig {
    /// The configuration for a model: our defaults, then what its authors recommend. Where they name
    /// no temperature, it is that of the policy: a model of uniform noise or one that recommends
    /// `ancestral` (MDLM, BD3-LM) samples at 1.
    ///
    /// # Errors
    /// A recommendation that cannot be used.
    pub fn for_model(spec: &ModelSpec) -> Result<Self, TextError> {
        let mut base = Self::default();
        // A short context must not make the default fail: leave half of it to the prompt.
        base.length = base.length.min((spec.network.max_length / 2).max(1));
        base.steps = base.length;
        match spec.kind {
            ModelKind::BlockMasked { block } => {
                base.plan = LengthConfig::Blocks { block, slide: true };
                base.cache = CacheConfig::Block;
            }
            ModelKind::Uniform => {
                base.policy = PolicyConfig::parse(match spec.predicts {
                    Predicts::Clean => "ancestral",
                    Predicts::LogScores { .. } => "analytic",
                })?;
                base.temperature = base.policy.usual_temperature();
            }
            ModelKind::Autoregressive | ModelKind::Masked => {}
        }
        let g = &spec.generation;
        base.crossing = g.crossing.unwrap_or(base.crossing);
        base.with(&DecodeChanges {
            length: g.length,
            steps: g.steps,
            block: g.block,
            policy: g.policy.clone(),
            temperature: g.temperature,
            top_p: g.top_p,
            top_k: g.top_k,
            label: None,
            cfg: g.cfg,
            seed: None,
            samples: None,
        })
    }

    /// The same configuration with changes.
    ///
    /// # Errors
    /// A value that cannot be used, under the name of its flag.
    pub fn with(&self, changes: &DecodeChanges) -> Result<Self, TextError> {
        let mut config = self.clone();
        if let Some(length) = changes.length {
            if config.steps == config.length {
                config.steps = length;
            }
            config.length = length;
        }
        if let Some(steps) = changes.steps {
            config.steps = steps;
        }
        if let Some(block) = changes.block {
            config.plan = config.plan.with_block(block);
        }
        if let Some(policy) = &changes.policy {
            let usual = config.policy.usual_temperature();
            config.policy = PolicyConfig::parse(policy)?;
            if config.temperature == usual {
                config.temperature = config.policy.usual_temperature();
            }
        }
        if let Some(temperature) = changes.temperature {
            config.temperature = temperature;
        }
        config.top_p = changes.top_p.or(config.top_p);
        config.top_k = changes.top_k.or(config.top_k);
        config.label = changes.label.clone().or(config.label);
        if let Some(scale) = changes.cfg {
            config
                .guides
                .retain(|guide| !matches!(guide, GuideConfig::ClassifierFree { .. }));
            if scale != 0.0 {
                config.guides.push(GuideConfig::ClassifierFree { scale });
            }
        }
        config.seed = changes.seed.unwrap_or(config.seed);
        config.samples = changes.samples.unwrap_or(config.samples);
        config.check()?;
        Ok(config)
    }

    /// Checks every value that can be checked without a model.
    ///
    /// # Errors
    /// [`TextError::Setting`] with the name of the flag and what would be accepted.
    pub fn check(&self) -> Result<(), TextError> {
        let positive = [
            ("length", self.length),
            ("steps", self.steps),
            ("samples", self.samples),
        ];
        for (flag, value) in positive {
            if value == 0 {
                return Err(TextError::setting(flag, 0, "must be at least 1"));
            }
        }
        if self.plan.block() == Some(0) {
            return Err(TextError::setting(
                "block",
                0,
                "a block needs at least 1 cell",
            ));
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            let reason = "must be a finite number, 0 (most likely token) or larger";
            return Err(TextError::setting("temperature", self.temperature, reason));
        }
        if let Some(p) = self.top_p
            && !(p > 0.0 && p <= 1.0)
        {
            return Err(TextError::setting(
                "top-p",
                p,
                "must be above 0 and at most 1",
            ));
        }
        if self.top_k == Some(0) {
            return Err(TextError::setting("top-k", 0, "must be at least 1"));
        }
        if let PaceConfig::Expected { eps } = self.pace
            && !(eps > 0.0 && eps < 1.0)
        {
            return Err(TextError::setting(
                "pace.eps",
                eps,
                "must be above 0 and below 1",
            ));
        }
        for guide in &self.guides {
            guide.check()?;
        }
        self.repetition.check()?;
        let fixed =
            |constraint: &ConstraintConfig| matches!(constraint, ConstraintConfig::Fixed { .. });
        if self.constraints.iter().any(fixed) {
            self.repetition.check_template(true)?;
        }
        self.policy.check()
    }

    /// The number of the class of the texts, in a model with these.
    ///
    /// # Errors
    /// A class that the model does not have, with the nearest one.
    pub fn label_of(&self, labels: &[String]) -> Result<Option<u32>, TextError> {
        let Some(name) = &self.label else {
            return Ok(None);
        };
        if labels.is_empty() {
            let reason = "the model was trained without labels; leave it out";
            return Err(TextError::setting("label", name, reason));
        }
        match labels.iter().position(|label| label == name) {
            Some(at) => Ok(Some(at as u32)),
            None => {
                let known = labels.iter().map(String::as_str);
                Err(TextError::unknown("label", name, known))
            }
        }
    }

    /// How tokens are drawn, compatibility mode applied.
    pub fn token_draw(&self) -> Draw {
        let kind = match self.compat {
            Compat::DreamOfficial => DrawKind::Categorical,
            Compat::None | Compat::LladaOfficial => self.draw,
        };
        let Self {
            temperature,
            top_p,
            crossing,
            top_k,
            ..
        } = *self;
        Draw {
            temperature,
            top_p,
            crossing,
            top_k,
            kind,
        }
    }

    /// The pace, compatibility mode applied.
    pub(crate) fn effective_pace(&self) -> PaceConfig {
        match (self.compat, self.pace) {
            (Compat::DreamOfficial, PaceConfig::Fixed) => PaceConfig::Expected { eps: 1e-3 },
            (_, pace) => pace,
        }
    }
}
