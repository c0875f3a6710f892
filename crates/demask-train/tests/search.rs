//! The variance search: measured by the trainer, used by the next steps, kept by the state.

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use common::{folder, options, recipe};
use demask_models::{Model, OpenOptions};
use demask_train::trainer::Silent;
use demask_train::{Metrics, TrainEvent, TrainSummary, train};

const BLOCKS: [&str; 6] = [
    "network.attention={ kind = \"block_causal\", block = 4 }",
    "network.dropout=0",
    "optimizer.accumulation=1",
    "run.eval_every=3",
    "run.steps=7",
    "objective={ kind = \"bd3\", block = 4 }",
];
const SEARCH: &str =
    "search={ every = 2, batches = 6, windows = [[0.001, 1.0], [0.45, 0.95], [0.3, 0.8]] }";

/// What each turn found: step, window and variance.
type Turns = Vec<(u64, [f64; 2], f64)>;

fn run(
    at: &Path,
    name: &str,
    more: &[&str],
    resume: bool,
    stop: Option<u64>,
) -> (TrainSummary, Turns) {
    let mut turns = Vec::new();
    let mut observer = |event: &TrainEvent| {
        match event {
            TrainEvent::Searched {
                step,
                window,
                variance,
            } => turns.push((*step, *window, *variance)),
            TrainEvent::Step(metrics) if stop == Some(metrics.step) => {
                return ControlFlow::Break(());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let recipe = recipe(&[&BLOCKS, more].concat());
    let summary = train(&recipe, &at.join(name), options(at, resume), &mut observer).unwrap();
    (summary, turns)
}

fn metrics(at: &Path, name: &str) -> Vec<Metrics> {
    let text = fs::read_to_string(at.join(name).join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_window_is_chosen_used_kept_and_stated() {
    let folder = folder();
    let at = folder.path();
    let (whole, turns) = run(at, "whole", &[SEARCH], false, None);
    assert_eq!(turns.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 4, 6]);
    // On a network that knows next to nothing the loss of a cell hardly depends on the time, so
    // that a clipped window, whose weights vary less, always wins.
    assert!(turns.iter().all(|t| t.1[0] > 0.2), "{turns:?}");
    let lines = metrics(at, "whole");
    let used: Vec<_> = lines.iter().map(|m| m.window).collect();
    let [a, b, c] = [0, 1, 2].map(|i| Some(turns[i].1));
    assert_eq!(used, [None, None, a, a, b, b, c]);
    let options = OpenOptions::default();
    let spec = Model::open(&whole.checkpoint, &options).unwrap().spec;
    assert_eq!(spec.sampling_eps, c);

    // The window is trained with: up to the first turn the losses are those of a training without a
    // search, and not after it.
    let (_, none) = run(at, "without", &[], false, None);
    assert!(none.is_empty());
    let without = metrics(at, "without");
    assert_eq!(lines[1].loss, without[1].loss);
    assert_ne!(lines[2].loss, without[2].loss);

    // Stopped after a turn, and between two.
    for stop in [4, 5] {
        let name = format!("parts-{stop}");
        run(at, &name, &[SEARCH], false, Some(stop));
        let (_, rest) = run(at, &name, &[SEARCH], true, None);
        assert_eq!(rest, turns[2..]);
        for file in [
            "state/step-7/tensors.safetensors",
            "checkpoint/model.safetensors",
            "checkpoint/config.json",
        ] {
            let bytes = |name: &str| fs::read(at.join(name).join(file)).unwrap();
            assert!(bytes("whole") == bytes(&name), "{file} differs");
        }
        let same = |m: &Metrics| {
            (
                m.step,
                m.loss.to_bits(),
                m.valid.map(f64::to_bits),
                m.window,
            )
        };
        assert_eq!(
            metrics(at, &name).iter().map(same).collect::<Vec<_>>(),
            lines.iter().map(same).collect::<Vec<_>>()
        );
    }
}

#[test]
fn validation_is_in_the_whole_window() {
    let folder = folder();
    let at = folder.path();
    let one = ["run.steps=3", "search={ every = 3, batches = 2 }"];
    let clipped = "objective={ kind = \"bd3\", block = 4, time = { min = 0.45, max = 0.95 } }";
    let (searched, turns) = run(
        at,
        "searched",
        &[&one[..], &[clipped]].concat(),
        false,
        None,
    );
    assert_eq!(turns.len(), 1);
    let (plain, _) = run(at, "plain", &[one[0], clipped], false, None);
    // The same weights, both measured in the whole window, with a search or without.
    assert_eq!(searched.valid, plain.valid);
    assert_eq!(
        fs::read(at.join("searched/checkpoint/model.safetensors")).unwrap(),
        fs::read(at.join("plain/checkpoint/model.safetensors")).unwrap()
    );
}

#[test]
fn a_search_without_validation_rows_is_refused() {
    let folder = folder();
    let at = folder.path();
    let recipe = recipe(&[&BLOCKS[..], &[SEARCH, "data.valid_share=0"]].concat());
    let error = train(&recipe, &at.join("r"), options(at, false), &mut Silent).unwrap_err();
    assert!(error.to_string().contains("data.valid_share"), "{error}");
}

#[test]
fn every_candidate_sees_the_same_noise() {
    // With the same window twice, both have the same variance, and the first one wins.
    let folder = folder();
    let at = folder.path();
    let twice = "search={ every = 2, batches = 4, windows = [[0.3, 0.8], [0.3, 0.8]] }";
    let (_, turns) = run(at, "r", &["run.steps=2", twice], false, None);
    let once = "search={ every = 2, batches = 4, windows = [[0.3, 0.8]] }";
    let (_, single) = run(at, "s", &["run.steps=2", once], false, None);
    assert_eq!(turns, single);
}
