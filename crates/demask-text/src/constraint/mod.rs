//! Constraints: what may stand where.
//!
//! | constraint | file | what it does |
//! |---|---|---|
//! | `bans` | [`bans`] | tokens that are never written |
//! | `fixed` | [`fixed`] | cells of the answer that are given before the first step (templates, infilling) |

pub mod bans;
pub mod fixed;

use std::collections::BTreeMap;
use std::fmt::Debug;

use demask_kernels::rowwise::TokenSet;
use serde::{Deserialize, Serialize};

use crate::TextError;
use crate::canvas::Row;

pub use bans::Bans;
pub use fixed::Fixed;

/// Restricts what may be written. One value serves one text and may remember what it saw.
pub trait Constraint: Debug + Send {
    /// The name in tables and messages.
    fn name(&self) -> &'static str;

    /// Fixes cells of the answer before the first step: sets entries of `cells` to their token.
    ///
    /// # Errors
    /// When the answer is too short for what must stand in it.
    fn fix(&mut self, cells: &mut [Option<u32>]) -> Result<(), TextError> {
        let _ = cells;
        Ok(())
    }

    /// Adds to `forbidden` the sets of tokens that must not be written into one cell of the row in this step.
    fn forbid(&mut self, row: &Row, cell: usize, forbidden: &mut Vec<TokenSet>) {
        let _ = (row, cell, forbidden);
    }
}

/// A constraint as it stands in a configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ConstraintConfig {
    /// Tokens that are never written.
    ///
    /// See [`bans`].
    Bans {
        /// Ids of the tokens that are never written.
        ids: Vec<u32>,
    },
    /// Cells of the answer that are given before the first step.
    ///
    /// See [`fixed`].
    Fixed {
        /// Id of the token by cell of the answer, counted from 0: `{"0": 17, "5": 4}`.
        #[serde(with = "fixed::cells")]
        #[schemars(with = "BTreeMap<usize, u32>")]
        cells: BTreeMap<usize, u32>,
    },
}

impl ConstraintConfig {
    /// The constraint for one text.
    ///
    /// # Errors
    /// Ids outside a vocabulary of `vocab` tokens.
    pub fn build(&self, vocab: usize) -> Result<Box<dyn Constraint>, TextError> {
        let check = |flag, mut ids: Box<dyn Iterator<Item = u32> + '_>| match ids
            .find(|&id| id as usize >= vocab)
        {
            Some(id) => Err(TextError::setting(
                flag,
                id,
                format!("no such token in a vocabulary of {vocab}"),
            )),
            None => Ok(()),
        };
        Ok(match self {
            Self::Bans { ids } => {
                check("bans", Box::new(ids.iter().copied()))?;
                Box::new(Bans::new(ids.clone()))
            }
            Self::Fixed { cells } => {
                check("fixed", Box::new(cells.values().copied()))?;
                Box::new(Fixed {
                    cells: cells.clone(),
                })
            }
        })
    }
}
