//! The crate against numbers that published code wrote: losses, noise schedules, reverse steps and token weights.
//! `parity/README.md` says which code and how it was run. It ran in `f64`, so 1e-9 of each number holds; where it rounds
//! to `f32` on its way (`single`), 1e-6.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use demask_diffusion::objective::{cart, subs, variance};
use demask_diffusion::process::{Absorbing, Discrete, Uniform};
use demask_diffusion::sampling::{Crossing, keep_probabilities, top_p};
use demask_diffusion::solver::analytic::{Graph, staggered_score, transposed_transition};
use demask_diffusion::solver::{Analytic, Euler};
use demask_diffusion::{
    Corrupted, Ids, LossInput, Noise, Objective, ObjectiveConfig, ScheduleConfig, Vocabulary,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Published {
    objectives: Vec<ObjectiveCase>,
    /// Candidates of the clipped schedule, rising, to four digits.
    windows: Vec<[f64; 2]>,
    schedules: Vec<ScheduleCase>,
    steps: Vec<StepCase>,
    subs: SubsCase,
    nucleus: Vec<NucleusCase>,
    cart: Vec<CartCase>,
}

fn published() -> Published {
    serde_json::from_str(include_str!("fixtures/published.json")).expect("the fixture can be read")
}

/// What a number that should be zero may be.
const TINY: f64 = 1e-15;

fn close(found: f64, wanted: f64, tolerance: f64, what: &str) {
    assert!(
        (found - wanted).abs() <= tolerance * wanted.abs() + TINY,
        "{what}: {found} is not {wanted}"
    );
}

fn all_close(found: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (&found, &wanted) in found.iter().zip(wanted) {
        close(found, wanted, tolerance, what);
    }
}

#[derive(Deserialize)]
struct ObjectiveCase {
    source: String,
    config: ObjectiveConfig,
    seed: u64,
    vocab: usize,
    mask: Option<u32>,
    x0: Vec<Vec<u32>>,
    free: Vec<Vec<bool>>,
    logits: Vec<Vec<Vec<f64>>>,
    input: Vec<Vec<u32>>,
    time: Vec<Vec<f64>>,
    asked: Vec<u32>,
    /// Of each asked row.
    loss: Option<Vec<f64>>,
    /// Of each cell, where the published loss of a cell is the sum of a noisy and a clean row.
    cells: Option<Vec<f64>>,
    normaliser: f64,
    /// The loss of the batch as published, divided.
    total: f64,
    /// The published softmax runs over the mask's column too, which demask leaves out.
    #[serde(default)]
    mask_in_softmax: bool,
    #[serde(default)]
    single: bool,
    blocks: Option<Vec<u32>>,
}

/// The loss of each asked row from the fixture's logits of every input position.
fn losses(case: &ObjectiveCase, objective: &dyn Objective, c: &Corrupted) -> Vec<f64> {
    // Of block diffusion's doubled input only the noisy half has logits.
    let n = c.input.length();
    let rows: Vec<f64> = c
        .asked
        .iter()
        .flat_map(|&i| case.logits[i as usize / n][i as usize % n].iter().copied())
        .collect();
    let data = TensorData::new(rows, [c.asked.len(), case.vocab]);
    let logits = Tensor::<2>::from_data(data, (&Device::flex(), DType::F64));
    let loss = objective.loss(LossInput::Logits(logits), c).unwrap();
    loss.into_data().try_to_vec().unwrap()
}

#[test]
fn objectives() {
    let mut sources = std::collections::BTreeMap::new();
    for case in published().objectives {
        let what = format!("{}, seed {}: {:?}", case.source, case.seed, case.config);
        let tolerance = if case.single { 1e-6 } else { 1e-9 };
        let vocabulary = Vocabulary {
            size: case.vocab,
            mask: case.mask,
        };
        let objective = case.config.build(vocabulary).unwrap();
        let x0 = Ids::from_rows(&case.x0).unwrap();
        let mut c = objective
            .corrupt(&x0, &case.free.concat(), &Noise::new(case.seed))
            .unwrap();
        assert_eq!(c.input, Ids::from_rows(&case.input).unwrap(), "{what}");
        assert_eq!(c.asked, case.asked, "{what}");
        all_close(c.time.data(), &case.time.concat(), 1e-9, &what);
        close(c.normaliser, case.normaliser, 0.0, &what);
        if case.mask_in_softmax {
            c.forbidden = None;
        }
        let found = losses(&case, &*objective, &c);
        if let Some(wanted) = &case.loss {
            all_close(&found, wanted, tolerance, &what);
        }
        if let Some(wanted) = &case.cells {
            let mut cells = vec![0.0; wanted.len()];
            for (&cell, loss) in c.cell.iter().zip(&found) {
                cells[cell as usize] += loss;
            }
            all_close(&cells, wanted, tolerance, &what);
        }
        let total = found.iter().sum::<f64>() / c.normaliser;
        close(total, case.total, tolerance, &what);
        assert_eq!(c.blocks, case.blocks, "{what}");
        *sources.entry(case.source).or_insert(0) += 1;
    }
    let counts: Vec<(&str, i32)> = sources.iter().map(|(s, &n)| (s.as_str(), n)).collect();
    let wanted = [
        ("bd3lms", 9),
        ("diffullama", 2),
        ("dream-coder", 4),
        ("llada", 4),
        ("mdlm", 15),
        ("sedd", 4),
        ("udlm", 3),
    ];
    assert_eq!(counts, wanted);
}

#[test]
fn windows_of_the_clipped_schedule() {
    let mut found: Vec<[f64; 2]> = variance::candidates()
        .iter()
        .map(|w| [w.min, w.max])
        .collect();
    found.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let wanted = published().windows;
    all_close(&found.concat(), &wanted.concat(), 1e-9, "windows");
}

#[derive(Deserialize)]
struct ScheduleCase {
    source: String,
    config: ScheduleConfig,
    times: Vec<f64>,
    sigma: Option<Vec<f64>>,
    rate: Option<Vec<f64>>,
    weight: Option<Vec<f64>>,
    p: Option<Vec<f64>>,
    /// What the published weight adds to its denominator `p`, against a division by zero; demask does not.
    #[serde(default)]
    second_eps: f64,
}

#[test]
fn schedules() {
    let cases = published().schedules;
    assert_eq!(cases.len(), 13);
    for case in cases {
        let schedule = case.config.build().unwrap();
        let what = format!("{}: {:?}", case.source, case.config);
        for (i, &t) in case.times.iter().enumerate() {
            let p = schedule.p(t);
            let weight = schedule.weight(t) * p / (p + case.second_eps);
            for (found, wanted) in [
                (schedule.sigma(t), &case.sigma),
                (schedule.sigma_rate(t), &case.rate),
                (weight, &case.weight),
                (p, &case.p),
            ] {
                if let Some(wanted) = wanted {
                    close(found, wanted[i], 1e-9, &what);
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct StepCase {
    graph: String,
    vocab: usize,
    present: u32,
    sigma_s: f64,
    sigma_t: f64,
    log_score: Vec<f64>,
    staggered: Vec<f64>,
    transition: Vec<f64>,
    /// What the published samplers draw from: a weight below zero is never drawn.
    weights: Vec<f64>,
    /// The last step; of the absorbing graph without the mask's column.
    last: Vec<f64>,
    rate: f64,
    euler: Vec<f64>,
    prior: Vec<f64>,
    posterior: Vec<f64>,
}

#[test]
fn reverse_steps() {
    let cases = published().steps;
    assert_eq!(cases.len(), 9);
    for case in cases {
        let mask = case.vocab as u32 - 1;
        let absorbing = case.graph == "absorbing";
        let graph = if absorbing {
            Graph::Absorbing { mask }
        } else {
            Graph::Uniform
        };
        let what = format!("{graph:?} from {} to {}", case.sigma_t, case.sigma_s);
        let drawn = |weights: &[f64]| -> Vec<f64> { weights.iter().map(|w| w.max(0.0)).collect() };
        let dsigma = case.sigma_t - case.sigma_s;

        let mut score: Vec<f64> = case.log_score.iter().map(|s| s.exp()).collect();
        score[case.present as usize] = 1.0;
        staggered_score(&mut score, graph, dsigma);
        all_close(&score, &case.staggered, 1e-9, &what);
        let transition = transposed_transition(case.vocab, graph, case.present, dsigma);
        all_close(&transition, &case.transition, 1e-9, &what);

        let analytic = Analytic::new(graph);
        let mut weights = case.log_score.clone();
        analytic.weights(&mut weights, case.present, dsigma);
        all_close(&weights, &drawn(&case.weights), 1e-9, &what);
        let mut last = case.log_score.clone();
        analytic.weights(&mut last, case.present, case.sigma_t);
        last.truncate(case.last.len());
        all_close(&last, &drawn(&case.last), 1e-9, &what);
        let mut euler = case.log_score.clone();
        Euler::new(graph).weights(&mut euler, case.present, case.rate);
        all_close(&euler, &drawn(&case.euler), 1e-9, &what);

        let process: Arc<dyn Discrete> = if absorbing {
            Arc::new(Absorbing::new(case.vocab, mask).unwrap())
        } else {
            Arc::new(Uniform::new(case.vocab).unwrap())
        };
        let p = |sigma: f64| -(-sigma).exp_m1();
        let mut posterior = vec![0.0; case.vocab];
        let (p_s, p_t) = (p(case.sigma_s), p(case.sigma_t));
        process.posterior(&case.prior, case.present, p_s, p_t, &mut posterior);
        all_close(&posterior, &case.posterior, 1e-9, &what);
    }
}

#[derive(Deserialize)]
struct SubsCase {
    mask: u32,
    logits: Vec<Vec<f64>>,
    present: Vec<u32>,
    rows: Vec<Vec<f64>>,
}

#[test]
fn the_output_map_of_mdlm() {
    let case = published().subs;
    for ((logits, &present), wanted) in case.logits.iter().zip(&case.present).zip(&case.rows) {
        let mut row = logits.clone();
        subs::subs(&mut row, case.mask, present);
        for (id, (&found, &wanted)) in row.iter().zip(wanted).enumerate() {
            // The published map adds -1e6 to the mask's logit, demask sets it: never in both.
            if id as u32 == case.mask && present == case.mask {
                assert!(found < -9e5 && wanted < -9e5, "{found} is not {wanted}");
            } else {
                close(found, wanted, 1e-9, "SUBS");
            }
        }
    }
}

/// The step of BD3-LM inside a block, all cells masked.
#[derive(Deserialize)]
struct NucleusCase {
    top_p: f64,
    p_s: f64,
    p_t: f64,
    prior: Vec<Vec<f64>>,
    nucleus: Vec<Vec<f64>>,
    weights: Vec<Vec<f64>>,
}

#[test]
fn the_nucleus_of_a_block() {
    let cases = published().nucleus;
    assert_eq!(cases.len(), 4);
    for case in cases {
        let what = format!("nucleus {}", case.top_p);
        let vocab = case.prior[0].len();
        let mask = vocab as u32 - 1;
        let process = Absorbing::new(vocab, mask).unwrap();
        for (i, prior) in case.prior.iter().enumerate() {
            let mut row = prior.clone();
            let keep = top_p(&row, case.top_p, Crossing::Drop);
            keep_probabilities(&mut row, &keep);
            all_close(&row, &case.nucleus[i], 1e-9, &what);
            let mut weights = vec![0.0; vocab];
            process.posterior(&row, mask, case.p_s, case.p_t, &mut weights);
            all_close(&weights, &case.weights[i], 1e-9, &what);
        }
    }
}

#[derive(Deserialize)]
struct CartCase {
    p: f64,
    written: Vec<bool>,
    weights: Vec<f64>,
}

#[test]
fn the_token_weights_of_dream() {
    let cases = published().cart;
    assert_eq!(cases.len(), 9);
    for case in cases {
        let found = cart::weights(&case.written, case.p);
        all_close(&found, &case.weights, 1e-9, &format!("p = {}", case.p));
    }
}
