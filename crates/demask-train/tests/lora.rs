//! Trainings of adapters: only they change, a resumed one has the same bits, and the checkpoint
//! computes what the frozen network with its adapters does.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::TensorData;
use common::{folder, options, recipe};
use demask_models::{Model, OpenOptions};
use demask_nn::{Asked, Input, LoraConfig, NnError, ParamSource, Transformer};
use demask_train::trainer::Silent;
use demask_train::{TrainError, TrainEvent, TrainSummary, train};
use safetensors::SafeTensors;

const BASE: [&str; 3] = [
    "init={ kind = \"checkpoint\", path = \"base/checkpoint\" }",
    "tokenizer={ kind = \"checkpoint\", path = \"base/checkpoint\" }",
    "lora={ rank = 2, alpha = 3, dropout = 0.1, targets = [\"q\", \"v\", \"down\"] }",
];

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn run(at: &Path, name: &str, more: &[&str], resume: bool) -> Result<TrainSummary, TrainError> {
    let recipe = recipe(&[&BASE, more].concat());
    let mut observer = |event: &TrainEvent| match event {
        // Stops in the middle, at a step that is no multiple of the saves.
        TrainEvent::Step(metrics) if metrics.step == 2 && name == "parts" => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    train(&recipe, &at.join(name), options(at, resume), &mut observer)
}

fn base(at: &Path) -> TrainSummary {
    train(
        &recipe(&[]),
        &at.join("base"),
        options(at, false),
        &mut Silent,
    )
    .unwrap()
}

fn tensors(file: &Path) -> Tensors {
    let bytes = fs::read(file).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| bytemuck::pod_collect_to_vec::<u8, f32>(data);
    all.tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.shape().to_vec(), floats(view.data()))))
        .collect()
}

#[test]
fn only_adapters_are_trained_and_saved_and_a_resumed_training_has_the_same_bits() {
    let folder = folder();
    let at = folder.path();
    base(at);
    run(at, "whole", &[], false).unwrap();
    run(at, "parts", &[], false).unwrap();
    run(at, "parts", &[], true).unwrap();
    for file in [
        "state/step-6/tensors.safetensors",
        "checkpoint/model.safetensors",
        "adapter/adapter_model.safetensors",
    ] {
        let bytes = |name: &str| fs::read(at.join(name).join(file)).unwrap();
        assert!(bytes("whole") == bytes("parts"), "{file} differs");
    }

    let state = tensors(&at.join("whole/state/step-6/tensors.safetensors"));
    // Two layers, three targets, two matrices each; weight, two moments and the average of each.
    assert_eq!(state.len(), 2 * 3 * 2 * 4);
    assert!(
        state.keys().all(|name| name.contains(".lora_")),
        "{state:?}"
    );

    let before = tensors(&at.join("base/checkpoint/model.safetensors"));
    let after = tensors(&at.join("whole/checkpoint/model.safetensors"));
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    let adapters = tensors(&at.join("whole/adapter/adapter_model.safetensors"));
    for (name, (shape, w)) in &before {
        let linear = name.strip_suffix(".weight").unwrap();
        let part = |part: &str| adapters.get(&format!("base_model.model.{linear}.{part}.weight"));
        let (Some((_, a)), Some((_, b))) = (part("lora_A"), part("lora_B")) else {
            assert_eq!(after[name].1, *w, "{name}");
            continue;
        };
        assert_ne!(after[name].1, *w, "{name}");
        let [rows, cols] = shape[..] else {
            panic!("{name}: {shape:?}")
        };
        for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
            // Rank 2, scale 3 / 2.
            let product = b[2 * i] * a[j] + b[2 * i + 1] * a[cols + j];
            let expected = w[i * cols + j] + 1.5 * product;
            assert!(
                (after[name].1[i * cols + j] - expected).abs() < 1e-6,
                "{name}"
            );
        }
    }
    let config = fs::read_to_string(at.join("whole/adapter/adapter_config.json")).unwrap();
    for part in [
        "\"peft_type\": \"LORA\"",
        "\"r\": 2",
        "\"lora_alpha\": 3.0",
        "\"layers.1.mlp.down\"",
        "\"base_model_name_or_path\": \"base/checkpoint\"",
    ] {
        assert!(config.contains(part), "{config}");
    }
    let card = fs::read_to_string(at.join("whole/checkpoint/README.md")).unwrap();
    // q and v: 2 (16 + 16) each, down: 2 (32 + 16); two layers.
    assert!(card.contains("| trained parameters | 448 |"), "{card}");
}

