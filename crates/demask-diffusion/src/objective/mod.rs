//! Objectives: what training minimises.
//!
//! | name | method | from |
//! |---|---|---|
//! | [`mdlm`] | masked diffusion, continuous time | MDLM 2406.07524 |
//! | [`d3pm`] | masked diffusion, finite number of steps | D3PM 2107.03006, MDLM 2406.07524 |
//! | [`sedd_absorbing`] | score entropy, absorbing graph | SEDD 2310.16834 |
//! | [`sedd_uniform`] | score entropy, uniform graph | SEDD 2310.16834 |
//! | [`udlm`] | uniform noise, continuous time | UDLM 2412.10193 |
//! | [`bd3`] | block diffusion on `[x_t ; x_0]` | BD3-LM 2503.09573 |
//! | [`llada_pretrain`] | masked pre-training | LLaDA 2502.09992 |
//! | [`llada_sft`] | masked fine-tuning on answers | LLaDA 2502.09992 |
//! | [`shifted`] | AR-initialised diffusion that keeps the shift | DiffuLLaMA 2410.17891, Dream 2508.15487 |
//! | [`autoregressive`] | next token | — |
//! | [`generic`] | any schedule and normaliser | the `dllm` trainer |
//!
//! Beside them: [`subs`] (the SUBS output map and cross-entropy), [`cart`] (Dream's token weights), [`variance`]
//! (BD3-LM's search for a clipped schedule).
//!
//! # How a trainer uses one
//! 1. `let c = objective.corrupt(&x0, &loss_cells, &noise)?`
//! 2. forward `c.input` (with `c.blocks`, `c.sigma`) and take the logits of the rows `c.asked`;
//! 3. for [`Wanted::CrossEntropy`] compute `-ln p(target)` a row, the logit of `c.forbidden` set to minus infinity (a
//!    fused head may do this without storing logits), for [`Wanted::Logits`] pass the logits on;
//! 4. `objective.loss(input, &c)?` gives one weighted value a row; the loss is their sum divided by `c.normaliser`.
//!
//! When no cell was masked `c.asked` is empty: the loss is then zero and the forward pass can be skipped, but
//! `c.normaliser` counts all the same.

use std::fmt::Debug;

use burn::tensor::{DType, Int, Tensor, TensorData};

use crate::process::Uniform;
use crate::{DiffusionError, Ids, Noise, Result, Time};

pub mod autoregressive;
pub mod bd3;
pub mod cart;
mod config;
pub mod d3pm;
pub mod generic;
pub mod llada_pretrain;
pub mod llada_sft;
mod masking;
pub mod mdlm;
pub mod sedd_absorbing;
pub mod sedd_uniform;
pub mod shifted;
pub mod subs;
pub mod udlm;
pub mod variance;

pub use config::{ObjectiveConfig, Vocabulary};

/// What an objective needs from the network for each asked row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `-ln p(target)`: the caller may fuse head and loss and never store logits.
    CrossEntropy,
    /// The raw logits `[asked, V]`.
    Logits,
}

/// What [`Objective::loss`] is given.
#[derive(Clone, Debug)]
pub enum LossInput {
    /// `-ln p(target)` of each asked row, `[asked]`.
    CrossEntropy(Tensor<1>),
    /// Raw logits of each asked row, `[asked, V]`. Taken by every objective, also by those that want only the
    /// cross-entropy.
    Logits(Tensor<2>),
}

/// Which cells a cell may look at in the pass that an objective asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// All cells.
    Full,
    /// Itself and the cells before it.
    Causal,
    /// BD3-LM's three-part mask on `[x_t ; x_0]` (figure 3: block-diagonal, offset block-causal, block-causal). A noisy
    /// cell sees its own noisy block and the clean blocks before it; a clean cell sees the clean blocks up to its own.
    NoisyAndClean,
}

