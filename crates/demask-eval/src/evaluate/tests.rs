use std::path::PathBuf;

use demask_models::Frame;

use super::*;
use crate::observer::Silent;
use crate::toy::Toy;

/// Letters a, b, c; c is the end token.
fn judge() -> Toy {
    Toy::bigram(
        3,
        16,
        &[0.5, 0.25, 0.25, 0.125, 0.5, 0.375, 0.2, 0.2, 0.6],
        Some(2),
    )
    .framed(Frame {
        bos: false,
        eos: false,
    })
}

fn config(metrics: &[&str]) -> EvalConfig {
    let metrics = metrics
        .iter()
        .map(|name| MetricName::parse(name).unwrap())
        .collect();
    EvalConfig {
        metrics,
        ..EvalConfig::default()
    }
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> Option<PathBuf> {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    Some(path)
}

struct Echo;

impl Writer for Echo {
    fn write(&self, config: &DecodeConfig) -> Result<Vec<Sample>, EvalError> {
        let text = |i| {
            if (i as u64 + config.seed).is_multiple_of(2) {
                "ab"
            } else {
                "aabb"
            }
        };
        Ok((0..config.samples)
            .map(|i| Sample::new(text(i), true))
            .collect())
    }
}

#[test]
fn a_whole_evaluation_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let model = judge();
    let subject = Subject {
        judge: Some(&model),
        writer: Some(&Echo),
        ..Subject::new(&model)
    };
    let mut config = config(&["nelbo", "ppl", "gen-ppl", "entropy", "mauve", "ppl"]);
    config.data.path = file(&folder, "d.txt", "aabbab");
    config.data.window.length = Some(3);
    let decode = DecodeConfig {
        samples: 4,
        ..DecodeConfig::default()
    };
    config.samples = SamplesConfig::Written { decode };
    let report = evaluate(subject, &config, &mut Silent).unwrap();
    // Windows "aab", "bab": P = 1/2 1/4 and 1/8 1/4: 8 bits over 4 tokens and 4 bytes.
    assert!((report.value("bits per token").unwrap() - 2.0).abs() < 1e-6);
    assert!((report.value("bits per byte").unwrap() - 2.0).abs() < 1e-6);
    assert!((report.value("ppl").unwrap() - 4.0).abs() < 1e-5);
    assert_eq!(
        report.rows.iter().filter(|row| row.name == "ppl").count(),
        1
    );
    assert_eq!(report.table()[0][2], "exact");
    // "abc": 1/4 3/8; "aabbc": 1/2 1/4 1/2 3/8; twice each: 12 tokens.
    let nats = 2.0 * ((1.0f64 / 4.0 * 3.0 / 8.0).ln() + (1.0f64 / 16.0 * 3.0 / 8.0).ln());
    assert!((report.value("judge nll").unwrap() + nats / 12.0).abs() < 1e-6);
    assert!((report.value("entropy in bits").unwrap() - 1.0).abs() < 1e-12);
    assert!(report.value("mauve").unwrap() > 0.0);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("mauve is unsteady"))
    );
    assert_eq!(
        report,
        evaluate(subject, &report.config, &mut Silent).unwrap()
    );
}

#[test]
fn answers_are_scored_and_long_prompts_cut() {
    let folder = tempfile::tempdir().unwrap();
    let model = judge();
    let mut config = config(&["likelihood", "greedy-match"]);
    let long = "a".repeat(40);
    let lines = format!(
        "{{\"prompt\":\"a\",\"answer\":\"ab\"}}\n{{\"prompt\":\"{long}\",\"answer\":\"a\"}}\n"
    );
    config.data.path = file(&folder, "p.jsonl", &lines);
    let report = evaluate(Subject::new(&model), &config, &mut Silent).unwrap();
    // 1/2 1/4 and 1/2: 4 bits over two answers and three tokens.
    let bits = 4.0 * 2f64.ln();
    assert!((report.value("log-likelihood").unwrap() + bits / 2.0).abs() < 1e-6);
    assert!((report.value("log-likelihood per token").unwrap() + bits / 3.0).abs() < 1e-6);
    assert_eq!(report.value("greedy-match"), Some(0.5));
    assert_eq!(report.value("tokens matched"), Some(2.0 / 3.0));
    assert_eq!(
        report.notes,
        ["1 prompts were cut at their beginning to fit the model"]
    );
}

#[test]
fn what_is_missing_is_named() {
    let model = judge();
    let folder = tempfile::tempdir().unwrap();
    let run = |config: &EvalConfig| {
        evaluate(Subject::new(&model), config, &mut Silent)
            .unwrap_err()
            .to_string()
    };
    assert!(run(&config(&["ppl"])).contains("metric `ppl` needs a data file: name a file"));
    assert!(run(&config(&["gen-ppl"])).contains("needs a judge"));
    assert!(run(&config(&["entropy"])).contains("needs written text"));
    let mut empty = config(&["nelbo"]);
    empty.data.path = file(&folder, "e.txt", "");
    assert!(run(&empty).contains("holds no text"));
    let mut samples = config(&["entropy"]);
    let path = file(&folder, "s.jsonl", "{\"text\":\"abc\"}\n{\"text\":\"aaa\"}").unwrap();
    samples.samples = SamplesConfig::File {
        path,
        field: "text".into(),
    };
    let report = evaluate(Subject::new(&model), &samples, &mut Silent).unwrap();
    assert!((report.value("entropy").unwrap() - 3f64.ln() / 2.0).abs() < 1e-12);
}
