//! Dream's estimator (arXiv 2508.15487, evaluation code): times stratified over the rows of a round
//! with one shared draw, `t_i = (u + i / b) mod 1`; each answer token masked with chance
//! `p = (1 - eps) t + eps` and weighted by `1 / p`.

use demask_diffusion::Noise;

use super::{MaskedRow, Request};

/// The rows of one round.
pub(super) fn rows(
    request: &Request,
    round: usize,
    eps: f64,
    keep_edges: bool,
    noise: Noise,
) -> Vec<MaskedRow> {
    let cells = request.ids.len();
    let times = times(noise.child(0).uniform(), round);
    let row = |(i, t)| {
        let uniforms = noise
            .child(1)
            .child(i as u64)
            .uniforms(cells - request.prompt);
        row(
            request.prompt,
            cells,
            (1.0 - eps) * t + eps,
            keep_edges,
            &uniforms,
        )
    };
    times.into_iter().enumerate().map(row).collect()
}

/// The times of a round for its shared draw.
pub(super) fn times(shared: f64, round: usize) -> Vec<f64> {
    (0..round)
        .map(|i| (shared + i as f64 / round as f64).fract())
        .collect()
}

/// One row of `cells` cells, those from `prompt` on masked with chance `p` by one uniform each.
pub(super) fn row(
    prompt: usize,
    cells: usize,
    p: f64,
    keep_edges: bool,
    uniforms: &[f64],
) -> MaskedRow {
    let edge = |cell: usize| keep_edges && (cell == 0 || cell + 1 == cells);
    let masked: Vec<usize> = (prompt..cells)
        .zip(uniforms)
        .filter(|(cell, u)| **u < p && !edge(*cell))
        .map(|(cell, _)| cell)
        .collect();
    MaskedRow {
        weights: vec![1.0 / p; masked.len()],
        cells: masked,
    }
}
