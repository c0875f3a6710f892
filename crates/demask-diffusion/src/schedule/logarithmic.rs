//! Logarithmic noise (BD3-LM 2503.09573, `LogarithmicNoise`).

use std::f64::consts::LN_2;

use super::Schedule;

/// `p = ln(1+t) / ln 2`, weight `1 / (p ln 2 (1+t))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logarithmic;

impl Schedule for Logarithmic {
    fn name(&self) -> &'static str {
        "logarithmic"
    }

    fn p(&self, t: f64) -> f64 {
        t.ln_1p() / LN_2
    }

    fn p_rate(&self, t: f64) -> f64 {
        1.0 / (LN_2 * (1.0 + t))
    }

    fn time_at(&self, p: f64) -> f64 {
        (p * LN_2).exp_m1().clamp(0.0, 1.0)
    }
}
