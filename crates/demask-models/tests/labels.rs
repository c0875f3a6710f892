//! A checkpoint with class labels: its logits against an independent derivation (`parity/labels.py`),
//! and what of it comes back after saving.

use std::path::{Path, PathBuf};

use demask_models::{Checkpoint, Model, OpenOptions, SaveDtype, family};
use demask_nn::{Dtype, Input, NoiseLevel};
use serde_json::Value;

fn options() -> OpenOptions {
    OpenOptions::default()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/networks/labels")
}

#[test]
fn logits_are_those_of_the_derivation() {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let rows = expected["ids"].as_array().unwrap();
    let numbers = |v: &Value| -> Vec<Option<f64>> {
        let list = v.as_array().unwrap();
        list.iter().map(Value::as_f64).collect()
    };
    let ids: Vec<u32> = rows
        .iter()
        .flat_map(numbers)
        .map(|id| id.unwrap() as u32)
        .collect();
    let length = ids.len() / rows.len();
    let sigma: Vec<f32> = numbers(&expected["sigma"])
        .into_iter()
        .map(|s| s.unwrap() as f32)
        .collect();
    let labels: Vec<Option<u32>> = numbers(&expected["labels"])
        .into_iter()
        .map(|label| label.map(|label| label as u32))
        .collect();
    assert_eq!(labels, [Some(0), Some(1), None]);
    let cells: Vec<f32> = sigma.iter().flat_map(|s| vec![*s; length]).collect();
    for packed in [None, Some(Dtype::F32)] {
        let options = OpenOptions {
            packed,
            ..options()
        };
        let model = Model::open(folder(), &options).unwrap();
        for time in [
            NoiseLevel::PerSequence(sigma.clone()),
            NoiseLevel::PerCell(cells.clone()),
        ] {
            let input = Input {
                time: Some(time),
                labels: Some(labels.clone()),
                ..Input::ids(ids.clone(), rows.len(), length)
            };
            let logits = model.network.forward(input).unwrap().logits.unwrap();
            let logits = logits.into_data().try_to_vec::<f32>().unwrap();
            let wanted = numbers(&expected["logits"]);
            assert_eq!(logits.len(), wanted.len());
            for (i, (found, wanted)) in logits.iter().zip(wanted).enumerate() {
                let wanted = wanted.unwrap() as f32;
                let off = (found - wanted).abs();
                assert!(off < 1e-4, "at {i}: {found}, expected {wanted}");
            }
        }
    }
}

#[test]
fn the_names_of_the_classes_come_back() {
    let model = Model::open(folder(), &options()).unwrap();
    assert_eq!(model.spec.labels, ["order", "question"]);
    let to = tempfile::tempdir().unwrap();
    let save = |spec| {
        let (network, tokenizer) = (&model.network, &model.tokenizer);
        Model::save(to.path(), network, spec, tokenizer, SaveDtype::F32)
    };
    let mut other = model.spec.clone();
    other.labels.pop();
    let said = save(&other).unwrap_err().to_string();
    assert!(said.contains("`labels` names 1 classes"), "{said}");
    save(&model.spec).unwrap();
    let again = Checkpoint::open(to.path(), &options()).unwrap();
    assert_eq!(again.spec, model.spec);
    assert_eq!(again.report().labels, model.spec.labels);
}

#[test]
fn a_checkpoint_without_labels_does_not_mention_them() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    family::random("demask", 7, from.path()).unwrap();
    let model = Model::open(from.path(), &options()).unwrap();
    let Model {
        network,
        spec,
        tokenizer,
        ..
    } = &model;
    Model::save(to.path(), network, spec, tokenizer, SaveDtype::F32).unwrap();
    let config = std::fs::read_to_string(to.path().join("config.json")).unwrap();
    assert!(!config.contains("labels"), "{config}");
    let report = Checkpoint::open(to.path(), &options()).unwrap().report();
    assert!(!serde_json::to_string(&report).unwrap().contains("labels"));
}
