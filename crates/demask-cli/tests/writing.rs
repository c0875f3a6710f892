//! `generate` and `infill` as a user calls them.

mod common;

use common::{Workplace, refused};
use serde_json::Value;

const TINY: [&str; 6] = ["generate", "--model", "tiny", "--length", "8", "--seed=1"];

fn tiny<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&TINY[..], more].concat()
}

#[test]
fn the_object_has_every_field_of_the_contract() {
    let at = Workplace::new();
    let object = at.json(tiny(&[
        "Once",
        "--json",
        "--samples",
        "2",
        "--temperature",
        "1",
    ]));
    for field in ["text", "model", "samples", "config"] {
        assert!(!object[field].is_null(), "{field}");
    }
    assert_eq!(object["prompt_tokens"], 5, "a begin token and four bytes");
    for field in [
        "new_tokens",
        "steps",
        "forwards",
        "rows",
        "seconds",
        "tokens_per_second",
    ] {
        assert!(
            object[field].as_f64().is_some_and(|n| n > 0.0),
            "{field}: {}",
            object[field]
        );
    }
    assert_eq!(
        (&object["seed"], &object["steps"]),
        (&Value::from(1), &Value::from(8))
    );
    let samples = object["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2);
    assert_eq!(object["text"], samples[0]["text"]);
    assert_ne!(samples[0]["ids"], samples[1]["ids"]);
    let sum: u64 = samples
        .iter()
        .map(|sample| sample["rows"].as_u64().unwrap())
        .sum();
    assert_eq!(object["rows"], sum);
}

#[test]
fn a_configuration_writes_the_same_text_again() {
    let at = Workplace::new();
    let words = [
        "generate",
        "Once",
        "--model",
        "tiny",
        "--length",
        "8",
        "--temperature",
        "1",
    ];
    let first = at.json(words.into_iter().chain(["--json"]));
    std::fs::write(at.file("out.json"), first.to_string()).unwrap();
    let again = at.json(["generate", "--config", "out.json", "--json"]);
    assert_eq!(again["samples"], first["samples"]);
    assert_eq!(again["config"], first["config"]);
    let one = at.json([
        "generate",
        "--config",
        "out.json",
        "--json",
        "--threads",
        "1",
    ]);
    assert_eq!(one["samples"], first["samples"]);
    let seed = first["seed"].as_u64().unwrap() + 1;
    let other = at.json([
        "generate",
        "--config",
        "out.json",
        "--json",
        "--seed",
        &seed.to_string(),
    ]);
    assert_ne!(other["samples"], first["samples"]);
}

#[test]
fn a_seed_that_is_not_given_is_new_each_time_and_named() {
    let at = Workplace::new();
    let words = ["generate", "--model", "tiny", "--length", "2"];
    let seeds: Vec<Value> = (0..2)
        .map(|_| at.json(words.into_iter().chain(["--json"]))["seed"].clone())
        .collect();
    assert_ne!(seeds[0], seeds[1]);
    let output = at.demask(words).output().unwrap();
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("(tiny, seed ")
    );
}

#[test]
fn piped_text_is_plain_and_prompts_come_from_anywhere() {
    let at = Workplace::new();
    let argument = at.stdout(tiny(&["Once"]));
    assert!(
        argument.starts_with("Once") && argument.ends_with('\n'),
        "{argument:?}"
    );
    assert!(!argument.contains('\x1b'), "{argument:?}");
    for more in [tiny(&["-"]), tiny(&[])] {
        let output = at.demask(more).write_stdin("Once\n").output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), argument);
    }
    let nothing = at.json(tiny(&["--json"]));
    assert_eq!(nothing["prompt_tokens"], 1, "the begin token");
    let empty = at.json(tiny(&["", "--json"]));
    assert_eq!(empty["samples"], nothing["samples"]);
}

