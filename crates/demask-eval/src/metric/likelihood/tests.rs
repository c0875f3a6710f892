use std::collections::HashMap;

use burn::tensor::Device;
use demask_models::{Frame, SpecialIds};
use demask_nn::{Output, Rows};
use serde::Deserialize;

use super::*;
use crate::toy::Toy;

/// Uneven weights, so that no two texts are alike.
fn weights(n: usize) -> Vec<f64> {
    (0..n).map(|i| 1.0 + (i * 37 % 23) as f64).collect()
}

fn toy(kind: ModelKind) -> Toy {
    Toy::table(kind, 3, 4, &weights(81))
}

/// `ln p(answer | prompt)` read off the table, for a text cut after `prompt` letters.
fn exact(toy: &Toy, text: &[u32], prompt: usize) -> f64 {
    let chance = |n: usize| -> f64 {
        toy.texts()
            .iter()
            .filter(|(t, _)| t[..n] == text[..n])
            .map(|(_, c)| c)
            .sum()
    };
    (chance(text.len()) / chance(prompt)).ln()
}

fn config(rule: Rule) -> LikelihoodConfig {
    LikelihoodConfig {
        rule,
        ..LikelihoodConfig::default()
    }
}

const LLADA: Rule = Rule::Llada {
    ties_to_even: false,
};
const TEXT: [u32; 4] = [2, 0, 1, 1];

#[test]
fn all_masks_of_a_perfect_model_give_the_exact_value() {
    for kind in [
        ModelKind::Masked,
        ModelKind::BlockMasked { block: 2 },
        ModelKind::Autoregressive,
    ] {
        let toy = toy(kind);
        for prompt in 1..4 {
            let (given, answer) = TEXT.split_at(prompt);
            let found = log_likelihood(
                &toy,
                given,
                answer,
                &config(Rule::Enumerate),
                3,
                Noise::new(0),
            )
            .unwrap();
            let wanted = exact(&toy, &TEXT, prompt);
            assert!(
                (found.value - wanted).abs() < 1e-5,
                "{kind:?} {prompt}: {found:?} {wanted}"
            );
            assert_eq!((found.std_error, found.tokens), (Some(0.0), 4 - prompt));
        }
    }
    // Without a prompt a masked model needs no begin token; an autoregressive one does.
    let masked = toy(ModelKind::Masked);
    let found = log_likelihood(
        &masked,
        &[],
        &TEXT,
        &config(Rule::Enumerate),
        8,
        Noise::new(0),
    )
    .unwrap();
    assert!((found.value - exact(&masked, &TEXT, 0)).abs() < 1e-5);
    let causal = toy(ModelKind::Autoregressive);
    let error = log_likelihood(&causal, &[], &TEXT, &config(LLADA), 8, Noise::new(0)).unwrap_err();
    assert!(error.to_string().contains("begin token"), "{error}");
}

/// Dream's rule keeps the edges of a row; a left-to-right model has none, and what is an edge is not
/// counted.
#[test]
fn edges_are_not_counted_and_left_to_right_has_none() {
    let dream = config(Rule::Dream {
        eps: 1e-3,
        keep_edges: true,
    });
    let tokens = |kind, prompt: usize| {
        let (given, answer) = TEXT.split_at(prompt);
        log_likelihood(&toy(kind), given, answer, &dream, 8, Noise::new(0))
    };
    let causal = tokens(ModelKind::Autoregressive, 1).unwrap();
    assert!((causal.value - exact(&toy(ModelKind::Autoregressive), &TEXT, 1)).abs() < 1e-5);
    assert_eq!(causal.tokens, 3);
    assert_eq!(tokens(ModelKind::Masked, 1).unwrap().tokens, 2);
    assert_eq!(tokens(ModelKind::Masked, 0).unwrap().tokens, 2);
    let error = tokens(ModelKind::Masked, 3).unwrap_err().to_string();
    assert!(error.contains("keep_edges"), "{error}");
}

#[test]
fn estimators_are_within_three_standard_errors() {
    let dream = Rule::Dream {
        eps: 1e-3,
        keep_edges: false,
    };
    for kind in [ModelKind::Masked, ModelKind::BlockMasked { block: 2 }] {
        let toy = toy(kind);
        for rule in [LLADA, dream] {
            // Shallow rounds: two strata leave something to chance.
            let config = LikelihoodConfig {
                mc_num: 600,
                round: 2,
                ..config(rule)
            };
            let found =
                log_likelihood(&toy, &TEXT[..1], &TEXT[1..], &config, 64, Noise::new(11)).unwrap();
            let (wanted, error) = (exact(&toy, &TEXT, 1), found.std_error.unwrap());
            assert!(error > 0.0 && error < 0.2, "{found:?}");
            assert!(
                (found.value - wanted).abs() < 3.0 * error,
                "{kind:?} {rule:?} {found:?} {wanted}"
            );
        }
    }
}

