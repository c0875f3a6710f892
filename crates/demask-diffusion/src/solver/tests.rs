//! Reverse steps against hand-computed rows and the enumerated toy.

use std::sync::Arc;

use super::analytic::{Graph, staggered_score, transposed_transition};
use super::*;
use crate::Ids;
use crate::process::{Absorbing, Discrete, Uniform};
use crate::schedule::{Convention, Schedule, ScheduleConfig};
use crate::toy::Toy;

fn linear() -> Arc<dyn Schedule> {
    ScheduleConfig::default().build().unwrap()
}

fn close(found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len());
    for (f, w) in found.iter().zip(wanted) {
        assert!((f - w).abs() < 1e-12, "{found:?} {wanted:?}");
    }
}

/// Perfect masked rows of a toy canvas, `[cells, letters + 1]`.
fn perfect(toy: &Toy, ids: &[u32]) -> Vec<f64> {
    let mask = toy.letters() as u32;
    let seen: Vec<Option<u32>> = ids.iter().map(|&id| (id != mask).then_some(id)).collect();
    (0..ids.len())
        .flat_map(|l| toy.given(l, &seen).into_iter().chain([0.0]))
        .collect()
}

/// Runs a step function from all masks over a grid; returns the text and the forwards made.
fn run(
    toy: &Toy,
    step: &dyn ReverseStep,
    steps: usize,
    sample: &Noise,
    cached: bool,
) -> (Vec<u32>, usize) {
    let grid = time_grid(steps, 1e-5);
    let mut ids = vec![toy.letters() as u32; toy.length()];
    let positions: Vec<u32> = (0..toy.length() as u32).collect();
    let (mut cache, mut rows, mut forwards) = (ForwardCache::new(), Vec::new(), 0);
    for i in 0..=steps {
        let canvas = Ids::new(1, ids.len(), ids.clone()).unwrap();
        if !cached || cache.needs_forward(&canvas) {
            rows = perfect(toy, &ids);
            forwards += 1;
        }
        let noise = sample.child(i as u64);
        let cells = Cells {
            ids: &ids,
            positions: &positions,
            noise,
        };
        let rows = Rows::f64(&rows, toy.letters() + 1).unwrap();
        ids = if i < steps {
            step.step(rows, &cells, grid[i + 1], grid[i]).unwrap()
        } else {
            step.last(rows, &cells, grid[i]).unwrap()
        };
    }
    (ids, forwards)
}

fn index(toy: &Toy, ids: &[u32]) -> usize {
    ids.iter().fold(0, |i, &id| i * toy.letters() + id as usize)
}

/// Total variation between drawn sequences and the toy.
fn distance(toy: &Toy, counts: &[usize]) -> f64 {
    let n: usize = counts.iter().sum();
    let off = counts
        .iter()
        .zip(toy.probabilities())
        .map(|(c, p)| (*c as f64 / n as f64 - p).abs());
    0.5 * off.sum::<f64>()
}

#[test]
fn grid() {
    let found = time_grid(4, 0.2);
    close(&found, &[1.0, 0.8, 0.6, 0.4, 0.2]);
    assert_eq!(time_grid(1000, 1e-5)[0], 1.0);
    assert!((time_grid(1000, 1e-5)[1000] - 1e-5).abs() < 1e-15);
}

#[test]
fn cached_and_plain_ancestral_are_the_same_bits() {
    let toy = Toy::example();
    let process = Arc::new(Absorbing::new(5, 4).unwrap());
    let step = Ancestral::new(process, linear(), Some(4));
    for seed in 0..200 {
        let sample = Noise::new(seed);
        let (plain, all) = run(&toy, &step, 50, &sample, false);
        let (cached, few) = run(&toy, &step, 50, &sample, true);
        assert_eq!(plain, cached);
        assert_eq!(all, 51);
        // One pass for the empty canvas and one after each change.
        assert!(few <= toy.length() + 1, "{few}");
    }
}

#[test]
fn ancestral_sampling_draws_from_the_toy() {
    let toy = Toy::example();
    let process = Arc::new(Absorbing::new(5, 4).unwrap());
    let step = Ancestral::new(process, linear(), Some(4));
    let mut counts = vec![0; 64];
    for seed in 0..8000 {
        counts[index(&toy, &run(&toy, &step, 64, &Noise::new(seed), true).0)] += 1;
    }
    // 64 cells of 8000 draws: pure chance gives about 0.03.
    assert!(
        distance(&toy, &counts) < 0.05,
        "{}",
        distance(&toy, &counts)
    );
}

#[test]
fn first_hitting_takes_one_pass_a_cell_and_draws_from_the_toy() {
    let toy = Toy::example();
    let step = FirstHitting::new(linear(), 4, 1.0);
    let positions = [0, 1, 2];
    let mut counts = vec![0; 64];
    for seed in 0..8000 {
        let mut ids = vec![4; 3];
        for i in 0..3 {
            let rows = perfect(&toy, &ids);
            let noise = Noise::new(seed).child(i);
            let cells = Cells {
                ids: &ids,
                positions: &positions,
                noise,
            };
            let next = step
                .step(Rows::f64(&rows, 5).unwrap(), &cells, 0.0, 1.0)
                .unwrap();
            assert_eq!(next.iter().zip(&ids).filter(|(a, b)| a != b).count(), 1);
            ids = next;
        }
        counts[index(&toy, &ids)] += 1;
    }
    assert!(
        distance(&toy, &counts) < 0.05,
        "{}",
        distance(&toy, &counts)
    );
}

