//! Every other command as a user calls it.

mod common;

use common::Workplace;

#[test]
fn a_training_is_made_stopped_and_written_with() {
    let at = Workplace::new();
    let printed = at.stdout(["train", "tiny.toml", "--set", "run.name=first"]);
    assert_eq!(printed, "runs/first/checkpoint\n");
    let object = at.json([
        "generate",
        "the",
        "--model",
        "runs/first/checkpoint",
        "--length",
        "8",
        "--json",
    ]);
    assert_eq!(
        object["prompt_tokens"], 4,
        "the recipe begins texts with the begin token"
    );
    let report = at.json(["inspect", "runs/first/checkpoint", "--json"]);
    assert_eq!(
        report["frame"],
        serde_json::json!({ "bos": true, "eos": true })
    );
    let bare = [
        "--set",
        "run.name=bare",
        "--set",
        "data.layout.bos=false",
        "--set",
        "data.layout.eos=false",
    ];
    at.stdout(["train", "tiny.toml"].into_iter().chain(bare));
    let object = at.json(["generate", "the", "--model=runs/bare/checkpoint", "--json"]);
    assert_eq!(object["prompt_tokens"], 3, "this one does not");
    let table = at.stdout(["inspect", "runs/bare/checkpoint"]);
    assert!(table.contains("text only"), "{table}");
    let longer = ["train", "--resume", "runs/first", "--set", "run.steps=7"];
    let output = at.demask(longer).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() || stderr.contains("cannot resume"),
        "{stderr}"
    );

    let stderr = at.refused(2, ["train", "tiny.toml", "--set", "run.name=first"]);
    assert!(stderr.contains("--resume"), "{stderr}");
    let stderr = at.refused(2, ["train", "tiny.toml", "--set", "run.stps=3"]);
    assert!(stderr.contains("did you mean `run.steps`?"), "{stderr}");
    let stderr = at.refused(1, ["train", "nowhere.toml"]);
    assert!(stderr.contains("nowhere.toml"), "{stderr}");
    at.refused(2, ["train"]);
    std::fs::write(at.file("file"), "").unwrap();
    let stderr = at.refused(1, ["train", "tiny.toml", "--run-dir", "file/run"]);
    assert!(stderr.contains("file/run"), "{stderr}");
}

#[test]
fn models_are_measured() {
    let at = Workplace::new();
    let words = [
        "eval",
        "--model",
        "tiny",
        "--data",
        "text.txt",
        "--set",
        "eval.nelbo.draws=1",
    ];
    let limit = [
        "--set",
        "eval.data.window.limit=2",
        "--set",
        "eval.data.window.length=16",
    ];
    let table = at.stdout(words.into_iter().chain(limit));
    assert!(table.contains("nats"), "{table}");
    let object = at.json(words.into_iter().chain(limit).chain(["--json"]));
    assert!(
        object["rows"][0]["value"]
            .as_f64()
            .is_some_and(|nats| nats > 0.0)
    );
    std::fs::write(at.file("out.json"), object.to_string()).unwrap();
    let again = at.json(["eval", "--config", "out.json", "--json"]);
    assert_eq!(again["rows"], object["rows"]);

    std::fs::write(at.file("samples.txt"), "a b c a b c a b c").unwrap();
    let entropy = [
        "eval",
        "--model",
        "tiny",
        "--metric",
        "entropy",
        "--samples-file",
    ];
    let table = at.stdout(entropy.into_iter().chain(["samples.txt"]));
    assert!(table.contains("entropy"), "{table}");

    let judged = [
        "eval",
        "--model",
        "tiny",
        "--judge",
        "judge",
        "--metric",
        "gen-ppl,entropy",
    ];
    let object = at.json(judged.into_iter().chain(["--samples", "2", "--json"]));
    assert!(object["rows"].as_array().unwrap().len() >= 2, "{object}");
    let decode = &object["config"]["eval"]["samples"]["decode"];
    assert_eq!(
        (&decode["samples"], &decode["seed"]),
        (&2.into(), &0.into())
    );
    assert_eq!(
        decode["temperature"], 1.0,
        "stated where the model's own is 0"
    );
    // A changed way of writing is another text, and is read back to the same bits.
    let changed = [
        "--samples=2",
        "--set=eval.samples.decode.temperature=0.3",
        "--set=eval.samples.decode.seed=4",
        "--json",
    ];
    let changed = at.json(judged.into_iter().chain(changed));
    assert_ne!(changed["rows"], object["rows"]);
    std::fs::write(at.file("out.json"), changed.to_string()).unwrap();
    let again = at.json(["eval", "--config", "out.json", "--json"]);
    assert_eq!(again["rows"], changed["rows"]);
    assert_eq!(again["config"], changed["config"]);
    let unread = ["eval", "--model=judge", "--metric=entropy"];
    let steps = ["--set", "eval.samples.decode.steps=3"];
    let stderr = at.refused(2, unread.into_iter().chain(steps));
    assert!(stderr.contains("from left to right"), "{stderr}");
    let stderr = at.refused(
        2,
        judged[..3].iter().copied().chain(["--metric", "gen-ppl"]),
    );
    assert!(stderr.contains("--judge"), "{stderr}");

    let stderr = at.refused(2, ["eval", "--model", "tiny", "--metric", "entropi"]);
    assert!(stderr.contains("did you mean `entropy`?"), "{stderr}");
    let stderr = at.refused(2, ["eval", "--model", "tiny"]);
    assert!(stderr.contains("--data"), "{stderr}");
    let stderr = at.refused(1, ["eval", "--model", "tiny", "--data", "nowhere.txt"]);
    assert!(stderr.contains("nowhere.txt"), "{stderr}");
    let stderr = at.refused(1, ["eval", "--model", "tiny", "--data", "nowhere"]);
    assert!(stderr.contains("cannot read nowhere: No such"), "{stderr}");
}

