//! Labels go from the data through training into the checkpoint.

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use common::{folder, options, recipe};
use demask_models::{Model, OpenOptions};
use demask_nn::{Input, NoiseLevel};
use demask_train::trainer::Silent;
use demask_train::{TrainError, TrainEvent, TrainSummary, train};

const LAYOUT: &str = "data.layout={ kind = \"examples\", bos = true }";
const SOURCE: &str = "data.source=[{ path = \"s.jsonl\", reader = { kind = \"jsonl\", text = \"{text}\", label = \"{json.intent}\" } }]";
const TIME: &str = "network.time={ frequencies = 8, cond = 8 }";

/// A folder with sixty lines of three classes.
fn data() -> tempfile::TempDir {
    let folder = folder();
    let line = |i: usize| {
        let (intent, text) = [("Play", "play a song"), ("Add", "add it"), ("Rate", "five")][i % 3];
        format!("{{\"text\":\"{text} {i}\",\"json\":{{\"intent\":\"{intent}\"}}}}\n")
    };
    let lines: String = (0..60).map(line).collect();
    fs::write(folder.path().join("s.jsonl"), lines).unwrap();
    folder
}

fn run(at: &Path, name: &str, more: &[&str], resume: bool) -> Result<TrainSummary, TrainError> {
    let all = [&["data.length=20", LAYOUT, SOURCE, TIME][..], more].concat();
    let mut observer = |event: &TrainEvent| match event {
        TrainEvent::Step(metrics) if metrics.step == 2 && name == "parts" => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let options = options(at, resume);
    train(&recipe(&all), &at.join(name), options, &mut observer)
}

fn refused(at: &Path, name: &str, more: &[&str]) -> String {
    run(at, name, more, false).unwrap_err().to_string()
}

fn bits(at: &Path, name: &str) -> Vec<u8> {
    let state = "state/step-6/tensors.safetensors";
    fs::read(at.join(name).join(state)).unwrap()
}

#[test]
fn a_checkpoint_names_its_classes_and_a_resumed_training_has_the_same_bits() {
    let folder = data();
    let at = folder.path();
    let whole = run(at, "whole", &[], false).unwrap();
    run(at, "parts", &[], false).unwrap();
    run(at, "parts", &[], true).unwrap();
    assert!(bits(at, "whole") == bits(at, "parts"), "states differ");
    let model = Model::open(&whole.checkpoint, &OpenOptions::default()).unwrap();
    assert_eq!(model.spec.labels, ["Add", "Play", "Rate"]);
    assert_eq!(model.spec.network.labels, Some(3));
    let recipe = model.spec.provenance.unwrap().recipe.unwrap();
    assert!(recipe.contains("label_dropout = 0.1\n"), "{recipe}");

    // The label of a row and the share of dropped ones both matter.
    run(at, "kept", &["data.label_dropout=0"], false).unwrap();
    assert!(bits(at, "whole") != bits(at, "kept"), "nothing was dropped");
    let lines = fs::read_to_string(at.join("s.jsonl")).unwrap();
    fs::write(at.join("s.jsonl"), lines.replacen("\"Play\"", "\"Add\"", 9)).unwrap();
    let error = run(at, "whole", &["run.steps=7"], true).unwrap_err();
    assert!(error.to_string().contains("not those it was trained on"));
}

/// Where the label decides the text, the network learns to read it from pure noise, with the label of
/// its own row, also under UDLM, which stacks every row twice; without a label it is not sure.
#[test]
fn the_network_learns_what_the_labels_say() {
    let folder = data();
    let at = folder.path();
    let line = |i: usize| {
        let name = ["x", "y", "z"][i % 3];
        let text = ["a", "b", "c"][i % 3].repeat(4);
        format!("{{\"text\":\"{text}\",\"json\":{{\"intent\":\"{name}\"}}}}\n")
    };
    let lines: String = (0..60).map(line).collect();
    fs::write(at.join("s.jsonl"), lines).unwrap();
    for objective in ["mdlm", "udlm"] {
        let kind = format!("objective={{ kind = \"{objective}\" }}");
        let settings = [
            "data.length=4",
            "data.layout={ kind = \"examples\", padding = \"none\" }",
            "data.label_dropout=0.3",
            "run.steps=150",
            "run.checkpoint_every=150",
            "run.eval_every=0",
            "optimizer.batch=16",
            "optimizer.accumulation=1",
            "network.dropout=0",
            &kind,
        ];
        let summary = run(at, objective, &settings, false).unwrap();
        let model = Model::open(&summary.checkpoint, &OpenOptions::default()).unwrap();
        let id = |c: &str| model.tokenizer.encode(c).unwrap()[0];
        let letters = ["a", "b", "c"].map(id);
        let end = model.spec.ids.eos.unwrap();
        // Four rows of noise; that of UDLM speaks for no letter.
        let noise = match objective {
            "mdlm" => vec![model.spec.ids.mask.unwrap(); 16],
            _ => [letters[0], letters[1], letters[2], end].repeat(4),
        };
        let input = Input {
            labels: Some(vec![Some(0), Some(1), Some(2), None]),
            time: Some(NoiseLevel::PerSequence(vec![6.0; 4]))
                .filter(|_| model.spec.time_conditioning),
            ..Input::ids(noise, 4, 4)
        };
        let logits = model.network.forward(input).unwrap().logits.unwrap();
        let chances = burn::tensor::activation::softmax(logits, 1);
        let chances = chances.into_data().try_to_vec::<f32>().unwrap();
        let vocab = model.spec.network.vocab_size;
        for (cell, row) in chances.chunks(vocab).enumerate() {
            let of = letters.map(|id| row[id as usize]);
            match cell / 4 {
                3 => assert!(of.iter().all(|p| *p < 0.8), "{objective}, none: {of:?}"),
                class => assert!(of[class] > 0.9, "{objective}, class {class}: {of:?}"),
            }
        }
    }
}

#[test]
fn every_objective_takes_labels() {
    let folder = data();
    let at = folder.path();
    for (number, more) in [
        &["objective={ kind = \"udlm\" }"][..],
        &["objective={ kind = \"d3pm\", steps = 10 }"],
        &["objective={ kind = \"sedd_absorbing\" }"],
        &["objective={ kind = \"sedd_uniform\" }"],
        &["objective={ kind = \"llada_pretrain\" }"],
        &["objective={ kind = \"llada_sft\" }"],
        &[
            "objective={ kind = \"shifted\" }",
            "network.logit_shift=true",
        ],
        &[
            "objective={ kind = \"bd3\", block = 4 }",
            "network.attention={ kind = \"block_causal\", block = 4 }",
            "search={ every = 1, batches = 2, windows = [[0.3, 0.8], [0.0, 1.0]] }",
        ],
    ]
    .into_iter()
    .enumerate()
    {
        // Who is told the labels learns something else: after the first steps, in which the part that
        // reads them is zero.
        let loss = |name: &str, dropout: &str| {
            let short = ["run.steps=6", "schedule.warmup=1", dropout];
            let name = format!("r{number}{name}");
            run(at, &name, &[&short[..], more].concat(), false)
                .unwrap()
                .loss
        };
        let [told, untold] = [
            loss("a", "data.label_dropout=0.0"),
            loss("b", "data.label_dropout=0.95"),
        ];
        assert!(
            told.is_finite() && told != untold,
            "{more:?}: {told} {untold}"
        );
    }
}

#[test]
fn labels_that_mean_nothing_are_refused() {
    let parse = |more: &[&str]| {
        let all: Vec<String> = [&["data.length=20", LAYOUT, SOURCE, TIME][..], more]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect();
        demask_train::Recipe::parse(common::RECIPE, "tiny.toml", &all)
            .unwrap_err()
            .to_string()
    };
    let said = parse(&["data.layout={ kind = \"packed\" }"]);
    assert!(said.contains("label needs data.layout"), "{said}");
    let said = parse(&["data.label_dropout=1.0"]);
    assert!(said.contains("must be in [0, 1)"), "{said}");
    let text = "data.source=[{ path = \"text.txt\", reader = { kind = \"text\" } }]";
    let said = parse(&[text, "data.label_dropout=0.1"]);
    assert!(said.contains("add `label` to the reader"), "{said}");
    let said = parse(&[text, "network.labels=3"]);
    assert!(said.contains("the data have no labels"), "{said}");
    let two = SOURCE.replace(
        "}]",
        "}, { path = \"text.txt\", reader = { kind = \"text\" } }]",
    );
    let said = parse(&[&two]);
    assert!(
        said.contains("data.source.1.reader has no label while another source has one"),
        "{said}"
    );
    let said = parse(&[
        "objective={ kind = \"autoregressive\" }",
        "network.attention={ kind = \"causal\" }",
    ]);
    assert!(said.contains("takes no labels"), "{said}");
    let said = demask_train::Recipe::parse(
        common::RECIPE,
        "tiny.toml",
        &["data.length=20", LAYOUT, SOURCE].map(str::to_owned),
    );
    let said = said.unwrap_err().to_string();
    assert!(said.contains("label needs network.time = {"), "{said}");
}

#[test]
fn labels_that_the_data_contradict_are_refused() {
    let folder = data();
    let at = folder.path();
    let said = refused(at, "count", &["network.labels=4"]);
    assert!(
        said.contains("network.labels = 4, but the training data have 3 distinct labels"),
        "{said}"
    );
    fs::write(
        at.join("v.jsonl"),
        "{\"text\":\"stop\",\"json\":{\"intent\":\"Stop\"}}\n",
    )
    .unwrap();
    let valid = SOURCE.replace(
        "}]",
        "}, { path = \"v.jsonl\", use = \"valid\", reader = { kind = \"jsonl\", text = \"{text}\", label = \"{json.intent}\" } }]",
    );
    let said = refused(at, "valid", &[&valid]);
    assert!(said.contains("the label `Stop`"), "{said}");
    assert!(said.contains("Add, Play, Rate"), "{said}");
    fs::write(
        at.join("v.jsonl"),
        "{\"text\":\"stop\",\"json\":{\"intent\":\"\"}}\n",
    )
    .unwrap();
    let said = refused(at, "empty", &[&valid]);
    assert!(said.contains("v.jsonl:1: the label is empty"), "{said}");
}

#[test]
fn a_checkpoint_is_gone_on_from_with_the_same_classes_only() {
    let folder = data();
    let at = folder.path();
    let short = ["run.steps=2", "schedule.warmup=1"];
    run(at, "base", &short, false).unwrap();
    let from = [
        "init={ kind = \"checkpoint\", path = \"base/checkpoint\" }",
        "tokenizer={ kind = \"checkpoint\", path = \"base/checkpoint\" }",
    ];
    let go = |name: &str, more: &[&str]| run(at, name, &[&short, &from, more].concat(), false);
    go("again", &[]).unwrap();
    let adapted = go("adapted", &["lora={ rank = 2 }"]).unwrap();
    let model = Model::open(&adapted.checkpoint, &OpenOptions::default()).unwrap();
    assert_eq!(model.spec.labels, ["Add", "Play", "Rate"]);
    let lines = fs::read_to_string(at.join("s.jsonl")).unwrap();
    fs::write(at.join("s.jsonl"), lines.replace("Rate", "Stop")).unwrap();
    for more in [&[][..], &["lora={ rank = 2 }"]] {
        let said = go(&format!("other{}", more.len()), more)
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("has the labels Add, Play, Rate and the training data have the labels Add, Play, Stop"),
            "{said}"
        );
    }
    // Nor is it a network without labels.
    let text =
        "data.source=[{ path = \"s.jsonl\", reader = { kind = \"jsonl\", text = \"{text}\" } }]";
    let said = go("plain", &[text]).unwrap_err().to_string();
    assert!(said.contains("the training data have no labels"), "{said}");
    let plain = [&short[..], &[text]].concat();
    train(
        &recipe(&[&["data.length=20", LAYOUT, TIME][..], &plain].concat()),
        &at.join("unlabelled"),
        options(at, false),
        &mut Silent,
    )
    .unwrap();
    let path = "init.path=unlabelled/checkpoint";
    let said = go("from", &[path]).unwrap_err().to_string();
    assert!(said.contains("the checkpoint has no labels"), "{said}");
}
