//! Running the metrics of a configuration.

use demask_diffusion::Noise;
use demask_models::ModelKind;
use demask_text::DecodeConfig;

use crate::data::{Pair, Window, read_documents, read_pairs, windows};
use crate::metric::nelbo::{Nelbo, nelbo};
use crate::observer::tell;
use crate::{
    EvalConfig, EvalError, EvalObserver, LanguageModel, MetricName, Report, SamplesConfig,
};

/// A written text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The text, up to its end.
    pub text: String,
    /// It ended by itself, with an end token, and was not cut off.
    pub ended: bool,
    /// The writer's own tokens of `text`, where they are known.
    pub ids: Option<Vec<u32>>,
}

impl Sample {
    /// A text whose tokens are not known.
    pub fn new(text: impl Into<String>, ended: bool) -> Self {
        Self {
            text: text.into(),
            ended,
            ids: None,
        }
    }
}

/// Writes texts with the model under evaluation.
pub trait Writer {
    /// `config.samples` texts without a prompt. The same configuration gives the same texts.
    fn write(&self, config: &DecodeConfig) -> Result<Vec<Sample>, EvalError>;
}

/// Who is evaluated, and with whose help.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The model under evaluation.
    pub model: &'a dyn LanguageModel,
    /// An autoregressive model for `gen-ppl` and `mauve`.
    pub judge: Option<&'a dyn LanguageModel>,
    /// How the model writes, for metrics of written text.
    pub writer: Option<&'a dyn Writer>,
}

impl<'a> Subject<'a> {
    /// A model alone.
    pub fn new(model: &'a dyn LanguageModel) -> Self {
        Self {
            model,
            judge: None,
            writer: None,
        }
    }
}

/// Measures every metric of `config` on `subject`.
pub fn evaluate(
    subject: Subject<'_>,
    config: &EvalConfig,
    observer: &mut dyn EvalObserver,
) -> Result<Report, EvalError> {
    config.check()?;
    let mut bench = Bench {
        subject,
        config,
        observer,
        windows: None,
        pairs: None,
        samples: None,
        nelbo: None,
        notes: Vec::new(),
    };
    let mut metrics: Vec<MetricName> = Vec::new();
    for &name in &config.metrics {
        if !metrics.contains(&name) {
            name.metric().check(&bench)?;
            metrics.push(name);
        }
    }
    let mut rows = Vec::new();
    for name in metrics {
        rows.extend(name.metric().measure(&mut bench)?);
    }
    let notes = bench.notes;
    Ok(Report {
        rows,
        notes,
        config: config.clone(),
    })
}

/// What metrics measure with. Data and samples are made when a metric first asks for them and
/// shared by the rest.
pub struct Bench<'a> {
    subject: Subject<'a>,
    config: &'a EvalConfig,
    observer: &'a mut dyn EvalObserver,
    windows: Option<Vec<Window>>,
    pairs: Option<Vec<Pair>>,
    samples: Option<Vec<Sample>>,
    nelbo: Option<Nelbo>,
    notes: Vec<String>,
}

impl<'a> Bench<'a> {
    /// The model under evaluation.
    pub fn model(&self) -> &'a dyn LanguageModel {
        self.subject.model
    }

    /// The configuration.
    pub fn config(&self) -> &'a EvalConfig {
        self.config
    }

    /// Who watches.
    pub fn observer(&mut self) -> &mut dyn EvalObserver {
        self.observer
    }

    /// The root of the randomness of one metric.
    pub fn noise(&self, metric: MetricName) -> Noise {
        Noise::new(self.config.seed).child(metric as u64)
    }

    /// Adds a remark to the report, once.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The judge, or an error that says who needs it.
    pub fn judge(&self, metric: MetricName) -> Result<&'a dyn LanguageModel, EvalError> {
        let needs = |needed: &str| EvalError::Needs {
            metric: metric.info().name,
            needed: needed.into(),
        };
        let judge = self.subject.judge.ok_or_else(|| {
            needs("a judge: name an autoregressive model with --judge, for example story-ar")
        })?;
        if judge.kind() == ModelKind::Autoregressive {
            Ok(judge)
        } else {
            Err(needs(
                "an autoregressive judge, for example story-ar; this one writes in another order",
            ))
        }
    }

    /// The windows of the data file.
    pub fn windows(&mut self, metric: MetricName) -> Result<&[Window], EvalError> {
        if self.windows.is_none() {
            let data = &self.config.data;
            let documents = read_documents(self.path(metric)?, &data.field)?;
            self.windows = Some(windows(self.subject.model, &documents, &data.window)?);
        }
        Ok(self.windows.as_deref().unwrap_or_default())
    }

    /// The pairs of the data file.
    pub fn pairs(&mut self, metric: MetricName) -> Result<&[Pair], EvalError> {
        if self.pairs.is_none() {
            let data = &self.config.data;
            let mut pairs = read_pairs(self.path(metric)?, &data.prompt, &data.answer)?;
            pairs.truncate(data.pairs.unwrap_or(usize::MAX));
            self.pairs = Some(pairs);
        }
        Ok(self.pairs.as_deref().unwrap_or_default())
    }

    /// The written texts.
    pub fn samples(&mut self, metric: MetricName) -> Result<&[Sample], EvalError> {
        if self.samples.is_none() {
            let samples = match &self.config.samples {
                SamplesConfig::File { path, field } => read_documents(path, field)?
                    .into_iter()
                    .map(|text| Sample::new(text, false))
                    .collect(),
                SamplesConfig::Written { decode } => {
                    let writer = self.subject.writer.ok_or(EvalError::Needs {
                        metric: metric.info().name,
                        needed: "written text: give a file of samples, or a writer".into(),
                    })?;
                    tell(self.observer, "writing", 0, decode.samples)?;
                    let samples = writer.write(decode)?;
                    tell(self.observer, "writing", decode.samples, decode.samples)?;
                    samples
                }
            };
            self.samples = Some(samples);
        }
        Ok(self.samples.as_deref().unwrap_or_default())
    }

    /// The bound on the data, measured once for all metrics that read it.
    pub fn bound(&mut self, metric: MetricName) -> Result<&Nelbo, EvalError> {
        if self.nelbo.is_none() {
            self.windows(metric)?;
            let noise = self.noise(MetricName::Nelbo);
            let windows = self.windows.as_deref().unwrap_or_default();
            let (config, model) = (self.config, self.subject.model);
            let found = nelbo(
                model,
                windows,
                &config.nelbo,
                config.batch,
                noise,
                &mut *self.observer,
            )?;
            self.nelbo = Some(found);
        }
        self.nelbo
            .as_ref()
            .ok_or_else(|| EvalError::Data("nothing was measured".into()))
    }

    pub(crate) fn path(&self, metric: MetricName) -> Result<&'a std::path::Path, EvalError> {
        self.config
            .data
            .path
            .as_deref()
            .ok_or_else(|| EvalError::Needs {
                metric: metric.info().name,
                needed: format!("{}: name a file with --data", metric.info().needs),
            })
    }
}

#[cfg(test)]
mod tests;
