//! Policies on small confidence tables, by hand.

use super::*;
use crate::canvas::Cell;
use crate::draw::DrawKind;
use demask_diffusion::process::Uniform;
use demask_diffusion::sampling::Crossing;
use demask_models::{ModelKind, Predicts};

/// Uniforms from a rule.
struct Rule(fn(At) -> f64);

impl Uniforms for Rule {
    fn at(&self, at: At, n: usize) -> Vec<f64> {
        vec![(self.0)(at); n]
    }
}

const GREEDY: Draw = Draw {
    temperature: 0.0,
    top_p: None,
    crossing: Crossing::Keep,
    top_k: None,
    kind: DrawKind::Categorical,
};

/// Five open cells after one given; token 5 is the mask.
fn row() -> Row {
    let mut cells = vec![Cell::Open; 6];
    cells[0] = Cell::Fixed;
    Row::new(vec![0, 5, 5, 5, 5, 5], cells, vec![0; 6], 1)
}

/// Distributions of the five cells over three tokens.
const TABLE: [[f32; 3]; 5] = [
    [0.50, 0.49, 0.01], // 1: probability .50, margin .01, entropy .742
    [0.10, 0.30, 0.60], // 2: probability .60, margin .30, entropy .898
    [0.55, 0.23, 0.22], // 3: probability .55, margin .32, entropy 1.000
    [0.02, 0.96, 0.02], // 4: probability .96, margin .94, entropy .196
    [0.91, 0.05, 0.04], // 5: probability .91, margin .86, entropy .364
];

struct Setting {
    quota: usize,
    index: usize,
    steps: usize,
    draw: Draw,
    held_back: HeldBack,
    rule: fn(At) -> f64,
}

impl Default for Setting {
    fn default() -> Self {
        let held_back = HeldBack::default();
        Self {
            quota: 2,
            index: 0,
            steps: 4,
            draw: GREEDY,
            held_back,
            rule: |_| 0.5,
        }
    }
}

/// What a policy writes into the table: `(cell, token)`.
fn writes(policy: &str, setting: &Setting) -> Vec<(usize, u32)> {
    let (row, open) = (row(), [1, 2, 3, 4, 5]);
    let source = Rule(setting.rule);
    let step = Step {
        row: &row,
        open: &open,
        index: setting.index,
        steps: setting.steps,
        quota: setting.quota,
        total: setting.index,
        draw: &setting.draw,
        held_back: &setting.held_back,
        sample: 0,
        source: &source,
    };
    let build = || {
        let config = PolicyConfig::parse(policy).unwrap();
        let mut policy = config
            .build(&target(ModelKind::Masked, Predicts::Clean, 3))
            .unwrap();
        let ask = policy.ask(&step);
        (policy, ask)
    };
    let (mut policy, ask) = build();
    let logits: Vec<f32> = ask
        .cells
        .iter()
        .flat_map(|&cell| TABLE[cell - 1].map(f32::ln))
        .collect();
    let choice = policy
        .choose(&step, &Candidates::new(&ask.cells, &logits, 3))
        .unwrap();
    if let Reads::Scores { chances } = ask.reads
        && step.held_back.left_out.is_empty()
    {
        // What it reads is enough.
        let numbers = ask.cells.iter().filter_map(|&cell| step.numbers(cell, 3));
        let numbers: Vec<Numbers> = numbers.collect();
        let readings = step.draw.read(&logits, 3, &numbers, chances);
        let candidates = Candidates::scored(&ask.cells, &readings);
        assert_eq!(build().0.choose(&step, &candidates).unwrap(), choice);
    }
    choice.write.iter().map(|w| (w.cell, w.token)).collect()
}

fn plain(policy: &str) -> Vec<(usize, u32)> {
    writes(policy, &Setting::default())
}

