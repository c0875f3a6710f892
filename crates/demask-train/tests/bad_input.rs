//! Bad input is refused in a sentence that says what to do, and costs nothing.

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{RECIPE, folder, options, recipe};
use demask_models::{Model, OpenOptions};
use demask_train::trainer::Silent;
use demask_train::{Recipe, RunDir, TrainError, TrainEvent, train};

fn parse(text: &str, overrides: &[&str]) -> Result<Recipe, String> {
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    Recipe::parse(text, "tiny.toml", &overrides).map_err(|e| e.to_string())
}

fn refuse(from: &str, to: &str) -> String {
    assert!(RECIPE.contains(from), "{from}");
    parse(&RECIPE.replacen(from, to, 1), &[]).unwrap_err()
}

#[test]
fn a_typo_is_named_with_its_line_and_the_nearest_key() {
    let error = refuse("weight_decay", "weight_decat");
    assert!(
        error.starts_with("tiny.toml:33: unknown key `optimizer.weight_decat`"),
        "{error}"
    );
    assert!(
        error.contains("did you mean `optimizer.weight_decay`?"),
        "{error}"
    );
    // Inside a tagged table, where serde itself knows no place.
    let error = refuse("{ kind = \"text\" }", "{ kind = \"text\", seperator = 1 }");
    assert!(
        error.contains("tiny.toml:16") && error.contains(".separator`?"),
        "{error}"
    );
    let error = refuse("d_ff = 32", "d_fff = 32");
    assert!(
        error.starts_with("tiny.toml:25") && error.contains("`network.d_ff`?"),
        "{error}"
    );
    let error = refuse("[optimizer]", "[optimiser]");
    assert!(error.contains("`optimizer`?"), "{error}");
    let error = refuse("seed = 7", "lr = 7");
    assert!(error.contains("`lr` belongs in [optimizer]"), "{error}");
}

#[test]
fn a_wrong_kind_or_type_is_named() {
    let error = refuse("kind = \"mdlm\"", "kind = \"mdml\"");
    assert!(
        error.starts_with("tiny.toml:29: unknown value `mdml`; did you mean `mdlm`?"),
        "{error}"
    );
    let error = refuse("steps = 6", "steps = \"six\"");
    assert!(
        error.starts_with("tiny.toml:5: `run.steps`: invalid type"),
        "{error}"
    );
    let error = refuse("warmup = 2", "warmup = 200");
    assert!(
        error.contains("schedule.warmup = 200 is longer than run.steps = 6"),
        "{error}"
    );
    let error = refuse("lr = 1e-2", "lr = nan");
    assert!(
        error.contains("optimizer.lr = NaN: must be a finite number above 0"),
        "{error}"
    );
}

#[test]
fn products_are_in_f32_or_bf16() {
    assert!(parse(RECIPE, &["run.dtype=bf16"]).is_ok());
    let error = parse(RECIPE, &["run.dtype=int8"]).unwrap_err();
    assert!(error.contains("`int8`; known: f32, bf16"), "{error}");
}

