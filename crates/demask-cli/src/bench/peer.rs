//! The programs we compare with: they do the same work on the same machine, in turns with us.
//!
//! A peer is any program that reads lines of JSON from standard input and answers each with one on
//! standard output; `bench/peers/README.md` is the protocol. Here is our end of it. A peer that ends,
//! says something else or says nothing for too long is an error with its last words; it never keeps us
//! waiting for ever, and never outlives us ([`group`](super::group)).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::group::Group;
use crate::error::{Interrupted, with_advice};
use crate::terminal::{interrupt, note};

/// Lines of a peer's stderr that are kept for its last words.
const KEPT: usize = 8;
/// Longest answer that is looked at, and longest line of stderr.
const LONGEST: u64 = 1 << 20;
/// How long a peer may take for an answer: compiling a large network takes minutes.
const PATIENCE: Duration = Duration::from_secs(1800);
/// From when on the user is told what is waited for.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a peer may take to end once it was asked to.
const FAREWELL: Duration = Duration::from_secs(3);
/// Between looks at what may have happened.
const TICK: Duration = Duration::from_millis(50);

/// A program that was started.
#[derive(Debug)]
pub struct Peer {
    command: String,
    child: Child,
    group: Group,
    /// `None` once it was said farewell.
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    /// Ends when the peer's stderr does.
    listener: Option<JoinHandle<()>>,
    patience: Duration,
}

/// What a peer says to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// It has prepared itself.
    Ready {
        /// What it calls itself, with version and method.
        name: String,
    },
    /// It cannot do this job, and why.
    Skip(String),
}

