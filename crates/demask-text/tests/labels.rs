//! Texts of a class, and guidance by it (D-CFG, UDLM, arXiv 2412.10193).

mod common;

use burn::tensor::Device;
use demask_diffusion::Noise;
use demask_diffusion::process::Uniform;
use demask_diffusion::sampling::{argmax, categorical, classifier_free, softmax};
use demask_diffusion::solver::{Guided, grid_time};
use demask_models::tokenizer::byte_bpe::bytes_only;
use demask_models::{Model, ModelSpec};
use demask_nn::{Asked, Input, NoiseLevel, Transformer};
use demask_text::uniforms::{At, Uniforms, Use};
use demask_text::{
    CacheConfig, DecodeConfig, Decoder, EosConfig, GuideConfig, LengthConfig, PolicyConfig, Prompt,
    Written, ar,
};
use serde_json::json;

/// A model over bytes with the classes `sad`, `glad` and `mad`.
fn model(kind: serde_json::Value, attention: serde_json::Value) -> Model {
    let spec: ModelSpec = serde_json::from_value(json!({
        "model_type": "demask", "kind": kind, "time_conditioning": true,
        "network": {
            "vocab_size": 259, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
            "head_dim": 8, "d_ff": 48, "max_length": 48, "attention": attention,
            "time": { "frequencies": 16, "cond": 16 }, "labels": 3,
        },
        "labels": ["sad", "glad", "mad"],
        "ids": { "mask": 256, "eos": 257, "bos": 258 },
    }))
    .unwrap();
    // What conditions a block is zero in a new network.
    let mut source = common::Waves;
    let network = Transformer::from_source(&spec.network, &mut source, &Device::flex()).unwrap();
    Model {
        network,
        spec,
        tokenizer: bytes_only(&["<mask>", "<eos>", "<bos>"]).unwrap(),
        unusual: Vec::new(),
    }
}

fn masked() -> Model {
    model(json!({ "kind": "masked" }), json!({ "kind": "full" }))
}

fn uniform() -> Model {
    model(json!({ "kind": "uniform" }), json!({ "kind": "full" }))
}

fn config(label: Option<&str>, scale: f64) -> DecodeConfig {
    DecodeConfig {
        length: 6,
        steps: 6,
        label: label.map(str::to_owned),
        guides: vec![GuideConfig::ClassifierFree { scale }],
        seed: 5,
        eos: EosConfig {
            early_stop: false,
            ..EosConfig::default()
        },
        ..DecodeConfig::default()
    }
}

fn run(model: &Model, config: DecodeConfig) -> Vec<Written> {
    let prompts = ["a", "Tim went"].map(|text| Prompt::text(model, text).unwrap());
    Decoder::new(model, config)
        .unwrap()
        .run(&prompts, &mut ())
        .unwrap()
}

fn ids(written: &[Written]) -> Vec<&[u32]> {
    written.iter().map(|w| w.ids.as_slice()).collect()
}

#[test]
fn a_text_has_the_class_it_is_asked_for() {
    for model in [masked(), uniform()] {
        let config = |label| DecodeConfig {
            policy: PolicyConfig::parse("ancestral").unwrap(),
            temperature: 1.0,
            guides: vec![],
            ..config(label, 0.0)
        };
        let texts: Vec<Vec<Written>> = [None, Some("sad"), Some("glad")]
            .into_iter()
            .map(|label| run(&model, config(label)))
            .collect();
        assert_ne!(ids(&texts[0]), ids(&texts[1]));
        assert_ne!(ids(&texts[1]), ids(&texts[2]));
        assert_eq!(ids(&run(&model, config(Some("sad")))), ids(&texts[1]));
    }
}

#[test]
fn guidance_costs_a_second_row_and_none_at_zero() {
    let model = masked();
    let rows = |label, scale| run(&model, config(label, scale))[0].rows;
    let once = rows(Some("sad"), 0.0);
    assert_eq!(rows(None, 0.0), once);
    assert_eq!(rows(Some("sad"), 2.0), 2 * once);
    // At -1 nothing is left of the label.
    let greedy = |label, scale| run(&model, config(label, scale));
    assert_eq!(ids(&greedy(Some("sad"), -1.0)), ids(&greedy(None, 0.0)));
    assert_eq!(rows(Some("sad"), -1.0), once);
}

/// The logits of all cells of a row under a label at a noise level.
fn logits(model: &Model, row: &[u32], label: Option<u32>, level: f64) -> Vec<Vec<f32>> {
    let sigma = -(-level.clamp(0.0, 1.0 - 1e-3)).ln_1p() as f32;
    let output = model.network.forward(Input {
        time: Some(NoiseLevel::PerSequence(vec![sigma])),
        labels: Some(vec![label]),
        asked: Asked::All,
        ..Input::ids(row.to_vec(), 1, row.len())
    });
    let values = output.unwrap().logits.unwrap().into_data();
    let values = values.try_into_vec::<f32>().unwrap();
    values.chunks(259).map(<[f32]>::to_vec).collect()
}

