//! A model under evaluation, and what of the text it is given it cannot see.

use std::cell::RefCell;
use std::collections::HashSet;

use demask::eval::{Device, EvalError, LanguageModel};
use demask::models::{Frame, Model, ModelKind, Predicts, SpecialIds};
use demask::nn::{Input, Output};

use crate::writing::unknown::{Unknown, unseen};

/// A model that remembers which characters its tokenizer had no token for. It is the model in
/// everything else.
pub struct Reading<'a> {
    model: &'a Model,
    unknown: Unknown<'a>,
    seen: RefCell<Seen>,
}

#[derive(Default)]
struct Seen {
    all: HashSet<char>,
    /// In the order in which they came.
    lacking: Vec<char>,
}

impl<'a> Reading<'a> {
    /// A model that has read nothing yet.
    pub fn new(model: &'a Model) -> Self {
        Self {
            model,
            unknown: Unknown::of(&model.tokenizer),
            seen: RefCell::default(),
        }
    }

    /// What to say of the text so far; `name` is that of the model.
    pub fn remark(&self, name: &str) -> Option<String> {
        let lacking = &self.seen.borrow().lacking;
        (!lacking.is_empty()).then(|| unseen(name, lacking))
    }
}

impl LanguageModel for Reading<'_> {
    fn kind(&self) -> ModelKind {
        self.model.kind()
    }

    fn predicts(&self) -> Predicts {
        self.model.predicts()
    }

    fn ids(&self) -> &SpecialIds {
        self.model.ids()
    }

    fn frame(&self) -> Frame {
        self.model.frame()
    }

    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn max_length(&self) -> usize {
        self.model.max_length()
    }

    fn time_conditioning(&self) -> bool {
        self.model.time_conditioning()
    }

    fn forward(&self, input: Input<'_>) -> Result<Output, EvalError> {
        LanguageModel::forward(self.model, input)
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, EvalError> {
        let mut seen = self.seen.borrow_mut();
        for c in text.chars() {
            if seen.all.insert(c) && self.unknown.lacks(c) {
                seen.lacking.push(c);
            }
        }
        self.model.encode(text)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, EvalError> {
        self.model.decode(ids)
    }

    fn device(&self) -> Device {
        self.model.device()
    }
}
