//! Progress on stderr: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use demask::train::{Metrics, TrainEvent, TrainObserver};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::interrupt;

/// Shortest time between two plain lines.
const PAUSE: Duration = Duration::from_secs(10);

/// Shows a training.
pub struct TrainProgress {
    bar: Option<ProgressBar>,
    begin: Instant,
    first: u64,
    last: Option<Instant>,
    steps: u64,
    valid: Option<f64>,
}

impl TrainProgress {
    /// A bar if stderr is a terminal, lines otherwise.
    pub fn new() -> Self {
        let bar = io::stderr()
            .is_terminal()
            .then(|| ProgressBar::new(0).with_style(style()));
        Self {
            bar,
            begin: Instant::now(),
            first: 0,
            last: None,
            steps: 0,
            valid: None,
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            // Progress that cannot be shown is no reason to stop.
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }

    fn step(&mut self, metrics: &Metrics) {
        let valid = self
            .valid
            .map(|v| format!("  valid {v:.4}"))
            .unwrap_or_default();
        let numbers = format!(
            "loss {:.4}{valid}  {:.0} tok/s",
            metrics.loss, metrics.tokens_per_s
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(metrics.step);
                bar.set_message(numbers);
            }
            None if self.is_line_due(metrics.step) => {
                self.last = Some(Instant::now());
                let left = self.left(metrics.step);
                self.say(&format!(
                    "step {}/{}  {numbers}  {left} left",
                    metrics.step, self.steps
                ));
            }
            None => {}
        }
    }

    fn is_line_due(&self, step: u64) -> bool {
        step == self.steps || self.last.is_none_or(|last| last.elapsed() >= PAUSE)
    }

    fn left(&self, step: u64) -> HumanDuration {
        let done = step.saturating_sub(self.first).max(1) as f64;
        let each = self.begin.elapsed().as_secs_f64() / done;
        let left = each * self.steps.saturating_sub(step) as f64;
        HumanDuration(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX))
    }
}

impl TrainObserver for TrainProgress {
    fn event(&mut self, event: &TrainEvent) -> ControlFlow<()> {
        match event {
            TrainEvent::Started {
                parameters,
                vocabulary,
                tokens,
                rows,
                step,
                steps,
            } => {
                (self.first, self.steps, self.begin) = (*step, *steps, Instant::now());
                self.say(&format!(
                    "{parameters} parameters, vocabulary {vocabulary}, {} tokens to train on, {} to \
                     validate on, {rows} rows a step, steps {step} to {steps}",
                    tokens[0], tokens[1]
                ));
                if let Some(bar) = &self.bar {
                    bar.set_length(*steps);
                    bar.set_position(*step);
                    bar.reset_eta();
                }
            }
            TrainEvent::Step(metrics) => self.step(metrics),
            TrainEvent::Validated { step, loss } => {
                self.valid = Some(*loss);
                if self.bar.is_none() {
                    self.say(&format!("step {step}/{}  valid {loss:.4}", self.steps));
                }
            }
            TrainEvent::Searched {
                step,
                window: [min, max],
                variance,
            } => self.say(&format!(
                "step {step}/{}  trains with times in [{min}, {max}] from here (variance {variance:.4})",
                self.steps
            )),
            TrainEvent::Saved {
                step, checkpoint, ..
            } => {
                tracing::info!(step, checkpoint = %checkpoint.display(), "saved");
            }
            TrainEvent::Data(note) => self.say(&format!("note: {note}")),
            TrainEvent::Warning(warning) => self.say(&format!("warning: {warning}")),
            TrainEvent::Finished(summary) => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
                let valid = summary.valid.map(|(_, v)| format!(", valid {v:.4}"));
                self.say(&format!(
                    "{} steps, {} tokens, {:.1} s, loss {:.4}{}",
                    summary.step,
                    summary.tokens,
                    summary.seconds,
                    summary.loss,
                    valid.unwrap_or_default()
                ));
            }
        }
        interrupt::flow()
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
