//! Caches: which cells are forwarded again in a step, and whose keys and values are reused.
//!
//! | cache | from | |
//! |---|---|---|
//! | `none` | | every visible cell in every step |
//! | `block` | BD3-LM, arXiv 2503.09573, §3; SDAR, arXiv 2510.06303 | the cells of finished blocks once; exact |
//!
//! A network whose cells see their own block and those before it gives a finished block the same keys
//! and values in every later step. The `block` cache keeps them, and the block after it is forwarded
//! alone. The block that was finished last is forwarded once more, clean, to write its keys and values:
//! together with the first step of the next one, so that it costs its cells and no forward pass of its
//! own. The text is that of `none`, bit for bit.

use demask_models::ModelKind;
use demask_nn::KvCache;
use serde::{Deserialize, Serialize};

use crate::TextError;

/// A cache as it stands in a configuration.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CacheConfig {
    /// Every visible cell is forwarded in every step.
    #[default]
    None,
    /// Keys and values of finished blocks are kept (BD3-LM, SDAR): exact, for models that write block
    /// by block.
    Block,
}

impl CacheConfig {
    /// Checks that a model of this kind can use the cache.
    ///
    /// # Errors
    /// [`TextError::Unsupported`] with what would work.
    pub fn check(self, kind: ModelKind) -> Result<(), TextError> {
        match (self, kind) {
            (Self::None, _) | (Self::Block, ModelKind::BlockMasked { .. }) => Ok(()),
            (Self::Block, _) => Err(TextError::Unsupported {
                what: "the cache `block`".into(),
                with: format!("a model of kind {kind:?}"),
                reason:
                    "in its network finished cells see those that are written later, so their keys \
                         and values change with every step; leave `cache` at `none`"
                        .into(),
            }),
        }
    }
}

/// The caches of one text: of its row, then of each other version of it that guides ask for.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    /// The first cell that the caches begin with.
    from: usize,
    rows: Vec<KvCache>,
}

impl Caches {
    /// The caches of a row that begins at cell `from` and its `versions`. A window that moved makes every
    /// cell see another beginning: nothing that was kept holds any more.
    pub fn rows(&mut self, from: usize, versions: usize) -> &mut [KvCache] {
        if self.from != from {
            self.rows.clear();
            self.from = from;
        }
        self.rows.resize_with(1 + versions, KvCache::new);
        &mut self.rows
    }
}
