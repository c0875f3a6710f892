//! One forward pass of an objective: the same for training and validation.

use burn::tensor::Tensor;
use demask_diffusion::{Corrupted, LossInput, Noise, Objective, Wanted};
use demask_models::pass;
use demask_nn::{MaskKind, Targets, Transformer, span};

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
    let corrupted = {
        let _span = span::part("noise");
        objective.corrupt(&batch.x0, &batch.loss_cells, noise)?
    };
    let normaliser = corrupted.normaliser;
    if corrupted.asked.is_empty() {
        return Ok(PassLoss {
            sum: None,
            normaliser,
        });
    }
    let mut input = pass::input(objective, &corrupted);
    if let Some(lengths) = key_lengths(&corrupted, batch)? {
        input.mask = input.mask.with_key_lengths(lengths);
    }
    input.labels = (batch.labels.as_ref()).map(|labels| {
        // The objective may have stacked the rows twice.
        let rows = corrupted.input.batch();
        labels.iter().copied().cycle().take(rows).collect()
    });
    if objective.shifted() && !network.config().logit_shift {
        let dims = input.rows.dims();
        let is_first = |cell: &u32| (*cell as usize).is_multiple_of(dims[1]);
        if corrupted.asked.iter().any(is_first) {
            return Err(TrainError::recipe(format!(
                "objective `{}` asks for the first cell of a row, which a left-to-right network \
                 cannot predict",
                objective.name()
            )));
        }
        input.asked = pass::one_earlier(input.asked, dims);
    }
    input.dropout = training.dropout;
    if let Some((share, seed)) = training.opening {
        // Rows that end early still do.
        input.mask.kind = MaskKind::Opening {
            open: (share * 4_294_967_296.0) as u32,
            seed,
        };
    }
    input.targets = (objective.wants() == Wanted::CrossEntropy).then(|| Targets {
        ids: corrupted.target.clone(),
        forbidden: corrupted.forbidden,
    });
    let output = network.forward(input)?;
    let prediction = match (output.losses, output.logits) {
        (Some(losses), _) => LossInput::CrossEntropy(losses),
        (None, Some(logits)) => LossInput::Logits(logits),
        (None, None) => {
            return Ok(PassLoss {
                sum: None,
                normaliser,
            });
        }
    };
    let _span = span::part("loss");
    let losses = objective.loss(prediction, &corrupted)?;
    Ok(PassLoss {
        sum: Some(losses.sum()),
        normaliser,
    })
}

/// The cells of each row that are no padding; `None` where no row is padded.
fn key_lengths(corrupted: &Corrupted, batch: &Batch) -> Result<Option<Vec<usize>>, TrainError> {
    let Some(lengths) = &batch.lengths else {
        return Ok(None);
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
    Ok(Some(
        lengths.cycle().take(corrupted.input.batch()).collect(),
    ))
}
