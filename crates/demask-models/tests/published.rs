//! Checkpoints in the public layouts give the logits that the published modelling files give for
//! the same tensors, under the names those files save. `parity/README.md` says which files and how.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use demask_models::{Model, OpenOptions, pass};
use demask_nn::{Asked, AttentionMask, Dtype, Input, MaskKind, NoiseLevel};
use serde_json::Value;

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/networks")
        .join(family)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(rows: &Value) -> Vec<Vec<u32>> {
    let row = |row: &Value| -> Vec<u32> {
        let ids = row.as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

fn levels(sigma: &Value) -> NoiseLevel {
    let values = sigma.as_array().unwrap().iter();
    NoiseLevel::PerSequence(values.map(|v| v.as_f64().unwrap() as f32).collect())
}

/// Opens `dir` with and without packed matrices and compares the logits of one request.
fn check(dir: &Path, wanted: &Value, input: impl Fn() -> Input<'static>) {
    for packed in [None, Some(Dtype::F32)] {
        let options = OpenOptions {
            packed,
            ..OpenOptions::default()
        };
        let model = Model::open(dir, &options).unwrap();
        let logits = model.network.forward(input()).unwrap().logits.unwrap();
        let logits = logits.into_data().try_to_vec::<f32>().unwrap();
        let wanted = wanted.as_array().unwrap();
        assert_eq!(logits.len(), wanted.len());
        for (i, (found, wanted)) in logits.iter().zip(wanted).enumerate() {
            let wanted = wanted.as_f64().unwrap() as f32;
            assert!(
                (found - wanted).abs() < 1e-4,
                "{} at {i}: {found}, expected {wanted}",
                dir.display()
            );
        }
    }
}

/// Names and shapes of the tensors in a safetensors file, from its header.
fn tensors(file: &Path) -> BTreeMap<String, Value> {
    let bytes = std::fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors = header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__");
    tensors
        .map(|(name, entry)| (name, entry["shape"].clone()))
        .collect()
}

/// The fixture's file has exactly the tensors that the published class saves, but for the buffer
/// of rotary frequencies.
fn same_tensors(file: &Path, published: &Value) {
    let mut wanted: BTreeMap<String, Value> =
        serde_json::from_value(published["tensors"].clone()).unwrap();
    wanted.retain(|name, _| !name.ends_with("rotary_emb.inv_freq"));
    assert_eq!(tensors(file), wanted);
}

/// The ids of `expected.json`, the logits of `published.json`.
fn compare(family: &str, mask: &AttentionMask) {
    let dir = folder(family);
    let (expected, published) = (
        json(&dir.join("expected.json")),
        json(&dir.join("published.json")),
    );
    same_tensors(&dir.join("model.safetensors"), &published);
    let rows = ids(&expected["ids"]);
    let time = expected.get("sigma").map(levels);
    check(&dir, &published["logits"], || Input {
        mask: mask.clone(),
        time: time.clone(),
        ..Input::ids(rows.concat(), rows.len(), rows[0].len())
    });
}

fn blocks(length: usize, size: usize) -> Vec<u32> {
    (0..length).map(|i| (i / size) as u32).collect()
}

#[test]
fn llada() {
    compare("llada", &AttentionMask::full());
}

#[test]
fn dream_with_its_shift() {
    compare("dream", &AttentionMask::full());
}

#[test]
fn sdar_by_blocks() {
    let kind = MaskKind::BlockCausal {
        blocks: blocks(9, 3),
    };
    compare(
        "sdar",
        &AttentionMask {
            kind,
            key_lengths: None,
        },
    );
}

#[test]
fn mdlm_with_its_time_input() {
    compare("mdlm", &AttentionMask::full());
}

/// BD3-LM's network has MDLM's tensors; its fixture holds a configuration and numbers only.
#[test]
fn bd3lm_on_noise_and_clean_text() {
    let published = json(&folder("bd3lm").join("published.json"));
    let dir = tempfile::tempdir().unwrap();
    for (family, file) in [
        ("bd3lm", "config.json"),
        ("mdlm", "model.safetensors"),
        ("mdlm", "tokenizer.json"),
    ] {
        std::fs::copy(folder(family).join(file), dir.path().join(file)).unwrap();
    }
    same_tensors(&dir.path().join("model.safetensors"), &published);
    let (noisy, clean) = (ids(&published["noisy"]), ids(&published["clean"]));
    let (batch, length) = (noisy.len(), noisy[0].len());
    let blocks = blocks(length, published["block"].as_u64().unwrap() as usize);

    // Training: [x_t ; x_0], logits of the first half; without and with a noise level.
    let both: Vec<u32> = noisy
        .iter()
        .zip(&clean)
        .flat_map(|(noisy, clean)| [noisy.clone(), clean.clone()].concat())
        .collect();
    let first: Vec<u32> = (0..batch)
        .flat_map(|b| (0..length).map(move |l| (b * 2 * length + l) as u32))
        .collect();
    for (sigma, logits) in [
        (Value::from(vec![0.0; batch]), "logits"),
        (published["sigma"].clone(), "logits_with_sigma"),
    ] {
        check(dir.path(), &published[logits], || Input {
            mask: AttentionMask::bd3(blocks.clone()),
            positions: pass::twice(batch, length),
            time: Some(levels(&sigma)),
            asked: Asked::Rows(first.clone()),
            ..Input::ids(both.clone(), batch, 2 * length)
        });
    }

    // Sampling: one half, causal by blocks.
    check(dir.path(), &published["sampling"], || Input {
        mask: AttentionMask {
            kind: MaskKind::BlockCausal {
                blocks: blocks.clone(),
            },
            key_lengths: None,
        },
        ..Input::ids(noisy.concat(), batch, length)
    });
}
