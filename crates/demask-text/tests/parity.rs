//! The samplers of LLaDA and Dream, token by token and in the order of reveal, against an
//! independent derivation (`parity/samplers.py`).

mod common;

use std::ops::ControlFlow;

use common::{Recorded, Toy};
use demask_text::length::Pace;
use demask_text::{
    Compat, DecodeConfig, Decoder, DrawKind, GuideConfig, LengthConfig, PaceConfig, PolicyConfig,
    Prompt, StepEvent,
};
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/samplers.json")).unwrap()
}

fn table<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn toy(fixture: &Value) -> Toy {
    Toy {
        reach: table(&fixture["reach"]),
        near: table(&fixture["near"]),
        all: table(&fixture["all"]),
        ..Toy::new(0)
    }
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn llada(case: &Value) -> DecodeConfig {
    let hold = case["hold"].as_str();
    let block = size(&case["block"]);
    let mut config = DecodeConfig {
        length: size(&case["length"]),
        steps: size(&case["steps"]),
        plan: LengthConfig::SemiAutoregressive { block },
        temperature: case["temperature"].as_f64().unwrap(),
        policy: PolicyConfig::parse(case["remasking"].as_str().unwrap()).unwrap(),
        ..DecodeConfig::default()
    };
    if let Some(scale) = case["cfg"].as_f64() {
        config.guides.push(GuideConfig::ClassifierFree { scale });
    }
    config.eos.early_stop = false;
    config.eos.logits_eos_inf = case["logits_eos_inf"].as_bool().unwrap_or(false);
    config.eos.confidence_eos_eot_inf = hold.is_some();
    if hold == Some("official") {
        config.compat = Compat::LladaOfficial;
    }
    config
}

fn dream(case: &Value) -> DecodeConfig {
    let alg = case["alg"].as_str().unwrap();
    let policy = match case["alg_temp"].as_f64() {
        Some(temperature) => format!("{alg}:alg_temp={temperature}"),
        None => alg.to_owned(),
    };
    DecodeConfig {
        length: size(&case["length"]),
        steps: size(&case["steps"]),
        policy: PolicyConfig::parse(&policy).unwrap(),
        temperature: case["temperature"].as_f64().unwrap(),
        top_p: case["top_p"].as_f64(),
        top_k: case["top_k"].as_u64().map(|k| k as usize),
        compat: Compat::DreamOfficial,
        ..DecodeConfig::default()
    }
}

/// The committed cells and tokens of each step that was forwarded, the ids, and the forwards.
fn run(toy: &Toy, config: DecodeConfig, prompt: &[u32]) -> (Vec<Vec<[u32; 2]>>, Vec<u32>, usize) {
    let mut trace = Vec::new();
    let mut observer = |event: &StepEvent| {
        if let StepEvent::Step { committed, .. } = event {
            trace.push(committed.iter().map(|w| [w.cell as u32, w.token]).collect());
        }
        ControlFlow::Continue(())
    };
    let decoder = Decoder::new(toy, config).unwrap().with_uniforms(Recorded);
    let written = decoder
        .run(&[Prompt::new(prompt.to_vec())], &mut observer)
        .unwrap();
    (trace, written[0].ids.clone(), written[0].forwards)
}

#[test]
fn tokens_and_order_of_reveal_are_exact() {
    let fixture = fixture();
    let toy = toy(&fixture);
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 71);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let prompt: Vec<u32> = table(&case["prompt"]);
        let mut config = if case["llada"].is_object() {
            llada(&case["llada"])
        } else {
            dream(&case["dream"])
        };
        if prompt.contains(&11) {
            config.compat = Compat::LladaOfficial;
        }
        let official = config.compat != Compat::None;
        let (steps, policy) = (config.steps, config.policy);
        let (trace, answer, forwards) = run(&toy, config, &prompt);
        let mut wanted: Vec<Vec<[u32; 2]>> = table(&case["trace"]);
        if official {
            assert_eq!(
                forwards, steps,
                "{name}: published loops forward every step"
            );
        } else {
            wanted.retain(|step| !step.is_empty());
        }
        // Which of the two writes of one step comes first has no meaning: both list rising cells.
        assert_eq!(trace, wanted, "{name} ({policy}), prompt {prompt:?}");
        let ids: Vec<u32> = table(&case["ids"]);
        assert_eq!(answer, ids[prompt.len()..], "{name}");
    }
}

#[test]
fn the_sane_reading_skips_empty_forwards_and_writes_the_same() {
    let fixture = fixture();
    let toy = toy(&fixture);
    let official = DecodeConfig {
        length: 16,
        steps: 32,
        policy: PolicyConfig::parse("entropy").unwrap(),
        compat: Compat::DreamOfficial,
        ..DecodeConfig::default()
    };
    let mut ours = DecodeConfig {
        compat: Compat::None,
        pace: PaceConfig::Expected { eps: 1e-3 },
        draw: DrawKind::Categorical,
        ..official.clone()
    };
    ours.eos.early_stop = false;
    let (_, ids, forwards) = run(&toy, official, &[3, 1, 4]);
    let (_, our_ids, our_forwards) = run(&toy, ours, &[3, 1, 4]);
    assert_eq!(ids, our_ids);
    assert_eq!((forwards, our_forwards < 17), (32, true), "{our_forwards}");
}

#[test]
fn expected_counts_are_exact() {
    for row in fixture()["counts"].as_array().unwrap() {
        let (cells, steps) = (size(&row["cells"]), size(&row["steps"]));
        let pace = Pace::new(PaceConfig::Expected { eps: 1e-3 }, cells, steps);
        let mut open = cells;
        let wanted: Vec<usize> = table(&row["counts"]);
        for (i, wanted) in wanted.into_iter().enumerate() {
            let quota = pace.quota(i, open);
            assert_eq!(quota, wanted, "step {i} of {steps} over {cells} cells");
            open -= quota;
        }
    }
}
