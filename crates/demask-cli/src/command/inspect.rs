//! `demask inspect`

use anyhow::Result;
use demask::models::{ModelKind, Report};
use serde_json::Value;

use crate::args::listing::ListingArgs;
use crate::checkpoints;
use crate::terminal::table::Table;

/// Say what a checkpoint is: family, shapes, parameters, number types, tokenizer, special tokens
/// and what is unusual about it
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  demask inspect story
  demask inspect ./LLaDA-8B-Instruct
  demask inspect kuleshov-group/mdlm-owt
  demask inspect runs/mine/checkpoint --json")]
pub struct Inspect {
    /// A checkpoint folder, a built-in model, or a model of the Hugging Face hub, which is
    /// downloaded once
    #[arg(value_name = "DIR|NAME|ORG/NAME")]
    model: String,

    #[command(flatten)]
    listing: ListingArgs,
}

impl Inspect {
    /// Prints the report.
    pub fn run(&self) -> Result<()> {
        let report = checkpoints::find(&self.model, false)?.report();
        self.listing.print(&table(&report)?, &report)
    }
}

fn table(report: &Report) -> Result<Table> {
    let mut table = Table::new(["", ""]);
    table.row(["checkpoint", &report.name]);
    table.row(["family", &format!("{} ({})", report.family, report.paper)]);
    table.row(["writes", &kind(report.kind)]);
    let bytes = report.stored_bytes as f64 / (1 << 20) as f64;
    table.row([
        "parameters",
        &format!("{} ({bytes:.1} MiB stored)", grouped(report.parameters)),
    ]);
    for (dtype, count) in &report.dtypes {
        let values = grouped(count.values);
        table.row([
            "stored as",
            &format!("{dtype}: {} tensors, {values} values", count.tensors),
        ]);
    }
    if let Value::Object(network) = serde_json::to_value(&report.network)? {
        for (field, value) in network {
            table.row([&format!("network.{field}"), &plain(&value)]);
        }
    }
    table.row([
        "time input",
        if report.time_conditioning {
            "the noise level"
        } else {
            "none"
        },
    ]);
    if let Some([min, max]) = report.sampling_eps {
        table.row(["trained at", &format!("masked shares from {min} to {max}")]);
    }
    for (number, name) in report.labels.iter().enumerate() {
        table.row([&format!("label {number}"), name]);
    }
    let tokenizer = &report.tokenizer;
    table.row([
        "tokenizer",
        &format!("{}, {} tokens", tokenizer.kind, tokenizer.size),
    ]);
    if tokenizer.rows_without_token > 0 {
        table.row([
            "",
            &format!("{} rows without a token", tokenizer.rows_without_token),
        ]);
    }
    for (role, named) in &report.ids {
        let token = named
            .token
            .as_deref()
            .unwrap_or("no token in the tokenizer");
        table.row([&format!("{role} token"), &format!("{} {token}", named.id)]);
    }
    table.row(["documents", &frame(report)]);
    table.row([
        "chat template",
        if report.chat_template { "yes" } else { "no" },
    ]);
    if let Value::Object(defaults) = serde_json::to_value(&report.generation)? {
        for (key, value) in defaults {
            table.row([&format!("recommended {key}"), &plain(&value)]);
        }
    }
    for sentence in &report.unusual {
        table.row(["unusual", sentence]);
    }
    Ok(table)
}

/// What stands around a document the model was trained on.
fn frame(report: &Report) -> String {
    let stands = |role, framed| framed && report.ids.contains_key(role);
    match (
        stands("bos", report.frame.bos),
        stands("eos", report.frame.eos),
    ) {
        (true, true) => "begin token, text, end token".to_owned(),
        (true, false) => "begin token, text".to_owned(),
        (false, true) => "text, end token".to_owned(),
        (false, false) => "text only".to_owned(),
    }
}

fn kind(kind: ModelKind) -> String {
    match kind {
        ModelKind::Masked => "masked cells, in any order".to_owned(),
        ModelKind::Uniform => "every cell, again and again (uniform noise)".to_owned(),
        ModelKind::BlockMasked { block } => format!("masked cells in blocks of {block}"),
        ModelKind::Autoregressive => "left to right".to_owned(),
    }
}

/// A JSON value on one line, text without quotes, an object as `key value` pairs.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| match key.as_str() {
                "kind" => plain(value),
                _ => format!("{key} {}", plain(value)),
            });
            pairs.collect::<Vec<_>>().join(", ")
        }
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// A number with thin groups of three: 1 234 567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_grouped_and_values_read_as_words() {
        assert_eq!(
            (grouped(7), grouped(1234567)),
            ("7".into(), "1 234 567".into())
        );
        assert_eq!(
            plain(&json!({"kind": "block_causal", "block": 4})),
            "block_causal, block 4"
        );
        assert_eq!(plain(&json!(null)), "none");
    }
}
