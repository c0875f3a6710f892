//! Checkpoints that are damaged, contradict themselves or ask for what is not there, and networks that
//! would not be kept: each is refused, and the message says what is wrong and what to do.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{edit, options, refusal, stored, tiny};
use demask_models::format::write_safetensors;
use demask_models::{Checkpoint, Model, ModelError, ModelSpec, OpenOptions, SaveDtype};
use demask_nn::{Dtype, LoraConfig, Transformer};
use serde_json::{Value, json};

fn rewrite(dir: &Path, change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<f32>)>)) {
    let mut tensors = stored(dir);
    change(&mut tensors);
    let list: Vec<_> = tensors.into_iter().map(|(n, (s, v))| (n, s, v)).collect();
    write_safetensors(&dir.join("model.safetensors"), &list, SaveDtype::F32).unwrap();
}

#[test]
fn a_packed_network_is_not_saved() {
    let (from, to) = (tiny("demask"), tempfile::tempdir().unwrap());
    let packed = OpenOptions {
        packed: Some(Dtype::F32),
        ..options()
    };
    let model = Model::open(from.path(), &packed).unwrap();
    let said = Model::save(
        to.path(),
        &model.network,
        &model.spec,
        &model.tokenizer,
        SaveDtype::F32,
    )
    .unwrap_err()
    .to_string();
    assert!(said.contains("packed: None"), "{said}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn config_and_tensors_that_disagree_are_both_quoted() {
    let dir = tiny("llada");
    edit(dir.path(), |c| c["embedding_size"] = json!(300));
    let said = refusal(dir.path());
    assert!(
        said.contains("vocabulary of 300") && said.contains("[262, 16]"),
        "{said}"
    );

    let dir = tiny("llada");
    edit(dir.path(), |c| c["mlp_hidden_size"] = json!(40));
    let said = refusal(dir.path());
    assert!(
        said.contains("[40, 16]") && said.contains("[48, 16]"),
        "{said}"
    );

    let dir = tiny("dream");
    edit(dir.path(), |c| c["num_hidden_layers"] = json!(3));
    let said = refusal(dir.path());
    assert!(
        said.contains("3 layers") && said.contains("model.layers.2.input_layernorm"),
        "{said}"
    );
    edit(dir.path(), |c| c["num_hidden_layers"] = json!(1));
    let said = refusal(dir.path());
    assert!(
        said.contains("1 layers") && said.contains("layer 1"),
        "{said}"
    );
    edit(dir.path(), |c| c["num_hidden_layers"] = json!(16_000_000));
    assert!(refusal(dir.path()).contains("16000000 layers but there are only"));
    edit(dir.path(), |c| c["num_hidden_layers"] = json!(u64::MAX));
    assert!(refusal(dir.path()).contains("is absurd"));

    let dir = tiny("demask");
    edit(dir.path(), |c| {
        c["network"]["attention"] = json!({"kind": "causal"})
    });
    let said = refusal(dir.path());
    assert!(said.contains("Masked has Full"), "{said}");

    let dir = tiny("qwen2");
    rewrite(dir.path(), |t| {
        t.remove("lm_head.weight");
    });
    let said = refusal(dir.path());
    assert!(
        said.contains("`lm_head.weight`") && said.contains("reuses its embedding"),
        "{said}"
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let dir = tiny("llada");
    let big = tiny("demask");
    let json = fs::read_to_string(big.path().join("tokenizer.json")).unwrap();
    let more = demask_models::Tokenizer::from_json(&json)
        .unwrap()
        .with_special("<1>")
        .and_then(|t| t.with_special("<2>"))
        .and_then(|t| t.with_special("<3>"))
        .unwrap();
    fs::write(dir.path().join("tokenizer.json"), more.to_json().unwrap()).unwrap();
    let said = refusal(dir.path());
    assert!(
        said.contains("ids up to 262") && said.contains("262 rows"),
        "{said}"
    );
}

#[test]
fn tensors_nobody_uses_are_reported_and_buffers_are_not() {
    let dir = tiny("mdlm");
    rewrite(dir.path(), |t| {
        t.insert("backbone.rotary_emb.inv_freq".into(), (vec![1], vec![1.0]));
        t.insert("ema.shadow".into(), (vec![1], vec![1.0]));
    });
    let notes = Checkpoint::open(dir.path(), &options())
        .unwrap()
        .unusual
        .join("; ");
    assert!(
        notes.contains("1 tensor is not used: `ema.shadow`"),
        "{notes}"
    );
}

#[test]
fn options_the_network_lacks_are_named() {
    for (name, key, value) in [
        ("llada", "alibi", json!(true)),
        ("llada", "block_type", json!("sequential")),
        ("llada", "num_experts", json!(64)),
        ("qwen2", "hidden_act", json!("gelu")),
        ("qwen2", "use_sliding_window", json!(true)),
        ("qwen3", "use_sliding_window", json!(true)),
        (
            "qwen3",
            "rope_scaling",
            json!({ "rope_type": "yarn", "factor": 4.0 }),
        ),
        (
            "llama",
            "rope_scaling",
            json!({ "rope_type": "llama3", "factor": 8.0 }),
        ),
        ("dream", "block_size", json!(32)),
        ("sdar", "num_experts", json!(128)),
    ] {
        let dir = tiny(name);
        edit(dir.path(), |c| c[key] = value);
        let said = refusal(dir.path());
        assert!(said.contains("support"), "{name} {key}: {said}");
    }
}

#[test]
fn a_masked_model_without_a_mask_token_is_refused_with_advice() {
    let dir = tiny("dream");
    edit(dir.path(), |c| {
        c.as_object_mut().unwrap().remove("mask_token_id");
    });
    let path = dir.path().join("tokenizer_config.json");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("<|mask|>", "<|other|>");
    fs::write(&path, text).unwrap();
    let said = refusal(dir.path());
    assert!(
        said.contains("no mask token") && said.contains("\"mask_token_id\": <id>"),
        "{said}"
    );
}

#[test]
fn wrong_number_types_and_missing_files() {
    let dir = tiny("llada");
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    // F32 → I32 keeps the lengths right and the meaning wrong.
    let at = bytes
        .windows(5)
        .position(|window| window == b"\"F32\"")
        .unwrap();
    let mut wrong = bytes.clone();
    wrong[at + 1] = b'I';
    fs::write(&path, &wrong).unwrap();
    let said = refusal(dir.path());
    assert!(
        said.contains("is stored as I32; F32, F16 and BF16 are read"),
        "{said}"
    );

    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal(dir.path()).contains("cut off"));
    fs::remove_file(&path).unwrap();
    assert!(refusal(dir.path()).contains("are the weights downloaded?"));
    fs::write(dir.path().join("pytorch_model.bin"), "x").unwrap();
    assert!(refusal(dir.path()).contains("only safetensors is read yet"));
    fs::remove_file(dir.path().join("config.json")).unwrap();
    fs::remove_file(dir.path().join("pytorch_model.bin")).unwrap();
    assert!(refusal(dir.path()).contains("holds no config.json"));
    let said = refusal(Path::new("GSAI-ML/LLaDA-8B-Base"));
    assert!(said.contains("looks like a hub name"), "{said}");
}

#[test]
fn our_config_refuses_what_it_does_not_know() {
    let dir = tiny("demask");
    edit(dir.path(), |c| c["netwrok"] = json!(1));
    assert!(refusal(dir.path()).contains("unknown field `netwrok`"));
    let dir = tiny("demask");
    edit(dir.path(), |c| c["ids"]["mask"] = Value::Null);
    assert!(matches!(
        Checkpoint::open(dir.path(), &options()).err(),
        Some(ModelError::NoMaskToken { .. })
    ));
    edit(dir.path(), |c| c["network"]["n_kv_heads"] = json!(0));
    assert!(refusal(dir.path()).contains("n_kv_heads"));
}

#[test]
fn a_network_that_a_checkpoint_would_not_hold_is_not_saved() {
    let (from, to) = (tiny("demask"), tempfile::tempdir().unwrap());
    let Model {
        network,
        spec,
        tokenizer,
        ..
    } = Model::open(from.path(), &options()).unwrap();
    let mut other = spec.clone();
    other.network.norm_eps = 0.5;
    let save = |network: &Transformer, spec: &ModelSpec| {
        let saved = Model::save(to.path(), network, spec, &tokenizer, SaveDtype::F32);
        saved.map_err(|e| e.to_string())
    };
    let said = save(&network, &other).unwrap_err();
    assert!(said.contains("`norm_eps` is"), "{said}");
    assert!(said.contains("0.5 in its description"), "{said}");
    let adapted = network
        .clone()
        .init_lora(&LoraConfig::default(), 1)
        .unwrap();
    let said = save(&adapted, &spec).unwrap_err();
    assert!(said.contains("merge them"), "{said}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    save(&adapted.merged().unwrap(), &spec).unwrap();
}

#[test]
fn a_window_that_is_none_is_named() {
    let dir = tiny("demask");
    for window in [json!([0.9, 0.1]), json!([-0.1, 1.0]), json!([0.2, 1.5])] {
        edit(dir.path(), |c| c["sampling_eps"] = window);
        let said = refusal(dir.path());
        assert!(said.contains("the window of masked shares: "), "{said}");
    }
    edit(dir.path(), |c| c["sampling_eps"] = json!([0.2, 0.9]));
    let report = Checkpoint::open(dir.path(), &options()).unwrap().report();
    assert_eq!(report.sampling_eps, Some([0.2, 0.9]));
}

#[test]
fn classes_without_a_name_of_their_own_are_named() {
    let dir = tiny("demask");
    let label = |labels: serde_json::Value, classes: u64| {
        edit(dir.path(), |c| {
            c["labels"] = labels;
            c["network"]["time"] = json!({ "frequencies": 4, "cond": 4 });
            c["network"]["labels"] = json!(classes);
        });
        refusal(dir.path())
    };
    let said = label(json!(["a", "b"]), 3);
    assert!(
        said.contains("`labels` names 2 classes, but `network.labels` = 3"),
        "{said}"
    );
    let said = label(json!([]), 2);
    assert!(said.contains("names 0 classes"), "{said}");
    let said = label(json!(["a", "b", "a"]), 3);
    assert!(said.contains("`labels` names `a` twice"), "{said}");
    let said = label(json!(["a", " "]), 2);
    assert!(said.contains("gives class 1 an empty name"), "{said}");
    edit(dir.path(), |c| {
        c["network"].as_object_mut().unwrap().remove("labels");
    });
    let said = refusal(dir.path());
    assert!(said.contains("`network.labels` = 0"), "{said}");
}
