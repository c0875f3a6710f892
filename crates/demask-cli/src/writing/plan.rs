//! The whole resolved configuration of a text: what `--json` prints as `config` and `--config`
//! reads back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use demask::models::{ModelKind, ModelSpec};
use demask::text::infill::Template;
use demask::text::{DecodeChanges, DecodeConfig};
use serde::{Deserialize, Serialize};

use crate::args::config::ConfigArgs;
use crate::args::model::ModelArgs;
use crate::checkpoints;
use crate::error::usage;
use crate::writing::explain;

/// Size of a gap that names none, in tokens.
const GAP: usize = 8;

/// Everything that decides what is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WritePlan {
    /// Folder or name of the model.
    pub model: String,
    /// The text before the answer; none writes from nothing.
    pub prompt: Option<String>,
    /// The text with gaps, of `demask infill`.
    pub template: Option<String>,
    /// Size of a gap that names none, in tokens.
    pub gap: usize,
    /// The prompt is a message, written in the chat template of the model.
    pub chat: bool,
    /// What time it is, in seconds since 1970, for chat templates that print the date.
    pub now: Option<i64>,
    /// The begin token stands before the prompt.
    pub bos: bool,
    /// Threads; all cores when not given. The text does not depend on it.
    pub threads: Option<usize>,
    /// The decoder.
    pub decode: DecodeConfig,
}

/// The flags of a command that writes, as changes to a plan.
#[derive(Debug, Clone, Default)]
pub struct PlanChanges {
    /// The prompt.
    pub prompt: Option<String>,
    /// The template.
    pub template: Option<String>,
    /// Size of a gap that names none.
    pub gap: Option<usize>,
    /// Whether the prompt is a message.
    pub chat: bool,
    /// The decoder.
    pub decode: DecodeChanges,
}

/// The model that flags and file ask for.
pub fn model(args: &ModelArgs, config: &ConfigArgs) -> Result<String> {
    let of_file = || -> Result<Option<String>> {
        let file = config.read()?;
        Ok(file.and_then(|file| file.get("model")?.as_str().map(str::to_owned)))
    };
    match &args.model {
        Some(model) => Ok(model.clone()),
        None => Ok(of_file()?.unwrap_or_else(|| checkpoints::DEFAULT.to_owned())),
    }
}

impl WritePlan {
    /// The model's defaults, then the configuration file, then the flags, then `--set`. A seed that
    /// nobody names and the time of a chat are those of `chance`.
    pub fn resolve(
        name: String,
        spec: &ModelSpec,
        args: &ModelArgs,
        config: &ConfigArgs,
        changes: PlanChanges,
        chance: Chance,
    ) -> Result<Self> {
        if spec.kind == ModelKind::Autoregressive {
            refuse_unused(&changes.decode)?;
        }
        let mut decode = DecodeConfig {
            seed: chance.seed,
            ..DecodeConfig::for_model(spec).map_err(explain)?
        };
        if let Some(text) = &changes.template {
            // As many steps as open cells, unless a file or a flag says otherwise.
            let gap = changes.gap.unwrap_or(GAP);
            decode.steps = Template::parse(text, gap).map_err(explain)?.open();
        }
        let base = Self {
            model: name.clone(),
            prompt: None,
            template: None,
            gap: GAP,
            chat: false,
            now: None,
            bos: spec.begin().is_some(),
            threads: None,
            decode,
        };
        let mut plan = config.layer(&base)?;
        plan.model = name;
        plan.prompt = changes.prompt.or(plan.prompt);
        plan.template = changes.template.or(plan.template);
        plan.gap = changes.gap.unwrap_or(plan.gap);
        plan.chat |= changes.chat;
        plan.now = plan.now.or(Some(chance.now).filter(|_| plan.chat));
        plan.threads = args.threads.or(plan.threads);
        plan.decode = plan.decode.with(&changes.decode).map_err(explain)?;
        let plan = config.apply(&plan)?;
        plan.decode.check().map_err(explain)?;
        Ok(plan)
    }
}

/// A flag that would change nothing is refused: a left-to-right model has no canvas to plan.
fn refuse_unused(changes: &DecodeChanges) -> Result<()> {
    let given = [
        ("--steps", changes.steps.is_some()),
        ("--block", changes.block.is_some()),
        ("--policy", changes.policy.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(usage(format!(
            "{flag} has no meaning for a model that writes from left to right; leave it out"
        ))),
        None => Ok(()),
    }
}

/// What differs from run to run unless it is given.
#[derive(Debug, Clone, Copy)]
pub struct Chance {
    /// The seed.
    pub seed: u64,
    /// Seconds since 1970.
    pub now: i64,
}

impl Chance {
    /// A seed that differs each time, small enough to be typed again, and the time of the clock.
    pub fn fresh() -> Self {
        // The keys of the standard hasher come from the system's randomness.
        let seed = RandomState::new().build_hasher().finish() & 0xffff_ffff;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self {
            seed,
            now: now.cast_signed(),
        }
    }
}