#[test]
fn the_number_of_rows_in_a_pass_changes_no_bit() {
    let toy = toy(ModelKind::Masked);
    for rule in [
        LLADA,
        Rule::Dream {
            eps: 1e-3,
            keep_edges: true,
        },
    ] {
        let config = LikelihoodConfig {
            mc_num: 32,
            round: 8,
            ..config(rule)
        };
        let run = |batch| {
            log_likelihood(&toy, &TEXT[..1], &TEXT[1..], &config, batch, Noise::new(5)).unwrap()
        };
        assert_eq!(run(1), run(7));
        assert_eq!(run(1), run(100));
    }
}

#[test]
fn a_single_token_takes_one_exact_pass() {
    let toy = toy(ModelKind::Masked);
    let found = log_likelihood(
        &toy,
        &TEXT[..3],
        &TEXT[3..],
        &config(LLADA),
        8,
        Noise::new(0),
    )
    .unwrap();
    assert_eq!(found.std_error, Some(0.0));
    assert!((found.value - exact(&toy, &TEXT, 3)).abs() < 1e-6);
}

#[test]
fn the_mask_may_keep_its_share_of_the_softmax() {
    // The toy gives the mask a logit of 3 beside letters whose exponentials sum to 1.
    let toy = toy(ModelKind::Masked);
    let run = |forbid_mask| {
        let config = LikelihoodConfig {
            forbid_mask,
            ..config(Rule::Enumerate)
        };
        log_likelihood(&toy, &TEXT[..1], &TEXT[1..], &config, 8, Noise::new(0))
            .unwrap()
            .value
    };
    let lost = 3.0 * (1.0 + 3f64.exp()).ln();
    assert!((run(true) - run(false) - lost).abs() < 1e-5);
}

#[test]
fn guidance_mixes_logits_with_those_without_a_prompt() {
    // Last letter: with c = p(v | prompt) and u = p(v), w = 1: softmax of 2 ln c - ln u.
    let toy = toy(ModelKind::Masked);
    let chance = |v: u32, given: &[u32]| -> f64 {
        let texts = toy.texts();
        let hits = texts
            .iter()
            .filter(|(t, _)| t[..given.len()] == *given && t[3] == v);
        let all = texts.iter().filter(|(t, _)| t[..given.len()] == *given);
        hits.map(|(_, c)| c).sum::<f64>() / all.map(|(_, c)| c).sum::<f64>()
    };
    let mixed = |v| chance(v, &TEXT[..3]).powi(2) / chance(v, &[]);
    let wanted = (mixed(TEXT[3]) / (mixed(0) + mixed(1) + mixed(2))).ln();
    let config = LikelihoodConfig {
        cfg: 1.0,
        ..config(LLADA)
    };
    let found = log_likelihood(&toy, &TEXT[..3], &TEXT[3..], &config, 8, Noise::new(0)).unwrap();
    assert!((found.value - wanted).abs() < 1e-5);
}

#[test]
fn guidance_leaves_impossible_letters_impossible() {
    // Only letter 1 can stand in the second cell, whether or not the prompt is seen.
    let impossible = f32::NEG_INFINITY;
    let only = vec![vec![0.0; 4], vec![impossible, 0.0, impossible, impossible]];
    let model = Recorded {
        vocab: 4,
        ids: SpecialIds {
            mask: Some(3),
            ..SpecialIds::default()
        },
        logits: ["2 3", "3 3"]
            .map(|row| (row.to_owned(), only.clone()))
            .into(),
    };
    let config = LikelihoodConfig {
        cfg: 1.0,
        ..config(LLADA)
    };
    let found = log_likelihood(&model, &[2], &[1], &config, 8, Noise::new(0)).unwrap();
    assert!(found.value.abs() < 1e-6, "{}", found.value);
    let negative = LikelihoodConfig {
        cfg: -0.5,
        ..config
    };
    let error = negative.check().unwrap_err().to_string();
    assert!(error.contains("likelihood.cfg"), "{error}");
}

