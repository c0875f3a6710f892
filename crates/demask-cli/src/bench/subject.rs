//! What benches let write: a checkpoint, or a network of random weights, which has no tokenizer of its own.

use anyhow::Result;
use demask::models::tokenizer::byte_bpe::bytes_only;
use demask::models::{Model, ModelKind, ModelSpec, Predicts, SpecialIds};
use demask::nn::transformer::AttentionKind;
use demask::nn::{Dtype, KvCache, Transformer};
use demask::text::{DenoiseRequest, Denoiser, Prediction, TextError};

use super::networks::Found;
use super::shapes::Shape;
use crate::checkpoints;

/// A model that writes.
pub struct Subject {
    model: Model,
    shape: Shape,
    /// Whether the weights are random: then every token may be written.
    random: bool,
}

impl Found {
    /// What the model of this network is. The last token of random weights is the mask.
    pub fn model_spec(&self) -> ModelSpec {
        match self.spec() {
            Some(spec) => spec.clone(),
            None => random(self.shape()),
        }
    }

    /// The model of this network.
    pub fn subject(&self, dtype: Dtype) -> Result<Subject> {
        let (shape, random) = (self.shape().clone(), self.spec().is_none());
        let model = match random {
            false => {
                let _preparing = self.prepare(dtype);
                checkpoints::open(&shape.name, dtype)?
            }
            true => Model {
                network: self.load(dtype)?,
                spec: self.model_spec(),
                tokenizer: bytes_only(&[])?,
                unusual: Vec::new(),
            },
        };
        Ok(Subject {
            model,
            shape,
            random,
        })
    }
}

/// What a model of random weights of this shape is.
fn random(shape: &Shape) -> ModelSpec {
    let kind = match shape.config.attention {
        AttentionKind::Full => ModelKind::Masked,
        AttentionKind::BlockCausal { block } => ModelKind::BlockMasked { block },
        AttentionKind::Causal => ModelKind::Autoregressive,
    };
    ModelSpec {
        family: "demask".into(),
        kind,
        network: shape.config.clone(),
        ids: SpecialIds {
            mask: Some(shape.config.vocab_size as u32 - 1),
            ..SpecialIds::default()
        },
        frame: Default::default(),
        time_conditioning: false,
        predicts: Predicts::Clean,
        labels: Vec::new(),
        generation: Default::default(),
        sampling_eps: None,
        chat_template: None,
        provenance: None,
    }
}

impl Subject {
    /// What the network is called, and its shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the model is.
    pub fn spec(&self) -> &ModelSpec {
        &self.model.spec
    }

    /// The network.
    pub fn network(&self) -> &Transformer {
        &self.model.network
    }

    /// A prompt of so many tokens, the same each time, none of which is the mask.
    pub fn prompt(&self, tokens: usize) -> Vec<u32> {
        let mask = self.spec().ids.mask;
        let ids = self.shape.ids(tokens).into_iter();
        ids.map(|id| match Some(id) == mask {
            true if id > 0 => id - 1,
            true => id + 1,
            false => id,
        })
        .collect()
    }
}

impl Denoiser for Subject {
    fn kind(&self) -> ModelKind {
        self.model.kind()
    }

    fn predicts(&self) -> Predicts {
        self.model.predicts()
    }

    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn ids(&self) -> &SpecialIds {
        Denoiser::ids(&self.model)
    }

    fn max_length(&self) -> usize {
        self.model.max_length()
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        self.model.predict(request)
    }

    fn predict_cached(
        &self,
        request: &DenoiseRequest,
        caches: Vec<&mut KvCache>,
    ) -> Result<Prediction, TextError> {
        self.model.predict_cached(request, caches)
    }

    fn labels(&self) -> &[String] {
        self.model.labels()
    }

    fn unassigned(&self) -> Vec<u32> {
        match self.random {
            true => Vec::new(),
            false => self.model.unassigned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::shapes;

    #[test]
    fn a_random_network_may_write_every_token_but_its_mask() {
        let shape = shapes::parse("train-11m").unwrap();
        let subject = Found::random(shape.clone()).subject(Dtype::F32).unwrap();
        assert_eq!(subject.spec().ids.mask, Some(511));
        assert!(subject.unassigned().is_empty());
        // 7919 · 497 is 511 modulo 512.
        assert_eq!(shape.ids(498)[497], 511);
        let prompt = subject.prompt(498);
        assert_eq!((prompt[1], prompt[497]), (7919 % 512, 510));
    }
}