/// The adapters of a file, by canonical name.
struct File(Tensors);

impl ParamSource for File {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let (found, values) = self.0.remove(&format!("base_model.model.{name}")).unwrap();
        assert_eq!(found, shape);
        Ok(TensorData::new(values, found))
    }
}

#[test]
fn the_checkpoint_computes_what_the_base_with_its_adapters_does() {
    let folder = folder();
    let at = folder.path();
    base(at);
    run(at, "r", &[], false).unwrap();
    let open = |path: &str| {
        let options = OpenOptions {
            packed: None,
            ..OpenOptions::default()
        };
        Model::open(at.join(path), &options).unwrap()
    };
    let adapters = tensors(&at.join("r/adapter/adapter_model.safetensors"));
    let lora: LoraConfig = recipe(&BASE).lora.unwrap();
    let frozen = open("base/checkpoint").network;
    let adapted = frozen
        .clone()
        .with_lora(&lora, &mut File(adapters))
        .unwrap();
    let merged = open("r/checkpoint");
    assert_eq!(
        merged.spec.provenance.unwrap().base.as_deref(),
        Some("base/checkpoint")
    );
    let logits = |network: &Transformer| {
        let input = Input {
            asked: Asked::All,
            ..Input::ids((0..8).collect(), 1, 8)
        };
        let logits = network.forward(input).unwrap().logits.unwrap();
        logits.into_data().try_into_vec::<f32>().unwrap()
    };
    let (before, with, after) = (logits(&frozen), logits(&adapted), logits(&merged.network));
    let far = |a: &[f32], b: &[f32]| {
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        apart.fold(0.0, f32::max)
    };
    assert!(far(&with, &after) < 1e-5, "{}", far(&with, &after));
    assert!(far(&before, &after) > 1e-3, "{}", far(&before, &after));
}

#[test]
fn new_adapters_start_from_the_base() {
    let folder = folder();
    let at = folder.path();
    let before = base(at).valid.unwrap().1;
    // A rate at which nothing can move.
    let still = [
        "run.steps=1",
        "run.eval_every=1",
        "schedule.warmup=0",
        "optimizer.lr=1e-12",
    ];
    let after = run(at, "still", &still, false).unwrap().valid.unwrap().1;
    assert!((after - before).abs() < 1e-6, "{after} {before}");
    // And one at which they learn.
    let learn = ["run.steps=60", "optimizer.lr=2e-2"];
    let after = run(at, "learn", &learn, false).unwrap().valid.unwrap().1;
    assert!(after < before - 0.01, "{after} {before}");
}

#[test]
fn another_checkpoint_under_the_adapters_is_refused() {
    let folder = folder();
    let at = folder.path();
    base(at);
    run(at, "r", &["run.steps=3"], false).unwrap();
    let other = train(
        &recipe(&["run.seed=8", "run.steps=3"]),
        &at.join("other"),
        options(at, false),
        &mut Silent,
    )
    .unwrap();
    let weights = "model.safetensors";
    fs::copy(
        other.checkpoint.join(weights),
        at.join("base/checkpoint").join(weights),
    )
    .unwrap();
    let error = run(at, "r", &["run.steps=4"], true)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("the checkpoint under the adapters"),
        "{error}"
    );
}

#[test]
fn a_checkpoint_of_another_shape_is_refused() {
    let folder = folder();
    let at = folder.path();
    base(at);
    let refuse = |change: &str| run(at, "r", &[change], false).unwrap_err().to_string();
    let error = refuse("network.d_ff=48");
    assert!(
        error.contains("`layers.0.mlp.gate.weight` has shape [32, 16], the network needs [48, 16]"),
        "{error}"
    );
    let error = refuse("network={ d_model = 32, n_layers = 2, n_heads = 2, d_ff = 32 }");
    assert!(error.contains("`embed.weight` has shape ["), "{error}");
    let error = refuse("network.n_layers=1");
    assert!(
        error.contains(
            "no place for parameter `layers.1.attn.k.weight` of shape [16, 16] (and for 8 more)"
        ),
        "{error}"
    );
    assert!(error.contains("demask inspect"), "{error}");
    let error = refuse("network.n_layers=3");
    assert!(error.contains("`layers.2.attn_norm.weight`"), "{error}");
}
