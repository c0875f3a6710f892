//! `demask bench` as a user calls it.

mod common;

use common::Workplace;
use serde_json::Value;

/// The rows that a bench prints as JSON lines.
fn rows<'a>(at: &Workplace, words: impl IntoIterator<Item = &'a str>) -> Vec<Value> {
    let quick = ["--repeat", "2", "--threads", "1", "--json"];
    let printed = at.stdout(words.into_iter().chain(quick));
    let lines = printed.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[test]
fn rows_are_measured_and_say_what_they_promise() {
    let at = Workplace::new();
    let gemm = "bench gemm --rows 1,3 --inner 32 --outer 48";
    let found = rows(&at, gemm.split(' '));
    let shapes: Vec<_> = found
        .iter()
        .map(|row| row["shape"].as_str().unwrap())
        .collect();
    assert_eq!(shapes, ["1x32x48", "3x32x48"]);
    for row in &found {
        assert_eq!(
            (&row["name"], &row["dtype"]),
            (&"gemm".into(), &"f32".into())
        );
        assert_eq!((&row["threads"], &row["repeats"]), (&1.into(), &2.into()));
        assert_eq!(row["unit"], "GFLOP/s");
        for key in ["median_s", "min_s", "rate", "peak_fraction"] {
            assert!(row[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {row}");
        }
        assert!(row.get("peers").is_none(), "{row}");
    }

    let forward = "bench forward --model tiny --tokens 8,5 --batch 2 --logits none";
    let found = rows(&at, forward.split(' '));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["shape"], "tiny 2x8");
    assert_eq!(found[0]["unit"], "tokens/s");

    let step = "bench step --model tiny --rows 4 --cached 0,3";
    let found = rows(&at, step.split(' '));
    assert_eq!(found[1]["shape"], "tiny 4, 3 cached");
    let part = |key: &str| found[1][key].as_f64().unwrap();
    assert!(part("network_s") > 0.0 && part("sampling_s") > 0.0);
    assert!(part("sampling_share") > 0.0 && part("sampling_share") < 1.0);

    let step = "bench step --model tiny --rows 4 --stored";
    let found = rows(&at, step.split(' '));
    assert_eq!(found[0]["shape"], "tiny 4, logits stored");

    let generate = "bench generate --model tiny --prompt 3 --length 6 --steps 3 --samples 2";
    let found = rows(&at, generate.split(' '));
    let shape = "tiny 3+6, 3 steps, 2 texts, low_confidence";
    assert_eq!(found[0]["shape"], shape);
    assert_eq!(
        (&found[0]["forwards"], &found[0]["unit"]),
        (&3.0.into(), &"tokens/s".into())
    );
    let of = |key: &str| found[0][key].as_f64().unwrap();
    assert!((of("rate") * of("median_s") - 12.0).abs() < 1e-6);
    assert!((of("step_s") * 3.0 - of("median_s")).abs() < 1e-6);
    assert!(of("weights_mib") > 0.0);

    let train = "bench train --batch 1 --length 8";
    let found = rows(&at, train.split(' '));
    assert_eq!(found[0]["shape"], "train-11m 1x8");
    assert!(found[0]["rate"].as_f64().is_some_and(|rate| rate > 0.0));
}

#[test]
fn a_u_net_is_measured_with_its_layers_both_ways() {
    let at = Workplace::new();
    let found = rows(&at, "bench conv --batch 1 --size 4".split(' '));
    let of = |name: &str| found.iter().filter(|row| row["name"] == name).count();
    // 20 shapes of convolutions and 10 of norms.
    assert_eq!((of("conv"), of("group_norm"), of("unet")), (40, 20, 1));
    assert_eq!(found[0]["shape"], "1x3x4x4 3x3/1 to 64, forward");
    assert_eq!(found[1]["shape"], "1x3x4x4 3x3/1 to 64, backward");
    let last = &found[found.len() - 1];
    assert_eq!(last["shape"], "unet-3m 1x3x4x4");
    assert_eq!(last["unit"], "pictures/s");
    for row in &found {
        let rate = row["rate"].as_f64();
        assert!(rate.is_some_and(|rate| rate > 0.0), "{row}");
    }
    let stderr = at.refused(1, "bench conv --size 6".split(' '));
    assert!(stderr.contains("a multiple of 4"), "{stderr}");
}

#[test]
fn the_peak_has_a_row_for_each_type_and_one_for_memory() {
    let at = Workplace::new();
    let table = at.stdout("bench peak --repeat 1 --threads 1".split(' '));
    for word in [
        "f32",
        "bf16",
        "int8",
        "GFLOP/s",
        "GOP/s",
        "GB/s",
        "1 thread\n",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[test]
fn what_a_format_costs_has_a_row_for_each_and_names_are_checked_first() {
    let at = Workplace::new();
    let words = "bench accuracy --model tiny --data text.txt --limit 2 --dtype int8,f32,int8";
    let printed = at.stdout(words.split(' ').chain(["--json"]));
    let lines = printed.lines().map(serde_json::from_str);
    let found: Vec<Value> = lines.collect::<Result<_, _>>().unwrap();
    let types: Vec<_> = found.iter().map(|row| row["dtype"].as_str()).collect();
    assert_eq!(types, [Some("f32"), Some("int8")]);
    for row in &found {
        let said = (&row["name"], &row["shape"], &row["model"]);
        assert_eq!(said, (&"accuracy".into(), &"tiny".into(), &"tiny".into()));
        for key in ["median_s", "rate", "unit", "peak_fraction"] {
            assert_eq!(row.get(key), Some(&Value::Null), "{key}: {row}");
        }
        assert!(row["nats_a_token"].as_f64().is_some_and(|nats| nats > 0.0));
    }
    assert!(found[1]["logits_off"].as_f64().is_some_and(|off| off < 0.1));
    let table = at.stdout(words.split(' '));
    assert!(table.contains("logits off %"), "{table}");

    let words = "bench accuracy --data text.txt --model tiny,nowhere";
    let output = at.demask(words.split(' ')).output().unwrap();
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("error: no checkpoint `nowhere`"),
        "{stderr}"
    );
    let stderr = at.refused(1, "bench accuracy --model tiny --data none.txt".split(' '));
    assert!(stderr.contains("none.txt"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn peers_take_turns_or_say_why_not() {
    let at = Workplace::new();
    let fake = r#"while read line; do case "$line" in
        *quit*) exit;;
        *run*) echo '{"seconds": 1000}';;
        *'"rows":1,'*) echo '{"skip": "too few"}';;
        *) echo '{"ready": true, "name": "fake 1.0"}';;
    esac; done"#;
    std::fs::write(at.file("fake.sh"), fake).unwrap();
    let words = "bench gemm --rows 1,3 --inner 32 --outer 48 --peer".split(' ');
    let found = rows(&at, words.chain(["sh fake.sh"]));
    let skipped = &found[0]["peers"][0];
    assert_eq!(
        (&skipped["skip"], &skipped["command"]),
        (&"too few".into(), &"sh fake.sh".into())
    );
    let peer = &found[1]["peers"][0];
    assert_eq!(
        (&peer["name"], &peer["median_s"]),
        (&"fake 1.0".into(), &1000.0.into())
    );
    let ours = found[1]["median_s"].as_f64().unwrap();
    let ratio = peer["ratio"].as_f64().unwrap();
    assert!((ratio * ours - 1000.0).abs() < 1e-6, "{ratio} {ours}");

    let words = "bench gemm --rows 3 --inner 8 --outer 8 --repeat 1 --peer";
    let table = at.stdout(words.split(' ').chain(["sh fake.sh"]));
    assert!(
        table.contains("ratio") && table.contains("fake 1.0"),
        "{table}"
    );
    let stderr = at.refused(1, words.split(' ').chain(["no-such-program"]));
    assert!(stderr.contains("`no-such-program` ended"), "{stderr}");
    assert!(stderr.contains("help: run"), "{stderr}");
    // What we measured is not lost with a peer that dies before its answer.
    let words = words.split(' ').chain(["read job; exit 3", "--json"]);
    let output = at.demask(words).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let row: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(row["rate"].as_f64().is_some_and(|rate| rate > 0.0), "{row}");
    assert_eq!(row["peers"][0]["failed"], "failed");
    let words = "bench gemm --rows 3 --inner 8 --outer 8 --repeat 1 --peer";
    let stderr = at.refused(1, words.split(' ').chain(["read job; echo well"]));
    assert!(
        stderr.contains("answered `well`") && stderr.contains("README.md"),
        "{stderr}"
    );
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let at = Workplace::new();
    for (words, said) in [
        ("bench gemm --dtype int5", "f32, bf16, int8, int4"),
        ("bench train --dtype int4", "what there is: f32"),
        ("bench gemm --dtype fp3", "f32, bf16, int8, int4"),
        ("bench gemm --rows 0", "at least 1"),
        (
            "bench gemm --peer=",
            "give the command that starts the program",
        ),
        ("bench conv --part all", "layers, norms, network"),
        ("bench forward", "--shape"),
        ("bench step --shape dream", "`dream-0.5b`"),
        (
            "bench generate --shape train-11m --prompt 4090",
            "4090 tokens and 128 new ones",
        ),
        (
            "bench generate --shape train-11m --length 99999999999",
            "help: lower --length",
        ),
        (
            "bench generate --model judge",
            "`demask generate --model judge --timings`",
        ),
        (
            "bench generate --shape train-11m --policy fast",
            "unknown policy",
        ),
        (
            "bench step --shape train-11m --model tiny",
            "cannot be used with",
        ),
        ("bench forward --model nowhere", "no checkpoint `nowhere`"),
        ("bench", "Usage"),
    ] {
        let output = at.demask(words.split(' ')).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}: {stderr}");
        assert!(stderr.contains(said), "{words}: {stderr}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_keeps_what_was_measured_and_ends_the_peer() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    let at = Workplace::new();
    // It answers once and is silent then.
    let peer = r#"sleep 1000 & echo $! > child; read job; echo '{"skip": "not this one"}'; wait"#;
    let words = "bench gemm --rows 1,2,3 --inner 8 --outer 8 --repeat 1 --peer";
    let mut demask = Command::new(env!("CARGO_BIN_EXE_demask"))
        .current_dir(at.path())
        .args(words.split(' ').chain([peer]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demask.stdout.take().unwrap()).lines();
    let row = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("1x8x8 ")));
    assert!(row.is_some(), "the first row is there before the others");
    let child = std::fs::read_to_string(at.file("child")).unwrap();
    // One that nobody has asked yet how it ended is not alive.
    let is_alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        stat.is_ok_and(|stat| !stat.contains(") Z"))
    };
    assert!(is_alive());
    let id = demask.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    let status = demask.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let mut stderr = String::new();
    let mut said = demask.stderr.take().unwrap();
    said.read_to_string(&mut stderr).unwrap();
    assert!(stderr.ends_with("stopped\n"), "{stderr}");
    assert!(!is_alive(), "what the peer started is still there");
}

/// Sizes for which there is no memory, or no number at all.
#[cfg(target_os = "linux")]
#[test]
fn what_there_is_no_memory_for_is_refused_before_anything_is_loaded() {
    let at = Workplace::new();
    for words in [
        "generate --shape train-11m --length 8 --samples 999999999999",
        "generate --model tiny --prompt 1 --length 4 --samples 999999999999",
        "train --batch 999999999",
        "train --batch 4294967296 --length 4294967296",
        "forward --shape llada-0.2b --tokens 999999999",
        "forward --model tiny --batch 999999999999 --tokens 10",
        "forward --shape train-11m --batch 4294967296 --tokens 4294967296",
        "forward --shape train-11m --batch 18446744073709551615 --tokens 16",
        "step --shape llada-0.2b --rows 999999999999",
        "step --shape llada-0.2b --rows 8 --cached 999999999999",
        "step --shape llada-0.2b --rows 18446744073709551615 --cached 18446744073709551615",
        "gemm --rows 99999999999",
        "conv --batch 99999999999",
    ] {
        let stderr = at.refused(1, ["bench"].into_iter().chain(words.split(' ')));
        let clear = stderr.contains("of memory, and") && stderr.contains("help: lower --");
        assert!(clear, "{words}: {stderr}");
    }
}

#[cfg(unix)]
#[test]
fn timings_name_the_products_and_nothing_of_a_command_that_did_nothing() {
    let at = Workplace::new();
    let words = "bench gemm --rows 3 --inner 8 --outer 8 --repeat 1 --timings";
    let output = at.demask(words.split(' ')).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let row = stderr.lines().find(|line| line.starts_with("gemm  "));
    assert!(row.is_some_and(|row| row.contains(" f32 ")), "{stderr}");
    // A failure in the middle stands below what was done before it.
    let words = words.split(' ').chain(["--peer", "read job; exit 3"]);
    let stderr = at.refused(1, words);
    let table = stderr.find("the rest").unwrap();
    assert!(table < stderr.find("error: ").unwrap(), "{stderr}");
    let stderr = at.refused(2, "bench forward --model nowhere --timings".split(' '));
    assert!(stderr.starts_with("error:"), "{stderr}");
}
