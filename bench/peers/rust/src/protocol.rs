//! The lines that `demask bench` and a peer say to each other.

use std::io::Write;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What we are told.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The work of the next runs.
    Job(Value),
    /// Do it once.
    Run(bool),
    /// End.
    Quit(bool),
}

/// What we say.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The job could be run at once.
    Ready {
        /// Always true.
        ready: bool,
        /// Engine, version and method.
        name: String,
    },
    /// The job cannot be done.
    Skip {
        /// Why.
        skip: String,
    },
    /// The job was done once.
    Done {
        /// The seconds that it took.
        seconds: f64,
    },
}

impl Request {
    /// What a line says.
    ///
    /// # Errors
    /// When it says nothing that a peer is told.
    pub fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| {
            let shown: String = line.trim_end().chars().take(200).collect();
            format!("`{shown}` is neither a job nor a run")
        })
    }
}

impl Answer {
    /// Writes the answer as a line of its own.
    ///
    /// # Errors
    /// When nobody reads.
    pub fn send(&self, to: &mut impl Write) -> Result<()> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        to.write_all(line.as_bytes())?;
        Ok(to.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_protocol() {
        let job = Request::parse("{\"job\": {\"kind\": \"gemm\"}}\n").unwrap();
        assert_eq!(job, Request::Job(serde_json::json!({"kind": "gemm"})));
        assert_eq!(
            Request::parse(r#"{"run": true}"#).unwrap(),
            Request::Run(true)
        );
        assert_eq!(
            Request::parse(r#"{"quit": true}"#).unwrap(),
            Request::Quit(true)
        );
        for nonsense in ["", "hello", "{}", r#"{"walk": true}"#, r#"{"run": 1}"#] {
            let said = format!("{:#}", Request::parse(nonsense).unwrap_err());
            assert!(said.contains("neither a job nor a run"), "{said}");
        }
    }

    #[test]
    fn answers_are_single_lines() {
        let said = |answer: Answer| {
            let mut line = Vec::new();
            answer.send(&mut line).unwrap();
            String::from_utf8(line).unwrap()
        };
        let ready = Answer::Ready {
            ready: true,
            name: "candle f32".into(),
        };
        assert_eq!(said(ready), "{\"ready\":true,\"name\":\"candle f32\"}\n");
        let skip = Answer::Skip {
            skip: "two\nlines".into(),
        };
        assert_eq!(said(skip), "{\"skip\":\"two\\nlines\"}\n");
        assert_eq!(
            said(Answer::Done { seconds: 0.125 }),
            "{\"seconds\":0.125}\n"
        );
    }
}