#[test]
fn each_score_ranks_by_its_own_reading() {
    let three = Setting {
        quota: 3,
        ..Setting::default()
    };
    assert_eq!(plain("low_confidence"), [(4, 1), (5, 0)]);
    assert_eq!(writes("low_confidence", &three), [(2, 2), (4, 1), (5, 0)]);
    assert_eq!(writes("maskgit_plus", &three), [(2, 2), (4, 1), (5, 0)]);
    assert_eq!(writes("topk_margin", &three), [(3, 0), (4, 1), (5, 0)]);
    assert_eq!(writes("entropy", &three), [(1, 0), (4, 1), (5, 0)]);
}

#[test]
fn the_parallel_rules_ignore_the_quota() {
    assert_eq!(
        plain("threshold:tau=0.54"),
        [(2, 2), (3, 0), (4, 1), (5, 0)]
    );
    assert_eq!(plain("threshold:tau=0.99"), [(4, 1)]);
    // (n+1)(1-p): 2*.04 = .08, 3*.09 = .27, 4*.40 = 1.6, 5*.45 = 2.25, 6*.50 = 3.
    assert_eq!(plain("factor:f=0.3"), [(4, 1), (5, 0)]);
    assert_eq!(plain("factor:f=2"), [(2, 2), (4, 1), (5, 0)]);
    assert_eq!(plain("factor:f=0.01"), [(4, 1)]);
    // Entropies .196 .364 .742 .898 1.000: sums before each 0, .196, .560, 1.302, 2.200.
    assert_eq!(plain("entropy_bound:gamma=0.1"), [(4, 1)]);
    assert_eq!(plain("entropy_bound:gamma=0.2"), [(4, 1), (5, 0)]);
    assert_eq!(plain("entropy_bound:gamma=0.6"), [(1, 0), (4, 1), (5, 0)]);
}

#[test]
fn the_confidence_of_low_confidence_ignores_temperature_and_filters() {
    // Top-k 1 makes every drawn probability 1: maskgit_plus ties and takes the lower cells.
    let setting = Setting {
        draw: Draw {
            top_k: Some(1),
            ..GREEDY
        },
        ..Setting::default()
    };
    assert_eq!(writes("low_confidence", &setting), [(4, 1), (5, 0)]);
    assert_eq!(writes("maskgit_plus", &setting), [(1, 0), (2, 2)]);
    assert_eq!(writes("entropy", &setting), [(1, 0), (2, 2)]);
}

#[test]
fn tokens_are_drawn_at_a_temperature() {
    // Categorical at 0.52: the second token of cells 1 and 4, the third of 2, the first elsewhere.
    let setting = Setting {
        quota: 5,
        draw: Draw {
            temperature: 1.0,
            ..GREEDY
        },
        rule: |_| 0.52,
        ..Setting::default()
    };
    let expected = [(1, 1), (2, 2), (3, 0), (4, 1), (5, 0)];
    assert_eq!(writes("low_confidence", &setting), expected);
}

#[test]
fn random_takes_the_largest_uniforms() {
    let setting = Setting {
        rule: |at| [0.0, 0.2, 0.9, 0.4, 0.1, 0.8][at.cell],
        ..Setting::default()
    };
    assert_eq!(writes("random", &setting), [(2, 2), (5, 0)]);
}

#[test]
fn origin_and_ancestral_reveal_below_their_chance() {
    // Step 0 of 4: chance 1 - t_1 = (1 - eps)/4 = 0.24975.
    let rule: fn(At) -> f64 = |at| [0.0, 0.2, 0.9, 0.2499, 0.24, 0.8][at.cell];
    let setting = Setting {
        rule,
        ..Setting::default()
    };
    assert_eq!(writes("origin", &setting), [(1, 0), (4, 1)]);
    // 1e-5 in place of 1e-3: chance 0.2499975.
    assert_eq!(writes("ancestral", &setting), [(1, 0), (3, 0), (4, 1)]);
    let last = Setting {
        index: 3,
        rule: |_| 0.999_99,
        ..Setting::default()
    };
    assert_eq!(
        writes("origin", &last).len(),
        5,
        "the last step takes the rest"
    );
    let after = Setting {
        index: 4,
        rule: |_| 0.999_99,
        ..Setting::default()
    };
    assert_eq!(writes("ancestral", &after).len(), 5, "the denoiser alone");
}