/// A corrupted batch: what the network reads, which rows are asked, and how their losses are weighted.
///
/// Shapes: `B` and `n` are those of `input`, `A` is the number of asked rows. The asked rows are in rising order.
#[derive(Clone, Debug)]
pub struct Corrupted {
    /// What the network reads, `[B, n]`. `n` is the length `L` of the clean batch; `2L` for BD3-LM; shorter when LLaDA
    /// cuts the length. `B` is the clean batch; twice that (noisy rows, then clean rows at time zero) where a
    /// reconstruction term is asked for (D3PM form and UDLM).
    pub input: Ids,
    /// `Some(block of each of the L cells)`: the input is `[x_t ; x_0]`, the network must use the three-part mask
    /// ([`Attention::NoisyAndClean`]) and the positions `0..L` twice.
    pub blocks: Option<Vec<u32>>,
    /// The times that were drawn, broadcasting to `[B, L]`.
    pub time: Time,
    /// What a network with time input is given, broadcasting to `[B, L]`; `None` without time conditioning.
    pub sigma: Option<Time>,
    /// Flat indices `b*n + i` of the input positions whose logits the loss needs, `[A]`.
    ///
    /// They are the positions of the *cells to be predicted*. A network with logit shift applies the shift itself: the
    /// logits asked for cell `i` come from the hidden state `i-1`.
    pub asked: Vec<u32>,
    /// The clean id of each asked row, `[A]`.
    pub target: Vec<u32>,
    /// The id that stands in each asked cell of the noisy input, `[A]`.
    pub present: Vec<u32>,
    /// The time of each asked row, `[A]`.
    pub row_time: Vec<f64>,
    /// The flat index `b*L + l` in the clean batch of each asked row, `[A]`: for reports by token or sequence.
    pub cell: Vec<u32>,
    /// Loss weight of each asked row, `[A]`.
    pub weight: Vec<f64>,
    /// Divide the sum of [`Objective::loss`] by this.
    pub normaliser: f64,
    /// Number of loss cells in play: dividing the summed loss by this gives the bound in nats a token where
    /// [`Objective::is_bound`] holds.
    pub scored: usize,
    /// A token that the network must not predict: its logit is minus infinity before the softmax.
    pub forbidden: Option<u32>,
}

/// Something training can minimise.
///
/// An objective is a value without state; all randomness comes from the `noise` argument.
pub trait Objective: Debug + Send + Sync {
    /// The name in tables, recipes and messages.
    fn name(&self) -> &'static str;

    /// What [`Objective::loss`] reads.
    fn wants(&self) -> Wanted {
        Wanted::CrossEntropy
    }

    /// The attention of the pass.
    fn attention(&self) -> Attention {
        Attention::Full
    }

    /// Whether the network must predict cell `i` from position `i-1`.
    fn shifted(&self) -> bool {
        false
    }

    /// Whether the expectation of the summed loss over [`Corrupted::scored`] is an upper bound on the negative
    /// log-likelihood a token (up to the `eps` at the ends of the time interval). It is none where times or schedule
    /// leave noise levels out, where weights are not the schedule's, or where they hold the length of a sequence
    /// ([`Normalise::Sequence`]).
    fn is_bound(&self) -> bool;

    /// Draws times and noise for a clean batch.
    ///
    /// `x0` is `[B, L]`; `loss_cells` is `[B*L]`, and a `false` cell (prompt, padding) is never hit and never scored.
    /// Row `b` of the noise depends on `noise`, `b` and the position only; the times of a batch may depend on each other
    /// (antithetic draws).
    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted>;

    /// The weighted loss of each asked row, `[A]`, not yet divided by the normaliser. Gradients flow to the input.
    fn loss(&self, prediction: LossInput, corrupted: &Corrupted) -> Result<Tensor<1>> {
        subs::weighted_cross_entropy(prediction, corrupted)
    }
}

/// What the sum of the losses is divided by.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(title = "Normaliser")]
pub enum Normalise {
    /// All loss cells (MDLM, LLaDA).
    #[default]
    Tokens,
    /// The masked cells (DiffuLLaMA, Dream). Not interchangeable with `tokens` when learning rates are copied.
    Masked,
    /// The sequences: each sequence's loss is divided by its loss cells, then averaged.
    Sequence,
    /// The sequences: each sequence's loss is a plain sum (SEDD).
    Batch,
}

/// Checks a clean batch against its loss cells, and that no token lies outside the vocabulary or is the mask.
pub(crate) fn check_batch(
    x0: &Ids,
    loss_cells: &[bool],
    vocab: usize,
    mask: Option<u32>,
) -> Result<()> {
    if loss_cells.len() != x0.data().len() {
        return Err(DiffusionError::shape(
            "loss cells",
            x0.data().len(),
            loss_cells.len(),
        ));
    }
    if u32::try_from(x0.data().len().saturating_mul(2)).is_err() {
        return Err(DiffusionError::shape(
            "batch",
            "at most 2^31 cells",
            x0.data().len(),
        ));
    }
    for (b, l, id) in x0.iter() {
        let place = || format!("at row {b}, position {l}");
        if id as usize >= vocab {
            let reason = "lies outside the vocabulary of the objective";
            return Err(DiffusionError::Token {
                id,
                place: place(),
                reason,
            });
        }
        if Some(id) == mask && loss_cells[b * x0.length() + l] {
            let reason =
                "the mask token cannot be a training target; take the cell out of the loss";
            return Err(DiffusionError::Token {
                id,
                place: place(),
                reason,
            });
        }
    }
    Ok(())
}

