//! Length plans: how the answer is cut into blocks and how much of it stands on the canvas.
//!
//! | plan | file | from |
//! |---|---|---|
//! | `whole` | [`whole`] | all cells at once (MDLM, arXiv 2406.07524; Dream, arXiv 2508.15487) |
//! | `semi_autoregressive` | [`semi_autoregressive`] | blocks in order, later ones visible as masks (LLaDA, arXiv 2502.09992) |
//! | `blocks` | [`blocks`] | blocks in order, later ones not there yet (BD3-LM, arXiv 2503.09573; SDAR, arXiv 2510.06303) |
//!
//! The steps of the answer are shared out among its blocks by their open cells; [`pace`] shares the
//! cells of a block out among its steps.

pub mod blocks;
pub mod pace;
pub mod semi_autoregressive;
mod share;
pub mod whole;

use std::fmt::Debug;
use std::ops::Range;

use demask_models::ModelKind;
use serde::{Deserialize, Serialize};

use crate::TextError;
use crate::canvas::Row;

pub use pace::{Pace, PaceConfig};
pub(crate) use share::share;

/// How the answer is cut into blocks.
pub trait LengthPlan: Debug + Send + Sync {
    /// The block of each of `length` answer cells, rising from 0. `start` is the position of the
    /// first one in its row.
    fn layout(&self, start: usize, length: usize) -> Vec<u32>;

    /// The cells of the row that are on the canvas while `block` is being written.
    fn visible(&self, row: &Row, block: u32) -> Range<usize> {
        let _ = block;
        0..row.length()
    }
}

/// Most cells of a text that is longer than its model's context: a step looks at each of them.
const MAX_CELLS: usize = 1 << 16;

/// A length plan as it stands in a configuration.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LengthConfig {
    /// All cells of the answer are open to every step (MDLM, Dream).
    ///
    /// See [`whole`].
    #[default]
    Whole,
    /// Blocks in order, later ones visible as masks (LLaDA).
    ///
    /// See [`semi_autoregressive`].
    SemiAutoregressive {
        /// Cells in a block.
        block: usize,
    },
    /// Blocks in order, later ones not there yet (BD3-LM, SDAR).
    ///
    /// See [`blocks`].
    Blocks {
        /// Cells in a block.
        block: usize,
        /// A text may be longer than the model's context: each block sees as many of the blocks
        /// before it as the context holds.
        #[serde(default)]
        slide: bool,
    },
}

impl LengthConfig {
    /// The block size, if the answer is cut.
    pub fn block(&self) -> Option<usize> {
        match *self {
            Self::Whole => None,
            Self::SemiAutoregressive { block } | Self::Blocks { block, .. } => Some(block),
        }
    }

    /// The same kind of plan with another block size; a whole answer becomes semi-autoregressive.
    pub fn with_block(self, block: usize) -> Self {
        match self {
            Self::Whole | Self::SemiAutoregressive { .. } => Self::SemiAutoregressive { block },
            Self::Blocks { slide, .. } => Self::Blocks { block, slide },
        }
    }

    /// Most cells of a row under a model with a context of `context` cells.
    pub fn max_length(&self, context: usize) -> usize {
        match self {
            Self::Blocks { slide: true, .. } => MAX_CELLS.max(context),
            _ => context,
        }
    }

    /// The plan for a model of this kind with a context of `context` cells.
    ///
    /// # Errors
    /// A block of 0 cells or one that the context does not hold, or a plan the network was not
    /// trained for.
    pub fn build(&self, kind: ModelKind, context: usize) -> Result<Box<dyn LengthPlan>, TextError> {
        if self.block() == Some(0) {
            return Err(TextError::setting(
                "block",
                0,
                "a block needs at least 1 cell",
            ));
        }
        if let Self::Blocks { block, slide: true } = *self
            && block > context
        {
            let reason = format!("the model's context has {context} cells, less than a block");
            return Err(TextError::setting("block", block, reason));
        }
        if let ModelKind::BlockMasked { block: trained } = kind {
            return match *self {
                Self::Blocks { block, slide } if block == trained => Ok(Box::new(blocks::Blocks {
                    block,
                    aligned: true,
                    context: slide.then_some(context),
                })),
                other => Err(TextError::setting(
                    "block",
                    other.block().map_or("whole".to_owned(), |b| b.to_string()),
                    format!("the network was trained on blocks of {trained} and writes by them"),
                )),
            };
        }
        Ok(match *self {
            Self::Whole => Box::new(whole::Whole),
            Self::SemiAutoregressive { block } => {
                Box::new(semi_autoregressive::SemiAutoregressive { block })
            }
            Self::Blocks { block, slide } => Box::new(blocks::Blocks {
                block,
                aligned: false,
                context: slide.then_some(context),
            }),
        })
    }
}
