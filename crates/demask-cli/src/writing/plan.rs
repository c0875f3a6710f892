//! The whole resolved configuration of a text: what `--json` prints as `config` and `--config`
//! reads back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use demask::models::{ModelKind, ModelSpec};
use demask::nn::Dtype;
use demask::text::infill::Template;
use demask::text::{DecodeChanges, DecodeConfig, ar};
use serde::{Deserialize, Serialize};

use crate::args::config::ConfigArgs;
use crate::args::model::ModelArgs;
use crate::checkpoints;
use crate::error::{usage, with_advice};
use crate::writing::explain;

/// Size of a gap that names none, in tokens.
const GAP: usize = 8;

/// Everything that decides what is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(default)]
pub struct WritePlan {
    /// Folder or name of the model.
    pub model: String,
    /// The text before the answer; `null` writes from nothing. Of `demask generate` only.
    pub prompt: Option<String>,
    /// The text with gaps. Of `demask infill` only.
    pub template: Option<String>,
    /// Size of a gap that names none, in tokens. Of `demask infill` only.
    pub gap: usize,
    /// The prompt is a message, written in the chat template of the model. Of `demask generate` only.
    pub chat: bool,
    /// What time it is, in seconds since 1970, for chat templates that print the date; the clock's when `null`.
    pub now: Option<i64>,
    /// The begin token stands before the prompt; where the model was trained with one, it does.
    pub bos: bool,
    /// Number format of the weights.
    pub dtype: Dtype,
    /// Threads; all cores when `null`. The text does not depend on it.
    pub threads: Option<usize>,
    /// How the text is written.
    pub decode: DecodeConfig,
}

impl Default for WritePlan {
    /// Nothing asked for.
    fn default() -> Self {
        Self {
            model: checkpoints::DEFAULT.to_owned(),
            prompt: None,
            template: None,
            gap: GAP,
            chat: false,
            now: None,
            bos: true,
            dtype: Dtype::F32,
            threads: None,
            decode: DecodeConfig::default(),
        }
    }
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
    pub chat: Option<bool>,
    /// The decoder.
    pub decode: DecodeChanges,
}

/// The model that flag and file ask for.
pub fn model(flag: Option<&str>, config: &ConfigArgs) -> Result<String> {
    let of_file = || -> Result<Option<String>> {
        let file = config.read()?;
        Ok(file.and_then(|file| file.get("model")?.as_str().map(str::to_owned)))
    };
    match flag {
        Some(model) => Ok(model.to_owned()),
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
        let left_to_right = spec.kind == ModelKind::Autoregressive;
        let decode = DecodeConfig {
            seed: chance.seed,
            ..DecodeConfig::for_model(spec).map_err(explain)?
        };
        let base = Self {
            model: name.clone(),
            bos: spec.begin().is_some(),
            dtype: Dtype::usual(&spec.network),
            decode,
            ..Self::default()
        };
        let usual = base.decode.steps;
        let mut plan = config.layer(&base)?;
        plan.model = name;
        plan.prompt = changes.prompt.or(plan.prompt);
        plan.template = changes.template.or(plan.template);
        plan.gap = changes.gap.unwrap_or(plan.gap);
        plan.chat = changes.chat.unwrap_or(plan.chat);
        plan.dtype = args.compute.dtype.unwrap_or(plan.dtype);
        plan.threads = args.compute.threads.or(plan.threads);
        plan.decode = plan.decode.with(&changes.decode).map_err(explain)?;
        // From left to right a token is a step, so the steps follow the length from layer to layer.
        if left_to_right && plan.decode.steps == usual {
            plan.decode.steps = plan.decode.length;
        }
        let steps = plan.decode.steps;
        let follow = left_to_right && steps == plan.decode.length;
        let mut plan = config.apply(&plan)?;
        if follow && plan.decode.steps == steps {
            plan.decode.steps = plan.decode.length;
        }
        let named = changes.decode.steps.is_some() || config.names("decode.steps")?;
        if let Some(text) = plan.template.as_ref().filter(|_| !left_to_right && !named) {
            // As many steps as open cells, unless somebody says otherwise.
            let template = Template::parse(text, plan.gap).map_err(explain)?;
            plan.decode.steps = template.open();
        }
        plan.now = Some(plan.now.unwrap_or(chance.now)).filter(|_| plan.chat);
        plan.decode.check().map_err(explain)?;
        plan.decode.label_of(&spec.labels).map_err(explain)?;
        if left_to_right {
            ar::check(spec, &plan.decode).map_err(explain)?;
        }
        Ok(plan)
    }

    /// Cuts the length to what a prompt leaves of the model's context, and says so. For a length
    /// that nobody asked for.
    pub fn fit(&mut self, prompt: usize, context: usize) -> Result<Option<String>> {
        let (length, room) = (self.decode.length, context.saturating_sub(prompt));
        if length <= room || room == 0 {
            return Ok(None);
        }
        let changes = DecodeChanges {
            length: Some(room),
            ..DecodeChanges::default()
        };
        self.decode = self.decode.with(&changes).map_err(explain)?;
        Ok(Some(format!(
            "length {room} instead of {length}: the prompt takes {prompt} of the model's {context} cells"
        )))
    }

    /// The plan, unless it holds what only `demask infill` reads.
    pub fn for_generate(self) -> Result<Self> {
        let infill = [
            ("template", self.template.is_some()),
            ("gap", self.gap != GAP),
        ];
        refuse_other(infill, "demask generate", "demask infill")?;
        Ok(self)
    }

    /// The plan, unless it holds what only `demask generate` reads.
    pub fn for_infill(self) -> Result<Self> {
        let generate = [("prompt", self.prompt.is_some()), ("chat", self.chat)];
        refuse_other(generate, "demask infill", "demask generate")?;
        Ok(self)
    }
}

/// Refuses a configuration with a value that this command would leave unread.
fn refuse_other(values: [(&str, bool); 2], this: &str, other: &str) -> Result<()> {
    match values.into_iter().find(|(_, given)| *given) {
        Some((name, _)) => Err(with_advice(
            usage(format!(
                "the configuration has a `{name}`, which `{this}` does not read"
            )),
            format!("use `{other}`, or take the value out"),
        )),
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
