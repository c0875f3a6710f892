//! What evaluation asks of a model.

use burn::tensor::Device;
use demask_models::{Frame, Model, ModelKind, Predicts, SpecialIds, pass};
use demask_nn::{Input, Output};

use crate::EvalError;

/// A language model with its tokenizer, as evaluation sees it.
pub trait LanguageModel {
    /// How the model writes, which decides what its likelihood is.
    fn kind(&self) -> ModelKind;
    /// What its outputs mean.
    fn predicts(&self) -> Predicts {
        Predicts::Clean
    }
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

    fn predicts(&self) -> Predicts {
        self.spec.predicts
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
        if self.spec.kind == ModelKind::Autoregressive && !self.spec.network.logit_shift {
            input.asked = pass::one_earlier(input.asked, input.rows.dims());
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