#[test]
fn values_that_cannot_work_are_refused_before_anything_is_loaded() {
    let at = Workplace::new();
    for (flag, value, said) in [
        ("--length", "0", "must be at least 1"),
        ("--steps", "0", "must be at least 1"),
        ("--steps", "many", "is not a whole number"),
        ("--temperature", "NaN", "must be a finite number"),
        ("--temperature", "-1", "must be a finite number"),
        ("--top-p", "1.5", "at most 1"),
        ("--policy", "entrpy", "did you mean `entropy`?"),
        ("--policy", "threshold:tu=1", "did you mean `tau`?"),
        ("--policy", "threshold:tau=x", "needs a finite number"),
        ("--set", "decode.lenght=3", "did you mean `length`?"),
        ("--set", "x", "key=value"),
    ] {
        let argument = format!("{flag}={value}");
        let stderr = at.refused(2, ["generate", "--model", "tiny", &argument]);
        assert!(stderr.contains(said), "{argument}: {stderr}");
    }
    for (flag, said) in [
        ("--temperature", "must be a finite number, 0 or larger"),
        ("--top-p", "must be above 0"),
        ("--top-k", "must be at least 1"),
        ("--length", "must be at least 1"),
        ("--seed", "must be a whole number from 0"),
    ] {
        let stderr = at.refused(2, ["generate", "--model", "tiny", flag, "-1"]);
        assert!(stderr.contains(said), "{flag}: {stderr}");
    }
    for (assignment, said) in [
        (
            "decode.length=-3",
            "`-3`, expected a whole number, 0 or larger",
        ),
        ("decode.temperature=true", "expected a number"),
        ("decode.plan=3", "expected an object with a `kind`"),
        ("decode.plan.kind=semi_autoregressive", "add --block N"),
    ] {
        let stderr = at.refused(2, ["generate", "--model", "tiny", "--set", assignment]);
        assert!(stderr.contains(said), "{assignment}: {stderr}");
    }
    let stderr = at.refused(2, ["generate", "--json", "--plain"]);
    assert!(stderr.contains("cannot be used with"), "{stderr}");
}

#[test]
fn models_that_do_not_open_say_what_would() {
    let at = Workplace::new();
    let stderr = at.refused(2, ["generate", "--model", "tny"]);
    assert!(
        stderr.contains("help: ") && stderr.contains("`tiny`"),
        "{stderr}"
    );
    let stderr = at.refused(2, ["generate", "--model", "GSAI-ML/LLaDA-8B-Base"]);
    let command = "`hf download GSAI-ML/LLaDA-8B-Base`";
    assert!(stderr.contains(command), "{stderr}");
    assert!(
        stderr.contains(&at.file("hub").display().to_string()),
        "{stderr}"
    );
    let stderr = at.refused(2, ["generate", "--model", "sudoku"]);
    assert!(stderr.contains("$DEMASK_CHECKPOINTS"), "{stderr}");
    let run = at.file("runs/mine");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::rename(at.file("checkpoints/judge"), run.join("checkpoint")).unwrap();
    let stderr = at.refused(2, ["generate", "--model", "runs/mine"]);
    assert!(stderr.contains("give `runs/mine/checkpoint`"), "{stderr}");
    let weights = at.file("checkpoints/tiny/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let stderr = at.refused(1, ["generate", "--model", "tiny"]);
    assert!(stderr.contains("model.safetensors"), "{stderr}");
}

#[test]
fn a_model_of_the_hub_opens_from_its_cache() {
    let at = Workplace::new();
    let model = at.file("hub/models--org--small");
    std::fs::create_dir_all(model.join("snapshots")).unwrap();
    std::fs::create_dir_all(model.join("refs")).unwrap();
    std::fs::write(model.join("refs/main"), "0a1b").unwrap();
    std::fs::rename(at.file("checkpoints/tiny"), model.join("snapshots/0a1b")).unwrap();
    let object = at.json([
        "generate",
        "--model",
        "org/small",
        "--length",
        "2",
        "--json",
    ]);
    assert_eq!(object["model"], "org/small");
    std::fs::remove_file(model.join("snapshots/0a1b/model.safetensors")).unwrap();
    let stderr = at.refused(2, ["generate", "--model", "org/small"]);
    assert!(stderr.contains("does not hold all of it"), "{stderr}");
}

/// The model of 6 by 6 Sudokus: the digits 1 to 6 and the line feed are all it has tokens for.
const SUDOKU: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints/sudoku");

#[test]
fn text_that_the_tokenizer_lacks_is_named() {
    let at = Workplace::new();
    let stderr = at.refused(2, ["infill", "Hello [[3]] 12", "--model", SUDOKU]);
    for said in ["`H`, `e`, `l`, `o` and the space", SUDOKU] {
        assert!(stderr.contains(said), "{stderr}");
    }
    let filled = at.stdout(["infill", "1[[2]]\n3", "--model", SUDOKU]);
    assert!(
        filled.starts_with('1') && filled.ends_with("\n3\n"),
        "{filled:?}"
    );
    let words = ["generate", "1 é", "--model", SUDOKU, "--length", "2"];
    let output = at.demask(words).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && stderr.contains("no token for the space and `é`"),
        "{stderr}"
    );
}

