//! Metrics: one number, or a few, about a model or about texts.
//!
//! | name | file | what | source |
//! |---|---|---|---|
//! | `nelbo`, `ppl` | [`nelbo`] | bound on the negative log-likelihood; perplexity, bits a token and a byte | MDLM 2406.07524, BD3-LM 2503.09573, UDLM 2412.10193 |
//! | `likelihood` | [`likelihood`] | log-likelihood of answers given prompts | LLaDA 2502.09992, Dream 2508.15487 |
//! | `greedy-match` | [`likelihood`] | would greedy writing give the answer? | LLaDA 2502.09992 |
//! | `gen-ppl` | [`gen_ppl`] | perplexity of written text under an autoregressive judge | MDLM 2406.07524, BD3-LM 2503.09573 |
//! | `entropy` | [`entropy`] | unigram entropy, distinct-n, repetition | BD3-LM 2503.09573; Li et al. 1510.03055; Welleck et al. 1908.04319 |
//! | `mauve` | [`mauve`] | divergence curve between written and human text | Pillutla et al. 2102.01454 |

pub mod entropy;
pub mod gen_ppl;
pub mod likelihood;
pub mod mauve;
pub mod nelbo;

use std::fmt;
use std::str::FromStr;

use demask_models::nearest;
use serde::{Deserialize, Serialize};

use crate::evaluate::Bench;
use crate::{EvalError, Row};

/// Something that can be measured.
pub trait Metric {
    /// Whether the bench has what the metric needs; asked of every metric before the first one
    /// works, so that no text is written for a measure that cannot be taken.
    fn check(&self, _bench: &Bench<'_>) -> Result<(), EvalError> {
        Ok(())
    }

    /// The rows of the report. The bench holds model, judge, data, samples and settings, and makes
    /// each only when a metric asks for it.
    fn measure(&self, bench: &mut Bench<'_>) -> Result<Vec<Row>, EvalError>;
}

/// A metric by name.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum MetricName {
    /// Bound on the negative log-likelihood.
    Nelbo,
    /// Perplexity of that bound.
    Ppl,
    /// Log-likelihood of answers.
    Likelihood,
    /// Share of answers that greedy writing gives.
    GreedyMatch,
    /// Perplexity of written text under a judge.
    GenPpl,
    /// Variety of written text.
    Entropy,
    /// Divergence of written from human text.
    Mauve,
}

/// What the registry says of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MetricInfo {
    /// The metric.
    pub id: MetricName,
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures, in a line.
    pub summary: &'static str,
    /// Where it is defined.
    pub paper: &'static str,
    /// What it is measured with, besides the model.
    pub needs: &'static str,
}

const REGISTRY: [MetricInfo; 7] = [
    MetricInfo {
        id: MetricName::Nelbo,
        name: "nelbo",
        summary: "bound on the negative log-likelihood: nats and bits a token, bits a byte",
        paper: "MDLM 2406.07524, BD3-LM 2503.09573, UDLM 2412.10193",
        needs: "a data file",
    },
    MetricInfo {
        id: MetricName::Ppl,
        name: "ppl",
        summary: "perplexity: exp of the bound a token",
        paper: "MDLM 2406.07524, BD3-LM 2503.09573, UDLM 2412.10193",
        needs: "a data file",
    },
    MetricInfo {
        id: MetricName::Likelihood,
        name: "likelihood",
        summary: "log-likelihood of answers given prompts",
        paper: "LLaDA 2502.09992, Dream 2508.15487",
        needs: "a data file of prompts and answers",
    },
    MetricInfo {
        id: MetricName::GreedyMatch,
        name: "greedy-match",
        summary: "share of answers that greedy writing gives",
        paper: "LLaDA 2502.09992",
        needs: "a data file of prompts and answers",
    },
    MetricInfo {
        id: MetricName::GenPpl,
        name: "gen-ppl",
        summary: "perplexity of written text under an autoregressive judge",
        paper: "MDLM 2406.07524, BD3-LM 2503.09573",
        needs: "samples and a judge",
    },
    MetricInfo {
        id: MetricName::Entropy,
        name: "entropy",
        summary: "unigram entropy, distinct n-grams and repetition of written text",
        paper: "BD3-LM 2503.09573, Li et al. 1510.03055, Welleck et al. 1908.04319",
        needs: "samples",
    },
    MetricInfo {
        id: MetricName::Mauve,
        name: "mauve",
        summary: "how close written text is to human text: area under the divergence curve",
        paper: "Pillutla et al. 2102.01454",
        needs: "samples, a data file and a judge",
    },
];

