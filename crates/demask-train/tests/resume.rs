//! A training that was interrupted ends with the same bits as one that was not.

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use common::{folder, options, recipe};
use demask_train::trainer::Silent;
use demask_train::{Metrics, TrainError, TrainEvent, train};

/// Trains and gives the events that tell a story.
fn run(
    folder: &Path,
    run: &str,
    overrides: &[&str],
    resume: bool,
    stop_after: Option<u64>,
) -> Result<Vec<String>, TrainError> {
    let mut seen = Vec::new();
    let mut observer = |event: &TrainEvent| {
        match event {
            TrainEvent::Warning(text) => seen.push(format!("warning: {text}")),
            TrainEvent::Started { step, .. } => seen.push(format!("from {step}")),
            TrainEvent::Saved { step, .. } => seen.push(format!("saved {step}")),
            TrainEvent::Step(metrics) if stop_after == Some(metrics.step) => {
                return ControlFlow::Break(());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let recipe = recipe(overrides);
    train(
        &recipe,
        &folder.join(run),
        options(folder, resume),
        &mut observer,
    )?;
    Ok(seen)
}

/// Step, loss, validation, rate and norm of every line, to the bit; not the times.
fn bits(folder: &Path, run: &str) -> Vec<[u64; 6]> {
    let text = fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let m: Metrics = serde_json::from_str(line).unwrap();
            let valid = m.valid.map_or(0, f64::to_bits);
            [
                m.step,
                m.loss.to_bits(),
                valid,
                m.lr.to_bits(),
                m.grad_norm.to_bits(),
                m.tokens,
            ]
        })
        .collect()
}

fn tensors(folder: &Path, run: &str, step: u64) -> Vec<u8> {
    fs::read(
        folder
            .join(run)
            .join(format!("state/step-{step}/tensors.safetensors")),
    )
    .unwrap()
}

fn checkpoint(folder: &Path, run: &str) -> Vec<u8> {
    fs::read(folder.join(run).join("checkpoint/model.safetensors")).unwrap()
}

#[test]
fn three_steps_and_three_more_are_six() {
    let folder = folder();
    let at = folder.path();
    let whole = run(at, "whole", &[], false, None).unwrap();
    assert_eq!(whole, ["from 0", "saved 3", "saved 6"]);
    let first = run(at, "parts", &[], false, Some(3)).unwrap();
    assert_eq!(first, ["from 0", "saved 3"]);
    let second = run(at, "parts", &[], true, None).unwrap();
    assert_eq!(second, ["from 3", "saved 6"]);
    assert_eq!(bits(at, "whole").len(), 6);
    assert_eq!(bits(at, "whole"), bits(at, "parts"));
    assert!(
        tensors(at, "whole", 6) == tensors(at, "parts", 6),
        "states differ"
    );
    assert!(
        checkpoint(at, "whole") == checkpoint(at, "parts"),
        "checkpoints differ"
    );
}

#[test]
fn products_in_bf16_resume_to_the_bit_and_are_not_those_in_f32() {
    let folder = folder();
    let at = folder.path();
    let bf16 = ["run.dtype=bf16", "network.dropout=0"];
    run(at, "whole", &bf16, false, None).unwrap();
    run(at, "parts", &bf16, false, Some(3)).unwrap();
    let second = run(at, "parts", &bf16, true, None).unwrap();
    assert_eq!(second, ["from 3", "saved 6"]);
    assert_eq!(bits(at, "whole"), bits(at, "parts"));
    assert!(
        tensors(at, "whole", 6) == tensors(at, "parts", 6),
        "states differ"
    );
    run(at, "f32", &["network.dropout=0"], false, None).unwrap();
    let ([whole, f32], loss) = (["whole", "f32"].map(|run| bits(at, run)), 1);
    let losses = |line: usize| [whole[line][loss], f32[line][loss]].map(f64::from_bits);
    let [a, b] = losses(5);
    assert!(a != b && (a - b).abs() < 0.02 * b, "{a} and {b}");
}

#[test]
fn the_format_of_the_products_stays() {
    let folder = folder();
    run(folder.path(), "a", &[], false, Some(3)).unwrap();
    let error = run(folder.path(), "a", &["run.dtype=bf16"], true, None).unwrap_err();
    assert!(error.to_string().contains("run.dtype"), "{error}");
}

#[test]
fn a_run_finds_its_files_again_from_another_folder() {
    let (project, elsewhere) = (folder(), tempfile::tempdir().unwrap());
    let run = elsewhere.path().join("runs/a");
    let short = recipe(&["run.steps=2"]);
    train(&short, &run, options(project.path(), false), &mut Silent).unwrap();
    // The options of a command that was given in another folder.
    let from = options(elsewhere.path(), true);
    train(&recipe(&["run.steps=4"]), &run, from, &mut Silent).unwrap();
}

#[test]
fn what_may_change_on_the_way_is_said() {
    let folder = folder();
    let run = folder.path().join("r");
    let go = |changes: &[&str], resume| {
        train(
            &recipe(changes),
            &run,
            options(folder.path(), resume),
            &mut Silent,
        )
    };
    go(&["run.steps=2"], false).unwrap();
    // A section that was not there before.
    go(&["run.steps=3", "generation.length=8"], true).unwrap();
    let error = go(&["run.steps=4", "run.seed=9"], true)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("differs in run.seed; only run.name, run.steps"),
        "{error}"
    );
}

