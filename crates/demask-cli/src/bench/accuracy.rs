//! `demask bench accuracy`: what a number format costs in likelihood and in logits, on real text.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use demask::eval::data::read_documents;
use demask::eval::{EvalConfig, EvalError, MetricName, Progress, Subject, evaluate};
use demask::models::Model;
use demask::nn::{Asked, Dtype, Input};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::dtype;
use super::report::head;
use super::shapes::Shape;
use crate::args::listing::width;
use crate::args::value;
use crate::command::eval::Reading;
use crate::error::Interrupted;
use crate::terminal::columns::Columns;
use crate::terminal::passing::Passing;
use crate::terminal::{interrupt, line};
use crate::{checkpoints, threads};

/// Measure what the number formats cost: bound on the likelihood of real text, and error of the logits
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
The bound is that of `demask eval --metric nelbo`, with the same noise for every format. Logits are
compared with those of f32, which is always measured, where every second token of the text is
masked: the root of the mean square of the difference, as a share of that of the logits, and how
often the most likely token is the same one.

Examples:
  demask bench accuracy --data data/tinystories/stories.txt.gz
  demask bench accuracy --data text.txt --dtype bf16,int4
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

    #[arg(long, help = compared(), value_name = "TYPE,…", value_delimiter = ',', value_parser = str::parse::<Dtype>)]
    dtype: Vec<Dtype>,

    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = value::threads, allow_negative_numbers = true)]
    threads: Option<usize>,

    /// Print one JSON object a row, as soon as it is measured, instead of a table
    #[arg(long)]
    json: bool,
}

/// The help of `--dtype`.
fn compared() -> String {
    let formats = dtype::help("Number types that are compared with f32", &Dtype::ALL[1..]);
    format!("{formats} [default: all]")
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

/// What a format changes.
struct Cost {
    /// Nats a token more.
    more: f64,
    /// Error of the logits, as a share of their size.
    off: f64,
    /// How often the most likely token is the same.
    same: f64,
}

impl Cost {
    fn new(exact: &Said, found: &Said) -> Self {
        Self {
            more: found.bound - exact.bound,
            off: distance(&exact.logits, &found.logits),
            same: agreement(&exact.logits, &found.logits, exact.vocabulary),
        }
    }
}

impl Accuracy {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        threads::limit(self.threads)?;
        // An evaluation takes minutes: what the next one needs is looked for before the first.
        let texts = read_documents(&self.data, &EvalConfig::default().data.field)?;
        for name in &self.model {
            checkpoints::find(name, false)?;
        }
        let columns = self.columns();
        let mut passing = Passing::new(!self.json);
        let mut begun = self.json;
        let mut print = |row: Value, cells: Vec<String>| -> Result<()> {
            if self.json {
                return Ok(line(&row.to_string())?);
            }
            let mut text = String::new();
            if !std::mem::replace(&mut begun, true) {
                let threads = demask::kernels::threads::count();
                text = format!("{}\n\n{}", head("accuracy", threads), columns.head());
            }
            text += &columns.row(&cells, width());
            Ok(line(text.trim_end())?)
        };
        for name in &self.model {
            let mut exact = None;
            for dtype in self.formats() {
                passing.show(&format!("accuracy {name} {dtype}"));
                let found = self.ask(name, dtype, &texts)?;
                let cost = exact.as_ref().map(|exact| Cost::new(exact, &found));
                passing.clear();
                print(
                    json(name, dtype, &found, cost.as_ref()),
                    cells(name, dtype, &found, cost.as_ref()),
                )?;
                exact.get_or_insert(found);
            }
        }
        Ok(())
    }

    /// The formats that are measured, each once: f32 first, then those that are compared with it.
    fn formats(&self) -> Vec<Dtype> {
        let wanted = match self.dtype.as_slice() {
            [] => &Dtype::ALL[..],
            wanted => wanted,
        };
        let mut formats = vec![Dtype::F32];
        for &dtype in wanted {
            if !formats.contains(&dtype) {
                formats.push(dtype);
            }
        }
        formats
    }

    fn columns(&self) -> Columns {
        let longest = self.model.iter().map(|name| name.width()).max();
        Columns::default()
            .text("model", longest.unwrap_or(0))
            .text("type", 4)
            .number("nats a token", 0)
            .number("more", 7)
            .number("logits off %", 0)
            .number("same token %", 0)
    }

    fn ask(&self, name: &str, dtype: Dtype, texts: &[String]) -> Result<Said> {
        if interrupt::pressed() {
            return Err(Interrupted.into());
        }
        let model = checkpoints::open(name, dtype)?;
        let reading = Reading::new(&model);
        let mut config = EvalConfig {
            metrics: vec![MetricName::Nelbo],
            ..EvalConfig::default()
        };
        config.data.path = Some(self.data.clone());
        config.data.window.limit = Some(self.limit);
        let mut stop = |_: Progress| interrupt::flow();
        let report = evaluate(Subject::new(&reading), &config, &mut stop);
        let report = report.map_err(|error| match error {
            EvalError::Stopped => Interrupted.into(),
            other => anyhow::Error::from(other),
        })?;
        let bound = report.rows.first().map_or(f64::NAN, |row| row.value);
        Ok(Said {
            bound,
            logits: logits(&model, texts)?,
            vocabulary: model.spec.network.vocab_size,
        })
    }
}

