//! Keys and values of finished blocks: kept or not, the text is the same.

mod common;

use std::ops::ControlFlow;

use common::{Toy, message, model};
use demask_models::{Model, ModelKind};
use demask_nn::{Asked, AttentionMask, Input, NoiseLevel, Positions};
use demask_text::{
    CacheConfig, DecodeConfig, Decoder, DenoiseRequest, Denoiser, EosConfig, Finish, GuideConfig,
    LengthConfig, PolicyConfig, Predicted, Prompt, Sight, StepEvent, Written,
};
use serde_json::json;

const BLOCK: usize = 4;

fn blocks(time: bool) -> Model {
    model(
        json!({ "kind": "block_masked", "block": BLOCK }),
        json!({ "kind": "block_causal", "block": BLOCK }),
        time,
    )
}

fn config(cache: CacheConfig) -> DecodeConfig {
    DecodeConfig {
        length: 14,
        steps: 14,
        plan: LengthConfig::Blocks {
            block: BLOCK,
            slide: true,
        },
        temperature: 1.0,
        cache,
        seed: 9,
        samples: 2,
        eos: EosConfig {
            early_stop: false,
            ..EosConfig::default()
        },
        ..DecodeConfig::default()
    }
}

/// What is written, and everything that was told about it but the rows forwarded.
fn run(model: &Model, config: &DecodeConfig, prompts: &[Prompt]) -> (Vec<Written>, Vec<StepEvent>) {
    let mut events = Vec::new();
    let mut observer = |event: &StepEvent| {
        let mut event = event.clone();
        if let StepEvent::Step { rows, .. } = &mut event {
            *rows = 0;
        }
        events.push(event);
        ControlFlow::Continue(())
    };
    let decoder = Decoder::new(model, config.clone()).unwrap();
    let written = decoder.run(prompts, &mut observer).unwrap();
    (written, events)
}

fn without_rows(mut written: Vec<Written>) -> Vec<Written> {
    written.iter_mut().for_each(|w| w.rows = 0);
    written
}

fn prompts(model: &Model) -> Vec<Prompt> {
    // Aligned with the blocks and not, empty but for its begin token, longer than the answer.
    ["Tim", "a dog", "", "Once upon a time there was"]
        .map(|text| Prompt::text(model, text).unwrap())
        .into()
}

#[test]
fn the_block_cache_changes_no_bit() {
    for time in [false, true] {
        let model = blocks(time);
        let prompts = prompts(&model);
        for policy in [
            "low_confidence",
            "ancestral",
            "threshold:tau=0.02",
            "first_hitting",
        ] {
            for guided in [false, true] {
                // As long as the context of 48 cells, and far beyond it.
                for length in [14, 90] {
                    let config = |cache| {
                        let guide = GuideConfig::ClassifierFree { scale: 0.8 };
                        DecodeConfig {
                            length,
                            steps: 2 * length / 3,
                            policy: PolicyConfig::parse(policy).unwrap(),
                            guides: if guided { vec![guide] } else { vec![] },
                            ..config(cache)
                        }
                    };
                    let (plain, told) = run(&model, &config(CacheConfig::None), &prompts);
                    let (cached, again) = run(&model, &config(CacheConfig::Block), &prompts);
                    let rows = |written: &[Written]| written.iter().map(|w| w.rows).sum::<usize>();
                    let (less, more) = (rows(&cached), rows(&plain));
                    assert!(2 * less < more, "{policy}: {less} of {more} rows");
                    assert_eq!(
                        without_rows(cached),
                        without_rows(plain),
                        "{policy} {length}"
                    );
                    assert_eq!(again, told, "{policy} {length}");
                }
            }
        }
    }
}

#[test]
fn with_a_cache_the_batch_changes_nothing() {
    let model = blocks(true);
    let config = DecodeConfig {
        policy: PolicyConfig::parse("threshold:tau=0.01").unwrap(),
        ..config(CacheConfig::Block)
    };
    let prompts = prompts(&model);
    let (together, _) = run(&model, &config, &prompts);
    for (i, prompt) in prompts.iter().enumerate() {
        let (alone, _) = run(&model, &config, std::slice::from_ref(prompt));
        for (one, other) in alone.iter().zip(&together[2 * i..]) {
            assert_eq!((&one.ids, one.rows), (&other.ids, other.rows));
        }
    }
}

