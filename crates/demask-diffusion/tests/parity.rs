//! The crate against independent derivations: fixtures written by `parity/diffusion.py` (`guided.json`: by
//! `parity/labels.py`), which says what it derives from what. `f64` to 1e-9, `f32` to 1e-5 relative, ids and masks exactly.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use demask_diffusion::objective::subs;
use demask_diffusion::process::{Absorbing, Discrete, Uniform};
use demask_diffusion::solver::analytic::{Graph, staggered_score, transposed_transition};
use demask_diffusion::solver::{Analytic, Euler, Guided};
use demask_diffusion::{
    Corrupted, Ids, LossInput, Noise, Objective, ObjectiveConfig, ScheduleConfig, Vocabulary,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn fixture<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("the fixture is as parity/diffusion.py writes it")
}

/// What a number that should be zero may be.
const TINY: f64 = 1e-15;

fn close(found: f64, wanted: f64, tolerance: f64, what: &str) {
    assert!(
        (found - wanted).abs() <= tolerance * wanted.abs() + TINY,
        "{what}: {found} is not {wanted}"
    );
}

fn all_close(found: &[f64], wanted: &[f64], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (&found, &wanted) in found.iter().zip(wanted) {
        close(found, wanted, 1e-9, what);
    }
}

#[derive(Deserialize)]
struct Schedules {
    cases: Vec<ScheduleCase>,
}

#[derive(Deserialize)]
struct ScheduleCase {
    config: ScheduleConfig,
    times: Vec<f64>,
    sigma: Vec<f64>,
    rate: Vec<f64>,
    weight: Vec<f64>,
    p: Vec<f64>,
}

#[test]
fn schedules() {
    let all: Schedules = fixture(include_str!("fixtures/schedules.json"));
    assert_eq!(all.cases.len(), 13);
    for case in all.cases {
        let schedule = case.config.build().unwrap();
        let what = format!("{:?}", case.config);
        for (i, &t) in case.times.iter().enumerate() {
            close(schedule.p(t), case.p[i], 1e-9, &what);
            close(schedule.sigma(t), case.sigma[i], 1e-9, &what);
            close(schedule.sigma_rate(t), case.rate[i], 1e-9, &what);
            close(schedule.weight(t), case.weight[i], 1e-9, &what);
        }
    }
}

#[derive(Deserialize)]
struct Objectives {
    cases: Vec<ObjectiveCase>,
}

#[derive(Deserialize)]
struct ObjectiveCase {
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
    loss: Vec<f64>,
    normaliser: f64,
    blocks: Option<Vec<u32>>,
}

/// The loss of each asked row from the fixture's logits of every input position.
fn losses(
    case: &ObjectiveCase,
    objective: &dyn Objective,
    c: &Corrupted,
    dtype: DType,
) -> Vec<f64> {
    let n = c.input.length();
    let rows: Vec<f64> = c
        .asked
        .iter()
        .flat_map(|&i| case.logits[i as usize / n][i as usize % n].iter().copied())
        .collect();
    let data = TensorData::new(rows, [c.asked.len(), case.vocab]);
    let logits = Tensor::<2>::from_data(data, (&Device::flex(), dtype));
    let loss = objective.loss(LossInput::Logits(logits), c).unwrap();
    assert_eq!(loss.dtype(), dtype);
    loss.into_data()
        .try_cast(DType::F64)
        .unwrap()
        .try_to_vec()
        .unwrap()
}

#[test]
fn objectives() {
    let all: Objectives = fixture(include_str!("fixtures/objectives.json"));
    let mut kinds = std::collections::BTreeSet::new();
    for case in all.cases {
        let what = format!("seed {}: {:?}", case.seed, case.config);
        let vocabulary = Vocabulary {
            size: case.vocab,
            mask: case.mask,
        };
        let objective = case.config.build(vocabulary).unwrap();
        kinds.insert(case.config.kind());
        let x0 = Ids::from_rows(&case.x0).unwrap();
        let c = objective
            .corrupt(&x0, &case.free.concat(), &Noise::new(case.seed))
            .unwrap();
        assert_eq!(c.input, Ids::from_rows(&case.input).unwrap(), "{what}");
        assert_eq!(c.asked, case.asked, "{what}");
        all_close(c.time.data(), &case.time.concat(), &what);
        close(c.normaliser, case.normaliser, 0.0, &what);
        all_close(
            &losses(&case, &*objective, &c, DType::F64),
            &case.loss,
            &what,
        );
        for (found, wanted) in losses(&case, &*objective, &c, DType::F32)
            .into_iter()
            .zip(&case.loss)
        {
            // SEDD and UDLM take differences of terms that are far larger than the result.
            close(found, *wanted, 1e-5, &what);
        }
        assert_eq!(c.blocks, case.blocks, "{what}");
    }
    let wanted = [
        "bd3",
        "d3pm",
        "generic",
        "llada_pretrain",
        "llada_sft",
        "mdlm",
        "sedd_absorbing",
        "sedd_uniform",
        "shifted",
        "udlm",
    ];
    assert!(kinds.into_iter().eq(wanted));
}

