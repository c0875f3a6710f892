//! Cosine noise.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

use super::{CosineConvention, Schedule};

/// `alpha = eps + (1-eps) cos(pi t/2)` (MDLM) or `(1-eps) cos(pi t/2)` (BD3-LM), by [`CosineConvention`].
///
/// The weight is `p'/p` in both. The published BD3-LM code adds a second `eps` to that denominator, against division by
/// zero at `t = 0`; here `p(0) = eps` already, and the bound stays exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cosine {
    /// Which convention.
    pub convention: CosineConvention,
    /// Distance from the end that the convention avoids.
    pub eps: f64,
}

impl Schedule for Cosine {
    fn name(&self) -> &'static str {
        match self.convention {
            CosineConvention::Mdlm => "cosine_mdlm",
            CosineConvention::Bd3lms => "cosine_bd3lms",
        }
    }

    fn p(&self, t: f64) -> f64 {
        // 1 - cos x = 2 sin²(x/2) keeps its digits near t = 0.
        let risen = 2.0 * (FRAC_PI_4 * t).sin().powi(2);
        match self.convention {
            CosineConvention::Mdlm => (1.0 - self.eps) * risen,
            CosineConvention::Bd3lms => self.eps + (1.0 - self.eps) * risen,
        }
    }

    fn p_rate(&self, t: f64) -> f64 {
        (1.0 - self.eps) * FRAC_PI_2 * (FRAC_PI_2 * t).sin()
    }
}
