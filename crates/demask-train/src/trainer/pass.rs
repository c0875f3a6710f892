//! One forward pass of an objective: the same for training and validation.

use burn::tensor::Tensor;
use demask_diffusion::objective::Attention;
use demask_diffusion::{Corrupted, LossInput, Noise, Objective, Time, Wanted};
use demask_nn::{Asked, AttentionMask, Input, MaskKind, NoiseLevel, Positions, Transformer, ops};

use super::batch::Batch;
use crate::TrainError;

/// The loss of a pass, not yet divided.
#[derive(Debug)]
pub(super) struct PassLoss {
    /// Sum over the asked rows, `[1]`; `None` when the noise hit no cell.
    pub sum: Option<Tensor<1>>,
    /// What sums are divided by.
    pub normaliser: f64,
}

/// What is different in a pass while training.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Training {
    /// Seed of the dropout masks.
    pub dropout: Option<u64>,
    /// Share of the cells after its own that each cell sees, and the seed they are drawn with,
    /// while a causal mask is opened.
    pub opening: Option<(f64, u64)>,
}

/// Corrupts `batch` with `noise` and asks `network` for the loss.
pub(super) fn pass(
    network: &Transformer,
    objective: &dyn Objective,
    batch: &Batch,
    noise: &Noise,
    training: Training,
) -> Result<PassLoss, TrainError> {
    let corrupted = objective.corrupt(&batch.x0, &batch.loss_cells, noise)?;
    let normaliser = corrupted.normaliser;
    if corrupted.asked.is_empty() {
        return Ok(PassLoss {
            sum: None,
            normaliser,
        });
    }
    let (rows, length) = (corrupted.input.batch(), corrupted.input.length());
    let mut input = Input {
        positions: positions(&corrupted),
        mask: mask(objective, &corrupted, batch)?,
        time: corrupted
            .sigma
            .as_ref()
            .map(|sigma| level(sigma, rows, length)),
        asked: Asked::Rows(asked(network, objective, &corrupted)),
        dropout: training.dropout,
        ..Input::ids(corrupted.input.data().to_vec(), rows, length)
    };
    if let Some((share, seed)) = training.opening {
        // Rows that end early still do.
        input.mask.kind = MaskKind::Opening {
            open: (share * 4_294_967_296.0) as u32,
            seed,
        };
    }
    let Some(logits) = network.forward(input)?.logits else {
        return Ok(PassLoss {
            sum: None,
            normaliser,
        });
    };
    let prediction = match objective.wants() {
        Wanted::CrossEntropy => LossInput::CrossEntropy(ops::cross_entropy(
            logits,
            &corrupted.target,
            corrupted.forbidden,
        )),
        Wanted::Logits => LossInput::Logits(logits),
    };
    let losses = objective.loss(prediction, &corrupted)?;
    Ok(PassLoss {
        sum: Some(losses.sum()),
        normaliser,
    })
}

/// The rows whose logits predict the asked cells: in a left-to-right network, which has no shift of
/// its own, the row before each (the first cell of a sequence is never asked).
fn asked(network: &Transformer, objective: &dyn Objective, corrupted: &Corrupted) -> Vec<u32> {
    let before = u32::from(objective.shifted() && !network.config().logit_shift);
    corrupted.asked.iter().map(|cell| cell - before).collect()
}

/// Both halves of `[x_t ; x_0]` stand at the same positions.
fn positions(corrupted: &Corrupted) -> Positions {
    match &corrupted.blocks {
        None => Positions::Sequential,
        Some(blocks) => {
            let half = 0..blocks.len() as u32;
            let row = || half.clone().chain(half.clone());
            Positions::Explicit((0..corrupted.input.batch()).flat_map(|_| row()).collect())
        }
    }
}

fn mask(
    objective: &dyn Objective,
    corrupted: &Corrupted,
    batch: &Batch,
) -> Result<AttentionMask, TrainError> {
    let mask = match (objective.attention(), &corrupted.blocks) {
        (Attention::Causal, _) => AttentionMask::causal(),
        (_, Some(blocks)) => AttentionMask::bd3(blocks.clone()),
        (_, None) => AttentionMask::full(),
    };
    let Some(lengths) = &batch.lengths else {
        return Ok(mask);
    };
    if corrupted.blocks.is_some() {
        return Err(TrainError::Corpus(
            "padded rows cannot be trained with block diffusion: set data.layout.padding = \"eos\""
                .into(),
        ));
    }
    // The objective may have cut the rows shorter, or stacked them twice.
    let length = corrupted.input.length();
    let lengths = lengths.iter().map(|n| (*n).min(length));
    Ok(mask.with_key_lengths(lengths.cycle().take(corrupted.input.batch()).collect()))
}

/// The noise level of every row of the input. In the clean half of `[x_t ; x_0]` it is zero.
fn level(sigma: &Time, rows: usize, length: usize) -> NoiseLevel {
    if sigma.is_per_sequence() {
        return NoiseLevel::PerSequence(sigma.data().iter().map(|s| *s as f32).collect());
    }
    let known = sigma.length();
    let cell = |b: usize, l: usize| {
        if l < known {
            sigma.at(b, l) as f32
        } else {
            0.0
        }
    };
    NoiseLevel::PerCell(
        (0..rows)
            .flat_map(|b| (0..length).map(move |l| cell(b, l)))
            .collect(),
    )
}