#[test]
fn first_hitting_takes_one_cell_each_as_likely() {
    // u = 0.5 of five open cells is the third.
    assert_eq!(plain("first_hitting"), [(3, 0)]);
    let last = Setting {
        rule: |_| 0.999,
        ..Setting::default()
    };
    assert_eq!(writes("first_hitting", &last), [(5, 0)]);
}

#[test]
fn held_back_tokens_come_last_in_every_policy() {
    // Token 1 is an end token: cell 4, otherwise the surest of all, waits.
    let setting = Setting {
        held_back: HeldBack {
            last: vec![1],
            left_out: vec![],
        },
        rule: |at| {
            if at.cell == 4 {
                0.99
            } else {
                0.3 + at.cell as f64 / 10.0
            }
        },
        ..Setting::default()
    };
    assert_eq!(writes("low_confidence", &setting), [(2, 2), (5, 0)]);
    assert_eq!(writes("maskgit_plus", &setting), [(2, 2), (5, 0)]);
    assert_eq!(writes("topk_margin", &setting), [(3, 0), (5, 0)]);
    assert_eq!(writes("entropy", &setting), [(1, 0), (5, 0)]);
    assert_eq!(
        writes("entropy:alg_temp=0.5", &setting)
            .iter()
            .filter(|w| w.0 == 4)
            .count(),
        0
    );
    assert_eq!(writes("threshold:tau=0.9", &setting), [(5, 0)]);
    assert_eq!(writes("factor:f=0.3", &setting), [(5, 0)]);
    assert_eq!(
        writes("entropy_bound:gamma=0.5", &setting),
        [(1, 0), (5, 0)]
    );
    assert_eq!(writes("random", &setting), [(3, 0), (5, 0)]);
    let all = Setting {
        quota: 5,
        ..setting
    };
    assert_eq!(writes("low_confidence", &all).len(), 5, "last, but written");
}

#[test]
fn llada_leaves_end_tokens_out_of_the_softmax() {
    // Without token 1: cell 1 reads .50/.51 and comes first, cell 4 has confidence 0.
    let setting = Setting {
        held_back: HeldBack {
            last: vec![],
            left_out: vec![1],
        },
        ..Setting::default()
    };
    assert_eq!(writes("low_confidence", &setting), [(1, 0), (5, 0)]);
}

#[test]
fn alg_temp_chooses_with_noise() {
    // Scores .50 .60 .55 .96 .91 at temperature 1; cell 1 is lifted by -ln(-ln .99) = 4.6.
    let setting = Setting {
        quota: 1,
        rule: |at| if at.cell == 1 { 0.99 } else { 0.5 },
        ..Setting::default()
    };
    assert_eq!(writes("maskgit_plus:alg_temp=1", &setting), [(1, 0)]);
    assert_eq!(writes("maskgit_plus:alg_temp=0.01", &setting), [(4, 1)]);
    assert_eq!(writes("maskgit_plus:alg_temp=0", &setting), [(4, 1)]);
}

#[test]
fn every_policy_of_the_table_is_built_and_read_back() {
    for info in registry() {
        let config = PolicyConfig::parse(info.name).unwrap();
        assert_eq!(config.name(), info.name);
        assert_eq!(config.info(), info);
        config
            .build(&target(ModelKind::Masked, Predicts::Clean, 8))
            .unwrap();
        assert_eq!(PolicyConfig::parse(&config.to_string()).unwrap(), config);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<PolicyConfig>(&json).unwrap(), config);
        for key in info.keys {
            let with_default = format!("{}:{}={}", info.name, key.name, key.default);
            assert_eq!(
                PolicyConfig::parse(&with_default).unwrap(),
                config,
                "{with_default}"
            );
            let other = format!("{}:{}=0.37", info.name, key.name);
            let other = PolicyConfig::parse(&other).unwrap();
            assert_ne!(other, config, "the key changes nothing");
            assert_eq!(PolicyConfig::parse(&other.to_string()).unwrap(), other);
        }
    }
}