#[test]
fn adapters_and_searches_that_mean_nothing_are_refused() {
    let init = "init={ kind = \"checkpoint\", path = \"x\" }";
    let error = parse(RECIPE, &["lora={}"]).unwrap_err();
    assert!(
        error.contains("[lora] adapts a trained network: add init"),
        "{error}"
    );
    let error = parse(RECIPE, &[init, "lora.rank=0"]).unwrap_err();
    assert!(error.contains("lora.rank must be at least 1"), "{error}");
    let error = parse(RECIPE, &[init, "lora.rnk=4"]).unwrap_err();
    assert!(error.contains("did you mean `lora.rank`?"), "{error}");
    let error = refuse(
        "[objective]",
        "[lora]\ntargets = [\"q\", \"gat\"]\n\n[objective]",
    );
    assert!(
        error.starts_with("tiny.toml:29: unknown value `gat`; did you mean `gate`?"),
        "{error}"
    );
    let peft = parse(RECIPE, &[init, "lora.targets=[\"q_proj\", \"down_proj\"]"]).unwrap();
    assert!(peft.resolved().unwrap().contains("\"q\",\n    \"down\","));
    let error = parse(RECIPE, &["search.every=10"]).unwrap_err();
    assert!(error.contains("not of `mdlm`"), "{error}");
    let bd3 = "objective={ kind = \"bd3\", block = 4 }";
    let search = |search: &str| parse(RECIPE, &[bd3, search]).map(|r| r.search.unwrap());
    assert_eq!(search("search.every=10").unwrap().candidates().len(), 36);
    let anneal = "init={ kind = \"checkpoint\", path = \"x\", anneal = 3 }";
    let error = parse(RECIPE, &[anneal]).unwrap_err();
    assert!(error.contains("init.anneal opens a causal mask"), "{error}");
    for (keys, wanted) in [
        ("{ every = 0 }", "search.every = 0"),
        ("{ every = 1, batches = 1 }", "must be from 2 to 100"),
        (
            "{ every = 1, windows = [[0.8, 0.3]] }",
            "search.windows = [0.8, 0.3]: a window is [min, max]",
        ),
    ] {
        let error = search(&format!("search={keys}")).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn overrides_have_the_same_errors() {
    let set = |what: &str| parse(RECIPE, &[what]);
    assert_eq!(set("optimizer.lr=5e-4").unwrap().optimizer.lr, 5e-4);
    assert_eq!(set("optimizer.clip=2").unwrap().optimizer.clip, 2.0);
    assert_eq!(set("run.name=other").unwrap().run.name, "other");
    assert_eq!(
        set("data.source.0.weight=2.5").unwrap().data.source[0].weight,
        2.5
    );
    let error = set("optimizer.lrr=1").unwrap_err();
    assert!(
        error.starts_with("--set optimizer.lrr=1: unknown key `optimizer.lrr`"),
        "{error}"
    );
    assert!(error.contains("`optimizer.lr`?"), "{error}");
    let error = set("optimiser.lr=1").unwrap_err();
    assert!(error.contains("`optimizer`?"), "{error}");
    assert!(
        set("optimizer.lr=fast")
            .unwrap_err()
            .contains("invalid type")
    );
    assert!(
        set("optimizer.lr")
            .unwrap_err()
            .contains("section.key=value")
    );
    assert!(
        set("data.source.7.weight=1")
            .unwrap_err()
            .contains("a list of 1")
    );
    assert!(
        set("optimizer.batch=0")
            .unwrap_err()
            .contains("must be at least 1")
    );
}

#[test]
fn the_resolved_recipe_reads_back_to_itself() {
    let first = recipe(&["tokenizer={ kind = \"bpe\", vocab = 300 }", "run.threads=2"]);
    let again = parse(&first.resolved().unwrap(), &[]).unwrap();
    assert_eq!(first, again);
    assert_eq!(first.resolved().unwrap(), again.resolved().unwrap());
    let mut changed = first.clone();
    changed
        .set("objective={ kind = \"llada_pretrain\" }")
        .unwrap();
    assert_ne!(first, changed);
    assert!(changed.set("run.steps=0").is_err());
    assert_eq!(changed.run.steps, 6, "a refused change changes nothing");
}

/// Every number, word and switch of a resolved recipe, changed through `--set`, changes the recipe
/// or is refused as out of range; none is read and ignored.
#[test]
fn every_key_changes_the_recipe() {
    let blocks = recipe(&[
        "run.threads=2",
        "init={ kind = \"checkpoint\", path = \"x\" }",
        "lora={ dropout = 0.1 }",
        "objective={ kind = \"bd3\", block = 4 }",
        "search={ every = 2, batches = 4, windows = [[0.3, 0.8]] }",
    ]);
    let shifted = recipe(&[
        "init={ kind = \"checkpoint\", path = \"x\", anneal = 3 }",
        "objective={ kind = \"shifted\" }",
    ]);
    let labelled = recipe(&[
        "data.layout={ kind = \"examples\" }",
        "data.source=[{ path = \"s.jsonl\", reader = { kind = \"jsonl\", text = \"{text}\", label = \"{intent}\" } }]",
        "data.label_dropout=0.2",
        "network.time={ frequencies = 8, cond = 8 }",
        "network.labels=3",
    ]);
    let mut seen = Vec::new();
    for first in [blocks, shifted, labelled] {
        let table: toml::Table = toml::from_str(&first.resolved().unwrap()).unwrap();
        let mut keys = Vec::new();
        walk("", &toml::Value::Table(table), &mut keys);
        let mut changed = 0;
        for (key, value) in keys {
            let mut recipe = first.clone();
            match recipe.set(&format!("{key}={value}")) {
                Ok(()) => {
                    assert_ne!(recipe, first, "{key}={value} was ignored");
                    changed += 1;
                }
                Err(error) => assert!(!error.to_string().contains("unknown key"), "{key}: {error}"),
            }
            seen.push(key);
        }
        assert!(changed > 40, "{changed}");
    }
    assert!(seen.len() > 160, "{}", seen.len());
    for key in [
        "lora.rank",
        "search.windows.0.1",
        "init.anneal",
        "data.label_dropout",
        "data.source.0.reader.label",
        "network.labels",
    ] {
        assert!(seen.iter().any(|k| k == key), "{key}");
    }
}

fn walk(path: &str, value: &toml::Value, out: &mut Vec<(String, String)>) {
    let at = |key: &str| {
        if path.is_empty() {
            key.to_string()
        } else {
            format!("{path}.{key}")
        }
    };
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(k, v)| walk(&at(k), v, out)),
        toml::Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(i, v)| walk(&at(&i.to_string()), v, out));
        }
        toml::Value::Integer(n) => out.push((path.into(), (n + 1).to_string())),
        toml::Value::Float(x) => out.push((path.into(), format!("{:?}", x * 0.5 + 0.01))),
        toml::Value::Boolean(b) => out.push((path.into(), (!b).to_string())),
        toml::Value::String(s) => out.push((path.into(), format!("\"{s}x\""))),
        toml::Value::Datetime(_) => {}
    }
}

