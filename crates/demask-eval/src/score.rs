//! Forward passes that end in numbers on the host.

use burn::tensor::{DType, Tensor};
use demask_models::{ModelKind, pass};
use demask_nn::ops::cross_entropy;
use demask_nn::{Asked, AttentionMask, Input};

use crate::{EvalError, LanguageModel};

/// Rows to be predicted by a masked model, seen the way the model was trained.
///
/// A block model reads `[noisy ; clean]` under the three-part mask, so that each block sees its own
/// noisy cells and the clean cells of the blocks before it; any other reads the noisy rows.
pub(crate) struct Canvases<'a> {
    /// Rows of equal length, masked where something is open.
    pub noisy: &'a [Vec<u32>],
    /// The same rows with the tokens that earlier blocks are given.
    pub clean: &'a [Vec<u32>],
    /// The cells whose prediction is wanted: `(row, cell)`.
    pub asked: &'a [(usize, usize)],
}

impl Canvases<'_> {
    /// The input of the pass.
    pub fn input(&self, kind: ModelKind) -> Input<'static> {
        let (rows, length) = (self.noisy.len(), self.noisy.first().map_or(0, Vec::len));
        let ModelKind::BlockMasked { block } = kind else {
            let ids = self.noisy.concat();
            return Input {
                asked: self.cells(length),
                ..Input::ids(ids, rows, length)
            };
        };
        let ids = self
            .noisy
            .iter()
            .zip(self.clean)
            .flat_map(|(noisy, clean)| [&noisy[..], clean].concat());
        Input {
            positions: pass::twice(rows, length),
            mask: AttentionMask::bd3(blocks(length, block)),
            asked: self.cells(2 * length),
            ..Input::ids(ids.collect(), rows, 2 * length)
        }
    }

    fn cells(&self, stride: usize) -> Asked {
        Asked::Rows(
            self.asked
                .iter()
                .map(|(row, cell)| (row * stride + cell) as u32)
                .collect(),
        )
    }
}

/// The block of each of `length` cells.
pub(crate) fn blocks(length: usize, block: usize) -> Vec<u32> {
    (0..length)
        .map(|cell| (cell / block.max(1)) as u32)
        .collect()
}

/// The logits of the asked cells, `[asked, V]`.
pub(crate) fn logits(model: &dyn LanguageModel, input: Input<'_>) -> Result<Tensor<2>, EvalError> {
    model
        .forward(input)?
        .logits
        .ok_or_else(|| EvalError::NotFinite {
            what: "an empty pass".into(),
        })
}

/// `-ln p(target)` of each row of `logits`, in f64. `forbidden` is never predicted.
pub(crate) fn nats(
    logits: Tensor<2>,
    targets: &[u32],
    forbidden: Option<u32>,
) -> Result<Vec<f64>, EvalError> {
    let width = logits.dims()[1];
    if let Some(id) = targets
        .iter()
        .chain(&forbidden)
        .find(|id| **id as usize >= width)
    {
        return Err(EvalError::Data(format!(
            "token {id} lies outside the model's vocabulary of {width}; \
             is this the tokenizer of this model?"
        )));
    }
    host(
        cross_entropy(logits, targets, forbidden),
        "the log-likelihood of a token",
    )
}

/// A column of numbers on the host; an error names `what` when one is not finite.
pub(crate) fn host(column: Tensor<1>, what: &str) -> Result<Vec<f64>, EvalError> {
    let values = host_f32(column)?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(EvalError::NotFinite { what: what.into() });
    }
    Ok(values.into_iter().map(f64::from).collect())
}

/// The values of a tensor on the host, row-major.
pub(crate) fn host_f32<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, EvalError> {
    let data = tensor
        .try_into_data_dtype(DType::F32)
        .map_err(|error| EvalError::Tensor(format!("{error:?}")))?;
    data.try_to_vec()
        .map_err(|error| EvalError::Tensor(format!("{error:?}")))
}

/// The mask token of a masked model, or an error that says which metric needs it.
pub(crate) fn mask_of(model: &dyn LanguageModel, metric: &'static str) -> Result<u32, EvalError> {
    model.ids().mask.ok_or_else(|| EvalError::Needs {
        metric,
        needed: "the mask token of the model, and the checkpoint names none".into(),
    })
}