#[test]
fn bad_policies_say_what_would_be_right() {
    let message = |text: &str| PolicyConfig::parse(text).unwrap_err().to_string();
    assert!(message("entropi").contains("did you mean `entropy`?"));
    assert!(message("low-confidence").contains("did you mean `low_confidence`?"));
    assert!(message("lowconf").contains("did you mean `low_confidence`?"));
    assert!(message("zzz").contains("known: low_confidence, random"));
    assert!(!message("zzz").contains("did you mean"));
    assert!(message("threshold:tua=1").contains("key of policy `threshold`"));
    assert!(message("threshold:tua=1").contains("did you mean `tau`?"));
    assert!(message("random:x=1").contains("known: none"));
    assert!(message("threshold:tau").contains("not key=value"));
    assert!(message("threshold:tau=high").contains("finite number"));
    assert!(message("threshold:tau=NaN").contains("finite number"));
    assert!(message("threshold:tau=1.5").contains("at most 1"));
    assert!(message("threshold:tau=none").contains("threshold"));
    assert!(message("threshold:tau=0.5,tau=0.6").contains("twice"));
    assert!(message("entropy:alg_temp=-1").contains("0 or larger"));
    assert!(serde_json::from_str::<PolicyConfig>(r#"{"kind":"random","x":1}"#).is_err());
}

#[test]
fn uniform_noise_takes_the_steps_that_know_what_the_outputs_mean() {
    let build = |text: &str, predicts| {
        PolicyConfig::parse(text)
            .unwrap()
            .build(&target(ModelKind::Uniform, predicts, 8))
            .map_err(|error| error.to_string())
    };
    let scores = Predicts::LogScores {
        scale_by_sigma: false,
    };
    for (text, predicts, advice) in [
        ("entropy", Predicts::Clean, "use `ancestral`"),
        ("analytic", Predicts::Clean, "use `ancestral`"),
        ("entropy", scores, "use `analytic`"),
        ("ancestral", scores, "use `analytic` or `euler`"),
    ] {
        let message = build(text, predicts).unwrap_err();
        assert!(message.contains(advice), "{text}: {message}");
    }
    assert!(build("ancestral", Predicts::Clean).is_ok());
    assert!(build("analytic", scores).is_ok() && build("euler", scores).is_ok());
}

#[test]
fn at_temperature_0_the_posterior_is_that_of_the_most_likely_token() {
    let build = PolicyConfig::parse("ancestral").unwrap();
    let mut policy = build
        .build(&target(ModelKind::Uniform, Predicts::Clean, 3))
        .unwrap();
    let row = Row::new(vec![0], vec![Cell::Provisional], vec![0], 0);
    let logits = [0.2f32, 0.5, 0.3].map(f32::ln);
    let source = Rule(|_| 0.9);
    let held_back = HeldBack::default();
    let mut token = |temperature| {
        // From pure noise almost to the end: the posterior is the prediction.
        let step = Step {
            row: &row,
            open: &[0],
            index: 0,
            steps: 1,
            quota: 1,
            total: 0,
            draw: &Draw {
                temperature,
                ..GREEDY
            },
            held_back: &held_back,
            sample: 0,
            source: &source,
        };
        let choice = policy.choose(&step, &Candidates::new(&[0], &logits, 3));
        choice.unwrap().write[0].token
    };
    assert_eq!((token(0.0), token(1.0)), (1, 2));
}

fn target(kind: ModelKind, predicts: Predicts, values: usize) -> Target {
    Target {
        kind,
        predicts,
        mask: Some(values as u32 - 1),
        noise: (kind == ModelKind::Uniform).then(|| Uniform::new(values).unwrap()),
    }
}