#[test]
fn a_missing_file_names_every_place_that_was_tried() {
    let folder = folder();
    let recipe = recipe(&["data.source.0.path=nowhere.txt"]);
    let error = train(
        &recipe,
        &folder.path().join("r"),
        options(folder.path(), false),
        &mut Silent,
    )
    .unwrap_err()
    .to_string();
    assert!(
        error.starts_with("data file `nowhere.txt` not found; looked at /"),
        "{error}"
    );
}

#[test]
fn two_trainers_do_not_share_a_folder() {
    let folder = folder();
    let run = folder.path().join("r");
    let _held = RunDir::open(&run).unwrap();
    let error = train(
        &recipe(&[]),
        &run,
        options(folder.path(), false),
        &mut Silent,
    )
    .unwrap_err();
    assert!(matches!(error, TrainError::Locked { .. }), "{error}");
}

/// What `train` says of a recipe whose rate throws the weights out of the range of f32.
fn wild(folder: &Path, changes: &[&str]) -> (PathBuf, TrainError) {
    let run = folder.join("r");
    let wild = [
        "optimizer.lr=1e38",
        "schedule.warmup=0",
        "network.dropout=0",
        "run.steps=9",
    ];
    let recipe = recipe(&[&wild[..], changes].concat());
    let error = train(&recipe, &run, options(folder, false), &mut Silent).unwrap_err();
    assert!(error.to_string().contains("lower optimizer.lr"), "{error}");
    (run, error)
}

