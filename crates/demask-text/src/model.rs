//! A checkpoint as a denoiser.

use demask_models::{Model, ModelKind, Predicts, SpecialIds};
use demask_nn::{Asked, AttentionMask, Input, MaskKind, NoiseLevel, Output};

use crate::denoiser::{DenoiseRequest, Denoiser, Prediction, Sight};
use crate::{Prompt, TextError};

/// The highest noise level a network with a time input is told: there sigma is `ln 1000`, the end of
/// MDLM's log-linear schedule.
const MAX_LEVEL: f64 = 1.0 - 1e-3;

impl Denoiser for Model {
    fn kind(&self) -> ModelKind {
        self.spec.kind
    }

    fn predicts(&self) -> Predicts {
        self.spec.predicts
    }

    fn vocab_size(&self) -> usize {
        self.spec.network.vocab_size
    }

    fn ids(&self) -> &SpecialIds {
        &self.spec.ids
    }

    fn max_length(&self) -> usize {
        self.spec.network.max_length
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        let kind = match request.sight {
            Sight::Full => MaskKind::Full,
            Sight::BlockCausal { block } => MaskKind::BlockCausal {
                blocks: (0..request.length).map(|i| (i / block) as u32).collect(),
            },
        };
        let padded = request.key_lengths.iter().any(|&n| n != request.length);
        let key_lengths = padded.then(|| request.key_lengths.clone());
        let time = self
            .spec
            .time_conditioning
            .then(|| NoiseLevel::PerSequence(request.levels.iter().map(|&p| sigma(p)).collect()));
        let asked = match request.asked.as_slice() {
            [] => Asked::None,
            asked => Asked::Rows(asked.to_vec()),
        };
        let output = self.network.forward(Input {
            mask: AttentionMask { kind, key_lengths },
            time,
            asked,
            ..Input::ids(request.ids.clone(), request.batch, request.length)
        })?;
        Ok(Prediction {
            logits: host(output)?,
            rows: request.key_lengths.clone(),
        })
    }

    fn unassigned(&self) -> Vec<u32> {
        (0..self.vocab_size() as u32)
            .filter(|&id| !self.tokenizer.is_assigned(id))
            .collect()
    }

    fn begins_with_space(&self, id: u32) -> bool {
        self.tokenizer.decode_cell(id).starts_with(' ')
    }

    fn text(&self, ids: &[u32]) -> Result<String, TextError> {
        Ok(self.tokenizer.decode_without_special(ids)?)
    }
}

/// The total noise `-ln(1 - p)` of a noise level, whatever the schedule that led there.
fn sigma(p: f64) -> f32 {
    -(-p.clamp(0.0, MAX_LEVEL)).ln_1p() as f32
}

/// The logits of a forward pass on the host, `[asked, vocab]` row-major; empty when none were asked.
pub(crate) fn host(output: Output) -> Result<Vec<f32>, TextError> {
    let Some(logits) = output.logits else {
        return Ok(Vec::new());
    };
    let data = logits.into_data().convert::<f32>();
    data.try_into_vec::<f32>()
        .map_err(|error| TextError::Denoiser(format!("logits: {error:?}")))
}

impl Prompt {
    /// A text to go on from, with the token that begins a text before it if the model has one. What
    /// looks like a special token in the text is ordinary text.
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn text(model: &Model, text: &str) -> Result<Self, TextError> {
        let mut ids: Vec<u32> = model.spec.ids.bos.into_iter().collect();
        ids.extend(model.tokenizer.encode(text)?);
        Ok(Self::new(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::sigma;

    #[test]
    fn sigma_by_hand() {
        assert_eq!(sigma(0.0), 0.0);
        assert!((sigma(0.5) - std::f32::consts::LN_2).abs() < 1e-7);
        // Full masking is told as ln 1000.
        assert!((sigma(1.0) - 6.907_755).abs() < 1e-5);
    }
}
