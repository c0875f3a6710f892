//! The samplers of the reverse process write the distribution that the denoiser knows: the
//! enumerated toy of `demask-diffusion`, whose perfect predictions are computed, not learned.

use demask_diffusion::toy::Toy;
use demask_models::{ModelKind, SpecialIds};
use demask_text::{
    DecodeConfig, Decoder, DenoiseRequest, Denoiser, LengthConfig, PolicyConfig, Prediction,
    Prompt, TextError, Written,
};

/// The perfect denoiser of a toy; its mask stands after the letters.
struct Perfect {
    toy: Toy,
    ids: SpecialIds,
}

impl Perfect {
    fn new() -> Self {
        let toy = Toy::example();
        let mask = Some(toy.letters() as u32);
        let ids = SpecialIds {
            mask,
            ..SpecialIds::default()
        };
        Self { toy, ids }
    }
}

impl Denoiser for Perfect {
    fn kind(&self) -> ModelKind {
        ModelKind::Masked
    }

    fn vocab_size(&self) -> usize {
        self.toy.letters() + 1
    }

    fn ids(&self) -> &SpecialIds {
        &self.ids
    }

    fn max_length(&self) -> usize {
        self.toy.length()
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        let mut logits = Vec::new();
        for &asked in &request.asked {
            let (row, cell) = (
                asked as usize / request.length,
                asked as usize % request.length,
            );
            let ids = &request.ids[row * request.length..][..request.length];
            let mut seen: Vec<Option<u32>> = ids
                .iter()
                .map(|&id| (Some(id) != self.ids.mask).then_some(id))
                .collect();
            // Letters of later blocks may not be there yet.
            seen.resize(self.toy.length(), None);
            let given = self.toy.given(cell, &seen);
            logits.extend(given.iter().map(|p| p.ln() as f32));
            logits.push(0.0);
        }
        Ok(Prediction::of_logits(logits, request.key_lengths.clone()))
    }
}

fn write(policy: &str, steps: usize, samples: usize) -> Vec<Written> {
    let perfect = Perfect::new();
    let config = DecodeConfig {
        length: perfect.toy.length(),
        steps,
        plan: LengthConfig::Whole,
        policy: PolicyConfig::parse(policy).unwrap(),
        temperature: 1.0,
        samples,
        seed: 3,
        ..DecodeConfig::default()
    };
    let decoder = Decoder::new(&perfect, config).unwrap().with_batch(256);
    decoder.run(&[Prompt::default()], &mut ()).unwrap()
}

/// Total variation between the texts and the toy.
fn distance(texts: &[Written]) -> f64 {
    let toy = Toy::example();
    let mut shares = vec![0.0; toy.probabilities().len()];
    for text in texts {
        let index = text
            .ids
            .iter()
            .fold(0, |i, &id| i * toy.letters() + id as usize);
        shares[index] += 1.0 / texts.len() as f64;
    }
    let off = shares
        .iter()
        .zip(toy.probabilities())
        .map(|(a, b)| (a - b).abs());
    0.5 * off.sum::<f64>()
}

#[test]
fn ancestral_and_first_hitting_draw_from_the_toy() {
    // 64 cells of 8000 draws: pure chance gives about 0.03.
    for (policy, steps) in [("ancestral", 64), ("first_hitting", 3)] {
        let texts = write(policy, steps, 8000);
        assert!(distance(&texts) < 0.05, "{policy}: {}", distance(&texts));
        assert!(texts.iter().all(|text| text.forwards <= 3));
    }
    // A rule that ranks cells by its draws, and cells written side by side, give others.
    assert!(distance(&write("low_confidence", 3, 8000)) > 0.1);
    assert!(distance(&write("random", 1, 8000)) > 0.1);
}

#[test]
fn first_hitting_takes_one_pass_a_cell() {
    for text in write("first_hitting", 3, 50) {
        assert_eq!((text.steps, text.forwards), (3, 3));
    }
}