#[test]
fn behind_masks_the_predictions_are_mixed() {
    // One cell in one step, greedy.
    let model = masked();
    let config = DecodeConfig {
        length: 1,
        steps: 1,
        ..config(Some("mad"), 1.5)
    };
    let prompt = Prompt::text(&model, "a").unwrap();
    let written = Decoder::new(&model, config).unwrap();
    let written = written.run(std::slice::from_ref(&prompt), &mut ()).unwrap();
    let row = [prompt.ids.as_slice(), &[256]].concat();
    let cell = row.len() - 1;
    let mut mix = logits(&model, &row, Some(2), 1.0).remove(cell);
    classifier_free(&mut mix, &logits(&model, &row, None, 1.0)[cell], 1.5);
    mix[256] = f32::NEG_INFINITY;
    assert_eq!(written[0].ids[0] as usize, argmax(&mix));
}

#[test]
fn under_uniform_noise_the_posteriors_are_mixed() {
    let model = uniform();
    let (length, steps, scale, eps) = (5, 3, 1.5, 1e-5);
    let config = DecodeConfig {
        length,
        steps,
        temperature: 1.0,
        policy: PolicyConfig::Ancestral { eps },
        ..config(Some("glad"), scale)
    };
    let written = Decoder::new(&model, config).unwrap();
    let written = written.run(&[Prompt::new(vec![258])], &mut ()).unwrap();
    // The same by hand.
    let noise = Noise::new(5);
    let uniform = |step, cell, purpose| {
        let at = At {
            sample: 0,
            step,
            cell,
            purpose,
        };
        noise.at(at, 1)[0]
    };
    let process = Uniform::without(259, Some(256)).unwrap();
    let prior = (1..=length).map(|cell| process.token_at(uniform(0, cell, Use::Prior)));
    let mut row: Vec<u32> = [258].into_iter().chain(prior).collect();
    for step in 0..=steps {
        let [t, s] = [step, step + 1].map(|i| grid_time(i, steps, eps));
        let level = if step == steps { eps } else { t };
        let with = logits(&model, &row, Some(1), level);
        let without = logits(&model, &row, None, level);
        for cell in 1..=length {
            let (mut c, mut u) = (with[cell].clone(), without[cell].clone());
            // No mask, and no end token where nothing but the begin token stands before it.
            for forbidden in if cell == 1 { 256..258 } else { 256..257 } {
                c[forbidden] = f32::NEG_INFINITY;
                u[forbidden] = f32::NEG_INFINITY;
            }
            if step == steps {
                classifier_free(&mut c, &u, scale);
                row[cell] = argmax(&c) as u32;
                continue;
            }
            let mut q = vec![0.0; 259];
            let guided = Guided {
                cond: &softmax(&c, 1.0),
                uncond: &softmax(&u, 1.0),
                gamma: scale + 1.0,
            };
            guided.uniform(&process, row[cell], s, t, &mut q);
            for (q, c) in q.iter_mut().zip(&c) {
                if *c == f32::NEG_INFINITY {
                    *q = 0.0;
                }
            }
            row[cell] = categorical(&q, uniform(step, cell, Use::Token)) as u32;
        }
    }
    assert_eq!(written[0].ids, row[1..]);
}

#[test]
fn the_same_alone_in_a_batch_and_with_a_cache() {
    let block = model(
        json!({ "kind": "block_masked", "block": 4 }),
        json!({ "kind": "block_causal", "block": 4 }),
    );
    let config = |cache| DecodeConfig {
        temperature: 1.0,
        plan: LengthConfig::Blocks {
            block: 4,
            slide: true,
        },
        cache,
        ..config(Some("mad"), 0.7)
    };
    let plain = run(&block, config(CacheConfig::None));
    let cached = run(&block, config(CacheConfig::Block));
    assert_eq!(ids(&plain), ids(&cached));
    assert!(cached[1].rows < plain[1].rows);
    let alone = Decoder::new(&block, config(CacheConfig::Block)).unwrap();
    let prompt = Prompt::text(&block, "Tim went").unwrap();
    assert_eq!(alone.run(&[prompt], &mut ()).unwrap()[0].ids, cached[1].ids);
}

#[test]
fn a_label_that_is_not_there_is_named() {
    let said = |model: &Model, label| {
        Decoder::new(model, config(Some(label), 1.0))
            .err()
            .unwrap()
            .to_string()
    };
    let error = said(&masked(), "gald");
    assert!(
        error.contains("unknown label `gald` (did you mean `glad`?)"),
        "{error}"
    );
    assert!(error.contains("known: sad, glad, mad"), "{error}");
    let mut plain = masked();
    plain.spec.labels.clear();
    assert!(said(&plain, "glad").contains("trained without labels"));
    let mut left_to_right = masked();
    left_to_right.spec.kind = demask_models::ModelKind::Autoregressive;
    let error = ar::check(
        &left_to_right.spec,
        &DecodeConfig {
            label: Some("glad".into()),
            ..DecodeConfig::for_model(&left_to_right.spec).unwrap()
        },
    );
    assert!(error.unwrap_err().to_string().contains("the setting label"));
}
