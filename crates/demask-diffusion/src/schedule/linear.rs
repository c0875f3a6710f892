//! Noise linear in sigma (MDLM 2406.07524, `Linear`).

use super::Schedule;

/// `sigma = s_min + t (s_max - s_min)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// Total noise at `t = 0`.
    pub sigma_min: f64,
    /// Total noise at `t = 1`.
    pub sigma_max: f64,
}

impl Schedule for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        self.sigma_min + t * (self.sigma_max - self.sigma_min)
    }

    fn sigma_rate(&self, _t: f64) -> f64 {
        self.sigma_max - self.sigma_min
    }

    fn weight(&self, t: f64) -> f64 {
        self.sigma_rate(t) / self.sigma(t).exp_m1()
    }
}
