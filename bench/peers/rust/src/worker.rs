//! The process that does the work.

use std::io::{BufRead, Write};

use anyhow::{Context, Result};

use crate::engine::{Engine, Failure, Ready};
use crate::job::Job;
use crate::protocol::{Answer, Request};

/// Answers the lines of `input` on `output` until there are no more, or it is told to end.
///
/// # Errors
/// When it is told nonsense, or the engine fails.
pub fn serve(engine: Engine, input: impl BufRead, mut output: impl Write) -> Result<()> {
    let mut ready: Option<Ready> = None;
    for line in input.lines() {
        let answer = match Request::parse(&line?)? {
            Request::Quit(_) => return Ok(()),
            Request::Run(_) => {
                let ready = ready.as_mut().context("a run before a job")?;
                let seconds = (ready.work)()?.as_secs_f64();
                Answer::Done { seconds }
            }
            Request::Job(job) => {
                // The memory of the last one first.
                ready = None;
                match Job::parse(job).and_then(|job| engine.prepare(&job)) {
                    Ok(offer) => {
                        let name = offer.name.clone();
                        ready = Some(offer);
                        Answer::Ready { ready: true, name }
                    }
                    Err(Failure::Skip(skip)) => Answer::Skip { skip },
                    Err(Failure::Error(error)) => return Err(error),
                }
            }
        };
        answer.send(&mut output)?;
    }
    Ok(())
}