#[test]
fn a_causal_mask_opens_step_by_step_also_across_a_resume() {
    let folder = folder();
    let at = folder.path();
    let causal = [
        "objective={ kind = \"autoregressive\" }",
        "network.attention={ kind = \"causal\" }",
    ];
    run(at, "base", &causal, false, None).unwrap();
    let shifted = |anneal: u64| {
        let init = format!(
            "init={{ kind = \"checkpoint\", path = \"base/checkpoint\", anneal = {anneal} }}"
        );
        [
            "objective={ kind = \"shifted\" }".to_owned(),
            "network.logit_shift=true".to_owned(),
            "tokenizer={ kind = \"checkpoint\", path = \"base/checkpoint\" }".to_owned(),
            init,
        ]
    };
    let from_base = |name: &str, anneal: u64, resume: bool, stop: Option<u64>| {
        let all = shifted(anneal);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let opening = |step| recipe(&all).init.opening(step);
        assert_eq!(opening(0), (anneal > 1).then(|| 1.0 / anneal as f64));
        assert_eq!(opening(anneal), None);
        run(at, name, &all, resume, stop).unwrap();
        bits(at, name)
    };
    let whole = from_base("whole", 4, false, None);
    from_base("parts", 4, false, Some(2));
    assert_eq!(from_base("parts", 4, true, None), whole);
    assert!(
        tensors(at, "whole", 6) == tensors(at, "parts", 6),
        "states differ"
    );
    // The first loss is that of a mask of which a quarter, or all, is open: the same weights, the
    // same noise. A mask that opens in one step is a full one.
    let full = from_base("full", 0, false, None);
    assert_ne!(whole[0][1], full[0][1]);
    assert_eq!(from_base("one", 1, false, None), full);
    // Once both see everything they go on from different weights.
    assert_ne!(whole[5][1], full[5][1]);
}

#[test]
fn a_torn_newest_state_costs_the_steps_since_the_one_before() {
    let folder = folder();
    let at = folder.path();
    run(at, "whole", &[], false, None).unwrap();
    run(at, "torn", &[], false, None).unwrap();
    // What a crash in the middle of a step leaves: a torn state, a half-written line of metrics.
    let state = at.join("torn/state/step-6/tensors.safetensors");
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    let metrics = at.join("torn/metrics.jsonl");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, &text[..text.len() - 20]).unwrap();
    let story = run(at, "torn", &[], true, None).unwrap();
    assert!(
        story[0].starts_with("warning: ") && story[0].contains("torn"),
        "{story:?}"
    );
    assert_eq!(story[1..], ["from 3", "saved 6"]);
    assert_eq!(bits(at, "whole"), bits(at, "torn"));
    assert!(
        tensors(at, "whole", 6) == tensors(at, "torn", 6),
        "states differ"
    );
}

#[test]
fn a_finished_training_makes_its_checkpoint_again() {
    let folder = folder();
    run(folder.path(), "a", &["run.steps=3"], false, None).unwrap();
    let weights = folder.path().join("a/checkpoint/model.safetensors");
    let before = fs::read(&weights).unwrap();
    fs::remove_dir_all(folder.path().join("a/checkpoint")).unwrap();
    run(folder.path(), "a", &["run.steps=3"], true, None).unwrap();
    assert_eq!(fs::read(&weights).unwrap(), before);
}

#[test]
fn one_thread_and_two_give_the_same_bits() {
    let folder = folder();
    let at = folder.path();
    // Large enough that the kernels share their work out: products of tens of millions of operations.
    let large = [
        "data.length=32",
        "optimizer.batch=32",
        "network.d_model=128",
        "network.d_ff=256",
    ];
    for (name, threads) in [("one", "run.threads=1"), ("two", "run.threads=2")] {
        run(at, name, &[&large[..], &[threads]].concat(), false, None).unwrap();
    }
    assert_eq!(bits(at, "one"), bits(at, "two"));
    assert!(
        tensors(at, "one", 6) == tensors(at, "two", 6),
        "states differ"
    );
}

#[test]
fn a_resumed_training_may_be_longer_but_not_another() {
    let folder = folder();
    let at = folder.path();
    run(
        at,
        "r",
        &["run.steps=3", "schedule.shape={ kind = \"constant\" }"],
        false,
        None,
    )
    .unwrap();
    let same = ["run.steps=5", "schedule.shape={ kind = \"constant\" }"];
    assert_eq!(
        run(at, "r", &same, true, None).unwrap(),
        ["from 3", "saved 5"]
    );
    let error = run(at, "r", &["optimizer.lr=0.5"], true, None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("optimizer.lr") && error.contains("schedule.shape"),
        "{error}"
    );
    fs::write(at.join("text.txt"), "another text altogether. ".repeat(90)).unwrap();
    let error = run(at, "r", &same, true, None).unwrap_err().to_string();
    assert!(error.contains("data files are not those"), "{error}");
}

#[test]
fn a_run_folder_is_not_overwritten_by_accident() {
    let folder = folder();
    let at = folder.path();
    run(at, "r", &["run.steps=3"], false, None).unwrap();
    let error = run(at, "r", &["run.steps=3"], false, None).unwrap_err();
    assert!(
        matches!(error, TrainError::RunExists { step: 3, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("--resume"), "{error}");
    let error = run(at, "empty", &[], true, None).unwrap_err();
    assert!(
        matches!(error, TrainError::NothingToResume { .. }),
        "{error}"
    );
}