#[test]
fn first_hitting_times_are_the_largest_of_m_uniforms() {
    let step = FirstHitting::new(linear(), 4, 1.0);
    let n = 20_000;
    let mean = (0..n)
        .map(|i| step.next_time(0.8, 3, &Noise::new(i)))
        .sum::<f64>()
        / n as f64;
    // 0.8 m/(m+1) = 0.6
    assert!((mean - 0.6).abs() < 0.005, "{mean}");
    let mdlm = ScheduleConfig::loglinear(Convention::Mdlm).build().unwrap();
    let other = FirstHitting::new(mdlm, 4, 1.0);
    let noise = Noise::new(3);
    assert!((other.next_time(0.8, 3, &noise) - step.next_time(0.8, 3, &noise)).abs() < 1e-12);
}

#[test]
fn staggered_scores_and_transitions_by_hand() {
    // d = ln 2: e^d = 2, scores (0.5, 1.5, 1), mask last, sum 3: (1, 3, 2 - 3) = (1, 3, -1).
    let absorbing = Graph::Absorbing { mask: 2 };
    let d = 2f64.ln();
    let mut score = [0.5, 1.5, 1.0];
    staggered_score(&mut score, absorbing, d);
    close(&score, &[1.0, 3.0, -1.0]);
    close(&transposed_transition(3, absorbing, 2, d), &[0.5, 0.5, 1.0]);
    close(&transposed_transition(3, absorbing, 0, d), &[0.5, 0.0, 0.0]);
    // Uniform: e = 1/2: s*2 - (1/3)*3 = (0, 2, 1); transition 1/6 off, 2/3 on.
    let mut score = [0.5, 1.5, 1.0];
    staggered_score(&mut score, Graph::Uniform, d);
    close(&score, &[0.0, 2.0, 1.0]);
    close(
        &transposed_transition(3, Graph::Uniform, 2, d),
        &[1.0 / 6.0, 1.0 / 6.0, 2.0 / 3.0],
    );
}

#[test]
fn the_analytic_absorbing_step_is_ancestral_at_the_true_score() {
    let process = Absorbing::new(5, 4).unwrap();
    let schedule = ScheduleConfig::loglinear(Convention::Mdlm).build().unwrap();
    let (s, t) = (0.3, 0.7);
    let row = [0.1, 0.2, 0.3, 0.4, 0.0];
    let mut wanted = vec![0.0; 5];
    process.posterior(&row, 4, schedule.p(s), schedule.p(t), &mut wanted);
    let mut found = row.to_vec();
    absorbing_log_scores(&mut found, 4, schedule.sigma(t));
    let step = Analytic::new(Graph::Absorbing { mask: 4 }, schedule.clone());
    let mut back = found.clone();
    step.weights(&mut found, 4, schedule.sigma(t) - schedule.sigma(s));
    close(&found, &wanted);
    absorbing_probabilities(&mut back, 4);
    close(&back, &row);
}

#[test]
fn the_analytic_uniform_step_is_the_posterior_of_one_token() {
    // One cell: the score is p_t(y)/p_t(x) exactly, and Tweedie's step is exact for a single token.
    let (v, alpha_s, alpha_t) = (4usize, 0.8f64, 0.5f64);
    let p0 = [0.1, 0.2, 0.3, 0.4];
    let density = |y: usize| alpha_t * p0[y] + (1.0 - alpha_t) / v as f64;
    let x = 2;
    let mut row: Vec<f64> = (0..v).map(|y| (density(y) / density(x)).ln()).collect();
    let step = Analytic::new(Graph::Uniform, linear());
    step.weights(&mut row, x as u32, (alpha_s / alpha_t).ln());
    let mut wanted = vec![0.0; v];
    Uniform::new(v)
        .unwrap()
        .posterior(&p0, x as u32, 1.0 - alpha_s, 1.0 - alpha_t, &mut wanted);
    close(&row, &wanted);
}