#[test]
fn a_length_that_nobody_asked_for_fits_the_context() {
    let at = Workplace::new();
    let words = ["generate", "12", "--model", SUDOKU, "--json"];
    let output = at.demask(words).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("length 39 instead of 41"), "{stderr}");
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let decode = &object["config"]["decode"];
    assert_eq!(
        (&decode["length"], &decode["steps"]),
        (&39.into(), &39.into())
    );
    for asked in ["--length=41", "--set=decode.length=41"] {
        let stderr = at.refused(2, words.into_iter().chain([asked]));
        assert!(stderr.contains("error: prompt: "), "{stderr}");
    }
    let stderr = at.refused(2, ["infill", "[[60000]] a", "--model", "tiny"]);
    assert!(
        stderr.contains("60000 of them in gaps") && stderr.contains("--gap"),
        "{stderr}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn standard_output_that_is_full_is_named() {
    let at = Workplace::new();
    for words in [tiny(&[]), tiny(&["--json"]), vec!["policies"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_demask"))
            .current_dir(at.path())
            .args(words)
            .stdin(std::process::Stdio::null())
            .stdout(std::fs::File::create("/dev/full").unwrap())
            .output()
            .unwrap();
        let stderr = refused(1, output);
        assert!(
            stderr.contains("cannot write to standard output: No space"),
            "{stderr}"
        );
    }
}

#[test]
fn input_that_cannot_be_used_is_refused() {
    let at = Workplace::new();
    let output = at
        .demask(tiny(&["-"]))
        .write_stdin(b"ab\xffcd".to_vec())
        .output()
        .unwrap();
    let stderr = refused(2, output);
    assert!(
        stderr.contains("byte 0xff at offset 2") && stderr.contains("iconv"),
        "{stderr}"
    );
    let long = "word ".repeat(2000);
    let stderr = at.refused(2, tiny(&[&long]));
    assert!(stderr.contains("prompt"), "{stderr}");
    let stderr = at.refused(2, tiny(&["Hello", "--chat"]));
    assert!(stderr.contains("chat template"), "{stderr}");
    let stderr = at.refused(1, tiny(&["--config", "nowhere.json"]));
    assert!(stderr.contains("nowhere.json"), "{stderr}");
    std::fs::write(at.file("bad.json"), r#"{"decode": {"lenght": 3}}"#).unwrap();
    let stderr = at.refused(2, tiny(&["--config", "bad.json"]));
    assert!(stderr.contains("lenght"), "{stderr}");
    for text in ["# A page", "[1]"] {
        std::fs::write(at.file("page.md"), text).unwrap();
        let stderr = at.refused(2, tiny(&["--config", "page.md"]));
        assert!(
            stderr.contains("JSON") && stderr.contains("that --json printed"),
            "{stderr}"
        );
    }
}

#[test]
fn steps_that_do_not_divide_are_said() {
    let at = Workplace::new();
    let notes = |words: &[&str]| {
        let output = at.demask(tiny(words)).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        let notes = stderr.lines().filter(|line| line.starts_with("note: "));
        notes.map(str::to_owned).collect::<Vec<_>>()
    };
    for (words, said) in [
        (&["--block=4", "--steps=5"][..], "5 steps do not divide"),
        (&["--steps=3"], "8 cells in 3 steps: 3, 3, 2"),
        (
            &["--block=3", "--steps=4"],
            "the last block has 2 cells of 3; blocks of 3, 3, 2 cells took 2, 1, 1 steps",
        ),
    ] {
        let notes = notes(words);
        assert!(notes.len() == 1 && notes[0].contains(said), "{notes:?}");
    }
    assert_eq!(notes(&["--steps=4"]), [""; 0]);
    assert_eq!(notes(&[]), [""; 0]);
}

/// A reader that goes away early is no failure: `demask … | head -c 1`.
#[test]
#[cfg(unix)]
fn a_closed_pipe_is_no_failure() {
    use std::process::{Command, Stdio};
    let at = Workplace::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_demask"))
        .current_dir(at.path())
        .args(["systems", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// A pipe can be read only once.
#[cfg(unix)]
#[test]
fn a_configuration_may_come_from_a_pipe() {
    let at = Workplace::new();
    let mut command = at.demask(["generate", "Once", "--config", "/dev/stdin", "--json"]);
    command.write_stdin(r#"{"model": "tiny", "decode": {"length": 3, "steps": 3}}"#);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&object["steps"], &object["model"]),
        (&3.into(), &"tiny".into())
    );
}

#[test]
fn gaps_are_filled_and_what_is_given_stays() {
    let at = Workplace::new();
    let words = [
        "infill",
        "Tim had [[3]]! [[]].",
        "--model",
        "tiny",
        "--gap",
        "4",
        "--seed",
        "1",
    ];
    let object = at.json(words.into_iter().chain(["--json"]));
    let text = object["text"].as_str().unwrap();
    assert!(
        text.starts_with("Tim had ") && text.contains("! ") && text.ends_with('.'),
        "{text:?}"
    );
    assert_eq!(object["steps"], 7, "one step an open cell");
    assert_eq!(object["new_tokens"], 7);
    let plain = at.stdout(words);
    assert_eq!(plain.trim_end_matches('\n'), text.trim_end_matches('\n'));
    std::fs::write(at.file("out.json"), object.to_string()).unwrap();
    let again = at.json(["infill", "--config", "out.json", "--json"]);
    assert_eq!(again["text"], object["text"]);
    // The size of a gap that names none decides the steps, wherever it comes from.
    std::fs::write(at.file("gap.json"), r#"{"gap": 5}"#).unwrap();
    for gap in [["--set", "gap=5"], ["--config", "gap.json"], ["--gap", "5"]] {
        let words = ["infill", "a [[]] b", "--model", "tiny", "--json"];
        assert_eq!(at.json(words.into_iter().chain(gap))["steps"], 5, "{gap:?}");
    }
    for (template, said) in [
        ("no gap", "there is no gap"),
        ("a [[0]]", "at least 1 token"),
        ("a [[6", "not closed"),
        ("a [[six]]", "is not a gap"),
    ] {
        let stderr = at.refused(2, ["infill", template, "--model", "tiny"]);
        assert!(stderr.contains(said), "{template}: {stderr}");
    }
    let stderr = at.refused(2, ["infill", "--model", "tiny"]);
    assert!(stderr.contains("no text to fill"), "{stderr}");
}

#[test]
fn an_autoregressive_model_writes_from_left_to_right() {
    let at = Workplace::new();
    let words = [
        "generate", "Once", "--model", "judge", "--length", "6", "--seed", "1", "--json",
    ];
    let object = at.json(words);
    assert_eq!(object["samples"][0]["ids"].as_array().unwrap().len(), 6);
    let stderr = at.refused(2, words.into_iter().chain(["--cfg", "1"]));
    assert!(stderr.contains("autoregressive"), "{stderr}");
    let stderr = at.refused(2, ["infill", "a [[3]] b", "--model", "judge"]);
    assert!(stderr.contains("cannot see what follows"), "{stderr}");
    std::fs::write(at.file("bad.json"), r#"{"decode": {"steps": 3}}"#).unwrap();
    for (flag, name) in [
        ("--steps=4", "steps"),
        ("--block=2", "plan (block)"),
        ("--policy=random", "policy"),
        ("--cfg=1", "guides (cfg)"),
        ("--set=decode.steps=4", "steps"),
        (
            r#"--set=decode.plan={"kind":"blocks","block":2}"#,
            "plan (block)",
        ),
        (r#"--set=decode.policy={"kind":"random"}"#, "policy"),
        (r#"--set=decode.pace={"kind":"expected"}"#, "pace"),
        (
            r#"--set=decode.guides=[{"kind":"classifier_free","scale":1}]"#,
            "guides (cfg)",
        ),
        (
            "--set=decode.eos.confidence_eos_eot_inf=true",
            "eos.confidence_eos_eot_inf",
        ),
        ("--set=decode.compat=dream_official", "compat"),
        ("--config=bad.json", "steps"),
    ] {
        let stderr = at.refused(2, ["generate", "x", "--model", "judge", flag]);
        let said = format!("the setting {name} cannot be used with an autoregressive model");
        assert!(stderr.contains(&said), "{flag}: {stderr}");
        assert!(stderr.contains("from left to right"), "{flag}: {stderr}");
    }
    // The length takes the steps along, layer by layer.
    std::fs::write(at.file("out.json"), object.to_string()).unwrap();
    for (words, length) in [
        (&["--config", "out.json"][..], 6),
        (&["--config", "out.json", "--length", "7"], 7),
        (&["--config", "out.json", "--set", "decode.length=8"], 8),
        (&["--set", "decode.length=9"], 9),
    ] {
        let words = ["generate", "x", "--model", "judge", "--json"]
            .into_iter()
            .chain(words.iter().copied());
        let object = at.json(words);
        let decode = &object["config"]["decode"];
        assert_eq!(
            (&decode["length"], &decode["steps"]),
            (&length.into(), &length.into())
        );
    }
}

#[test]
fn a_configuration_of_the_other_command_is_refused() {
    let at = Workplace::new();
    let words = ["infill", "a [[2]] b", "--model", "tiny", "--json"];
    std::fs::write(at.file("infill.json"), at.stdout(words)).unwrap();
    let words = ["generate", "a", "--model", "tiny", "--length=2", "--json"];
    std::fs::write(at.file("generate.json"), at.stdout(words)).unwrap();
    for (words, name, other) in [
        (
            ["generate", "--config", "infill.json"],
            "template",
            "demask infill",
        ),
        (["generate", "--set", "gap=3"], "gap", "demask infill"),
        (
            ["infill", "--config", "generate.json"],
            "prompt",
            "demask generate",
        ),
        (["infill", "--set", "chat=true"], "chat", "demask generate"),
    ] {
        let stderr = at.refused(2, words.into_iter().chain(["--model", "tiny"]));
        assert!(stderr.contains(&format!("has a `{name}`")), "{stderr}");
        assert!(stderr.contains(&format!("use `{other}`")), "{stderr}");
    }
}
