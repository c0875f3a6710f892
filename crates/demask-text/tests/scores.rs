//! A network that knows the exact scores of a small distribution writes that distribution.

use demask_models::{ModelKind, Predicts, SpecialIds};
use demask_text::{
    DecodeConfig, Decoder, DenoiseRequest, Denoiser, PolicyConfig, Prediction, Prompt, StepEvent,
    TextError,
};
use std::ops::ControlFlow;

/// The distribution of the only cell.
const P: [f64; 4] = [0.5, 0.3, 0.15, 0.05];

/// Exact scores of [`P`] under noise of the told level: `p_t(y) = (1 - level) P(y) + level u(y)`,
/// where `u` is even (uniform noise) or all on the mask (absorbing).
struct Exact {
    kind: ModelKind,
    ids: SpecialIds,
}

impl Exact {
    fn uniform() -> Self {
        Self {
            kind: ModelKind::Uniform,
            ids: SpecialIds::default(),
        }
    }

    fn absorbing() -> Self {
        Self {
            kind: ModelKind::Masked,
            ids: SpecialIds {
                mask: Some(4),
                ..SpecialIds::default()
            },
        }
    }

    fn noisy(&self, level: f64) -> Vec<f64> {
        let kept = P.iter().map(|p| (1.0 - level) * p);
        match self.kind {
            ModelKind::Uniform => kept.map(|p| p + level / 4.0).collect(),
            _ => kept.chain([level]).collect(),
        }
    }
}

impl Denoiser for Exact {
    fn kind(&self) -> ModelKind {
        self.kind
    }

    fn predicts(&self) -> Predicts {
        Predicts::LogScores {
            scale_by_sigma: false,
        }
    }

    fn vocab_size(&self) -> usize {
        self.noisy(0.5).len()
    }

    fn ids(&self) -> &SpecialIds {
        &self.ids
    }

    fn max_length(&self) -> usize {
        1
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        let mut logits = Vec::new();
        for &cell in &request.asked {
            let row = cell as usize / request.length;
            let noisy = self.noisy(request.levels[row]);
            let present = noisy[request.ids[cell as usize] as usize];
            logits.extend(noisy.iter().map(|p| (p / present).ln() as f32));
        }
        Ok(Prediction::of_logits(logits, request.key_lengths.clone()))
    }
}

/// Shares of the tokens in `samples` texts.
fn shares(denoiser: &Exact, policy: &str, steps: usize, samples: usize) -> Vec<f64> {
    let config = DecodeConfig {
        length: 1,
        steps,
        policy: PolicyConfig::parse(policy).unwrap(),
        temperature: 1.0,
        samples,
        seed: 5,
        ..DecodeConfig::default()
    };
    let decoder = Decoder::new(denoiser, config).unwrap().with_batch(256);
    let mut all = |_: &StepEvent| ControlFlow::Continue(());
    let written = decoder.run(&[Prompt::new(Vec::new())], &mut all).unwrap();
    let mut counts = vec![0.0; P.len()];
    for text in &written {
        counts[text.ids[0] as usize] += 1.0 / samples as f64;
    }
    counts
}

#[test]
fn exact_scores_write_the_distribution() {
    let samples = 8000;
    for (denoiser, policy, steps, bias) in [
        // One cell: the analytic step is exact however few there are.
        (Exact::uniform(), "analytic", 2, 0.0),
        (Exact::uniform(), "analytic", 16, 0.0),
        (Exact::absorbing(), "analytic", 4, 0.0),
        // Euler steps are right in the limit.
        (Exact::uniform(), "euler", 256, 0.01),
        (Exact::absorbing(), "euler", 64, 0.01),
    ] {
        let found = shares(&denoiser, policy, steps, samples);
        for (token, (found, wanted)) in found.iter().zip(P).enumerate() {
            let error = (wanted * (1.0 - wanted) / samples as f64).sqrt();
            assert!(
                (found - wanted).abs() < 4.0 * error + bias,
                "{:?} {policy} {steps}: token {token} {found} {wanted} ± {error}",
                denoiser.kind
            );
        }
    }
}
