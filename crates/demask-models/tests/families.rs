//! Every family's public layout, from files that our own writer makes: it opens and holds the
//! parameters that were written. What does not open is in `refused.rs`.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{edit, options, refusal, stored, tiny};
use demask_models::format::write_safetensors;
use demask_models::{Checkpoint, Frame, Model, ModelKind, OpenOptions, SaveDtype, family};
use demask_nn::{Input, Transformer};
use serde_json::{Value, json};

fn params(network: &Transformer) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut all = BTreeMap::new();
    network.for_each_param(&mut |name, data| {
        all.insert(
            name.to_string(),
            (data.shape().to_vec(), data.try_to_vec::<f32>().unwrap()),
        );
    });
    all
}

#[test]
fn every_family_opens_forwards_and_is_deterministic() {
    for family in family::registry() {
        let name = family.info().name;
        let (a, b) = (tiny(name), tiny(name));
        let model = Model::open(a.path(), &options()).unwrap();
        let again = Model::open(b.path(), &options()).unwrap();
        assert_eq!(params(&model.network), params(&again.network), "{name}");
        let other = tempfile::tempdir().unwrap();
        family::random(name, 8, other.path()).unwrap();
        let other = Model::open(other.path(), &options()).unwrap();
        assert_ne!(params(&model.network), params(&other.network), "{name}");
        assert_eq!(model.spec.family, name);
        if model.spec.kind.needs_mask() {
            assert!(model.spec.ids.mask.is_some(), "{name}");
        }
        let out = model
            .network
            .forward(Input::ids(vec![1, 2, 3, 4], 1, 4))
            .unwrap();
        let logits = out.logits.unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(logits.len(), 4 * model.spec.network.vocab_size, "{name}");
        assert!(logits.iter().all(|v| v.is_finite()), "{name}");
    }
}

#[test]
fn our_own_layout_keeps_every_bit_whatever_the_family() {
    for family in family::registry() {
        let name = family.info().name;
        let dir = tiny(name);
        let model = Model::open(dir.path(), &options()).unwrap();
        let out = tempfile::tempdir().unwrap();
        let Model {
            network,
            spec,
            tokenizer,
            ..
        } = &model;
        Model::save(out.path(), network, spec, tokenizer, SaveDtype::F32).unwrap();
        let again = Model::open(out.path(), &options()).unwrap();
        assert_eq!(params(network), params(&again.network), "{name}");
        assert_eq!(again.spec.family, "demask");
        assert_eq!(again.spec.network, spec.network, "{name}");
        assert_eq!(
            (again.spec.kind, again.spec.ids),
            (spec.kind, spec.ids),
            "{name}"
        );
        assert_eq!(again.spec.chat_template, spec.chat_template, "{name}");
        assert_eq!(
            again.tokenizer.to_json().unwrap(),
            tokenizer.to_json().unwrap(),
            "{name}"
        );
        if name != "demask" {
            assert_eq!(again.spec.provenance.unwrap().base.as_deref(), Some(name));
        }
        assert_eq!(
            fs::read_dir(out.path()).unwrap().count(),
            3,
            "no temporary file stays"
        );
    }
}

