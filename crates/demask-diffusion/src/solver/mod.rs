//! Reverse steps: one step back in time of one cell, on the host in `f64`.
//!
//! | name | reads | from |
//! |---|---|---|
//! | the posterior of the process: [`Discrete::posterior`], [`Absorbing::reveal_chance`] | `p(x_0)` | D3PM 2107.03006, MDLM 2406.07524 (`ddpm`), UDLM 2412.10193 |
//! | [`analytic`] | log-scores | SEDD 2310.16834, section 4.3 (Tweedie tau-leaping) |
//! | [`euler`] | log-scores | SEDD 2310.16834, section 4.3 |
//! | [`guided`] | two predictions `p(x_0)`, with and without a condition | UDLM 2412.10193 (D-CFG) |
//! | [`first_hitting`] | nothing: when, and which cell | 2409.02908, BD3-LM 2503.09573 |
//!
//! Here are the formulas. Which cells are asked for, with which random numbers tokens are drawn, and the loop itself are
//! the business of whoever writes (the policies of `demask-text`).
//!
//! [`Discrete::posterior`]: crate::process::Discrete::posterior
//! [`Absorbing::reveal_chance`]: crate::process::Absorbing::reveal_chance

pub mod analytic;
pub mod euler;
pub mod first_hitting;
pub mod guided;

pub use analytic::Analytic;
pub use euler::Euler;
pub use guided::Guided;

/// Time `i` of `steps + 1` from 1 down to `end`, evenly spaced: MDLM's grid has `end = 1e-5`, Dream's `1e-3`. After the
/// last it stays there.
pub fn grid_time(i: usize, steps: usize, end: f64) -> f64 {
    let steps = steps.max(1);
    1.0 - i.min(steps) as f64 * (1.0 - end) / steps as f64
}

/// Log-scores of a masked cell from a distribution over `x_0`: `s_y = p(y)/expm1(sigma)`, 1 on the mask (SEDD,
/// equation 27: the ratio of a masked process). In place.
pub fn absorbing_log_scores(row: &mut [f64], mask: u32, sigma: f64) {
    let offset = sigma.exp_m1().ln();
    for (y, value) in row.iter_mut().enumerate() {
        *value = if y == mask as usize {
            0.0
        } else {
            value.ln() - offset
        };
    }
}

#[cfg(test)]
mod tests;
