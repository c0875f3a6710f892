//! Reverse steps against hand-computed rows.

use std::sync::Arc;

use super::analytic::{Graph, staggered_score, transposed_transition};
use super::first_hitting::{cell, next_level};
use super::*;
use crate::Noise;
use crate::process::{Absorbing, Discrete, Uniform};
use crate::schedule::{Convention, Schedule, ScheduleConfig};

fn linear() -> Arc<dyn Schedule> {
    ScheduleConfig::default().build().unwrap()
}

fn close(found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len());
    for (f, w) in found.iter().zip(wanted) {
        assert!((f - w).abs() < 1e-12, "{found:?} {wanted:?}");
    }
}

#[test]
fn grid() {
    let found: Vec<f64> = (0..6).map(|i| grid_time(i, 4, 0.2)).collect();
    close(&found, &[1.0, 0.8, 0.6, 0.4, 0.2, 0.2]);
    assert_eq!(grid_time(0, 1000, 1e-5), 1.0);
    assert!((grid_time(1000, 1000, 1e-5) - 1e-5).abs() < 1e-15);
}

#[test]
fn first_hitting_levels_are_the_largest_of_m_uniforms() {
    let n = 20_000;
    let levels = Noise::new(0).uniforms(n);
    let mean = levels.iter().map(|&u| next_level(0.8, 3, u)).sum::<f64>() / n as f64;
    // 0.8 m/(m+1) = 0.6
    assert!((mean - 0.6).abs() < 0.005, "{mean}");
    // 0.125^(1/3) = 1/2
    assert!((next_level(0.8, 3, 0.125) - 0.4).abs() < 1e-15);
    assert_eq!([0.0, 0.34, 0.999].map(|u| cell(3, u)), [0, 1, 2]);
    assert_eq!(cell(3, 1.0), 2);
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
    let step = Analytic::new(Graph::Absorbing { mask: 4 });
    step.weights(&mut found, 4, schedule.sigma(t) - schedule.sigma(s));
    close(&found, &wanted);
}

#[test]
fn the_analytic_uniform_step_is_the_posterior_of_one_token() {
    // One cell: the score is p_t(y)/p_t(x) exactly, and Tweedie's step is exact for a single token.
    let (v, alpha_s, alpha_t) = (4usize, 0.8f64, 0.5f64);
    let p0 = [0.1, 0.2, 0.3, 0.4];
    let density = |y: usize| alpha_t * p0[y] + (1.0 - alpha_t) / v as f64;
    let x = 2;
    let mut row: Vec<f64> = (0..v).map(|y| (density(y) / density(x)).ln()).collect();
    let step = Analytic::new(Graph::Uniform);
    step.weights(&mut row, x as u32, (alpha_s / alpha_t).ln());
    let mut wanted = vec![0.0; v];
    Uniform::new(v)
        .unwrap()
        .posterior(&p0, x as u32, 1.0 - alpha_s, 1.0 - alpha_t, &mut wanted);
    close(&row, &wanted);
}

#[test]
fn euler_by_hand_and_towards_analytic() {
    let euler = Euler::new(Graph::Absorbing { mask: 2 });
    let mut row = [2f64.ln(), 0.5f64.ln(), 0.0];
    euler.weights(&mut row, 2, 0.1);
    close(&row, &[0.2, 0.05, 0.75]);
    let uniform = Euler::new(Graph::Uniform);
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
    let analytic = Analytic::new(Graph::Uniform);
    analytic.weights(&mut a, 2, schedule.sigma(t) - schedule.sigma(t - h));
    uniform.weights(&mut e, 2, h * schedule.sigma_rate(t));
    assert!(
        a.iter().zip(e).all(|(a, e)| (a - e).abs() < 1e-8),
        "{a:?} {e:?}"
    );
}