/// A row as a line of JSON: the fields of every bench, none of which but the first has a meaning here, and ours.
fn json(name: &str, dtype: Dtype, said: &Said, cost: Option<&Cost>) -> Value {
    json!({
        "name": "accuracy", "dtype": dtype, "shape": name, "threads": demask::kernels::threads::count(),
        "median_s": null, "min_s": null, "repeats": 1, "rate": null, "unit": null, "peak_fraction": null,
        "model": name, "nats_a_token": said.bound,
        "more": cost.map(|cost| cost.more),
        "logits_off": cost.map(|cost| cost.off),
        "same_token": cost.map(|cost| cost.same),
    })
}

/// The same as cells of the table.
fn cells(name: &str, dtype: Dtype, said: &Said, cost: Option<&Cost>) -> Vec<String> {
    let mut cells = vec![
        name.to_owned(),
        dtype.name().to_owned(),
        format!("{:.4}", said.bound),
    ];
    cells.extend(match cost {
        None => ["-", "-", "-"].map(str::to_owned),
        Some(cost) => [
            format!("{:+.4}", cost.more),
            format!("{:.2}", 100.0 * cost.off),
            format!("{:.1}", 100.0 * cost.same),
        ],
    });
    cells
}

/// Logits of the cells that are compared: every second one of the first texts, masked where the model
/// knows a mask.
fn logits(model: &Model, texts: &[String]) -> Result<Vec<f32>> {
    let shape = Shape {
        name: String::new(),
        config: model.spec.network.clone(),
    };
    let mut all = Vec::new();
    for text in texts.iter().take(TEXTS) {
        if interrupt::pressed() {
            return Err(Interrupted.into());
        }
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

    #[test]
    fn f32_is_measured_once_and_first() {
        let formats = |dtype: &[Dtype]| {
            let accuracy = Accuracy {
                model: Vec::new(),
                data: PathBuf::new(),
                limit: 1,
                dtype: dtype.to_vec(),
                threads: None,
                json: false,
            };
            accuracy.formats()
        };
        assert_eq!(formats(&[]), Dtype::ALL);
        assert_eq!(formats(&[Dtype::Int4]), [Dtype::F32, Dtype::Int4]);
        let twice = [Dtype::Int8, Dtype::F32, Dtype::Bf16, Dtype::Int8];
        assert_eq!(formats(&twice), [Dtype::F32, Dtype::Int8, Dtype::Bf16]);
    }
}
