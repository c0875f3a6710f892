//! The one entry to a network: what a forward pass takes and what it gives.

use burn::tensor::Tensor;
use demask_kernels::rowwise::Scored;

use crate::cache::KvCache;
use crate::mask::AttentionMask;
use crate::ops::Scoring;
use crate::transformer::RotaryConfig;

/// Everything a forward pass may be asked for.
///
/// Training, decoding, caches, latents, guidance and long-context settings all pass through this
/// one value. Build it with [`Input::ids`] or [`Input::vectors`] and change the fields you need:
///
/// ```
/// use demask_nn::{AttentionMask, Asked, Input};
/// let input = Input {
///     mask: AttentionMask::causal(),
///     asked: Asked::Rows(vec![2]),
///     ..Input::ids(vec![5, 7, 9], 1, 3)
/// };
/// # let _ = input;
/// ```
#[derive(Debug)]
pub struct Input<'a> {
    /// What stands in the cells.
    pub rows: Rows,
    /// Where the cells stand, for the rotary embedding.
    pub positions: Positions,
    /// Who sees whom.
    pub mask: AttentionMask,
    /// The noise level, for networks with a time input. Ignored by networks without one.
    pub time: Option<NoiseLevel>,
    /// The class label of each sequence, `[batch]`, each below the network's number of classes;
    /// `None` inside for a sequence without one. Left out, no sequence has a label. A network
    /// without labels refuses one.
    pub labels: Option<Vec<Option<u32>>>,
    /// Keys and values of the earlier cells of each sequence, which need not be equally many; the
    /// request's own are appended. Without a cache: none. For inference: no gradient flows through
    /// attention over a cache.
    pub caches: Vec<&'a mut KvCache>,
    /// Inner values to hand out.
    pub taps: &'a [Tap],
    /// The cells whose logits are wanted.
    pub asked: Asked,
    /// The tokens that the asked cells should have: their cross-entropy is wanted in place of their logits.
    pub targets: Option<Targets>,
    /// What is wanted of the asked cells in place of their logits, in their order. With a packed head the logits are
    /// then nowhere stored.
    pub scoring: Option<Scoring<'a>>,
    /// Seed of the dropout masks while training; `None` evaluates without dropout.
    pub dropout: Option<u64>,
    /// Rotary settings of this request instead of the network's own (context extension).
    pub rotary: Option<RotaryConfig>,
}

/// What stands in the cells of a request.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a request; a tensor is a handle on the heap already"
)]
pub enum Rows {
    /// Token ids `[batch, length]`, row-major.
    Ids {
        /// The ids.
        ids: Vec<u32>,
        /// Number of sequences.
        batch: usize,
        /// Cells of each sequence.
        length: usize,
    },
    /// Vectors `[batch, length, d_model]` in place of embedded tokens (latents, image features,
    /// soft tokens).
    Vectors(Tensor<3>),
}

/// Positions of the cells of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positions {
    /// 0, 1, 2 … in each sequence, going on after its cached cells.
    Sequential,
    /// Given for each cell, `[batch, length]` row-major.
    Explicit(Vec<u32>),
}

/// The noise level of a request: sigma, as the network was trained with it.
#[derive(Debug, Clone, PartialEq)]
pub enum NoiseLevel {
    /// One value a sequence, `[batch]`.
    PerSequence(Vec<f32>),
    /// One value a cell, `[batch, length]` row-major.
    PerCell(Vec<f32>),
}

/// The cells whose logits are wanted. A network with a logit shift looks up the right hidden row
/// itself, so these are always cells, never shifted rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All cells, in order.
    All,
    /// No logits, hidden states only.
    None,
    /// These cells, each as `sequence * length + cell`.
    Rows(Vec<u32>),
}

impl Asked {
    /// How many of `cells` cells are asked.
    pub(crate) fn count(&self, cells: usize) -> usize {
        match self {
            Self::All => cells,
            Self::None => 0,
            Self::Rows(cells) => cells.len(),
        }
    }
}

/// What the asked cells should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// One token for each asked cell.
    pub ids: Vec<u32>,
    /// A token that is never predicted: its logit counts as `-∞` (SUBS, arXiv 2406.07524, §3.2.3).
    pub forbidden: Option<u32>,
}

/// A place inside a network whose value is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tap {
    /// The embedded rows, before the first block.
    Embedding,
    /// The residual stream after this block.
    Block(usize),
}

/// What a forward pass gives.
#[derive(Debug, Clone)]
pub struct Output {
    /// `[batch, length, d_model]`, after the final norm.
    pub hidden: Tensor<3>,
    /// `[asked cells, vocab_size]`; `None` when nothing was asked, or losses or scores in their place.
    pub logits: Option<Tensor<2>>,
    /// `-ln p(target)` of each asked cell, `[asked cells]`, where [targets](Input::targets) were given.
    pub losses: Option<Tensor<1>>,
    /// One for each asked cell, if scores were asked for.
    pub scores: Option<Vec<Scored>>,
    /// One tensor `[batch, length, d_model]` for each tap, in the order asked.
    pub taps: Vec<Tensor<3>>,
}

impl Input<'_> {
    /// Token ids with every default: full mask, sequential positions, all logits, no dropout.
    pub fn ids(ids: Vec<u32>, batch: usize, length: usize) -> Self {
        Self::rows(Rows::Ids { ids, batch, length })
    }

    /// Vectors with every default.
    pub fn vectors(vectors: Tensor<3>) -> Self {
        Self::rows(Rows::Vectors(vectors))
    }

    fn rows(rows: Rows) -> Self {
        Self {
            rows,
            positions: Positions::Sequential,
            mask: AttentionMask::full(),
            time: None,
            labels: None,
            caches: Vec::new(),
            taps: &[],
            asked: Asked::All,
            targets: None,
            scoring: None,
            dropout: None,
            rotary: None,
        }
    }
}

impl Rows {
    /// `[batch, length]` of the request.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Rows::Ids { batch, length, .. } => [*batch, *length],
            Rows::Vectors(vectors) => {
                let [batch, length, _] = vectors.dims();
                [batch, length]
            }
        }
    }
}
