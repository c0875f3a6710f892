//! Generative perplexity: how likely a judge finds written text.
//!
//! | convention | tokens that count | source |
//! |---|---|---|
//! | `mdlm` | all but end tokens, and the first end token | MDLM, arXiv 2406.07524, code |
//! | `bd3lms` | all but end tokens | BD3-LM, arXiv 2503.09573, code |
//!
//! Texts are tokenised anew for the judge and read in chunks. With a stride the chunks overlap and
//! each token is scored once, in the first chunk that holds it; without, chunks stand side by side
//! and the first token of each has nothing before it and is not scored. A low value is easily
//! reached by repetition: read it beside the entropy.

use demask_models::ModelKind;
use demask_nn::{Asked, AttentionMask, Input};
use serde::{Deserialize, Serialize};

use super::Metric;
use super::entropy::Varied;
use crate::evaluate::Bench;
use crate::observer::tell;
use crate::score::{logits, nats};
use crate::{EvalError, EvalObserver, LanguageModel, MetricName, Row, Sample};

/// Which tokens count.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// All but end tokens, and the first end token.
    #[default]
    Mdlm,
    /// All but end tokens.
    Bd3lms,
}

/// Settings of the generative perplexity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenPplConfig {
    /// Which tokens count.
    pub convention: Convention,
    /// Tokens of a chunk; the judge's greatest length where that is less.
    pub length: usize,
    /// New tokens of each chunk after the first; `null` puts chunks side by side. bd3lms takes 512.
    pub stride: Option<usize>,
    /// The judge's begin token stands before each text, so that its first token counts too. Neither
    /// published convention does this.
    pub bos: bool,
}

impl Default for GenPplConfig {
    fn default() -> Self {
        Self {
            convention: Convention::Mdlm,
            length: 1024,
            stride: None,
            bos: false,
        }
    }
}

/// The judge's verdict on a set of texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GenPpl {
    /// Nats a counted token, over all texts.
    pub nats: f64,
    /// Standard error of [`GenPpl::nats`] over texts (ratio of sums, delta method); `None` for
    /// fewer than two.
    pub std_error: Option<f64>,
    /// Counted tokens.
    pub tokens: usize,
    /// Nats and counted tokens of each text.
    pub texts: Vec<(f64, usize)>,
}

impl GenPpl {
    /// `exp` of the nats a token.
    pub fn perplexity(&self) -> f64 {
        self.nats.exp()
    }
}

/// Scores `samples` with an autoregressive `judge`. A sample that ended by itself gets the judge's
/// end token.
pub fn gen_ppl(
    judge: &dyn LanguageModel,
    samples: &[Sample],
    config: &GenPplConfig,
    observer: &mut dyn EvalObserver,
) -> Result<GenPpl, EvalError> {
    if judge.kind() != ModelKind::Autoregressive {
        return Err(EvalError::Needs {
            metric: "gen-ppl",
            needed: "an autoregressive judge; this one writes in another order".into(),
        });
    }
    let length = config.length.min(judge.max_length());
    let stride = config.stride.unwrap_or(length);
    if length < 2 {
        return Err(EvalError::setting(
            "gen_ppl.length",
            config.length,
            "at least 2",
        ));
    }
    if stride == 0 || stride > length {
        let needed = format!("1 to {length}, the tokens of a chunk");
        return Err(EvalError::setting("gen_ppl.stride", stride, needed));
    }
    let ids = judge.ids();
    if config.bos && ids.bos.is_none() {
        return Err(EvalError::Needs {
            metric: "gen-ppl",
            needed: "a judge with a begin token, or gen_ppl.bos = false".into(),
        });
    }
    let mut texts = Vec::with_capacity(samples.len());
    for (i, sample) in samples.iter().enumerate() {
        let begin = if config.bos { ids.bos } else { None };
        let end = if sample.ended { ids.eos } else { None };
        let row: Vec<u32> = begin
            .into_iter()
            .chain(judge.encode(&sample.text)?)
            .chain(end)
            .collect();
        let mut text = (0.0, 0);
        for chunk in chunks(row.len(), length, stride) {
            let counted = counted(&row, &chunk, ids.eos, config.convention);
            if counted.is_empty() {
                continue;
            }
            let (start, cells) = (chunk.start, chunk.end - chunk.start);
            let input = Input {
                mask: AttentionMask::causal(),
                asked: Asked::Rows(counted.iter().map(|at| (at - start) as u32).collect()),
                ..Input::ids(row[start..chunk.end].to_vec(), 1, cells)
            };
            let targets: Vec<u32> = counted.iter().map(|at| row[*at]).collect();
            text.0 += nats(logits(judge, input)?, &targets, None)?
                .iter()
                .sum::<f64>();
            text.1 += counted.len();
        }
        texts.push(text);
        tell(observer, "gen-ppl", i + 1, samples.len())?;
    }
    let tokens: usize = texts.iter().map(|text| text.1).sum();
    if tokens == 0 {
        return Err(EvalError::Data(
            "no token of the texts is scored: each has one token or none".into(),
        ));
    }
    let nats = texts.iter().map(|text| text.0).sum::<f64>() / tokens as f64;
    Ok(GenPpl {
        nats,
        std_error: ratio_error(&texts, nats),
        tokens,
        texts,
    })
}