/// Collects the asked rows of a corrupted batch.
#[derive(Default)]
pub(crate) struct Rows {
    pub asked: Vec<u32>,
    pub target: Vec<u32>,
    pub present: Vec<u32>,
    pub row_time: Vec<f64>,
    pub cell: Vec<u32>,
    pub weight: Vec<f64>,
}

/// One asked row.
pub(crate) struct Row {
    /// Flat index in the input.
    pub asked: usize,
    /// Flat index in the clean batch.
    pub cell: usize,
    pub target: u32,
    pub present: u32,
    pub time: f64,
    pub weight: f64,
}

impl Rows {
    pub fn push(&mut self, row: Row) {
        self.asked.push(row.asked as u32);
        self.cell.push(row.cell as u32);
        self.target.push(row.target);
        self.present.push(row.present);
        self.row_time.push(row.time);
        self.weight.push(row.weight);
    }

    /// The corrupted batch of these rows, normalised by its loss cells.
    pub fn finish(self, input: Ids, time: Time, scored: usize) -> Corrupted {
        Corrupted {
            input,
            blocks: None,
            time,
            sigma: None,
            asked: self.asked,
            target: self.target,
            present: self.present,
            row_time: self.row_time,
            cell: self.cell,
            weight: self.weight,
            normaliser: (scored as f64).max(1.0),
            scored,
            forbidden: None,
        }
    }
}

impl Corrupted {
    /// Sets the normaliser, and for [`Normalise::Sequence`] divides each row's weight by its sequence's loss cells.
    /// `length` is that of a row of `loss_cells`.
    pub(crate) fn normalised(mut self, by: Normalise, loss_cells: &[bool], length: usize) -> Self {
        let rows = loss_cells.chunks(length.max(1));
        let counts: Vec<usize> = rows
            .map(|row| row.iter().filter(|&&cell| cell).count())
            .collect();
        let sequences = counts.iter().filter(|&&count| count > 0).count();
        let divisor = match by {
            Normalise::Tokens => self.scored,
            Normalise::Masked => self.asked.len(),
            Normalise::Sequence | Normalise::Batch => sequences,
        };
        if by == Normalise::Sequence {
            for (weight, &cell) in self.weight.iter_mut().zip(&self.cell) {
                *weight /= counts[cell as usize / length.max(1)].max(1) as f64;
            }
        }
        self.normaliser = (divisor as f64).max(1.0);
        self
    }
}

/// A host column as a tensor on the device and in the dtype of `like`.
pub(crate) fn column<const D: usize>(values: &[f64], like: &Tensor<D>) -> Tensor<1> {
    let data = TensorData::new(values.to_vec(), [values.len()]);
    let dtype: DType = like.dtype();
    Tensor::from_data(data, (&like.device(), dtype))
}

/// Host ids as an index column `[A, 1]` on the device of `like`.
pub(crate) fn indices<const D: usize>(ids: &[u32], like: &Tensor<D>) -> Tensor<2, Int> {
    let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count, 1]), &like.device())
}

/// The columns of the values of uniform noise, `[rows, values]`: all but the mask.
pub(crate) fn values_of(logits: Tensor<2>, process: &Uniform) -> Tensor<2> {
    let [_, columns] = logits.dims();
    let Some(mask) = process.mask().map(|mask| mask as usize) else {
        return logits;
    };
    let after = columns - mask - 1;
    match (mask, after) {
        (0, _) => logits.narrow(1, 1, after),
        (_, 0) => logits.narrow(1, 0, mask),
        _ => {
            let before = logits.clone().narrow(1, 0, mask);
            Tensor::cat(vec![before, logits.narrow(1, mask + 1, after)], 1)
        }
    }
}

/// The logits of a prediction, or an error that says what the objective needs.
pub(crate) fn logits_of(
    objective: &'static str,
    prediction: LossInput,
    corrupted: &Corrupted,
) -> Result<Tensor<2>> {
    let LossInput::Logits(logits) = prediction else {
        return Err(DiffusionError::WrongInput {
            objective,
            needed: "the logits of the asked rows",
        });
    };
    let [rows, width] = logits.dims();
    if rows != corrupted.asked.len() {
        return Err(DiffusionError::shape(
            "logits",
            [corrupted.asked.len(), width],
            [rows, width],
        ));
    }
    Ok(logits)
}
