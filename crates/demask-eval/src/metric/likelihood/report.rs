//! The rows `likelihood` and `greedy-match` of a report.

use super::{Rule, begin, encode_pair, greedy_match, keeps_edges, log_likelihood};
use crate::evaluate::Bench;
use crate::metric::Metric;
use crate::observer::tell;
use crate::{EvalError, LanguageModel, MetricName, Row};

/// The log-likelihood of the answers of a file.
pub(crate) struct Answers;

/// The share of answers that greedy writing gives.
pub(crate) struct Greedy;

impl Metric for Answers {
    fn measure(&self, bench: &mut Bench<'_>) -> Result<Vec<Row>, EvalError> {
        let metric = MetricName::Likelihood;
        let (model, config, noise) = (bench.model(), bench.config(), bench.noise(metric));
        let pairs = encoded(bench, metric)?;
        let (mut nats, mut variance, mut tokens) = (0.0, Some(0.0), 0);
        for (i, (prompt, answer)) in pairs.iter().enumerate() {
            let noise = noise.child(i as u64);
            let found = log_likelihood(
                model,
                prompt,
                answer,
                &config.likelihood,
                config.batch,
                noise,
            )?;
            nats += found.value;
            tokens += found.tokens;
            variance = variance
                .zip(found.std_error)
                .map(|(sum, error)| sum + error * error);
            tell(bench.observer(), metric.info().name, i + 1, pairs.len())?;
        }
        let over = format!("{tokens} tokens of {} answers", pairs.len());
        let row = |name: &str, count: usize, unit| Row {
            metric,
            name: name.into(),
            value: nats / count as f64,
            std_error: variance.map(|variance| variance.sqrt() / count as f64),
            unit,
            over: over.clone(),
        };
        Ok(vec![
            row("log-likelihood", pairs.len(), "nats/answer"),
            row("log-likelihood per token", tokens, "nats/token"),
        ])
    }
}

impl Metric for Greedy {
    fn measure(&self, bench: &mut Bench<'_>) -> Result<Vec<Row>, EvalError> {
        let metric = MetricName::GreedyMatch;
        let (model, config) = (bench.model(), bench.config());
        let pairs = encoded(bench, metric)?;
        let (mut matched, mut right, mut tokens) = (0, 0, 0);
        for (i, (prompt, answer)) in pairs.iter().enumerate() {
            let found = greedy_match(model, prompt, answer, &config.likelihood)?;
            matched += usize::from(found.matched);
            right += found.right;
            tokens += found.tokens;
            tell(bench.observer(), metric.info().name, i + 1, pairs.len())?;
        }
        let share = |name: &str, hits: usize, count: usize, of: &str| {
            let p = hits as f64 / count as f64;
            let error = (count > 1).then(|| (p * (1.0 - p) / (count - 1) as f64).sqrt());
            // A share of 0 or 1 is not exact: its error is unknown.
            let std_error = error.filter(|error| *error > 0.0);
            let over = format!("{count} {of}");
            Row {
                metric,
                name: name.into(),
                value: p,
                std_error,
                unit: "",
                over,
            }
        };
        Ok(vec![
            share("greedy-match", matched, pairs.len(), "answers"),
            Row {
                std_error: None,
                ..share("tokens matched", right, tokens, "tokens")
            },
        ])
    }
}

type Encoded = Vec<(Vec<u32>, Vec<u32>)>;

/// The pairs in tokens. Prompts that do not fit are cut at their beginning, and a note says how
/// many; an answer that does not fit alone is an error.
fn encoded(bench: &mut Bench<'_>, metric: MetricName) -> Result<Encoded, EvalError> {
    let (model, config) = (bench.model(), &bench.config().likelihood);
    let pairs = bench.pairs(metric)?;
    let mut cut = 0;
    let mut encoded = Vec::with_capacity(pairs.len());
    for (i, pair) in pairs.iter().enumerate() {
        let (mut prompt, mut answer) = encode_pair(model, pair)?;
        if answer.is_empty() {
            return Err(EvalError::Data(format!(
                "answer {} has no tokens of its own",
                i + 1
            )));
        }
        if metric == MetricName::Likelihood {
            answer.extend(after_answer(model, config.rule)?);
        }
        let begin = usize::from(begin(model, config, prompt.is_empty())?.is_some());
        let room = model.max_length().checked_sub(answer.len() + begin);
        let room = room.ok_or_else(|| {
            EvalError::Data(format!(
                "answer {} has {} tokens; the model reads at most {}",
                i + 1,
                answer.len(),
                model.max_length()
            ))
        })?;
        if prompt.len() > room {
            prompt.drain(..prompt.len() - room);
            cut += 1;
        }
        encoded.push((prompt, answer));
    }
    if cut > 0 {
        bench.note(format!(
            "{cut} prompts were cut at their beginning to fit the model"
        ));
    }
    Ok(encoded)
}

/// The token behind the answer that is seen and never masked: Dream's evaluation ends every answer.
fn after_answer(model: &dyn LanguageModel, rule: Rule) -> Result<Option<u32>, EvalError> {
    if !keeps_edges(model, rule) {
        return Ok(None);
    }
    model.ids().eos.map(Some).ok_or_else(|| EvalError::Needs {
        metric: "likelihood",
        needed: "a model with an end token, or keep_edges = false in likelihood.rule".into(),
    })
}

#[cfg(test)]
mod tests {
    use demask_models::ModelKind;

    use super::*;
    use crate::toy::Toy;

    #[test]
    fn dream_ends_every_answer() {
        let dream = |keep_edges| Rule::Dream {
            eps: 1e-3,
            keep_edges,
        };
        let model = Toy::letters(4, None, Some(31)).of_kind(ModelKind::Masked);
        assert_eq!(after_answer(&model, dream(true)).unwrap(), Some(31));
        assert_eq!(after_answer(&model, dream(false)).unwrap(), None);
        assert_eq!(after_answer(&model, Rule::Enumerate).unwrap(), None);
        let left_to_right = Toy::letters(4, None, Some(31));
        assert_eq!(after_answer(&left_to_right, dream(true)).unwrap(), None);
        let endless = Toy::letters(4, None, None).of_kind(ModelKind::Masked);
        let error = after_answer(&endless, dream(true)).unwrap_err().to_string();
        assert!(error.contains("keep_edges"), "{error}");
    }
}