/// One chunk of a text: the judge reads `start..end` and scores `from..end`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    start: usize,
    from: usize,
    end: usize,
}

fn chunks(tokens: usize, length: usize, stride: usize) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut scored = 0;
    for start in (0..tokens).step_by(stride) {
        let end = tokens.min(start + length);
        // The first token of a chunk has nothing before it in this pass.
        chunks.push(Chunk {
            start,
            from: scored.max(start + 1),
            end,
        });
        scored = end;
        if end == tokens {
            break;
        }
    }
    chunks
}

/// The cells of a chunk that count.
fn counted(row: &[u32], chunk: &Chunk, eos: Option<u32>, convention: Convention) -> Vec<usize> {
    let first_end = row.iter().position(|id| Some(*id) == eos);
    (chunk.from..chunk.end)
        .filter(|at| {
            Some(row[*at]) != eos || (convention == Convention::Mdlm && Some(*at) == first_end)
        })
        .collect()
}

/// Standard error of a ratio of sums over texts: `sqrt(n / (n-1) sum (a_i - r b_i)^2) / sum b`.
fn ratio_error(texts: &[(f64, usize)], ratio: f64) -> Option<f64> {
    let n = texts.len() as f64;
    let total: usize = texts.iter().map(|text| text.1).sum();
    let squares: f64 = texts
        .iter()
        .map(|(a, b)| (a - ratio * *b as f64).powi(2))
        .sum();
    (texts.len() > 1).then(|| (n / (n - 1.0) * squares).sqrt() / total as f64)
}

/// The rows `gen-ppl` of a report.
pub(crate) struct Judged;

impl Metric for Judged {
    fn check(&self, bench: &Bench<'_>) -> Result<(), EvalError> {
        bench.judge(MetricName::GenPpl).map(|_| ())
    }