#[test]
fn greedy_match_is_the_argmax_path() {
    // Mass on three texts: after c the surest cell is the last (letter b always).
    let mut weights = vec![0.0; 81];
    let index = |t: [usize; 4]| t.iter().fold(0, |i, v| i * 3 + v);
    weights[index([2, 0, 0, 1])] = 4.0;
    weights[index([2, 1, 2, 1])] = 3.0;
    weights[index([2, 1, 1, 1])] = 3.0;
    for kind in [ModelKind::Masked, ModelKind::BlockMasked { block: 2 }] {
        let toy = Toy::table(kind, 3, 4, &weights);
        // Order: last cell first, then the second (b, .6), then the third (b or c: the earlier).
        for (answer, right) in [([1u32, 1, 1], 3), ([0, 0, 1], 1)] {
            let found = greedy_match(&toy, &[2], &answer, &config(LLADA)).unwrap();
            assert_eq!(
                found,
                GreedyMatch {
                    matched: right == 3,
                    right,
                    tokens: 3
                },
                "{kind:?}"
            );
        }
    }
    let causal = Toy::table(ModelKind::Autoregressive, 3, 4, &weights);
    let found = greedy_match(&causal, &[2], &[0, 0, 1], &config(LLADA)).unwrap();
    // b is likelier than a after c; the rest is right after the true tokens.
    assert_eq!((found.matched, found.right), (false, 2));
}

#[test]
fn what_has_no_likelihood_is_said() {
    let toy = toy(ModelKind::Masked);
    let run = |prompt: &[u32], answer: &[u32], config| {
        log_likelihood(&toy, prompt, answer, &config, 8, Noise::new(0))
            .unwrap_err()
            .to_string()
    };
    assert!(run(&[0], &[], config(LLADA)).contains("answer without tokens"));
    assert!(run(&[0; 4], &[0], config(LLADA)).contains("at most 4"));
    let odd = LikelihoodConfig {
        mc_num: 10,
        round: 4,
        ..config(LLADA)
    };
    assert!(run(&[0], &[0], odd).contains("likelihood.mc_num"));
    let bos = LikelihoodConfig {
        bos: Some(true),
        ..config(LLADA)
    };
    assert!(run(&[0], &[0], bos).contains("begin token"));
    let uniform = Toy::table(ModelKind::Uniform, 2, 2, &[1.0; 4]);
    let error = greedy_match(&uniform, &[0], &[0], &config(LLADA)).unwrap_err();
    assert!(error.to_string().contains("uniform-noise"));
}

#[test]
fn a_prompt_begins_as_the_documents_of_the_model_do() {
    let at = |framed: bool, bos: Option<bool>, alone: bool| {
        let model = Toy::letters(4, Some(30), None).framed(Frame {
            bos: framed,
            eos: false,
        });
        let config = LikelihoodConfig {
            bos,
            ..config(LLADA)
        };
        begin(&model, &config, alone).unwrap()
    };
    assert_eq!(at(true, None, false), Some(30));
    assert_eq!(at(false, None, false), None);
    assert_eq!(at(true, Some(false), false), None);
    assert_eq!(at(false, Some(true), false), Some(30));
    assert_eq!(at(false, None, true), Some(30), "a first token needs one");
}

/// A model that knows only the rows of a fixture.
struct Recorded {
    vocab: usize,
    ids: SpecialIds,
    logits: HashMap<String, Vec<Vec<f32>>>,
}

impl LanguageModel for Recorded {
    fn kind(&self) -> ModelKind {
        ModelKind::Masked
    }
    fn ids(&self) -> &SpecialIds {
        &self.ids
    }
    fn frame(&self) -> Frame {
        Frame::default()
    }
    fn vocab_size(&self) -> usize {
        self.vocab
    }
    fn max_length(&self) -> usize {
        16
    }
    fn time_conditioning(&self) -> bool {
        false
    }
    fn forward(&self, input: Input<'_>) -> Result<Output, EvalError> {
        let (Rows::Ids { ids, length, .. }, Asked::Rows(asked)) = (&input.rows, &input.asked)
        else {
            panic!("the estimators ask for rows of ids");
        };
        let mut logits: Vec<f32> = Vec::new();
        for flat in asked {
            let row = *flat as usize / length;
            let key: Vec<String> = ids[row * length..(row + 1) * length]
                .iter()
                .map(u32::to_string)
                .collect();
            logits.extend(&self.logits[&key.join(" ")][*flat as usize % length]);
        }
        let data = TensorData::new(logits, [asked.len(), self.vocab]);
        let hidden = Tensor::<3>::zeros([1, 1, 1], &Device::flex());
        let logits = Some(Tensor::<2>::from_data(data, &Device::flex()));
        Ok(Output {
            hidden,
            logits,
            losses: None,
            scores: None,
            taps: Vec::new(),
        })
    }
    fn encode(&self, _: &str) -> Result<Vec<u32>, EvalError> {
        Err(EvalError::Data("no text".into()))
    }
    fn decode(&self, _: &[u32]) -> Result<String, EvalError> {
        Err(EvalError::Data("no text".into()))
    }
    fn device(&self) -> Device {
        Device::flex()
    }
}

