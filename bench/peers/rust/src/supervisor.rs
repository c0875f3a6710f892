//! The process that is started: hands every line to a worker with the right number of threads.

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::engine::Engine;
use crate::protocol::Request;

/// Read once by each pool of threads: that of rayon, and that of candle for quantised products.
const THREADS: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Answers the lines of `input` on `output` until there are no more, or it is told to end.
///
/// # Errors
/// When it is told nonsense, or a worker fails.
pub fn serve(engine: Engine, input: impl BufRead, mut output: impl Write) -> Result<()> {
    let mut worker: Option<Worker> = None;
    for line in input.lines() {
        let line = line?;
        match Request::parse(&line)? {
            Request::Quit(_) => return Ok(()),
            Request::Run(_) => {}
            Request::Job(job) => {
                let threads = threads(&job)?;
                if worker.as_ref().is_none_or(|w| w.threads != threads) {
                    // The memory of the last one first.
                    drop(worker.take());
                    worker = Some(Worker::start(engine, threads)?);
                }
            }
        }
        let worker = worker.as_mut().context("a run before a job")?;
        output.write_all(worker.ask(&line)?.as_bytes())?;
        output.flush()?;
    }
    Ok(())
}

/// How many threads a job may use.
fn threads(job: &Value) -> Result<NonZeroUsize> {
    let threads = job.get("threads").and_then(Value::as_u64);
    let threads = threads.and_then(|n| NonZeroUsize::new(usize::try_from(n).ok()?));
    threads.ok_or_else(|| anyhow!("the job does not say with how many `threads`"))
}

/// This program again, with an environment of its own.
struct Worker {
    threads: NonZeroUsize,
    child: Child,
    /// `None` once it was told to end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    fn start(engine: Engine, threads: NonZeroUsize) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let engine = engine.to_possible_value();
        let engine = engine.as_ref().map_or("", |value| value.get_name());
        let mut command = Command::new(program);
        command.args(["--engine", engine, "--worker"]);
        for name in THREADS {
            command.env(name, threads.to_string());
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the worker has no pipes");
        };
        Ok(Self {
            threads,
            child,
            stdin: Some(stdin),
            stdout: BufReader::new(stdout),
        })
    }

    /// Its answer to a line, end of line included.
    fn ask(&mut self, line: &str) -> Result<String> {
        let sent = self.stdin.as_mut().map(|stdin| {
            writeln!(stdin, "{line}")?;
            stdin.flush()
        });
        let mut answer = String::new();
        if matches!(sent, Some(Ok(()))) {
            self.stdout.read_line(&mut answer)?;
        }
        if answer.is_empty() {
            // Its own words are on stderr already.
            self.stdin = None;
            bail!("the worker ended ({})", self.child.wait()?);
        }
        Ok(answer)
    }
}

impl Drop for Worker {
    /// Without a standard input it ends once it has done what it does.
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_says_its_threads() {
        assert_eq!(threads(&json!({"threads": 2})).unwrap().get(), 2);
        for job in [json!({}), json!({"threads": 0}), json!({"threads": "2"})] {
            let said = threads(&job).unwrap_err().to_string();
            assert!(said.contains("`threads`"), "{said}");
        }
    }

    #[test]
    fn nothing_is_run_before_a_job() {
        let mut said = Vec::new();
        let error = serve(Engine::Candle, &b"{\"run\": true}\n"[..], &mut said).unwrap_err();
        assert_eq!(error.to_string(), "a run before a job");
        assert!(said.is_empty());
        serve(Engine::Candle, &b"{\"quit\": true}\n"[..], &mut said).unwrap();
    }
}
