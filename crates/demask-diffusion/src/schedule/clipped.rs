//! A window on another schedule (BD3-LM 2503.09573, section 5: clipped schedules).

use std::sync::Arc;

use super::Schedule;
use crate::{DiffusionError, Result};

/// Reads an inner schedule through the window `[min, max]` of its time: `u` in `[0, 1]` becomes
/// `t = u (max - min) + min`.
///
/// Rates obey the chain rule, so [`Schedule::weight`] is the inner weight times the width of the window: the part of
/// the bound that lies in the window. BD3-LM's training loss does **not** multiply by the width (it draws `t` in the
/// window and keeps the inner weight); its objective therefore clips by the `min` and `max` of
/// [`TimeSampling`](super::TimeSampling) and never through this wrapper.
#[derive(Clone, Debug)]
pub struct Clipped {
    inner: Arc<dyn Schedule>,
    min: f64,
    max: f64,
}

impl Clipped {
    /// The window `0 <= min < max <= 1` of `inner`.
    pub fn new(inner: Arc<dyn Schedule>, min: f64, max: f64) -> Result<Self> {
        if !(0.0..1.0).contains(&min) {
            return Err(DiffusionError::setting(
                "min",
                min,
                "must be at least 0 and below 1",
            ));
        }
        if !(max > min && max <= 1.0) {
            return Err(DiffusionError::setting(
                "max",
                max,
                "must be above min and at most 1",
            ));
        }
        Ok(Self { inner, min, max })
    }

    /// The inner time of `u`.
    pub fn inner_time(&self, u: f64) -> f64 {
        u * (self.max - self.min) + self.min
    }
}

impl Schedule for Clipped {
    fn name(&self) -> &'static str {
        "clipped"
    }

    fn p(&self, t: f64) -> f64 {
        self.inner.p(self.inner_time(t))
    }

    fn p_rate(&self, t: f64) -> f64 {
        self.inner.p_rate(self.inner_time(t)) * (self.max - self.min)
    }

    fn alpha(&self, t: f64) -> f64 {
        self.inner.alpha(self.inner_time(t))
    }

    fn sigma(&self, t: f64) -> f64 {
        self.inner.sigma(self.inner_time(t))
    }

    fn sigma_rate(&self, t: f64) -> f64 {
        self.inner.sigma_rate(self.inner_time(t)) * (self.max - self.min)
    }

    fn weight(&self, t: f64) -> f64 {
        self.inner.weight(self.inner_time(t)) * (self.max - self.min)
    }
}
