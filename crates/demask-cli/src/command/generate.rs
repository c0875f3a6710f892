//! `demask generate`

use anyhow::Result;
use demask::models::ModelSpec;

use crate::args::config::ConfigArgs;
use crate::args::decode::DecodeArgs;
use crate::args::model::ModelArgs;
use crate::args::output::OutputArgs;
use crate::args::{input, value};
use crate::checkpoints;
use crate::terminal::note;
use crate::writing::plan::{Chance, PlanChanges, WritePlan, model};
use crate::writing::unknown::Unknown;
use crate::writing::{self, prompt, report};

/// Write text after a prompt, or from nothing
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
On a terminal the text un-masks live; piped, the finished text is printed. One summary line goes to
stderr. The seed is new each time unless it is given; the summary and `--json` name it, and
`--config` with the file that `--json` printed writes the same text again.

Examples:
  demask generate \"Once upon a time\"
  demask generate \"Once upon a time\" --temperature 0.8 --steps 32 --length 96
  echo \"The old house\" | demask generate --policy entropy:alg_temp=0.2
  demask generate --samples 4 --json > out.json
  demask generate --config out.json --seed 7
  demask generate --model kuleshov-group/mdlm-owt \"Once upon a time\"
  demask generate --model ./LLaDA-8B-Instruct --chat \"Why is the sky blue?\" --block 32")]
pub struct Generate {
    /// The text to continue; `-` reads standard input, as does a pipe. Nothing: write from nothing
    #[arg(value_name = "PROMPT")]
    pub prompt: Option<String>,

    /// The prompt is a message to a chat model, written in its chat template; `--chat=false` undoes
    /// what a configuration says
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    chat: Option<bool>,

    /// Which model.
    #[command(flatten)]
    pub model: ModelArgs,

    /// New tokens
    #[arg(short, long, value_name = "N", value_parser = value::count, allow_negative_numbers = true, help_heading = "Decoding")]
    length: Option<usize>,

    #[command(flatten)]
    decode: DecodeArgs,

    /// Values of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// How the text is shown.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl Generate {
    /// The plan for a model; `prompt` is the text of the argument or of standard input.
    pub fn resolve(
        &self,
        name: String,
        spec: &ModelSpec,
        prompt: Option<String>,
        chance: Chance,
    ) -> Result<WritePlan> {
        let decode = self.decode.changes(self.length);
        let changes = PlanChanges {
            prompt,
            chat: self.chat,
            decode,
            ..PlanChanges::default()
        };
        WritePlan::resolve(name, spec, &self.model, &self.config, changes, chance)?.for_generate()
    }

    /// Writes and shows the text.
    pub fn run(&self) -> Result<()> {
        let output = self.output.resolve();
        let text = input::text(self.prompt.as_deref())?;
        let name = model(self.model.model.as_deref(), &self.config)?;
        let checkpoint = checkpoints::find(&name, self.output.plain)?;
        let mut plan = self.resolve(name, &checkpoint.spec, text, Chance::fresh())?;
        let model = writing::load(checkpoint, &plan)?;
        let prompt = prompt::encode(&model, &plan)?;
        let text = plan.prompt.as_deref().unwrap_or_default();
        let mut remarks = Vec::new();
        remarks.extend(Unknown::of(&model.tokenizer).remark(&plan.model, text)?);
        if self.length.is_none() && !self.config.names("decode.length")? {
            let most = plan.decode.plan.max_length(model.spec.network.max_length);
            remarks.extend(plan.fit(prompt.ids.len(), most)?);
        }
        for remark in remarks {
            note(format!("note: {remark}"));
        }
        let outcome = writing::write(&model, &plan, &prompt, output)?;
        // A chat answer stands alone; a continuation is read with what it continues.
        let given = plan
            .prompt
            .clone()
            .filter(|_| !plan.chat)
            .unwrap_or_default();
        report::show(&plan, &outcome, output, &given)?;
        outcome.exit()
    }
}