    fn measure(&self, bench: &mut Bench<'_>) -> Result<Vec<Row>, EvalError> {
        let metric = MetricName::GenPpl;
        let judge = bench.judge(metric)?;
        let samples = bench.samples(metric)?.to_vec();
        let config = &bench.config().gen_ppl;
        let verdict = gen_ppl(judge, &samples, config, bench.observer())?;
        let over = format!("{} tokens of {} texts", verdict.tokens, samples.len());
        let row = |name: &str, value, scale: f64, unit| Row {
            metric,
            name: name.into(),
            value,
            std_error: verdict.std_error.map(|error| error * scale),
            unit,
            over: over.clone(),
        };
        let value = verdict.perplexity();
        let mut rows = vec![
            row("gen-ppl", value, value, ""),
            row("judge nll", verdict.nats, 1.0, "nats/token"),
        ];
        if !bench.config().metrics.contains(&MetricName::Entropy) {
            // A low perplexity is easy to reach by repeating oneself: how varied the texts are always
            // stands beside it.
            rows.extend(Varied.measure(bench)?);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Silent;
    use crate::toy::Toy;

    /// Letters a, b, c; c is the end token.
    const ROWS: [f64; 9] = [0.5, 0.25, 0.25, 0.125, 0.5, 0.375, 0.2, 0.2, 0.6];

    fn judge(max_length: usize) -> Toy {
        Toy::bigram(3, max_length, &ROWS, Some(2))
    }

    fn score(texts: &[(&str, bool)], config: &GenPplConfig, max_length: usize) -> GenPpl {
        let samples: Vec<Sample> = texts
            .iter()
            .map(|(t, ended)| Sample::new(*t, *ended))
            .collect();
        gen_ppl(&judge(max_length), &samples, config, &mut Silent).unwrap()
    }

    #[test]
    fn conventions_differ_by_the_first_end_token() {
        // a b a c: P(b|a) P(a|b) P(c|a) = 1/4 · 1/8 · 1/4.
        let mdlm = score(&[("aba", true)], &GenPplConfig::default(), 9);
        assert_eq!(mdlm.tokens, 3);
        assert!((mdlm.nats - (128f64).ln() / 3.0).abs() < 1e-6);
        let config = GenPplConfig {
            convention: Convention::Bd3lms,
            ..GenPplConfig::default()
        };
        let bd3 = score(&[("aba", true)], &config, 9);
        assert_eq!(bd3.tokens, 2);
        assert!((bd3.perplexity() - 32f64.sqrt()).abs() < 1e-5);
        // A second end token and what is between do and do not count: a c a c.
        let row = [0, 2, 0, 2];
        let chunk = Chunk {
            start: 0,
            from: 1,
            end: 4,
        };
        assert_eq!(counted(&row, &chunk, Some(2), Convention::Mdlm), [1, 2]);
        assert_eq!(counted(&row, &chunk, Some(2), Convention::Bd3lms), [2]);
        assert_eq!(counted(&row, &chunk, None, Convention::Mdlm), [1, 2, 3]);
    }

    #[test]
    fn all_tokens_of_all_texts_are_summed_before_dividing() {
        // ln 4 over 1 token; 3 ln 2 over 3 tokens: 5 ln 2 / 4, not a mean of means.
        let both = score(
            &[("ab", false), ("aaaa", false)],
            &GenPplConfig::default(),
            9,
        );
        assert!((both.nats - 5.0 * 2f64.ln() / 4.0).abs() < 1e-6);
        // Residuals ±(2 - 5/4) ln 2 each: sqrt(2 · 2 · 0.75²) ln 2 / 4.
        let expected = (2.0 * 2.0 * 0.75f64.powi(2)).sqrt() * 2f64.ln() / 4.0;
        assert!((both.std_error.unwrap() - expected).abs() < 1e-6);
    }

    #[test]
    fn chunks_stand_side_by_side_or_overlap() {
        let of = |start, from, end| Chunk { start, from, end };
        assert_eq!(chunks(7, 3, 3), [of(0, 1, 3), of(3, 4, 6), of(6, 7, 7)]);
        assert_eq!(chunks(7, 4, 2), [of(0, 1, 4), of(2, 4, 6), of(4, 6, 7)]);
        assert_eq!(chunks(2, 4, 2), [of(0, 1, 2)]);
        // With a stride every token but the first counts, whatever the length of a chunk.
        let whole = score(&[("abbabaab", false)], &GenPplConfig::default(), 9);
        let config = GenPplConfig {
            length: 4,
            stride: Some(2),
            ..GenPplConfig::default()
        };
        let strided = score(&[("abbabaab", false)], &config, 9);
        assert_eq!((whole.tokens, strided.tokens), (7, 7));
        assert!((whole.nats - strided.nats).abs() < 1e-6);
        let side = score(&[("abbabaab", false)], &GenPplConfig::default(), 4);
        assert_eq!(side.tokens, 6);
    }

    #[test]
    fn unusable_judges_and_settings_are_errors() {
        let masked = Toy::table(ModelKind::Masked, 2, 2, &[1.0; 4]);
        let sample = [Sample::new("ab", false)];
        let error = gen_ppl(&masked, &sample, &GenPplConfig::default(), &mut Silent).unwrap_err();
        assert!(error.to_string().contains("autoregressive judge"));
        let run = |config| gen_ppl(&judge(9), &sample, &config, &mut Silent);
        assert!(
            run(GenPplConfig {
                stride: Some(0),
                ..GenPplConfig::default()
            })
            .is_err()
        );
        assert!(
            run(GenPplConfig {
                stride: Some(10),
                ..GenPplConfig::default()
            })
            .is_err()
        );
        assert!(
            run(GenPplConfig {
                length: 1,
                ..GenPplConfig::default()
            })
            .is_err()
        );
        let error = run(GenPplConfig {
            bos: true,
            ..GenPplConfig::default()
        })
        .unwrap_err();
        assert!(error.to_string().contains("begin token"));
        let short = [Sample::new("a", false)];
        assert!(gen_ppl(&judge(9), &short, &GenPplConfig::default(), &mut Silent).is_err());
    }
}
