//! Checkpoints in the public layouts give the logits that a reference implementation gives.
//!
//! The fixtures come from `parity/networks.py`: Hugging Face transformers 5.24 (Llama, Qwen2,
//! Qwen3 and, renamed, LLaDA) and a PyTorch derivation of the MDLM diffusion transformer, all with
//! tiny random weights in bf16 and computed in f32.

use std::path::Path;

use demask_models::{Model, OpenOptions};
use demask_nn::{AttentionMask, Dtype, Input, MaskKind, NoiseLevel};
use serde_json::Value;

/// Opens `family`, runs its ids under `mask` and compares every logit.
fn compare(family: &str, mask: AttentionMask) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/networks")
        .join(family);
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap())
            .unwrap();
    let rows = expected["ids"].as_array().unwrap();
    let ids: Vec<u32> = rows
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|id| id.as_u64().unwrap() as u32)
        .collect();
    let (batch, length) = (rows.len(), ids.len() / rows.len());
    let time = expected.get("sigma").map(|sigma| {
        let level = |v: &Value| v.as_f64().unwrap() as f32;
        NoiseLevel::PerSequence(sigma.as_array().unwrap().iter().map(level).collect())
    });
    for packed in [None, Some(Dtype::F32)] {
        let options = OpenOptions {
            packed,
            ..OpenOptions::default()
        };
        let model = Model::open(&folder, &options).unwrap();
        let input = Input {
            mask: mask.clone(),
            time: time.clone(),
            ..Input::ids(ids.clone(), batch, length)
        };
        let logits = model.network.forward(input).unwrap().logits.unwrap();
        let logits = logits.into_data().try_to_vec::<f32>().unwrap();
        let expected = expected["logits"].as_array().unwrap();
        assert_eq!(logits.len(), expected.len(), "{family}");
        for (i, (found, wanted)) in logits.iter().zip(expected).enumerate() {
            let wanted = wanted.as_f64().unwrap() as f32;
            assert!(
                (found - wanted).abs() < 1e-4,
                "{family} at {i}: {found}, expected {wanted}"
            );
        }
    }
}

#[test]
fn llama() {
    compare("llama", AttentionMask::causal());
}

#[test]
fn qwen2_with_a_tied_head() {
    compare("qwen2", AttentionMask::causal());
}

#[test]
fn qwen3_with_a_tied_head() {
    compare("qwen3", AttentionMask::causal());
}

#[test]
fn qwen3_with_biases_and_the_rotary_fields_of_newer_files() {
    compare("qwen3-bias", AttentionMask::causal());
}

#[test]
fn llada() {
    compare("llada", AttentionMask::full());
}

#[test]
fn dream_with_its_shift() {
    compare("dream", AttentionMask::full());
}

#[test]
fn sdar_by_blocks() {
    let blocks = (0..9).map(|i| i / 3).collect();
    let kind = MaskKind::BlockCausal { blocks };
    compare(
        "sdar",
        AttentionMask {
            kind,
            key_lengths: None,
        },
    );
}

#[test]
fn mdlm_with_its_time_input() {
    compare("mdlm", AttentionMask::full());
}