/// All metrics, in the order of reports.
pub fn registry() -> &'static [MetricInfo] {
    &REGISTRY
}

impl MetricName {
    /// The metric of this name; an unknown name is an error that suggests the nearest one.
    ///
    /// ```
    /// use demask_eval::MetricName;
    /// assert_eq!(MetricName::parse("gen-ppl").unwrap(), MetricName::GenPpl);
    /// let error = MetricName::parse("entropi").unwrap_err().to_string();
    /// assert!(error.contains("did you mean `entropy`?"));
    /// ```
    pub fn parse(name: &str) -> Result<Self, EvalError> {
        let wanted = name.trim().to_lowercase().replace('_', "-");
        if let Some(info) = REGISTRY.iter().find(|info| info.name == wanted) {
            return Ok(info.id);
        }
        let nearest = nearest(&wanted, REGISTRY.iter().map(|info| info.name));
        let known = REGISTRY.map(|info| info.name).join(", ");
        Err(EvalError::UnknownMetric {
            name: name.into(),
            nearest,
            known,
        })
    }

    /// What the registry says of it.
    pub fn info(self) -> &'static MetricInfo {
        // The registry holds every name: a test walks it.
        &REGISTRY[self as usize]
    }

    /// The metric itself.
    pub(crate) fn metric(self) -> Box<dyn Metric> {
        match self {
            Self::Nelbo => Box::new(nelbo::Bound { perplexity: false }),
            Self::Ppl => Box::new(nelbo::Bound { perplexity: true }),
            Self::Likelihood => Box::new(likelihood::Answers),
            Self::GreedyMatch => Box::new(likelihood::Greedy),
            Self::GenPpl => Box::new(gen_ppl::Judged),
            Self::Entropy => Box::new(entropy::Varied),
            Self::Mauve => Box::new(mauve::Compared),
        }
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

impl FromStr for MetricName {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Self, EvalError> {
        Self::parse(name)
    }
}

/// Mean of independent values and its standard error, `None` for fewer than two. 0 for none.
pub fn mean_and_error(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (0.0, None);
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (
        mean,
        (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_holds_every_name() {
        for (i, info) in registry().iter().enumerate() {
            assert_eq!(info.id as usize, i);
            assert_eq!(MetricName::parse(info.name).unwrap(), info.id);
            assert_eq!(info.id.to_string(), info.name);
            let json = serde_json::to_string(&info.id).unwrap();
            assert_eq!(json, format!("\"{}\"", info.name));
        }
        assert_eq!(MetricName::parse(" Gen_PPL ").unwrap(), MetricName::GenPpl);
        let error = MetricName::parse("blue").unwrap_err().to_string();
        assert!(!error.contains("mean"), "{error}");
        assert!(error.contains("known: nelbo, ppl, likelihood"), "{error}");
        assert!(
            MetricName::parse("mauv")
                .unwrap_err()
                .to_string()
                .contains("`mauve`?")
        );
    }

    #[test]
    fn mean_and_error_by_hand() {
        // Variance of (1, 2, 6) is 7, over n: 7/3.
        let (mean, error) = mean_and_error(&[1.0, 2.0, 6.0]);
        assert_eq!(mean, 3.0);
        assert!((error.unwrap() - (7.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(mean_and_error(&[4.0]), (4.0, None));
    }
}
