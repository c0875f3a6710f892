//! `demask eval`

mod reading;

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use demask::eval::{
    EvalConfig, EvalError, EvalObserver, LanguageModel, MetricName, Progress, Report, Sample,
    SamplesConfig, Subject, Writer, evaluate,
};
use demask::models::{Model, ModelKind, ModelSpec};
use demask::nn::Dtype;
use demask::text::{DecodeConfig, Prompt, StepEvent, Written, ar};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::config::ConfigArgs;
use crate::args::listing::ListingArgs;
use crate::args::model::ComputeArgs;
use crate::args::value;
use crate::checkpoints;
use crate::error::{Interrupted, usage, with_advice};
use crate::terminal::interrupt::{self, Listener};
use crate::terminal::note;
use crate::terminal::table::Table;
use crate::threads;
use crate::writing::{self, plan};
pub use reading::Reading;

/// Measure a model: likelihood of held-out text, quality and variety of written text
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  demask eval --model story --data data/books/test.jsonl.gz --limit 50
  demask eval --model story --data pairs.jsonl --metric likelihood
  demask eval --model story --metric gen-ppl,entropy --judge story-ar --samples 64
  demask eval --model story --metric entropy --set eval.samples.decode.temperature=0.8
  demask eval --model story --data test.txt --set eval.nelbo.draws=16 --json")]
pub struct Eval {
    /// The model under evaluation: a checkpoint folder, a built-in model, or a model of the
    /// Hugging Face hub, which is downloaded once [default: story]
    #[arg(short, long, value_name = "DIR|NAME|ORG/NAME")]
    model: Option<String>,

    /// Text to score or to compare with: .txt or .jsonl, either with .gz
    #[arg(short, long, value_name = "FILE")]
    data: Option<PathBuf>,

    /// How much of the data file is taken: windows of text, or pairs of prompt and answer, from the
    /// beginning [default: all]
    #[arg(long, value_name = "N", value_parser = value::count, allow_negative_numbers = true)]
    limit: Option<usize>,

    /// What is measured: nelbo, ppl, likelihood, greedy-match, gen-ppl, entropy, mauve
    /// [default: nelbo,ppl]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = metric)]
    metric: Vec<MetricName>,

    /// An autoregressive model that judges written text (gen-ppl, mauve)
    #[arg(long, value_name = "DIR|NAME|ORG/NAME")]
    judge: Option<String>,

    /// How many texts the model writes for metrics of written text
    #[arg(short = 'n', long, value_name = "N", value_parser = value::count, allow_negative_numbers = true)]
    samples: Option<usize>,

    /// Judge the texts in this file instead of letting the model write
    #[arg(long, value_name = "FILE", conflicts_with = "samples")]
    samples_file: Option<PathBuf>,

    /// Seed of everything random
    #[arg(long, value_name = "N", value_parser = value::seed, allow_negative_numbers = true)]
    seed: Option<u64>,

    #[command(flatten)]
    compute: ComputeArgs,

    #[command(flatten)]
    config: ConfigArgs,

    /// How the report is shown.
    #[command(flatten)]
    pub listing: ListingArgs,
}

fn metric(name: &str) -> Result<MetricName, EvalError> {
    MetricName::parse(name)
}

/// What the flags come to.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(default)]
pub struct Plan {
    /// Folder or name of the model under evaluation.
    pub model: String,
    /// Folder or name of the autoregressive model that judges written text (`gen-ppl`, `mauve`).
    pub judge: Option<String>,
    /// Number format of the weights of the model; those of the judge are f32.
    pub dtype: Dtype,
    /// Threads; all cores when `null`. No number depends on it.
    pub threads: Option<usize>,
    /// What is measured, and how.
    pub eval: EvalConfig,
}

impl Default for Plan {
    /// The default model and measures.
    fn default() -> Self {
        Self {
            model: checkpoints::DEFAULT.to_owned(),
            judge: None,
            dtype: Dtype::F32,
            threads: None,
            eval: EvalConfig::default(),
        }
    }
}

impl Eval {
    /// The model under evaluation.
    pub fn model(&self) -> Result<String> {
        plan::model(self.model.as_deref(), &self.config)
    }

