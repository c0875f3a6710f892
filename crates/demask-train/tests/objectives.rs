//! Every objective of a recipe trains: the loss of a tiny network falls.

mod common;

use std::ops::ControlFlow;

use common::{folder, options, recipe};
use demask_models::{Model, ModelKind, OpenOptions};
use demask_train::trainer::Silent;
use demask_train::{TrainEvent, train};

/// Trains and gives the mean loss of the first and of the last quarter of the steps.
fn losses(steps: usize, overrides: &[&str]) -> [f64; 2] {
    let folder = folder();
    let count = format!("run.steps={steps}");
    let mut all = vec![
        count.as_str(),
        "run.eval_every=0",
        "run.checkpoint_every=1000",
        "optimizer.accumulation=1",
        "optimizer.batch=16",
        "network.dropout=0",
        "schedule={ warmup = 2 }",
    ];
    all.extend(overrides);
    let mut losses = Vec::new();
    let mut observer = |event: &TrainEvent| {
        if let TrainEvent::Step(metrics) = event {
            losses.push(metrics.loss);
        }
        ControlFlow::Continue(())
    };
    let at = folder.path();
    train(
        &recipe(&all),
        &at.join("r"),
        options(at, false),
        &mut observer,
    )
    .unwrap();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    [
        mean(&losses[..steps / 4]),
        mean(&losses[steps - steps / 4..]),
    ]
}

#[test]
fn masked_objectives_learn() {
    for objective in [
        "objective={ kind = \"mdlm\" }",
        "objective={ kind = \"d3pm\" }",
        "objective={ kind = \"llada_pretrain\" }",
        "objective={ kind = \"llada_sft\" }",
        "objective={ kind = \"generic\" }",
    ] {
        let [first, last] = losses(40, &[objective]);
        assert!(last < 0.9 * first, "{objective}: {first} -> {last}");
    }
}

#[test]
fn uniform_and_score_objectives_learn() {
    for objective in ["udlm", "sedd_uniform", "sedd_absorbing"] {
        let objective = format!("objective={{ kind = \"{objective}\" }}");
        let time = "network.time={ frequencies = 16, cond = 16 }";
        let [first, last] = losses(160, &[&objective, time]);
        assert!(last < first, "{objective}: {first} -> {last}");
    }
}

#[test]
fn left_to_right_blocks_and_shift_learn() {
    let causal = "network.attention={ kind = \"causal\" }";
    let shift = "network.logit_shift=true";
    let [first, last] = losses(40, &["objective={ kind = \"autoregressive\" }", causal]);
    assert!(last < 0.8 * first, "autoregressive: {first} -> {last}");
    let blocks = "network.attention={ kind = \"block_causal\", block = 4 }";
    let [first, last] = losses(40, &["objective={ kind = \"bd3\", block = 4 }", blocks]);
    assert!(last < 0.9 * first, "bd3: {first} -> {last}");
    let [first, last] = losses(40, &["objective={ kind = \"shifted\" }", shift]);
    assert!(last < 0.9 * first, "shifted: {first} -> {last}");
}

#[test]
fn a_network_that_does_not_fit_the_objective_is_refused() {
    let folder = folder();
    let refuse = |overrides: &[&str]| {
        let recipe = recipe(overrides);
        let at = folder.path();
        train(&recipe, &at.join("r"), options(at, false), &mut Silent)
            .unwrap_err()
            .to_string()
    };
    let error = refuse(&["objective={ kind = \"autoregressive\" }"]);
    assert!(
        error.contains("network.attention = { kind = \"causal\" }"),
        "{error}"
    );
    let error = refuse(&["network.logit_shift=true"]);
    assert!(error.contains("network.logit_shift = false"), "{error}");
    let error = refuse(&["objective={ kind = \"bd3\", block = 4 }"]);
    assert!(
        error.contains("kind = \"block_causal\", block = 4"),
        "{error}"
    );
    let error = refuse(&["data.length=4000"]);
    assert!(
        error.contains("less than one row of data.length = 4000"),
        "{error}"
    );
}

#[test]
fn examples_train_and_the_checkpoint_opens() {
    let folder = folder();
    let lines: String = (0..40)
        .map(|i| {
            format!(
                "{{\"mr\":{{\"n\":\"{}\"}},\"ref\":\"it is {}\"}}\n",
                i % 5,
                i % 5
            )
        })
        .collect();
    std::fs::write(folder.path().join("e.jsonl"), lines).unwrap();
    for padding in ["eos", "pad"] {
        let layout =
            format!("data.layout={{ kind = \"examples\", bos = true, padding = \"{padding}\" }}");
        let recipe = recipe(&[
            "data.length=24",
            &layout,
            "data.source=[{ path = \"e.jsonl\", reader = { kind = \"jsonl\", prompt = \"{mr} =>\", text = \" {ref}\" } }]",
            "objective={ kind = \"llada_sft\" }",
            "generation={ length = 16, steps = 8 }",
        ]);
        let at = folder.path();
        let summary = train(&recipe, &at.join(padding), options(at, false), &mut Silent).unwrap();
        let options = OpenOptions {
            packed: None,
            ..OpenOptions::default()
        };
        let model = Model::open(&summary.checkpoint, &options).unwrap();
        assert_eq!(model.spec.kind, ModelKind::Masked);
        assert_eq!(model.spec.generation.length, Some(16));
        assert_eq!(model.spec.ids.mask, Some(0));
        assert_eq!(model.network.config().max_length, 24);
        let provenance = model.spec.provenance.unwrap();
        assert_eq!((provenance.steps, provenance.seed), (Some(6), Some(7)));
    }
}

#[test]
fn a_checkpoint_can_be_gone_on_from_as_initial_weights() {
    let folder = folder();
    let at = folder.path();
    let first = train(&recipe(&[]), &at.join("a"), options(at, false), &mut Silent).unwrap();
    let mut from = Vec::new();
    let mut observer = |event: &TrainEvent| {
        if let TrainEvent::Validated { loss, .. } = event {
            from.push(*loss);
        }
        ControlFlow::Continue(())
    };
    let second = recipe(&[
        "run.steps=1",
        "run.eval_every=1",
        "schedule.warmup=0",
        "optimizer.lr=1e-12",
        "init={ kind = \"checkpoint\", path = \"a/checkpoint\" }",
        "tokenizer={ kind = \"checkpoint\", path = \"a/checkpoint\" }",
    ]);
    train(&second, &at.join("b"), options(at, false), &mut observer).unwrap();
    let before = first.valid.unwrap().1;
    assert!((from[0] - before).abs() < 1e-5, "{} {before}", from[0]);
}
