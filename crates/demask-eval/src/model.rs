//! What evaluation asks of a model.

use burn::tensor::Device;
use demask_models::{Frame, Model, ModelKind, SpecialIds};
use demask_nn::{Asked, Input, NoiseLevel, Output};

use crate::EvalError;

/// A language model with its tokenizer, as evaluation sees it.
pub trait LanguageModel {
    /// How the model writes, which decides what its likelihood is.
    fn kind(&self) -> ModelKind;
    /// Special tokens.
    fn ids(&self) -> &SpecialIds;
    /// Which of them stood around a document in training.
    fn frame(&self) -> Frame;
    /// Columns of the logits.
    fn vocab_size(&self) -> usize;
    /// Most cells of a row.
    fn max_length(&self) -> usize;
    /// Whether the network is given the noise level.
    fn time_conditioning(&self) -> bool;
    /// One forward pass, without dropout. The asked rows are the *cells to be predicted*, also of a
    /// left-to-right model. A network with a time input that is given none reads zero.
    fn forward(&self, input: Input<'_>) -> Result<Output, EvalError>;
    /// The tokens of a text; special tokens in it are not recognised.
    fn encode(&self, text: &str) -> Result<Vec<u32>, EvalError>;
    /// The text of tokens.
    fn decode(&self, ids: &[u32]) -> Result<String, EvalError>;
    /// Where its tensors live.
    fn device(&self) -> Device;
}

impl LanguageModel for Model {
    fn kind(&self) -> ModelKind {
        self.spec.kind
    }

    fn ids(&self) -> &SpecialIds {
        &self.spec.ids
    }

    fn frame(&self) -> Frame {
        self.spec.frame
    }

    fn vocab_size(&self) -> usize {
        self.spec.network.vocab_size
    }

    fn max_length(&self) -> usize {
        self.spec.network.max_length
    }

    fn time_conditioning(&self) -> bool {
        self.spec.time_conditioning
    }

    fn forward(&self, mut input: Input<'_>) -> Result<Output, EvalError> {
        if self.spec.network.time.is_some() && input.time.is_none() {
            let [batch, _] = input.rows.dims();
            input.time = Some(NoiseLevel::PerSequence(vec![0.0; batch]));
        }
        if self.spec.kind == ModelKind::Autoregressive && !self.spec.network.logit_shift {
            input.asked = one_earlier(input.asked, input.rows.dims());
        }
        Ok(self.network.forward(input)?)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, EvalError> {
        Ok(self.tokenizer.encode(text)?)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, EvalError> {
        Ok(self.tokenizer.decode(ids)?)
    }

    fn device(&self) -> Device {
        self.network.device()
    }
}

/// The rows whose logits predict the asked cells, where row `i` predicts cell `i + 1`. The first
/// cell has nothing before it and reads its own row, as in a network that shifts by itself.
fn one_earlier(asked: Asked, [batch, length]: [usize; 2]) -> Asked {
    let earlier = |cell: u32| {
        if (cell as usize).is_multiple_of(length) {
            cell
        } else {
            cell - 1
        }
    };
    match asked {
        Asked::None => Asked::None,
        Asked::All => Asked::Rows((0..(batch * length) as u32).map(earlier).collect()),
        Asked::Rows(cells) => Asked::Rows(cells.into_iter().map(earlier).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_predicted_one_row_earlier_within_their_sequence() {
        let rows = |rows: &[u32]| Asked::Rows(rows.to_vec());
        assert_eq!(
            one_earlier(rows(&[1, 2, 3, 5]), [2, 3]),
            rows(&[0, 1, 3, 4])
        );
        assert_eq!(one_earlier(Asked::All, [2, 3]), rows(&[0, 0, 1, 3, 3, 4]));
        assert_eq!(one_earlier(Asked::None, [2, 3]), Asked::None);
    }
}