#[test]
fn data_that_the_model_has_no_tokens_for_are_named() {
    let at = Workplace::new();
    let sudoku = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints/sudoku");
    std::fs::write(at.file("grid.txt"), "12x34 56").unwrap();
    let words = ["eval", "--model", sudoku, "--data", "grid.txt", "--json"];
    let object = at.json(words);
    let notes = object["notes"].to_string();
    assert!(notes.contains("no token for `x` and the space"), "{notes}");
    std::fs::write(at.file("grid.txt"), "123456").unwrap();
    let notes = at.json(words)["notes"].to_string();
    assert!(!notes.contains("no token"), "{notes}");
}

#[test]
fn every_family_is_inspected() {
    let at = Workplace::new();
    for family in demask::models::family::registry() {
        let name = family.info().name;
        let folder = at.file(name);
        demask::models::family::random(name, 1, &folder).unwrap();
        let table = at.stdout(["inspect", name]);
        assert!(
            table.contains("parameters") && table.contains(name),
            "{table}"
        );
        let report = at.json(["inspect", name, "--json"]);
        assert!(
            report["parameters"].as_u64().is_some_and(|n| n > 0),
            "{report}"
        );
    }
    at.refused(2, ["inspect", "nowhere"]);
}

#[test]
fn lists_come_from_the_registry() {
    let at = Workplace::new();
    let models = at.json(["models", "--json"]);
    assert!(
        models["built_in"]
            .as_array()
            .unwrap()
            .iter()
            .any(|m| m["name"] == "tiny")
    );
    assert!(
        models["families"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f["name"] == "llada")
    );
    assert!(at.stdout(["models"]).contains("LLaDA"));
    let policies = at.json(["policies", "--json"]);
    assert!(
        policies
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["name"] == "entropy")
    );
    assert!(at.stdout(["policies"]).contains("alg_temp"));
    assert!(at.json(["systems", "--json"]).as_array().unwrap().len() > 5);
    assert!(at.stdout(["systems"]).contains("MDLM"));
    let other = at.file("checkpoints");
    let moved = at.file("elsewhere");
    std::fs::rename(other, &moved).unwrap();
    let mut command = at.demask(["models", "--json"]);
    let output = command.env("DEMASK_CHECKPOINTS", &moved).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("tiny"));
}

#[test]
fn proofs_are_listed_and_run() {
    let at = Workplace::new();
    let list = at.stdout(["proof", "--list"]);
    for proof in ["exactness", "gumbel", "cached-ancestral", "block-cache"] {
        assert!(list.contains(proof), "{list}");
    }
    let records = at.json(["proof", "cached-ancestral", "--seeds", "1", "--json"]);
    assert_eq!(records[0]["holds"], true);
    assert_eq!(records[0]["rows"][0]["same text"], "yes");
    let table = at.stdout(["proof", "gumbel", "--seeds", "1"]);
    assert!(table.contains("holds"), "{table}");
    let stderr = at.refused(2, ["proof", "exactnes"]);
    assert!(stderr.contains("did you mean `exactness`?"), "{stderr}");
}