impl Peer {
    /// Starts `command`, as the shell reads it.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn start(command: &str) -> Result<Self> {
        let mut shell = shell(command);
        Group::prepare(&mut shell);
        let mut child = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| anyhow!("cannot start the peer `{command}`: {error}"))?;
        let group = Group::of(&child);
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(anyhow!("the peer `{command}` has no pipes"));
        };
        let (send, answers) = channel();
        std::thread::spawn(move || {
            lines(stdout, |line| send.send(line).is_ok());
        });
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&last_words);
        let listener = std::thread::spawn(move || {
            lines(stderr, |line| {
                if let Ok(mut kept) = kept.lock() {
                    kept.push_back(line);
                    if kept.len() > KEPT {
                        kept.pop_front();
                    }
                }
                true
            });
        });
        Ok(Self {
            command: command.to_owned(),
            child,
            group,
            stdin: Some(stdin),
            answers,
            last_words,
            listener: Some(listener),
            patience: PATIENCE,
        })
    }

    /// How it was started.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Tells it the work of the next runs.
    ///
    /// # Errors
    /// When it ends, or answers something else.
    pub fn offer(&mut self, job: &Value) -> Result<Offer> {
        let answer = self.ask(&json!({ "job": job }))?;
        let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
        match (answer.get("ready"), text("name"), text("skip")) {
            (Some(Value::Bool(true)), Some(name), None) => Ok(Offer::Ready { name }),
            (None, _, Some(why)) => Ok(Offer::Skip(why)),
            _ => Err(self.nonsense(
                &answer.to_string(),
                r#"{"ready": true, "name": "…"} or {"skip": "why"}"#,
            )),
        }
    }

    /// Lets it do the work once, and gives the seconds that it took.
    ///
    /// # Errors
    /// When it ends, or answers something else.
    pub fn run(&mut self) -> Result<f64> {
        let answer = self.ask(&json!({ "run": true }))?;
        let seconds = answer.get("seconds").and_then(Value::as_f64);
        match seconds.filter(|s| s.is_finite() && *s > 0.0) {
            Some(seconds) => Ok(seconds),
            None => Err(self.nonsense(&answer.to_string(), r#"{"seconds": 0.125}"#)),
        }
    }

    /// Sends a line and waits for one.
    fn ask(&mut self, line: &Value) -> Result<Value> {
        let sent = self.stdin.as_mut().map(|stdin| {
            writeln!(stdin, "{line}")?;
            stdin.flush()
        });
        if !matches!(sent, Some(Ok(()))) {
            // Nobody reads any more; what it said before that is not an answer to this.
            return Err(self.ended());
        }
        let (begin, mut told) = (Instant::now(), false);
        let answer = loop {
            if interrupt::pressed() {
                return Err(Interrupted.into());
            }
            match self.answers.recv_timeout(TICK) {
                Ok(answer) => break answer,
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) if begin.elapsed() > self.patience => {
                    let seconds = self.patience.as_secs_f64();
                    let error = self.complain(format!("said nothing for {seconds} s"));
                    return Err(with_advice(error, "give it less to do, or leave it out"));
                }
                Err(RecvTimeoutError::Timeout) if !told && begin.elapsed() > SILENCE => {
                    told = true;
                    note(format!(
                        "waiting for the peer `{}`, for {} minutes at most",
                        self.command,
                        self.patience.as_secs() / 60
                    ));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        match serde_json::from_str(&answer) {
            Ok(Value::Object(answer)) => Ok(Value::Object(answer)),
            _ => Err(self.nonsense(&answer, "a JSON object on a line of its own")),
        }
    }

    /// It closed its end: wait for it, and for its last words.
    fn ended(&mut self) -> anyhow::Error {
        // Whoever stops us may stop the peer as well.
        if interrupt::pressed() {
            return Interrupted.into();
        }
        self.stdin = None;
        let mut how = match wait(&mut self.child, FAREWELL) {
            Some(status) => format!("ended ({status}) where an answer was expected"),
            None => "closed its standard output where an answer was expected".to_owned(),
        };
        // A line of the last answers tells what kind of program it is.
        if let Ok(said) = self.answers.recv_timeout(4 * TICK) {
            how += &format!("; it said `{}`", shown(&said));
        }
        with_advice(
            self.complain(how),
            format!(
                "run `{}` by itself: a peer answers each line of JSON until it is told to quit \
                 (bench/peers/README.md)",
                self.command
            ),
        )
    }

    fn nonsense(&self, answer: &str, wanted: &str) -> anyhow::Error {
        let shown = shown(answer);
        let error = self.complain(format!("answered `{shown}` where {wanted} was expected"));
        with_advice(
            error,
            "bench/peers/README.md is the protocol; whatever else a peer has to say belongs on its stderr",
        )
    }

    /// An error with its last words.
    fn complain(&self, what: String) -> anyhow::Error {
        // Give the last lines time to arrive; a grandchild may hold the pipe open for ever.
        let begin = Instant::now();
        let listening = |l: &JoinHandle<()>| !l.is_finished();
        while self.listener.as_ref().is_some_and(listening) && begin.elapsed() < 4 * TICK {
            std::thread::sleep(TICK / 10);
        }
        let words: Vec<String> = match self.last_words.lock() {
            Ok(kept) => kept.iter().map(|line| format!("\n{line}")).collect(),
            Err(_) => Vec::new(),
        };
        let words = match words.is_empty() {
            true => "; it left no word on stderr".to_owned(),
            false => format!("; its last words on stderr:{}", words.concat()),
        };
        anyhow!("the peer `{}` {what}{words}", self.command)
    }

    /// Tells it that there is nothing more to do.
    pub fn farewell(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = writeln!(stdin, "{}", json!({ "quit": true }));
        }
    }
}

impl Drop for Peer {
    /// Says farewell, and ends what does not go: the peer and whatever it started.
    fn drop(&mut self) {
        self.farewell();
        let gone = wait(&mut self.child, FAREWELL).is_some();
        self.group.end();
        if !gone {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The beginning of an answer.
fn shown(answer: &str) -> String {
    answer.chars().take(200).collect()
}

fn shell(command: &str) -> Command {
    let (program, flag) = if cfg!(windows) {
        ("cmd", "/C")
    } else {
        ("sh", "-c")
    };
    let mut shell = Command::new(program);
    shell.args([flag, command]);
    shell
}

/// Gives `take` each line, until there is no more or it has enough.
fn lines(from: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        match from.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if !take(String::from_utf8_lossy(&line).trim_end().to_owned()) {
            return;
        }
    }
}

/// How a process ended, if it does so in time.
fn wait(child: &mut Child, time: Duration) -> Option<std::process::ExitStatus> {
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if begin.elapsed() < time => std::thread::sleep(TICK / 10),
            _ => return None,
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A peer that answers line by line what `answers` says, and then does `then`.
    fn peer(answers: &[&str], then: &str) -> Peer {
        let said: String = answers
            .iter()
            .map(|answer| format!("read line; echo '{answer}'; "))
            .collect();
        Peer::start(&format!("{said}{then}")).unwrap()
    }

    fn job() -> Value {
        json!({ "kind": "gemm" })
    }

    #[test]
    fn one_peer_does_several_jobs() {
        let ready = r#"{"ready": true, "name": "fake 1"}"#;
        let seconds = r#"{"seconds": 0.25}"#;
        let skip = r#"{"skip": "too large"}"#;
        let mut peer = peer(
            &[ready, seconds, seconds, skip, ready, seconds],
            "read quit",
        );
        let fake = Offer::Ready {
            name: "fake 1".into(),
        };
        assert_eq!(peer.offer(&job()).unwrap(), fake);
        assert_eq!(peer.run().unwrap(), 0.25);
        assert_eq!(peer.run().unwrap(), 0.25);
        assert_eq!(peer.offer(&job()).unwrap(), Offer::Skip("too large".into()));
        assert_eq!(peer.offer(&job()).unwrap(), fake);
        assert_eq!(peer.run().unwrap(), 0.25);
    }

    #[test]
    fn a_peer_is_told_the_job_the_runs_and_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let heard = folder.path().join("heard");
        let mut peer = Peer::start(&format!(
            r#"read a; echo '{{"ready": true, "name": "x"}}'; read b; echo '{{"seconds": 1}}'; read c; printf '%s\n' "$a" "$b" "$c" > {}"#,
            heard.display()
        ))
        .unwrap();
        peer.offer(&job()).unwrap();
        peer.run().unwrap();
        drop(peer);
        let heard = std::fs::read_to_string(heard).unwrap();
        let lines = "{\"job\":{\"kind\":\"gemm\"}}\n{\"run\":true}\n{\"quit\":true}\n";
        assert_eq!(heard, lines);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let mut peer = Peer::start("no-such-program-at-all --x").unwrap();
        let said = peer.offer(&job()).unwrap_err().to_string();
        assert!(
            said.contains("`no-such-program-at-all --x` ended"),
            "{said}"
        );
        assert!(said.contains("127") && said.contains("not found"), "{said}");
    }

    #[test]
    fn a_peer_that_dies_leaves_its_last_words() {
        let then = "for i in 1 2 3 4 5 6 7 8 9 10; do echo word $i >&2; done; exit 3";
        let ready = r#"{"ready": true, "name": "x"}"#;
        let mut peer = peer(&[ready], &format!("read run; {then}"));
        peer.offer(&job()).unwrap();
        let said = peer.run().unwrap_err().to_string();
        assert!(said.contains("exit status: 3"), "{said}");
        assert!(
            said.contains("word 10") && !said.contains("word 2\n"),
            "{said}"
        );
        // It is as dead when it is asked again.
        let said = peer.run().unwrap_err().to_string();
        assert!(said.contains("ended"), "{said}");
    }

    #[test]
    fn nonsense_is_quoted_with_what_was_expected() {
        for answer in [
            "hello",
            "[1]",
            r#"{"ready": true}"#,
            r#"{"ready": 1, "name": "x"}"#,
            "",
        ] {
            let mut peer = peer(&[answer], "read quit");
            let said = format!("{:#}", peer.offer(&job()).unwrap_err());
            assert!(said.contains("was expected"), "{answer}: {said}");
        }
        let ready = r#"{"ready": true, "name": "x"}"#;
        for answer in [
            r#"{"seconds": "1"}"#,
            r#"{"seconds": 0}"#,
            r#"{"seconds": -1}"#,
        ] {
            let mut peer = peer(&[ready, answer], "read quit");
            peer.offer(&job()).unwrap();
            let said = format!("{:#}", peer.run().unwrap_err());
            assert!(said.contains("0.125"), "{answer}: {said}");
        }
    }

    #[test]
    fn silence_and_a_closed_end_are_not_waited_for() {
        let mut silent = peer(&[], "read job; read quit");
        silent.patience = Duration::from_millis(200);
        let said = silent.offer(&job()).unwrap_err().to_string();
        assert!(said.contains("said nothing for 0.2 s"), "{said}");
        let mut closed = peer(&[], "exec >&-; read job; read quit");
        let said = closed.offer(&job()).unwrap_err().to_string();
        assert!(said.contains("where an answer was expected"), "{said}");
    }

    /// Whether a process is there and not just waiting to be asked how it ended.
    fn is_alive(id: &str) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", id.trim()));
        status.is_ok_and(|status| !status.contains(") Z"))
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn nothing_that_a_peer_started_outlives_it() {
        let folder = tempfile::tempdir().unwrap();
        let ids = folder.path().join("ids");
        let ready = r#"echo '{"ready": true, "name": "x"}'"#;
        let child = format!("sleep 1000 & echo $! > {}", ids.display());
        // One goes when it is told to and leaves its child behind; one ignores that, as its child does.
        for then in ["read quit", "trap '' TERM HUP; exec 0<&-; sleep 1000"] {
            let mut peer = Peer::start(&format!("{child}; read job; {ready}; {then}")).unwrap();
            peer.offer(&job()).unwrap();
            let id = std::fs::read_to_string(&ids).unwrap();
            assert!(is_alive(&id));
            let leader = peer.child.id().to_string();
            drop(peer);
            let begin = Instant::now();
            while is_alive(&id) && begin.elapsed() < FAREWELL {
                std::thread::sleep(TICK);
            }
            assert!(!is_alive(&id) && !is_alive(&leader), "{then}");
        }
    }

    #[test]
    fn a_program_that_is_no_peer_is_shown_with_what_it_said() {
        for _ in 0..5 {
            let mut peer = Peer::start("echo hello world").unwrap();
            let said = peer.offer(&job()).unwrap_err().to_string();
            assert!(said.contains("`hello world`"), "{said}");
        }
    }
}