#[test]
fn euler_by_hand_and_towards_analytic() {
    let euler = Euler::new(Graph::Absorbing { mask: 2 }, linear());
    let mut row = [2f64.ln(), 0.5f64.ln(), 0.0];
    euler.weights(&mut row, 2, 0.1);
    close(&row, &[0.2, 0.05, 0.75]);
    let uniform = Euler::new(Graph::Uniform, linear());
    let mut row = [2f64.ln(), 9.0, 0.5f64.ln()];
    uniform.weights(&mut row, 1, 0.3);
    close(&row, &[0.2, 0.75, 0.05]);
    // Rates too large for the step are cut off.
    let mut row = [20f64.ln(), 0.0, 0.0];
    euler.weights(&mut row, 2, 1.0);
    assert_eq!(row[2], 0.0);
    // To first order in the step the two agree.
    let schedule = linear();
    let (t, h) = (0.5, 1e-5);
    let scores = [0.7f64.ln(), 0.2f64.ln(), 0.0];
    let (mut a, mut e) = (scores, scores);
    let analytic = Analytic::new(Graph::Uniform, schedule.clone());
    analytic.weights(&mut a, 2, schedule.sigma(t) - schedule.sigma(t - h));
    uniform.weights(&mut e, 2, h * schedule.sigma_rate(t));
    assert!(
        a.iter().zip(e).all(|(a, e)| (a - e).abs() < 1e-8),
        "{a:?} {e:?}"
    );
}

#[test]
fn blocks_cut_to_their_nucleus() {
    let step = BlockAncestral::new(linear(), 4, 3, 0.7).unwrap();
    // 0.5 stays, 0.3 would cross 0.7: only token 0 can be drawn, and the mask.
    let rows = [0.5f32, 0.3, 0.2, 0.0].repeat(64);
    let positions: Vec<u32> = (0..64).collect();
    let ids = [3u32; 64];
    let cells = Cells {
        ids: &ids,
        positions: &positions,
        noise: Noise::new(1),
    };
    let rows = Rows::f32(&rows, 4).unwrap();
    let found = step.step(rows, &cells, 0.5, 1.0).unwrap();
    let revealed = found.iter().filter(|&&id| id == 0).count();
    assert!(found.iter().all(|&id| id == 0 || id == 3));
    assert!((16..48).contains(&revealed), "{revealed} of 64 at one half");
    assert_eq!(step.last(rows, &cells, 0.1).unwrap(), [0; 64]);
}

#[test]
fn a_cell_draws_the_same_in_any_company() {
    let toy = Toy::example();
    let step = Ancestral::new(Arc::new(Absorbing::new(5, 4).unwrap()), linear(), Some(4));
    let rows = perfect(&toy, &[4, 4, 4]);
    let noise = Noise::new(5).child(2);
    let all = Cells {
        ids: &[4, 4, 4],
        positions: &[0, 1, 2],
        noise,
    };
    let all = step
        .step(Rows::f64(&rows, 5).unwrap(), &all, 0.2, 0.9)
        .unwrap();
    let one = Cells {
        ids: &[4],
        positions: &[2],
        noise,
    };
    let one = step
        .step(Rows::f64(&rows[10..], 5).unwrap(), &one, 0.2, 0.9)
        .unwrap();
    assert_eq!(one[0], all[2]);
}

#[test]
fn written_cells_stay() {
    let schedule = linear();
    let steps: [Box<dyn ReverseStep>; 4] = [
        Box::new(Ancestral::new(
            Arc::new(Absorbing::new(3, 2).unwrap()),
            schedule.clone(),
            Some(2),
        )),
        Box::new(Analytic::new(
            Graph::Absorbing { mask: 2 },
            schedule.clone(),
        )),
        Box::new(Euler::new(Graph::Absorbing { mask: 2 }, schedule.clone())),
        Box::new(FirstHitting::new(schedule, 2, 1.0)),
    ];
    for step in &steps {
        for seed in 0..50 {
            let noise = Noise::new(seed);
            let cells = Cells {
                ids: &[1, 2],
                positions: &[0, 1],
                noise,
            };
            let rows = [-1.0, -2.0, -3.0, -1.0, -2.0, -3.0].map(f64::exp);
            let rows = Rows::f64(&rows, 3).unwrap();
            assert_eq!(
                step.step(rows, &cells, 0.4, 0.8).unwrap()[0],
                1,
                "{}",
                step.name()
            );
            let last = step.last(rows, &cells, 0.8).unwrap();
            assert_eq!(last[0], 1);
            assert_ne!(last[1], 2, "{} leaves a mask", step.name());
        }
    }
}

#[test]
fn wrong_shapes_are_errors() {
    assert!(Rows::f64(&[0.0; 5], 2).is_err());
    assert!(Rows::f32(&[0.0; 4], 0).is_err());
    let step = FirstHitting::new(linear(), 9, 1.0);
    let cells = Cells {
        ids: &[0],
        positions: &[0],
        noise: Noise::new(0),
    };
    assert!(
        step.step(Rows::f64(&[0.5, 0.5], 2).unwrap(), &cells, 0.0, 1.0)
            .is_err()
    );
    let analytic = Analytic::new(Graph::Absorbing { mask: 9 }, linear());
    assert!(
        analytic
            .step(Rows::f64(&[0.5, 0.5], 2).unwrap(), &cells, 0.1, 0.5)
            .is_err()
    );
    let cells = Cells { ids: &[7], ..cells };
    let uniform = Analytic::new(Graph::Uniform, linear());
    assert!(
        uniform
            .step(Rows::f64(&[0.5, 0.5], 2).unwrap(), &cells, 0.1, 0.5)
            .is_err()
    );
}
