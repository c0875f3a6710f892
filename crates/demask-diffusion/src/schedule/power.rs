//! Powers of time (BD3-LM 2503.09573, `ExpNoise`): square `k = 2`, square root `k = 1/2`.

use super::Schedule;

/// `p = max(t^k, eps)`, weight `k t^(k-1) / p`.
///
/// Where the floor holds, `p` is constant but the weight goes on as published; below `eps^(1/k)` it is therefore not
/// the derivative of this `p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Power {
    /// The exponent `k`, above 0.
    pub exponent: f64,
    /// The floor of `p`.
    pub eps: f64,
}

impl Schedule for Power {
    fn name(&self) -> &'static str {
        "power"
    }

    fn p(&self, t: f64) -> f64 {
        t.powf(self.exponent).max(self.eps)
    }

    fn p_rate(&self, t: f64) -> f64 {
        self.exponent * t.powf(self.exponent - 1.0)
    }
}