#[test]
fn weights_that_give_no_number_are_never_saved() {
    let folder = folder();
    // Every step would be saved; the first one already breaks the weights.
    let (run, error) = wild(folder.path(), &["run.checkpoint_every=1"]);
    let TrainError::NotFinite { kept: None, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        error.to_string().contains("No state had been saved"),
        "{error}"
    );
    assert_eq!(
        RunDir::open(&run).unwrap().saved_steps().unwrap(),
        [0_u64; 0]
    );
    assert!(!run.join("checkpoint").exists());
}

#[test]
fn a_loss_that_is_no_number_leaves_the_last_good_state() {
    let folder = folder();
    // A decay that makes the matrices a million times larger in every step.
    let slow = [
        "run.checkpoint_every=1",
        "optimizer.lr=1",
        "optimizer.weight_decay=1e6",
    ];
    let (run, error) = wild(folder.path(), &slow);
    let TrainError::NotFinite {
        step,
        kept: Some(kept),
        ..
    } = &error
    else {
        panic!("{error}")
    };
    let (state, torn) = RunDir::open(&run).unwrap().load_state().unwrap();
    assert!(state.step < *step && torn.is_empty(), "{error}");
    assert!(kept.ends_with(format!("step-{}", state.step)), "{error}");
    // The published weights are of that step and give numbers.
    let model = Model::open(run.join("checkpoint"), &OpenOptions::default()).unwrap();
    let provenance = model.spec.provenance.as_ref().unwrap();
    assert_eq!(provenance.steps, Some(state.step));
    model.network.for_each_param(&mut |name, data| {
        let values = data.convert::<f32>().try_into_vec::<f32>().unwrap();
        assert!(values.iter().all(|value| value.is_finite()), "{name}");
    });
}

#[test]
fn a_state_that_cannot_be_written_leaves_the_one_before() {
    let folder = folder();
    let run = folder.path().join("r");
    train(
        &recipe(&["run.steps=3"]),
        &run,
        options(folder.path(), false),
        &mut Silent,
    )
    .unwrap();
    let states = run.join("state");
    fs::set_permissions(&states, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(states.join("probe"), "x").is_ok() {
        // The superuser writes everywhere; a file in the way of the folder stops it too.
        fs::set_permissions(&states, fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(states.join("probe")).unwrap();
        fs::write(states.join(".step-6.part"), "in the way").unwrap();
    }
    let longer = recipe(&["run.steps=3", "schedule.shape={ kind = \"cosine\" }"]);
    drop(longer);
    let error = train(
        &recipe(&[]),
        &run,
        options(folder.path(), true),
        &mut Silent,
    )
    .unwrap_err();
    assert!(error.to_string().contains("step-6.part"), "{error}");
    fs::set_permissions(&states, fs::Permissions::from_mode(0o755)).unwrap();
    let (state, _) = RunDir::open(&run).unwrap().load_state().unwrap();
    assert_eq!(state.step, 3);
}

#[test]
fn stopping_saves_and_says_how_to_go_on() {
    let folder = folder();
    let run = folder.path().join("r");
    let mut observer = |event: &TrainEvent| match event {
        TrainEvent::Step(metrics) if metrics.step == 2 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let summary = train(
        &recipe(&[]),
        &run,
        options(folder.path(), false),
        &mut observer,
    )
    .unwrap();
    assert!(summary.stopped && summary.step == 2);
    let command = summary.resume_command().unwrap();
    assert!(
        command.starts_with("demask train --resume ") && command.ends_with("/r"),
        "{command}"
    );
    check_checkpoint(&run);
}

fn check_checkpoint(run: &Path) {
    for name in [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "README.md",
    ] {
        assert!(run.join("checkpoint").join(name).is_file(), "{name}");
    }
    let card = fs::read_to_string(run.join("checkpoint/README.md")).unwrap();
    assert!(
        card.contains("| steps | 2 |") && card.contains("| `text.txt` | not stated |"),
        "{card}"
    );
    assert!(
        fs::read_to_string(run.join("loss.svg"))
            .unwrap()
            .starts_with("<svg")
    );
}