#[test]
fn bf16_halves_the_file_and_keeps_values_to_its_precision() {
    let dir = tiny("llada");
    let model = Model::open(dir.path(), &options()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let Model {
        network,
        spec,
        tokenizer,
        ..
    } = &model;
    Model::save(out.path(), network, spec, tokenizer, SaveDtype::Bf16).unwrap();
    let report = Checkpoint::open(out.path(), &options()).unwrap().report();
    assert_eq!(report.dtypes["BF16"].values, report.parameters);
    assert_eq!(report.stored_bytes, 2 * report.parameters);
    let again = Model::open(out.path(), &options()).unwrap();
    let (a, b) = (params(network), params(&again.network));
    for (name, (_, values)) in a {
        for (x, y) in values.iter().zip(&b[&name].1) {
            assert!((x - y).abs() <= x.abs() / 256.0, "{name}: {x} {y}");
        }
    }
}

/// Names and shapes as the public files have them.
#[test]
fn public_tensor_names() {
    let expect = |family: &str, names: &[(&str, &[usize])]| {
        let dir = tiny(family);
        let tensors = stored(dir.path());
        for (name, shape) in names {
            let found = tensors
                .get(*name)
                .unwrap_or_else(|| panic!("{family}: no {name}"));
            assert_eq!(found.0, *shape, "{family}: {name}");
        }
    };
    expect(
        "llada",
        &[
            ("model.transformer.wte.weight", &[262, 16]),
            ("model.transformer.blocks.1.attn_norm.weight", &[16]),
            ("model.transformer.blocks.1.q_proj.weight", &[16, 16]),
            ("model.transformer.blocks.0.attn_out.weight", &[16, 16]),
            ("model.transformer.blocks.0.ff_norm.weight", &[16]),
            ("model.transformer.blocks.0.ff_proj.weight", &[48, 16]),
            ("model.transformer.blocks.0.up_proj.weight", &[48, 16]),
            ("model.transformer.blocks.0.ff_out.weight", &[16, 48]),
            ("model.transformer.ln_f.weight", &[16]),
            ("model.transformer.ff_out.weight", &[262, 16]),
        ],
    );
    expect(
        "dream",
        &[
            ("model.embed_tokens.weight", &[264, 16]),
            ("model.layers.1.self_attn.q_proj.bias", &[16]),
            ("model.layers.1.self_attn.k_proj.weight", &[8, 16]),
            ("model.layers.1.self_attn.v_proj.bias", &[8]),
            ("model.layers.1.self_attn.o_proj.weight", &[16, 16]),
            ("model.layers.0.mlp.gate_proj.weight", &[48, 16]),
            ("model.layers.0.mlp.down_proj.weight", &[16, 48]),
            ("model.layers.0.input_layernorm.weight", &[16]),
            ("model.layers.0.post_attention_layernorm.weight", &[16]),
            ("model.norm.weight", &[16]),
            ("lm_head.weight", &[264, 16]),
        ],
    );
    expect(
        "sdar",
        &[
            ("model.layers.0.self_attn.q_proj.weight", &[32, 16]),
            ("model.layers.0.self_attn.q_norm.weight", &[8]),
            ("model.layers.1.self_attn.k_norm.weight", &[8]),
            ("model.layers.1.self_attn.o_proj.weight", &[16, 32]),
        ],
    );
    expect(
        "qwen3",
        &[
            ("model.layers.0.self_attn.q_proj.weight", &[32, 16]),
            ("model.layers.0.self_attn.v_proj.weight", &[16, 16]),
            ("model.layers.0.self_attn.q_norm.weight", &[8]),
            ("model.layers.1.self_attn.k_norm.weight", &[8]),
            ("lm_head.weight", &[259, 16]),
        ],
    );
    expect(
        "mdlm",
        &[
            ("backbone.vocab_embed.embedding", &[258, 16]),
            ("backbone.sigma_map.mlp.0.weight", &[8, 256]),
            ("backbone.sigma_map.mlp.2.bias", &[8]),
            ("backbone.blocks.1.norm1.weight", &[16]),
            ("backbone.blocks.1.attn_qkv.weight", &[48, 16]),
            ("backbone.blocks.1.attn_out.weight", &[16, 16]),
            ("backbone.blocks.1.mlp.0.weight", &[64, 16]),
            ("backbone.blocks.1.mlp.2.bias", &[16]),
            ("backbone.blocks.0.adaLN_modulation.weight", &[96, 8]),
            ("backbone.output_layer.norm_final.weight", &[16]),
            ("backbone.output_layer.linear.bias", &[258]),
            ("backbone.output_layer.adaLN_modulation.bias", &[32]),
        ],
    );
}

#[test]
fn the_fused_projection_is_split_in_the_order_q_k_v() {
    let dir = tiny("mdlm");
    let fused = stored(dir.path())["backbone.blocks.1.attn_qkv.weight"]
        .1
        .clone();
    let network = params(&Model::open(dir.path(), &options()).unwrap().network);
    for (part, name) in ["q", "k", "v"].iter().enumerate() {
        let ours = &network[&format!("layers.1.attn.{name}.weight")].1;
        assert_eq!(*ours, fused[part * 256..(part + 1) * 256], "{name}");
    }
}

#[test]
fn what_each_family_means() {
    let spec = |name: &str| {
        let dir = tiny(name);
        Checkpoint::open(dir.path(), &options()).unwrap().spec
    };
    let llada = spec("llada");
    assert_eq!(
        (llada.kind, llada.network.logit_shift),
        (ModelKind::Masked, false)
    );
    assert_eq!(llada.network.rotary.unwrap().base, 500_000.0);
    assert_eq!(
        (llada.ids.mask, llada.ids.eos, llada.ids.eot),
        (Some(261), Some(257), Some(260))
    );
    let dream = spec("dream");
    assert!(dream.network.logit_shift && dream.network.qkv_bias && !dream.network.out_bias);
    assert_eq!(
        (dream.ids.mask, dream.ids.bos, dream.ids.eot),
        (Some(260), Some(259), Some(258))
    );
    let sdar = spec("sdar");
    assert_eq!(sdar.kind, ModelKind::BlockMasked { block: 4 });
    assert!(sdar.network.qk_norm && !sdar.network.logit_shift);
    let qwen3 = spec("qwen3");
    assert!(qwen3.network.qk_norm && !qwen3.network.qkv_bias && !qwen3.network.out_bias);
    assert_eq!(
        (qwen3.ids.bos, qwen3.ids.eos, qwen3.ids.pad, qwen3.ids.eot),
        (None, Some(256), Some(256), Some(258))
    );
    let mdlm = spec("mdlm");
    assert_eq!(
        (mdlm.kind, mdlm.ids.mask, mdlm.ids.bos),
        (ModelKind::Masked, Some(257), Some(256))
    );
    assert!(mdlm.network.time.is_some() && !mdlm.time_conditioning);
    for name in ["llama", "qwen2", "qwen3", "llama2c"] {
        assert_eq!(spec(name).kind, ModelKind::Autoregressive, "{name}");
    }
}

/// Files may hold the head although it is the embedding.
#[test]
fn a_tied_head_that_is_stored_as_well_is_reported() {
    let dir = tiny("qwen3");
    edit(dir.path(), |c| c["tie_word_embeddings"] = json!(true));
    let found = Checkpoint::open(dir.path(), &options()).unwrap();
    assert!(found.spec.network.tied_head);
    let notes = found.unusual.join("; ");
    assert!(notes.contains("not used: `lm_head.weight`"), "{notes}");
}

#[test]
fn qwen3_heads_have_a_width_of_their_own() {
    let dir = tiny("qwen3");
    // Without the field they are as wide as published ones, not the width over the heads.
    edit(dir.path(), |c| {
        c.as_object_mut().unwrap().remove("head_dim");
    });
    let said = refusal(dir.path());
    assert!(said.contains("[512, 16]"), "{said}");
}

#[test]
fn block_diffusion_variants_of_mdlm() {
    let dir = tiny("mdlm");
    edit(dir.path(), |c| {
        c["model_type"] = json!("bd3lm");
        c["block_size"] = json!(4);
        c["sampling_eps_min"] = json!(0.001);
        c["sampling_eps_max"] = json!(0.999);
    });
    let open = || Checkpoint::open(dir.path(), &options()).unwrap().spec;
    assert_eq!(open().kind, ModelKind::BlockMasked { block: 4 });
    assert_eq!(open().sampling_eps, Some([0.001, 0.999]));
    // One block as long as the context sees everything.
    edit(dir.path(), |c| c["block_size"] = json!(64));
    assert_eq!(open().kind, ModelKind::Masked);
}

#[test]
fn the_tokenizer_gets_a_token_for_a_mask_that_is_only_a_row() {
    let dir = tiny("mdlm");
    let checkpoint = Checkpoint::open(dir.path(), &options()).unwrap();
    assert_eq!(checkpoint.tokenizer.decode_cell(257), "[MASK]");
    let notes = checkpoint.unusual.join("; ");
    assert!(notes.contains("mask id 257 is the last row"), "{notes}");
}

#[test]
fn special_ids_come_from_the_checkpoint_first() {
    let dir = tiny("llada");
    // Nothing names the mask: the vocabulary is searched and the find reported.
    edit(dir.path(), |c| {
        c.as_object_mut().unwrap().remove("mask_token_id");
    });
    let found = Checkpoint::open(dir.path(), &options()).unwrap();
    assert_eq!(found.spec.ids.mask, Some(261));
    assert!(
        found.unusual.join(";").contains("`<|mdm_mask|>` (261)"),
        "{:?}",
        found.unusual
    );
    // tokenizer_config.json goes before the family's spelling.
    fs::write(
        dir.path().join("tokenizer_config.json"),
        r#"{"mask_token":{"content":"<|eot_id|>"}}"#,
    )
    .unwrap();
    let found = Checkpoint::open(dir.path(), &options()).unwrap();
    assert_eq!(found.spec.ids.mask, Some(260));
    // config.json goes before both, and the disagreement is reported.
    edit(dir.path(), |c| c["mask_token_id"] = json!(5));
    let found = Checkpoint::open(dir.path(), &options()).unwrap();
    assert_eq!(found.spec.ids.mask, Some(5));
    assert!(
        found
            .unusual
            .join(";")
            .contains("mask is 5, the tokenizer says 260")
    );
    edit(dir.path(), |c| c["mask_token_id"] = json!(262));
    assert!(refusal(dir.path()).contains("the id 262 but the vocabulary has 262 rows"));
    edit(dir.path(), |c| c["mask_token_id"] = json!("x"));
    assert!(refusal(dir.path()).contains("is not a token id"));
}

#[test]
fn shards_open_like_one_file() {
    let dir = tiny("dream");
    let whole = params(&Model::open(dir.path(), &options()).unwrap().network);
    let tensors = stored(dir.path());
    let (mut map, mut shards) = (BTreeMap::new(), [Vec::new(), Vec::new()]);
    for (at, (name, (shape, values))) in tensors.into_iter().enumerate() {
        map.insert(
            name.clone(),
            format!("model-0000{}-of-00002.safetensors", at % 2 + 1),
        );
        shards[at % 2].push((name, shape, values));
    }
    for (at, shard) in shards.iter().enumerate() {
        let file = dir
            .path()
            .join(format!("model-0000{}-of-00002.safetensors", at + 1));
        write_safetensors(&file, shard, SaveDtype::F32).unwrap();
    }
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let index = json!({ "metadata": {}, "weight_map": map }).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let sharded = params(&Model::open(dir.path(), &options()).unwrap().network);
    assert_eq!(whole, sharded);
}

#[test]
fn built_in_checkpoints_open_by_name_from_a_folder_or_from_memory() {
    let root = tempfile::tempdir().unwrap();
    family::random("demask", 1, &root.path().join("prose")).unwrap();
    let with_dir = OpenOptions {
        checkpoint_dirs: vec![root.path().to_path_buf()],
        ..Default::default()
    };
    let a = Model::open("prose", &with_dir).unwrap();
    let read = |name: &str| fs::read(root.path().join("prose").join(name)).unwrap();
    let leak = |bytes: Vec<u8>| -> &'static [u8] { Box::leak(bytes.into_boxed_slice()) };
    let embedded = demask_models::EmbeddedCheckpoint {
        name: "inside",
        config: leak(read("config.json")),
        weights: leak(read("model.safetensors")),
        tokenizer: std::str::from_utf8(leak(read("tokenizer.json"))).unwrap(),
    };
    let with_embedded = OpenOptions {
        embedded: vec![embedded],
        ..Default::default()
    };
    let b = Model::open("inside", &with_embedded).unwrap();
    assert_eq!(params(&a.network), params(&b.network));
    let list = demask_models::built_in::registry(&with_dir);
    assert_eq!(
        list.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(),
        ["prose"]
    );
    let said = Model::open("prsoe", &with_dir).unwrap_err().to_string();
    assert!(said.contains("did you mean `prose`"), "{said}");
}

#[test]
fn the_report_covers_what_inspect_shows() {
    for family in family::registry() {
        let dir = tiny(family.info().name);
        let report = Checkpoint::open(dir.path(), &options()).unwrap().report();
        assert_eq!(report.family, family.info().name);
        let values: u64 = report.dtypes.values().map(|count| count.values).sum();
        assert!(values >= report.parameters, "{}", report.family);
        assert!(report.stored_bytes >= 4 * report.parameters);
        serde_json::to_string(&report).unwrap();
    }
    let dir = tiny("dream");
    let report = Checkpoint::open(dir.path(), &options()).unwrap().report();
    assert_eq!(report.tokenizer.rows_without_token, 3);
    assert_eq!(report.ids["mask"].token.as_deref(), Some("<|mask|>"));
    assert!(report.chat_template);
}

#[test]
fn a_chat_template_of_the_checkpoint_goes_before_the_family_s() {
    let dir = tiny("dream");
    let template = |dir: &Path| {
        Checkpoint::open(dir, &options())
            .unwrap()
            .spec
            .chat_template
    };
    assert!(template(dir.path()).unwrap().contains("helpful assistant"));
    let path = dir.path().join("tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["chat_template"] =
        json!([{ "name": "tool", "template": "T" }, { "name": "default", "template": "D" }]);
    fs::write(&path, config.to_string()).unwrap();
    assert_eq!(template(dir.path()).as_deref(), Some("D"));
    fs::write(dir.path().join("chat_template.jinja"), "J").unwrap();
    assert_eq!(template(dir.path()).as_deref(), Some("J"));
}

#[test]
fn stories260k_writes_a_story() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/stories260K");
    let model = Model::open(root.join("stories260K.bin"), &options()).unwrap();
    let again = Model::open(&root, &options()).unwrap();
    assert_eq!(params(&model.network), params(&again.network));
    assert_eq!(model.spec.network.parameters(), 260_032);
    let mut ids = vec![model.spec.ids.bos.unwrap()];
    for _ in 0..24 {
        let n = ids.len();
        let input = Input {
            mask: demask_nn::AttentionMask::causal(),
            asked: demask_nn::Asked::Rows(vec![n as u32 - 1]),
            ..Input::ids(ids.clone(), 1, n)
        };
        let logits = model.network.forward(input).unwrap().logits.unwrap();
        let row = logits.into_data().try_to_vec::<f32>().unwrap();
        let best = (0..row.len())
            .max_by(|a, b| row[*a].total_cmp(&row[*b]))
            .unwrap();
        ids.push(best as u32);
    }
    let text = model.tokenizer.decode_without_special(&ids).unwrap();
    assert!(
        text.starts_with("Once upon a time, there was a little girl named"),
        "{text}"
    );
}

#[test]
fn documents_are_framed_as_the_authors_do() {
    for (name, bos, eos) in [
        ("demask", true, true),
        ("llada", false, true),
        ("dream", true, true),
        ("sdar", false, true),
        ("mdlm", true, true),
        ("llama", true, true),
        ("qwen2", false, true),
        ("qwen3", false, true),
        ("llama2c", true, false),
    ] {
        let spec = Checkpoint::open(tiny(name).path(), &options())
            .unwrap()
            .spec;
        assert_eq!(spec.frame, Frame { bos, eos }, "{name}");
        assert_eq!(spec.begin(), spec.ids.bos.filter(|_| bos), "{name}");
        assert_eq!(spec.end(), spec.ids.eos.filter(|_| eos), "{name}");
    }
    let dir = tiny("demask");
    edit(dir.path(), |config| {
        config.as_object_mut().unwrap().remove("frame");
    });
    let old = Checkpoint::open(dir.path(), &options()).unwrap();
    assert_eq!(old.spec.frame, Frame::default());
    assert!(old.unusual.iter().any(|said| said.contains("`frame`")));
    edit(dir.path(), |config| {
        config["frame"] = json!({ "bos": false, "eos": false })
    });
    let bare = Checkpoint::open(dir.path(), &options()).unwrap();
    assert_eq!((bare.spec.begin(), bare.spec.end()), (None, None));
    assert!(bare.unusual.is_empty(), "{:?}", bare.unusual);
}
