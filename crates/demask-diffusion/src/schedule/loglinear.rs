//! Log-linear noise: the chance of a mask grows linearly in time.

use super::{Convention, Schedule};

/// `p = (1-eps) t` (MDLM, SEDD), `t` (BD3-LM) or `(1-eps) t + eps` (LLaDA), by [`Convention`].
///
/// The bound's weight `p'/p` is exactly `1/t` in the first two. In the third it is `(1-eps)/p`, while LLaDA's loss
/// divides by `p` alone: that factor belongs to the objective, not to the schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loglinear {
    /// Which convention.
    pub convention: Convention,
    /// Distance from the end that the convention avoids; unused by BD3-LM's.
    pub eps: f64,
}

impl Schedule for Loglinear {
    fn name(&self) -> &'static str {
        match self.convention {
            Convention::Mdlm => "loglinear_mdlm",
            Convention::Bd3lms => "loglinear_bd3lms",
            Convention::Llada => "loglinear_llada",
        }
    }

    fn p(&self, t: f64) -> f64 {
        match self.convention {
            Convention::Mdlm => (1.0 - self.eps) * t,
            Convention::Bd3lms => t,
            Convention::Llada => (1.0 - self.eps) * t + self.eps,
        }
    }

    fn p_rate(&self, _t: f64) -> f64 {
        match self.convention {
            Convention::Bd3lms => 1.0,
            Convention::Mdlm | Convention::Llada => 1.0 - self.eps,
        }
    }

    fn weight(&self, t: f64) -> f64 {
        match self.convention {
            Convention::Mdlm | Convention::Bd3lms => 1.0 / t,
            Convention::Llada => self.p_rate(t) / self.p(t),
        }
    }

    fn time_at(&self, p: f64) -> f64 {
        let t = match self.convention {
            Convention::Mdlm => p / (1.0 - self.eps),
            Convention::Bd3lms => p,
            Convention::Llada => (p - self.eps) / (1.0 - self.eps),
        };
        t.clamp(0.0, 1.0)
    }
}
