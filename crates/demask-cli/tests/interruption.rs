//! What cuts a training off, done to the program itself: `kill -9`, Ctrl-C, a disk that takes no
//! more. Nothing is lost but the steps since the last saved state, and a training that goes on ends
//! with the same bits as one that was left alone.

#![cfg(unix)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Workplace;

/// Enough steps that somebody can come in between.
const LONG: [&str; 4] = ["--set", "run.steps=300", "--set", "run.checkpoint_every=20"];

fn begin(place: &Workplace, run: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_demask"))
        .current_dir(place.path())
        .args(["train", "tiny.toml", "--run-dir", run])
        .args(LONG)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the run has saved the state of `step`.
fn wait_for(place: &Workplace, run: &str, step: u64) {
    let state = place.file(run).join(format!("state/step-{step}"));
    let begin = Instant::now();
    while !state.exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no {state:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn last_step(place: &Workplace, run: &str) -> u64 {
    let metrics = std::fs::read_to_string(place.file(run).join("metrics.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    line["step"].as_u64().unwrap()
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("checkpoint/model.safetensors")).unwrap()
}

/// The weights of the training that was left alone.
fn undisturbed(place: &Workplace) -> Vec<u8> {
    let mut arguments = vec!["train", "tiny.toml", "--run-dir", "whole"];
    arguments.extend(LONG);
    place.stdout(arguments);
    weights(&place.file("whole"))
}

#[test]
fn kill_9_costs_the_steps_since_the_last_state() {
    let place = Workplace::new();
    let whole = undisturbed(&place);
    for (run, step) in [("early", 20), ("late", 140)] {
        let mut child = begin(&place, run);
        wait_for(&place, run, step);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        place.stdout(["train", "--resume", run]);
        assert_eq!(last_step(&place, run), 300);
        assert!(weights(&place.file(run)) == whole, "{run}: other weights");
    }
}

#[test]
fn ctrl_c_saves_says_how_to_go_on_and_loses_nothing() {
    let place = Workplace::new();
    let whole = undisturbed(&place);
    let child = begin(&place, "stopped");
    wait_for(&place, "stopped", 40);
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("demask train --resume stopped"), "{stderr}");
    let step = last_step(&place, "stopped");
    assert!((40..300).contains(&step), "{step}");
    assert!(
        place
            .file("stopped")
            .join(format!("state/step-{step}"))
            .exists()
    );
    place.stdout(["train", "--resume", "stopped"]);
    assert!(weights(&place.file("stopped")) == whole);
}

#[test]
fn a_disk_that_takes_no_more_keeps_the_last_good_state() {
    let place = Workplace::new();
    let short = ["--set", "run.steps=20", "--set", "run.checkpoint_every=20"];
    let mut arguments = vec!["train", "tiny.toml", "--run-dir", "full"];
    arguments.extend(short);
    place.stdout(arguments);
    // No file may grow beyond 8 KiB, far less than a state needs: writing fails like on a full disk.
    let limited = "trap '' XFSZ; ulimit -f 16; exec \"$0\" train --resume full --set run.steps=40";
    let output = Command::new("sh")
        .current_dir(place.path())
        .args(["-c", limited, env!("CARGO_BIN_EXE_demask")])
        .output()
        .unwrap();
    let stderr = common::refused(1, output);
    assert!(stderr.contains("tensors.safetensors"), "{stderr}");
    assert!(place.file("full/state/step-20").exists());
    assert!(!place.file("full/state/step-40").exists());

    place.stdout(["train", "--resume", "full", "--set", "run.steps=40"]);
    let mut arguments = vec!["train", "tiny.toml", "--run-dir", "roomy"];
    arguments.extend(short);
    place.stdout(arguments);
    place.stdout(["train", "--resume", "roomy", "--set", "run.steps=40"]);
    assert!(weights(&place.file("full")) == weights(&place.file("roomy")));
}
