//! Times what a step costs besides the network: `cargo run --release --example sampling --workspace`.
//!
//! A denoiser with ready logits (a few tokens of each cell stand out, as in a trained model) is asked for every cell of
//! a text; the time from its answer to the step's event is the decoder's own.
#![allow(clippy::print_stdout)]

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use demask_models::{ModelKind, SpecialIds};
use demask_text::{
    DecodeConfig, Decoder, DenoiseRequest, Denoiser, DrawKind, PolicyConfig, Prediction, Prompt,
    StepEvent, TextError,
};

const CELLS: usize = 256;
const VOCAB: usize = 151_936;
const STEPS: usize = 9;

struct Ready {
    ids: SpecialIds,
    logits: Vec<f32>,
    answered: Cell<Instant>,
}

impl Denoiser for Ready {
    fn kind(&self) -> ModelKind {
        ModelKind::Masked
    }

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn ids(&self) -> &SpecialIds {
        &self.ids
    }

    fn max_length(&self) -> usize {
        CELLS
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        let logits = self.logits[..request.asked.len() * VOCAB].to_vec();
        self.answered.set(Instant::now());
        Ok(Prediction::of_logits(logits, request.key_lengths.clone()))
    }
}

fn main() -> Result<(), TextError> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut logits: Vec<f32> = (0..CELLS * VOCAB)
        .map(|_| 2.0 * (uniform() + uniform() + uniform() + uniform() - 2.0))
        .collect();
    for row in logits.chunks_exact_mut(VOCAB) {
        for rank in 0..40 {
            row[(uniform() * VOCAB as f32) as usize] += 14.0 - 0.25 * rank as f32;
        }
    }
    let ready = Ready {
        ids: SpecialIds {
            mask: Some(VOCAB as u32 - 1),
            ..SpecialIds::default()
        },
        logits,
        answered: Cell::new(Instant::now()),
    };
    for (policy, temperature, top_p, draw) in [
        ("low_confidence", 0.0, None, DrawKind::Gumbel),
        ("entropy", 0.0, None, DrawKind::Gumbel),
        ("low_confidence", 0.5, None, DrawKind::Gumbel),
        ("low_confidence", 1.0, None, DrawKind::Gumbel),
        ("entropy", 0.2, Some(0.95), DrawKind::Categorical),
        ("entropy", 1.0, None, DrawKind::Categorical),
    ] {
        let config = DecodeConfig {
            length: CELLS,
            steps: CELLS,
            policy: PolicyConfig::parse(policy)?,
            temperature,
            top_p,
            draw,
            ..DecodeConfig::default()
        };
        let mut times: Vec<Duration> = Vec::new();
        let mut observer = |event: &StepEvent| {
            if let StepEvent::Step { .. } = event {
                times.push(ready.answered.get().elapsed());
            }
            match times.len() < STEPS && times.iter().sum::<Duration>().as_secs() < 10 {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        Decoder::new(&ready, config)?.run(&[Prompt::new(Vec::new())], &mut observer)?;
        times.sort();
        let (least, median) = (times[0], times[times.len() / 2]);
        println!(
            "{policy} at {temperature}, top-p {top_p:?}, {draw:?}: median {median:.1?}, least {least:.1?}"
        );
    }
    Ok(())
}
