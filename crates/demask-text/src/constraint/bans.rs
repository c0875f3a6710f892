//! Tokens that are never written.

use demask_kernels::rowwise::TokenSet;

use super::Constraint;
use crate::canvas::Row;

/// Forbids the same tokens everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bans {
    ids: TokenSet,
}

impl Bans {
    /// Of the ids that are never written.
    pub fn new(ids: Vec<u32>) -> Self {
        Self {
            ids: TokenSet::new(ids),
        }
    }
}

impl Constraint for Bans {
    fn name(&self) -> &'static str {
        "bans"
    }

    fn forbid(&mut self, _row: &Row, _cell: usize, forbidden: &mut Vec<TokenSet>) {
        forbidden.push(self.ids.clone());
    }
}
