//! `demask infill`

use anyhow::Result;
use demask::models::ModelSpec;
use demask::text::infill::Template;

use crate::args::config::ConfigArgs;
use crate::args::decode::DecodeArgs;
use crate::args::model::ModelArgs;
use crate::args::output::OutputArgs;
use crate::args::{input, value};
use crate::checkpoints;
use crate::error::{usage, with_advice};
use crate::writing::plan::{Chance, PlanChanges, WritePlan, model};
use crate::writing::unknown::Unknown;
use crate::writing::{self, explain, prompt, report};

/// Fill the gaps of a text
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
A gap is [[N]], N its size in tokens, or [[]] for the default size; \\[[ is the characters [[.
Everything around the gaps stays as it is.

Examples:
  demask infill \"Tim had a [[6]] dog. [[24]] They were happy.\"
  demask infill --gap 12 \"She opened the [[]] and saw [[]].\"
  cat letter.txt | demask infill - --steps 16 --json")]
pub struct Infill {
    /// The text with gaps; `-` reads standard input, as does a pipe
    #[arg(value_name = "TEMPLATE|-")]
    pub template: Option<String>,

    /// Which model.
    #[command(flatten)]
    pub model: ModelArgs,

    /// Size of a gap that names none, in tokens [default: 8]
    #[arg(long, value_name = "N", value_parser = value::count, allow_negative_numbers = true, help_heading = "Decoding")]
    gap: Option<usize>,

    #[command(flatten)]
    decode: DecodeArgs,

    /// Values of the configuration.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// How the text is shown.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl Infill {
    /// The plan for a model; `template` is the text of the argument or of standard input.
    pub fn resolve(
        &self,
        name: String,
        spec: &ModelSpec,
        template: Option<String>,
        chance: Chance,
    ) -> Result<WritePlan> {
        let decode = self.decode.changes(None);
        let changes = PlanChanges {
            template,
            gap: self.gap,
            decode,
            ..PlanChanges::default()
        };
        WritePlan::resolve(name, spec, &self.model, &self.config, changes, chance)?.for_infill()
    }

    /// Fills and shows the text.
    pub fn run(&self) -> Result<()> {
        let output = self.output.resolve();
        let text = input::text(self.template.as_deref())?;
        let name = model(self.model.model.as_deref(), &self.config)?;
        let checkpoint = checkpoints::find(&name, self.output.plain)?;
        let plan = self.resolve(name, &checkpoint.spec, text, Chance::fresh())?;
        let Some(text) = &plan.template else {
            return Err(with_advice(
                usage("there is no text to fill"),
                "give a text with gaps, as in \"Tim had a [[6]] dog.\", or pipe one in",
            ));
        };
        let template = Template::parse(text, plan.gap).map_err(explain)?;
        let model = writing::load(checkpoint, &plan)?;
        let prompt = template
            .prompt(&model.tokenizer, prompt::begin(&model, &plan))
            .map_err(explain)?;
        Unknown::of(&model.tokenizer).refuse(&plan.model, &template, &prompt)?;
        let (cells, context) = (
            prompt.ids.len() + prompt.cells.len(),
            plan.decode.plan.max_length(model.spec.network.max_length),
        );
        if cells > context {
            return Err(with_advice(
                usage(format!(
                    "the text takes {cells} cells, {} of them in gaps; the context of `{}` has {context}",
                    template.open(),
                    plan.model
                )),
                "shorten the text or its gaps; N in [[N]] and --gap are their sizes",
            ));
        }
        let outcome = writing::write(&model, &plan, &prompt, output)?;
        report::show(&plan, &outcome, output, "")?;
        outcome.exit()
    }
}
