//! What came of the writing: text on stdout, one summary line on stderr, or one JSON object.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use demask::text::Written;
use serde_json::{Value, json};

use crate::args::output::Output;
use crate::terminal::layout::harmless;
use crate::terminal::{note, on_stdout, style};
use crate::writing::Outcome;
use crate::writing::plan::WritePlan;

/// Shows the outcome. `given` is what people read before each text.
pub fn show(plan: &WritePlan, outcome: &Outcome, output: Output, given: &str) -> Result<()> {
    match output {
        Output::Json => {
            let mut out = io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &object(plan, outcome)).map_err(on_stdout)?;
            writeln!(out).map_err(on_stdout)?;
        }
        Output::Watch | Output::Plain => text(outcome, given).map_err(on_stdout)?,
    }
    let mut told: Vec<&str> = Vec::new();
    for remark in outcome.written.iter().flat_map(|written| &written.notes) {
        if !told.contains(&remark.as_str()) {
            told.push(remark);
            note(format!("note: {remark}"));
        }
    }
    if output != Output::Json {
        note(summary(plan, outcome));
    }
    Ok(())
}

fn text(outcome: &Outcome, given: &str) -> io::Result<()> {
    let terminal = io::stdout().is_terminal();
    let safe = |text: &str| {
        if terminal {
            harmless(text)
        } else {
            text.to_owned()
        }
    };
    let mut out = io::stdout().lock();
    // A run that was stopped has texts that were never begun.
    let begun = |written: &&Written| !outcome.is_stopped() || written.steps > 0;
    for (i, written) in outcome.written.iter().filter(begun).enumerate() {
        if i > 0 {
            writeln!(out, "\n{}\n", style::dim("---", style::enabled(terminal)))?;
        }
        let given = style::bold_unless_empty(&safe(given), style::enabled(terminal));
        writeln!(out, "{given}{}", safe(&written.text))?;
    }
    out.flush()
}

/// The sums over all samples that summary and JSON tell.
struct Totals {
    new_tokens: usize,
    forwards: usize,
    rows: usize,
    per_second: f64,
}

impl Totals {
    fn of(outcome: &Outcome) -> Self {
        let sum = |f: fn(&Written) -> usize| outcome.written.iter().map(f).sum();
        let new_tokens = sum(|w| w.new_tokens);
        let per_second = new_tokens as f64 / outcome.seconds.max(1e-9);
        Self {
            new_tokens,
            forwards: sum(|w| w.forwards),
            rows: sum(|w| w.rows),
            per_second,
        }
    }
}

fn summary(plan: &WritePlan, outcome: &Outcome) -> String {
    let totals = Totals::of(outcome);
    // Cells that were not reached leave no gap in the text, so the line tells of them.
    let open: usize = outcome.written.iter().map(|written| written.open).sum();
    let stopped = match (outcome.is_stopped(), open) {
        (false, _) => String::new(),
        (true, 0) => "stopped; ".to_owned(),
        (true, open) => format!("stopped with {open} cells still open; "),
    };
    format!(
        "{stopped}{} tokens, {} forwards, {:.2} s, {:.1} tokens/s ({}, seed {})",
        totals.new_tokens,
        totals.forwards,
        outcome.seconds,
        totals.per_second,
        plan.model,
        plan.decode.seed
    )
}

/// The one object of `--json`. Counts are sums over the samples; `text` and `steps` are those of
/// the first one.
fn object(plan: &WritePlan, outcome: &Outcome) -> Value {
    let totals = Totals::of(outcome);
    let first = outcome.written.first();
    let samples = outcome.written.iter().map(|written| {
        json!({
            "text": written.text,
            "new_tokens": written.new_tokens,
            "steps": written.steps,
            "forwards": written.forwards,
            "rows": written.rows,
            "finish": written.finish,
            "ids": written.ids,
        })
    });
    json!({
        "text": first.map(|written| &written.text),
        "model": plan.model,
        "prompt_tokens": first.map_or(0, |written| written.prompt_tokens),
        "new_tokens": totals.new_tokens,
        "steps": first.map_or(0, |written| written.steps),
        "forwards": totals.forwards,
        "rows": totals.rows,
        "seconds": outcome.seconds,
        "tokens_per_second": totals.per_second,
        "seed": plan.decode.seed,
        "samples": samples.collect::<Vec<_>>(),
        "config": plan,
    })
}
