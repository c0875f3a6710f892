//! `metrics.jsonl`: one line a step.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::write_atomic;
use crate::TrainError;

/// What is known about one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// The step, from 1.
    pub step: u64,
    /// Training loss of the step's rows, in nats as the objective normalises it.
    pub loss: f64,
    /// Validation loss with the averaged weights, in steps that validated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<f64>,
    /// The window of times the step was trained with, where a variance search chooses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<[f64; 2]>,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Tokens seen so far.
    pub tokens: u64,
    /// Tokens a second in this step.
    pub tokens_per_s: f64,
    /// Seconds trained so far, over all sittings.
    pub seconds: f64,
}

/// The open file, and all its lines.
#[derive(Debug)]
pub(crate) struct MetricsFile {
    path: PathBuf,
    file: File,
    lines: Vec<Metrics>,
}

impl MetricsFile {
    /// Opens `metrics.jsonl` in `run` and forgets what lies after `step`, which a resumed training
    /// will write again. A half-written last line goes too.
    ///
    /// # Errors
    /// A line before `step` that cannot be read, with good lines behind it: they are the user's, and
    /// are not thrown away in silence.
    pub fn open(run: &Path, step: u64) -> Result<Self, TrainError> {
        let path = run.join("metrics.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(TrainError::io("read", path)(e)),
        };
        let parse = |line: &str| serde_json::from_str::<Metrics>(line).ok();
        let lines: Vec<Metrics> = text
            .lines()
            .map_while(parse)
            .take_while(|m| m.step <= step)
            .collect();
        let lost = |m: Metrics| m.step <= step;
        if (text.lines().skip(lines.len()).skip(1)).any(|line| parse(line).is_some_and(lost)) {
            return Err(TrainError::State {
                path,
                message: format!(
                    "line {} is not a line of metrics; mend or remove it, or move the file away",
                    lines.len() + 1
                ),
            });
        }
        let kept: String = text
            .lines()
            .take(lines.len())
            .map(|l| format!("{l}\n"))
            .collect();
        if kept != text {
            write_atomic(&path, kept.as_bytes())?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(TrainError::io("write", &path))?;
        Ok(Self { path, file, lines })
    }

    /// Appends a line.
    pub fn push(&mut self, metrics: Metrics) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(&metrics)
            .map_err(|e| TrainError::io("write", &self.path)(std::io::Error::other(e)))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(TrainError::io("write", &self.path))?;
        self.lines.push(metrics);
        Ok(())
    }

    /// Flushes the lines to the disk, so that a state never outlives the lines before it.
    pub fn sync(&self) -> Result<(), TrainError> {
        self.file
            .sync_data()
            .map_err(TrainError::io("flush", &self.path))
    }

    /// All lines so far.
    pub fn lines(&self) -> &[Metrics] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(step: u64) -> Metrics {
        Metrics {
            step,
            loss: 0.1 + step as f64,
            valid: (step == 2).then_some(1.0 / 3.0),
            window: (step == 3).then_some([0.3, 0.8]),
            lr: 1e-3,
            grad_norm: 0.5,
            tokens: 10 * step,
            tokens_per_s: 3.0,
            seconds: 0.1,
        }
    }

    #[test]
    fn lines_after_the_step_and_torn_lines_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = MetricsFile::open(folder.path(), 0).unwrap();
        (1..=4).for_each(|step| file.push(metrics(step)).unwrap());
        let path = folder.path().join("metrics.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"step\":5,\"lo");
        fs::write(&path, text).unwrap();
        let mut file = MetricsFile::open(folder.path(), 3).unwrap();
        assert_eq!(file.lines(), [metrics(1), metrics(2), metrics(3)]);
        file.push(metrics(4)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let again: Vec<Metrics> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(again, (1..=4).map(metrics).collect::<Vec<_>>());
    }

    #[test]
    fn a_bad_line_among_good_ones_is_an_error_and_costs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = MetricsFile::open(folder.path(), 0).unwrap();
        (1..=4).for_each(|step| file.push(metrics(step)).unwrap());
        let path = folder.path().join("metrics.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        let bad = text.replacen("{\"step\":2", "{\"stop\":2", 1);
        fs::write(&path, &bad).unwrap();
        let error = MetricsFile::open(folder.path(), 4).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        // What lies after the step will be written again anyway.
        assert_eq!(
            MetricsFile::open(folder.path(), 1).unwrap().lines().len(),
            1
        );
    }
}