    /// What the model's checkpoint recommends, then the configuration file, then the flags, then
    /// `--set`.
    pub fn resolve(&self, name: String, spec: &ModelSpec) -> Result<Plan> {
        let written = SamplesConfig::for_model(spec).map_err(explain)?;
        let mut plan = self.config.layer(&Plan {
            model: name.clone(),
            dtype: Dtype::usual(&spec.network),
            eval: EvalConfig {
                samples: written.clone(),
                ..EvalConfig::default()
            },
            ..Plan::default()
        })?;
        plan.model = name;
        plan.judge = self.judge.clone().or(plan.judge);
        plan.dtype = self.compute.dtype.unwrap_or(plan.dtype);
        plan.threads = self.compute.threads.or(plan.threads);
        if !self.metric.is_empty() {
            plan.eval.metrics.clone_from(&self.metric);
        }
        plan.eval.data.path = self.data.clone().or(plan.eval.data.path);
        if self.limit.is_some() {
            plan.eval.data.window.limit = self.limit;
            plan.eval.data.pairs = self.limit;
        }
        if self.samples.is_some() && matches!(plan.eval.samples, SamplesConfig::File { .. }) {
            plan.eval.samples = written;
        }
        plan.eval.seed = self.seed.unwrap_or(plan.eval.seed);
        if let SamplesConfig::Written { decode } = &mut plan.eval.samples {
            decode.samples = self.samples.unwrap_or(decode.samples);
            decode.seed = self.seed.unwrap_or(decode.seed);
        }
        if let Some(path) = self.samples_file.clone() {
            plan.eval.samples = SamplesConfig::File {
                path,
                field: "text".to_owned(),
            };
        }
        let plan = self.config.apply(&plan)?;
        plan.eval.check().map_err(explain)?;
        if let (ModelKind::Autoregressive, SamplesConfig::Written { decode }) =
            (spec.kind, &plan.eval.samples)
        {
            ar::check(spec, decode).map_err(writing::explain)?;
        }
        Ok(plan)
    }

    /// Measures and prints the report.
    pub fn run(&self) -> Result<()> {
        let name = self.model()?;
        let checkpoint = checkpoints::find(&name, false)?;
        let plan = self.resolve(name, &checkpoint.spec)?;
        threads::limit(plan.threads)?;
        let model = checkpoint.load(&checkpoints::options(plan.dtype))?;
        let judge = plan.judge.as_deref();
        let judge = judge
            .map(|judge| checkpoints::open(judge, Dtype::F32))
            .transpose()?;
        let reading = Reading::new(&model);
        let judge = judge.as_ref().map(Reading::new);
        let author = Author { model: &model };
        let subject = Subject {
            judge: judge.as_ref().map(|judge| judge as &dyn LanguageModel),
            writer: Some(&author),
            ..Subject::new(&reading)
        };

        let listener = Listener::new();
        let begin = Instant::now();
        let mut watcher = Watcher::new();
        let report = evaluate(subject, &plan.eval, &mut watcher);
        drop(listener);
        watcher.finish();
        let mut report = report.map_err(explain)?;
        let judged = judge.as_ref().zip(plan.judge.as_ref());
        report.notes.extend(reading.remark(&plan.model));
        (report.notes).extend(judged.and_then(|(judge, name)| judge.remark(name)));
        let seconds = begin.elapsed().as_secs_f64();
        for remark in &report.notes {
            note(remark);
        }
        let whole = json!({
            "rows": report.rows, "notes": report.notes, "seconds": seconds, "config": plan,
        });
        self.listing.print(&table(&report), &whole)
    }
}

fn explain(error: EvalError) -> anyhow::Error {
    match error {
        EvalError::Stopped => {
            note("stopped before the measurement was done");
            Interrupted.into()
        }
        EvalError::Needs { .. } => with_advice(
            usage(error.to_string()),
            "see `demask eval --help` for examples",
        ),
        EvalError::Setting { .. } => usage(error.to_string()),
        EvalError::Text(error) => writing::explain(error),
        other => other.into(),
    }
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(Report::HEAD);
    for row in report.table() {
        table.row(row);
    }
    table
}

/// The model under evaluation, writing from nothing.
struct Author<'a> {
    model: &'a Model,
}

impl Writer for Author<'_> {
    fn write(&self, config: &DecodeConfig) -> Result<Vec<Sample>, EvalError> {
        let prompt = Prompt::new(self.model.spec.begin().into_iter().collect());
        let mut stop = |_: &StepEvent| interrupt::flow();
        let written = writing::decode(self.model, config, &[prompt], &mut stop)?;
        if interrupt::pressed() {
            return Err(EvalError::Stopped);
        }
        let sample = |text: Written| Sample {
            ended: text.ended,
            ids: Some(text.ids[..text.kept].to_vec()),
            text: text.text,
        };
        Ok(written.into_iter().map(sample).collect())
    }
}

/// A bar for each metric on a terminal, a line now and then elsewhere.
struct Watcher {
    bar: Option<ProgressBar>,
    stage: &'static str,
    said: Instant,
}

/// Time between two lines where there is no bar: short measurements say nothing.
const SILENCE: Duration = Duration::from_secs(10);

impl Watcher {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{prefix:12} {bar:30} {pos}/{len}  {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = io::stderr()
            .is_terminal()
            .then(|| ProgressBar::new(0).with_style(style));
        Self {
            bar,
            stage: "",
            said: Instant::now(),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl EvalObserver for Watcher {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        if let Some(bar) = &self.bar {
            if self.stage != progress.stage {
                self.stage = progress.stage;
                bar.reset();
                bar.set_prefix(progress.stage);
            }
            bar.set_length(progress.total as u64);
            bar.set_position(progress.done as u64);
        } else if self.said.elapsed() >= SILENCE {
            self.said = Instant::now();
            note(format!(
                "{} {}/{}",
                progress.stage, progress.done, progress.total
            ));
        }
        interrupt::flow()
    }
}