#[test]
fn completions_and_the_reference_are_written() {
    let at = Workplace::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(at.stdout(["completions", shell]).contains("generate"));
    }
    at.stdout(["docs", "."]);
    let reference = std::fs::read_to_string(at.file("reference.md")).unwrap();
    assert!(reference.contains("### demask generate") && reference.contains("loglinear"));
    assert!(!reference.contains("### demask docs"), "a hidden command");
    let stderr = at.refused(1, ["docs", "no/such/folder"]);
    assert!(stderr.contains("no/such/folder"), "{stderr}");
    let stderr = at.refused(2, ["generat"]);
    assert!(stderr.contains("generate"), "{stderr}");
}

#[test]
fn a_pair_whose_tokens_melt_together_is_scored_apart() {
    let at = Workplace::new();
    let story = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints/story");
    // `whole` is one token of the tokenizer: the prompt alone would end where the whole ends.
    let pairs =
        "{\"prompt\": \"w\", \"answer\": \"hole\"}\n{\"prompt\": \"The\", \"answer\": \" dog\"}\n";
    std::fs::write(at.file("pairs.jsonl"), pairs).unwrap();
    let report = at.json([
        "eval",
        "--model",
        story,
        "--data",
        "pairs.jsonl",
        "--metric",
        "likelihood",
        "--set",
        "eval.likelihood.mc_num=16",
        "--json",
    ]);
    assert!(report["rows"][0]["value"].as_f64().is_some(), "{report}");
}

/// The rows of the table on stderr: operation, and what stands behind it.
fn timings(stderr: &str) -> Vec<(String, Vec<String>)> {
    let table = stderr.lines().skip_while(|l| !l.starts_with("operation "));
    let row = |line: &str| {
        let cells = line.split("  ").map(str::trim).filter(|c| !c.is_empty());
        let mut cells = cells.map(str::to_owned);
        (cells.next().unwrap(), cells.collect())
    };
    table.map(row).collect()
}

#[test]
fn where_the_time_went_is_told_beside_the_work() {
    let at = Workplace::new();
    let words = [
        "generate",
        "Once",
        "--model=story",
        "--length=6",
        "--seed=1",
    ];
    let quiet = at.demask(words).output().unwrap();
    let timed = at.demask(words.into_iter().chain(["--timings"]));
    let timed = { timed }.output().unwrap();
    assert!(timed.status.success());
    assert_eq!(timed.stdout, quiet.stdout);
    assert!(
        !String::from_utf8(quiet.stderr)
            .unwrap()
            .contains("the rest")
    );
    let rows = timings(&String::from_utf8(timed.stderr).unwrap());
    let of = |op: &str| {
        let found = rows.iter().find(|(name, _)| name == op);
        &found.unwrap_or_else(|| panic!("no {op}: {rows:?}")).1
    };
    for op in ["attention", "norm", "load", "policy", "tokenizer"] {
        assert!(of(op)[1].parse::<u64>().unwrap() > 0, "{op}");
    }
    // A step asks the policy what it wants, and what it chooses.
    assert_eq!(of("policy")[1], "12");
    assert_eq!(of("framework, forward")[1], "6");
    let linear = of("linear");
    assert_eq!((linear.len(), &*linear[0]), (6, "f32"));
    assert!(
        linear[2..].iter().all(|x| x.parse::<f64>().is_ok()),
        "{linear:?}"
    );
    let shares = rows[1..].iter().map(|(_, cells)| cells[3].parse::<f64>());
    let sum: f64 = shares.map(Result::unwrap).sum();
    assert!((sum - 100.0).abs() < 2.0, "{sum}");
    assert_eq!(rows.last().unwrap().0, "the rest");
}

#[test]
fn trainings_say_where_their_time_went_and_a_command_that_did_nothing_does_not() {
    let at = Workplace::new();
    let output = at.demask(["train", "tiny.toml", "--timings"]).output();
    let rows = timings(&String::from_utf8(output.unwrap().stderr).unwrap());
    for op in [
        "set-up",
        "data",
        "noise",
        "loss",
        "gradients",
        "clip",
        "optimiser",
        "validation",
        "checkpoint",
        "attention backward",
        "framework, backward",
    ] {
        assert!(rows.iter().any(|(name, _)| name == op), "{op}: {rows:?}");
    }
    let stderr = at.refused(2, ["generate", "--model", "nowhere", "--timings"]);
    assert!(stderr.starts_with("error: "), "{stderr}");
}
