//! Squared cosine noise (MDLM 2406.07524, `CosineSqr`).

use std::f64::consts::{FRAC_PI_2, PI};

use super::Schedule;

/// `alpha = eps + (1-eps) cos²(pi t/2)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineSquared {
    /// `alpha` at `t = 1`.
    pub eps: f64,
}

impl Schedule for CosineSquared {
    fn name(&self) -> &'static str {
        "cosine_squared"
    }

    fn p(&self, t: f64) -> f64 {
        (1.0 - self.eps) * (FRAC_PI_2 * t).sin().powi(2)
    }

    fn p_rate(&self, t: f64) -> f64 {
        // d/dt sin²(pi t/2) = (pi/2) sin(pi t)
        (1.0 - self.eps) * FRAC_PI_2 * (PI * t).sin()
    }
}
