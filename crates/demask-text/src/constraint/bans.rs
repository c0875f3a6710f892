//! Tokens that are never written.

use super::Constraint;
use crate::canvas::Row;

/// Forbids the same tokens everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bans {
    /// The ids that are never written.
    pub ids: Vec<u32>,
}

impl Constraint for Bans {
    fn name(&self) -> &'static str {
        "bans"
    }

    fn forbid(&mut self, _row: &Row, _cell: usize, logits: &mut [f32]) {
        for &id in &self.ids {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
