//! Sparing forward passes of the ancestral sampler (MDLM 2406.07524, `ddpm_cache`).
//!
//! A masked network without time input says the same until a token changes, so its last prediction is kept. Since every
//! draw is indexed by step and position, the samples are those of the plain ancestral sampler to the bit, and there are
//! at most as many forward passes as cells.

use crate::Ids;

/// Decides whether a forward pass is needed: only when some id differs from those of the last one.
///
/// Valid only for a network *without time input*.
#[derive(Clone, Debug, Default)]
pub struct ForwardCache {
    seen: Option<Ids>,
    forwards: usize,
}

impl ForwardCache {
    /// A cache that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the network must be asked about `ids`; when it must, they are remembered as asked.
    pub fn needs_forward(&mut self, ids: &Ids) -> bool {
        if self.seen.as_ref() == Some(ids) {
            return false;
        }
        self.seen = Some(ids.clone());
        self.forwards += 1;
        true
    }

    /// Forward passes asked for so far.
    pub fn forwards(&self) -> usize {
        self.forwards
    }
}