#[derive(Deserialize)]
struct Fixture {
    vocab: usize,
    mask: u32,
    logits: HashMap<String, Vec<Vec<f32>>>,
    cases: Vec<Case>,
    dream: Vec<Dream>,
    #[serde(default)]
    greedy: Vec<Greedily>,
}

#[derive(Deserialize)]
struct Case {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    cfg: f64,
    round: usize,
    rounds: Vec<Round>,
    value: f64,
}

#[derive(Deserialize)]
struct Round {
    k: usize,
    counts: Vec<usize>,
    masks: Vec<Vec<usize>>,
    losses: Vec<f64>,
}

#[derive(Deserialize)]
struct Dream {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    shared: f64,
    uniforms: Vec<Vec<f64>>,
    masks: Vec<Vec<usize>>,
    p: Vec<f64>,
    losses: Vec<f64>,
    value: f64,
}

#[derive(Deserialize)]
struct Greedily {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    cfg: f64,
    matched: bool,
    right: usize,
}

fn close(found: f64, wanted: f64) {
    assert!(
        (found - wanted).abs() <= 1e-5 * wanted.abs().max(1.0),
        "{found} for {wanted}"
    );
}

#[test]
fn loops_agree_with_the_recorded_ones() {
    let text = include_str!("../../../tests/fixtures/likelihood.json");
    agree(text, 1e-12);
}

/// `parity/README.md` says which code wrote these numbers. Dream's draws its times in `f32`.
#[test]
fn loops_agree_with_the_published_code() {
    let text = include_str!("../../../tests/fixtures/published-likelihood.json");
    agree(text, 1e-6);
}

/// Compares every case of a fixture; the chances of Dream's masks to `chance`.
fn agree(text: &str, chance: f64) {
    let fixture: Fixture = serde_json::from_str(text).unwrap();
    let ids = SpecialIds {
        mask: Some(fixture.mask),
        ..SpecialIds::default()
    };
    let model = Recorded {
        vocab: fixture.vocab,
        ids,
        logits: fixture.logits,
    };
    for case in &fixture.cases {
        let config = LikelihoodConfig {
            cfg: case.cfg,
            forbid_mask: false,
            ..config(LLADA)
        };
        let mut total = 0.0;
        for round in &case.rounds {
            assert_eq!(
                exact_count::counts(round.k, case.round, case.answer.len(), true),
                round.counts
            );
            let rows: Vec<MaskedRow> = round
                .masks
                .iter()
                .map(|cells| MaskedRow {
                    weights: vec![case.answer.len() as f64 / cells.len() as f64; cells.len()],
                    cells: cells.clone(),
                })
                .collect();
            let found =
                masked_row_losses(&model, &case.prompt, &case.answer, &config, &rows, 3).unwrap();
            found
                .iter()
                .zip(&round.losses)
                .for_each(|(found, wanted)| close(*found, *wanted));
            total -= found.iter().sum::<f64>() / case.round as f64;
        }
        close(total / case.rounds.len() as f64, case.value);
    }
    for case in &fixture.dream {
        let rule = Rule::Dream {
            eps: 1e-3,
            keep_edges: true,
        };
        let config = LikelihoodConfig {
            forbid_mask: false,
            ..config(rule)
        };
        let cells = case.prompt.len() + case.answer.len();
        let times = bernoulli::times(case.shared, case.masks.len());
        let mut rows = Vec::new();
        for (i, t) in times.iter().enumerate() {
            let p = (1.0 - 1e-3) * t + 1e-3;
            assert!((p - case.p[i]).abs() < chance);
            let row = bernoulli::row(case.prompt.len(), cells, p, true, &case.uniforms[i]);
            assert_eq!(row.cells, case.masks[i]);
            rows.push(row);
        }
        let found =
            masked_row_losses(&model, &case.prompt, &case.answer, &config, &rows, 2).unwrap();
        found
            .iter()
            .zip(&case.losses)
            .for_each(|(found, wanted)| close(*found, *wanted));
        close(-found.iter().sum::<f64>() / found.len() as f64, case.value);
    }
    for case in &fixture.greedy {
        let config = LikelihoodConfig {
            cfg: case.cfg,
            forbid_mask: false,
            ..config(LLADA)
        };
        let found = greedy_match(&model, &case.prompt, &case.answer, &config).unwrap();
        let wanted = GreedyMatch {
            matched: case.matched,
            right: case.right,
            tokens: case.answer.len(),
        };
        assert_eq!(found, wanted);
    }
}
