//! First hitting (Zheng et al. 2409.02908; BD3-LM 2503.09573): jump straight to the time of the next reveal.
//!
//! With `m` cells masked the next reveal happens at `p := p u^(1/m)`, in a uniformly chosen masked cell: exactly `m`
//! forward passes. BD3-LM writes it as `t := t u^(1/m)`, which is the same where `p = t`; in noise levels it holds for
//! every schedule. The drawn level matters only to a network with time input.

/// The noise level of the next reveal, from level `p` with `masked` cells left; `u` in `(0, 1)`.
pub fn next_level(p: f64, masked: usize, u: f64) -> f64 {
    p * u.powf(1.0 / masked.max(1) as f64)
}

/// Which of `masked` cells, at least one, is revealed; `u` in `(0, 1)`.
pub fn cell(masked: usize, u: f64) -> usize {
    ((u * masked as f64) as usize).min(masked.saturating_sub(1))
}
