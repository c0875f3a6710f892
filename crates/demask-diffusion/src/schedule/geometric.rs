//! Geometric noise (SEDD 2310.16834, `GeometricNoise`).

use super::Schedule;

/// `sigma = s_min^(1-t) s_max^t`. SEDD's configurations use 1e-4 and 20 (its class default is 1e-3 and 1, which leaves
/// tokens unmasked at `t = 1`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometric {
    /// Total noise at `t = 0`, above 0.
    pub sigma_min: f64,
    /// Total noise at `t = 1`.
    pub sigma_max: f64,
}

impl Schedule for Geometric {
    fn name(&self) -> &'static str {
        "geometric"
    }

    fn p(&self, t: f64) -> f64 {
        -(-self.sigma(t)).exp_m1()
    }

    fn p_rate(&self, t: f64) -> f64 {
        self.sigma_rate(t) * self.alpha(t)
    }

    fn alpha(&self, t: f64) -> f64 {
        (-self.sigma(t)).exp()
    }

    fn sigma(&self, t: f64) -> f64 {
        self.sigma_min.powf(1.0 - t) * self.sigma_max.powf(t)
    }

    fn sigma_rate(&self, t: f64) -> f64 {
        self.sigma(t) * (self.sigma_max / self.sigma_min).ln()
    }

    fn weight(&self, t: f64) -> f64 {
        self.sigma_rate(t) / self.sigma(t).exp_m1()
    }
}
