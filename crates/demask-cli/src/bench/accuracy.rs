//! `demask bench accuracy`: what a number format costs in likelihood and in logits, on real text.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use demask::eval::data::read_documents;
use demask::eval::{EvalConfig, MetricName, Silent, Subject, evaluate};
use demask::models::Model;
use demask::nn::{Asked, Dtype, Input};
use serde_json::json;

use super::shapes::Shape;
use crate::args::listing::ListingArgs;
use crate::args::model::ComputeArgs;
use crate::args::value;
use crate::command::eval::Reading;
use crate::error::Interrupted;
use crate::terminal::table::Table;
use crate::terminal::{interrupt, note};
use crate::{checkpoints, threads};

/// Measure what the number formats cost: bound on the likelihood of real text, and error of the logits
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
The bound is that of `demask eval --metric nelbo`, with the same noise for every format. Logits are
compared with those of f32 where every second token of the text is masked: the root of the mean
square of the difference, as a share of that of the logits, and how often the most likely token is
the same one.

Examples:
  demask bench accuracy --data data/tinystories/stories.txt.gz
  demask bench accuracy --model story,story-ar --data text.jsonl --limit 100 --json")]
pub struct Accuracy {
    /// Models
    #[arg(short, long, value_name = "DIR|NAME,…", value_delimiter = ',', default_value = checkpoints::DEFAULT)]
    model: Vec<String>,

    /// Text to score: .txt or .jsonl, either with .gz
    #[arg(short, long, value_name = "FILE")]
    data: PathBuf,

    /// Windows of text that are scored
    #[arg(long, value_name = "N", default_value = "64", value_parser = value::count, allow_negative_numbers = true)]
    limit: usize,

    /// Number of threads, and a format to compare instead of all
    #[command(flatten)]
    compute: ComputeArgs,

    #[command(flatten)]
    listing: ListingArgs,
}

/// Most tokens of a text that are compared, and how many texts.
const TOKENS: usize = 128;
const TEXTS: usize = 16;

/// What a model in some format says of the text.
struct Said {
    /// Nats a token.
    bound: f64,
    /// Of the cells that are compared, row after row.
    logits: Vec<f32>,
    vocabulary: usize,
}

impl Accuracy {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        threads::limit(self.compute.threads)?;
        let others: Vec<Dtype> = match self.compute.dtype {
            Some(dtype) => vec![dtype],
            None => Dtype::ALL[1..].to_vec(),
        };
        let mut table = Table::new([
            "model",
            "type",
            "nats a token",
            "more",
            "logits off %",
            "same token %",
        ]);
        let mut rows = Vec::new();
        for name in &self.model {
            let exact = self.ask(name, Dtype::F32)?;
            table.row([name, "f32", &format!("{:.4}", exact.bound), "", "", ""]);
            rows.push(json!({ "model": name, "dtype": "f32", "nats_a_token": exact.bound }));
            for &dtype in &others {
                let found = self.ask(name, dtype)?;
                let more = found.bound - exact.bound;
                let off = distance(&exact.logits, &found.logits);
                let same = agreement(&exact.logits, &found.logits, exact.vocabulary);
                table.row([
                    name.clone(),
                    dtype.name().to_owned(),
                    format!("{:.4}", found.bound),
                    format!("{more:+.4}"),
                    format!("{:.2}", 100.0 * off),
                    format!("{:.1}", 100.0 * same),
                ]);
                rows.push(json!({
                    "model": name, "dtype": dtype, "nats_a_token": found.bound, "more": more,
                    "logits_off": off, "same_token": same,
                }));
            }
        }
        self.listing.print(&table, &rows)
    }

    fn ask(&self, name: &str, dtype: Dtype) -> Result<Said> {
        if interrupt::pressed() {
            return Err(Interrupted.into());
        }
        note(format!("{name} in {dtype}"));
        let model = checkpoints::open(name, dtype)?;
        let reading = Reading::new(&model);
        let mut config = EvalConfig {
            metrics: vec![MetricName::Nelbo],
            ..EvalConfig::default()
        };
        config.data.path = Some(self.data.clone());
        config.data.window.limit = Some(self.limit);
        let report = evaluate(Subject::new(&reading), &config, &mut Silent)?;
        let bound = report.rows.first().map_or(f64::NAN, |row| row.value);
        Ok(Said {
            bound,
            logits: self.logits(&model)?,
            vocabulary: model.spec.network.vocab_size,
        })
    }

    /// Logits of the cells that are compared: every second one of the first texts, masked where the model
    /// knows a mask.
    fn logits(&self, model: &Model) -> Result<Vec<f32>> {
        let shape = Shape {
            name: String::new(),
            config: model.spec.network.clone(),
        };
        let mut all = Vec::new();
        let field = EvalConfig::default().data.field;
        for text in read_documents(&self.data, &field)?.iter().take(TEXTS) {
            let mut ids = model.tokenizer.encode(text)?;
            ids.truncate(TOKENS.min(shape.config.max_length));
            if ids.is_empty() {
                continue;
            }
            let asked: Vec<u32> = (0..ids.len() as u32).step_by(2).collect();
            if let Some(mask) = model.spec.ids.mask {
                for &cell in &asked {
                    ids[cell as usize] = mask;
                }
            }
            let length = ids.len();
            let input = Input {
                mask: shape.mask(length),
                asked: Asked::Rows(asked),
                ..Input::ids(ids, 1, length)
            };
            let logits = model.network.forward(input)?.logits;
            let logits = logits.ok_or_else(|| anyhow!("the network gave no logits"))?;
            let values = logits.into_data().try_into_vec::<f32>();
            all.extend(values.map_err(|error| anyhow!("logits: {error:?}"))?);
        }
        Ok(all)
    }
}

/// Root mean square of the difference, as a share of that of `exact`. Logits that are −∞ in both are left out.
fn distance(exact: &[f32], found: &[f32]) -> f64 {
    let (mut far, mut size) = (0.0, 0.0);
    for (&a, &b) in exact.iter().zip(found) {
        if a.is_finite() || b.is_finite() {
            far += f64::from(a - b).powi(2);
            size += f64::from(a).powi(2);
        }
    }
    (far / size).sqrt()
}

/// How often the most likely token of a row is the same.
fn agreement(exact: &[f32], found: &[f32], vocabulary: usize) -> f64 {
    let best = |row: &[f32]| (0..row.len()).max_by(|&i, &j| row[i].total_cmp(&row[j]));
    let rows = exact
        .chunks_exact(vocabulary)
        .zip(found.chunks_exact(vocabulary));
    let count = rows.len();
    let same = rows.filter(|(a, b)| best(a) == best(b)).count();
    same as f64 / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_and_agreement_by_hand() {
        let exact = [3.0, 0.0, 0.0, 4.0];
        assert_eq!(distance(&exact, &[3.0, 0.0, 0.0, 1.0]), 0.6);
        assert_eq!(agreement(&exact, &[1.0, 2.0, 0.0, 1.0], 2), 0.5);
    }
}