#[derive(Deserialize)]
struct Reverse {
    steps: Vec<StepCase>,
    subs: SubsCase,
    streams: Vec<StreamCase>,
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
    weights: Vec<f64>,
    rate: f64,
    euler: Vec<f64>,
    prior: Vec<f64>,
    posterior: Vec<f64>,
}

#[derive(Deserialize)]
struct SubsCase {
    mask: u32,
    logits: Vec<Vec<f64>>,
    present: Vec<u32>,
    rows: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct StreamCase {
    seed: String,
    path: Vec<String>,
    uniforms: Vec<f64>,
}

#[test]
fn reverse_steps() {
    let all: Reverse = fixture(include_str!("fixtures/reverse.json"));
    for case in all.steps {
        let mask = case.vocab as u32 - 1;
        let absorbing = case.graph == "absorbing";
        let graph = if absorbing {
            Graph::Absorbing { mask }
        } else {
            Graph::Uniform
        };
        let what = format!("{graph:?} from {} to {}", case.sigma_t, case.sigma_s);
        let dsigma = case.sigma_t - case.sigma_s;
        let mut score: Vec<f64> = case.log_score.iter().map(|s| s.exp()).collect();
        score[case.present as usize] = 1.0;
        staggered_score(&mut score, graph, dsigma);
        all_close(&score, &case.staggered, &what);
        let transition = transposed_transition(case.vocab, graph, case.present, dsigma);
        all_close(&transition, &case.transition, &what);

        let mut weights = case.log_score.clone();
        Analytic::new(graph).weights(&mut weights, case.present, dsigma);
        all_close(&weights, &case.weights, &what);
        let mut euler = case.log_score.clone();
        Euler::new(graph).weights(&mut euler, case.present, case.rate);
        all_close(&euler, &case.euler, &what);

        let process: Arc<dyn Discrete> = if absorbing {
            Arc::new(Absorbing::new(case.vocab, mask).unwrap())
        } else {
            Arc::new(Uniform::new(case.vocab).unwrap())
        };
        let p = |sigma: f64| -(-sigma).exp_m1();
        let mut posterior = vec![0.0; case.vocab];
        let (p_s, p_t) = (p(case.sigma_s), p(case.sigma_t));
        process.posterior(&case.prior, case.present, p_s, p_t, &mut posterior);
        all_close(&posterior, &case.posterior, &what);
    }
    for ((logits, &present), wanted) in all
        .subs
        .logits
        .iter()
        .zip(&all.subs.present)
        .zip(&all.subs.rows)
    {
        let mut row = logits.clone();
        subs::subs(&mut row, all.subs.mask, present);
        all_close(&row, wanted, "SUBS");
    }
}

#[derive(Deserialize)]
struct GuidedCases {
    vocab: usize,
    cases: Vec<GuidedCase>,
}

#[derive(Deserialize)]
struct GuidedCase {
    process: String,
    present: u32,
    sigma_s: f64,
    sigma_t: f64,
    gamma: f64,
    cond: Vec<f64>,
    uncond: Vec<f64>,
    guided: Vec<f64>,
}

#[test]
fn guided_steps() {
    let all: GuidedCases = fixture(include_str!("fixtures/guided.json"));
    assert_eq!(all.cases.len(), 20);
    for case in all.cases {
        let what = format!("{} at gamma {}", case.process, case.gamma);
        let guided = Guided {
            cond: &case.cond,
            uncond: &case.uncond,
            gamma: case.gamma,
        };
        let p = |sigma: f64| -(-sigma).exp_m1();
        let (present, p_s, p_t) = (case.present, p(case.sigma_s), p(case.sigma_t));
        let mut out = vec![0.0; all.vocab];
        if case.process == "absorbing" {
            let process = Absorbing::new(all.vocab, all.vocab as u32 - 1).unwrap();
            guided.masked(&process, present, p_s, p_t, &mut out);
        } else {
            let process = Uniform::new(all.vocab).unwrap();
            guided.uniform(&process, present, p_s, p_t, &mut out);
        }
        all_close(&out, &case.guided, &what);
    }
}

#[test]
fn random_streams() {
    let all: Reverse = fixture(include_str!("fixtures/reverse.json"));
    for case in all.streams {
        let root = Noise::new(case.seed.parse().unwrap());
        let node = case
            .path
            .iter()
            .fold(root, |node, label| node.child(label.parse().unwrap()));
        // The JSON reader may be off by the last bit; a uniform has 52.
        for (found, wanted) in node.uniforms(20).into_iter().zip(&case.uniforms) {
            close(
                found,
                *wanted,
                1e-15,
                &format!("{} {:?}", case.seed, case.path),
            );
        }
    }
}