#[test]
fn a_finished_block_costs_its_cells_once_more() {
    // One token of a prompt; its block and two more of four cells, a step a cell.
    let model = blocks(false);
    let config = DecodeConfig {
        length: 11,
        steps: 11,
        samples: 1,
        policy: PolicyConfig::parse("low_confidence").unwrap(),
        ..config(CacheConfig::Block)
    };
    let (written, _) = run(&model, &config, &[Prompt::new(vec![258])]);
    // The first block 3 times; then each time the finished block with the first step of the next.
    assert_eq!(written[0].rows, 3 * 4 + (4 + 4 * 4) + (4 + 4 * 4));
    assert_eq!(
        (written[0].forwards, written[0].finish),
        (11, Finish::Length)
    );
}

#[test]
fn a_block_is_predicted_as_in_training() {
    // Under a time input too: the clean cells are told that they are clean. 12 cells, the second of
    // three blocks is noise at level 0.4.
    let model = blocks(true);
    let clean: Vec<u32> = (0..12).map(|i| 60 + 3 * i).collect();
    let mut noisy = clean.clone();
    noisy[5] = 256;
    noisy[6] = 256;
    let sigma = -(1.0f32 - 0.4).ln();
    let ids: Vec<u32> = noisy.iter().chain(&clean).copied().collect();
    let output = model.network.forward(Input {
        positions: Positions::Explicit((0..12).chain(0..12).collect()),
        mask: AttentionMask::bd3((0..12).map(|i| i / 4).collect()),
        time: Some(NoiseLevel::PerCell(
            (0..24).map(|i| if i < 12 { sigma } else { 0.0 }).collect(),
        )),
        asked: Asked::Rows(vec![5, 6]),
        ..Input::ids(ids, 1, 24)
    });
    let trained = output.unwrap().logits.unwrap().into_data();
    let trained = trained.try_into_vec::<f32>().unwrap();
    let request = DenoiseRequest {
        ids: noisy[..8].to_vec(),
        batch: 1,
        length: 8,
        key_lengths: vec![8],
        sight: Sight::BlockCausal { block: 4 },
        levels: vec![0.4],
        labels: vec![None],
        clean: vec![4],
        asked: vec![5, 6],
        scoring: None,
    };
    let logits = |request: &DenoiseRequest| match model.predict(request).unwrap().cells {
        Predicted::Logits(logits) => logits,
        Predicted::Scores(_) => panic!("logits were asked for"),
    };
    let written = logits(&request);
    assert_eq!(written.len(), trained.len());
    let spread = trained
        .iter()
        .fold(0.0f32, |most, z| most.max((z - trained[0]).abs()));
    assert!(spread > 0.1, "the logits differ by {spread}");
    // The level of the clean cells matters.
    let told = DenoiseRequest {
        clean: vec![0],
        ..request.clone()
    };
    assert_ne!(logits(&told), written);
    for (a, b) in written.iter().zip(&trained) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn the_window_slides_and_says_so() {
    let model = blocks(false);
    let long = DecodeConfig {
        length: 100,
        steps: 100,
        samples: 1,
        ..config(CacheConfig::Block)
    };
    let prompt = Prompt::text(&model, "Once upon a time").unwrap();
    let (written, _) = run(&model, &long, std::slice::from_ref(&prompt));
    assert_eq!((written[0].ids.len(), written[0].open), (100, 0));
    let note = &written[0].notes[0];
    assert!(
        note.contains("117 cells are more than the model's context of 48"),
        "{note}"
    );
    // A block sees no more than its context: 48 cells in the last passes.
    let fixed = DecodeConfig {
        plan: LengthConfig::Blocks {
            block: BLOCK,
            slide: false,
        },
        ..long.clone()
    };
    let said = Decoder::new(&model, fixed).unwrap();
    let said = said.run(&[prompt], &mut ()).unwrap_err().to_string();
    assert!(said.contains("the model's context has 48"), "{said}");
    let endless = DecodeConfig {
        length: usize::MAX,
        ..long
    };
    let said = Decoder::new(&model, endless).unwrap();
    let said = said.run(&[Prompt::new(vec![258])], &mut ()).unwrap_err();
    assert!(said.to_string().contains("more than the 65536"), "{said}");
}

#[test]
fn an_open_cell_that_the_context_has_passed_is_refused() {
    let model = blocks(false);
    let mut ids = vec![65; 60];
    ids[2] = 256;
    let decoder = Decoder::new(&model, config(CacheConfig::Block)).unwrap();
    let said = decoder.run(&[Prompt::new(ids)], &mut ()).unwrap_err();
    assert!(said.to_string().contains("shorten the prompt"), "{said}");
}

#[test]
fn other_models_have_no_finished_blocks() {
    let toy = Toy {
        kind: ModelKind::Masked,
        ..Toy::new(1)
    };
    let config = DecodeConfig {
        cache: CacheConfig::Block,
        ..common::config()
    };
    let said = message(&toy, config, &common::prompts());
    assert!(said.contains("leave `cache` at `none`"), "{said}");
}
