//! Models whose every probability is known, for tests.

use burn::tensor::{Device, Tensor, TensorData};
use demask_models::{Frame, ModelKind, Predicts, SpecialIds};
use demask_nn::{Asked, Input, MaskKind, NnError, NoiseLevel, Output, Rows};

use crate::{EvalError, LanguageModel};

/// A model with a known law over letters; letter `a` is token 0.
pub(crate) struct Toy {
    kind: ModelKind,
    ids: SpecialIds,
    frame: Frame,
    pub predicts: Predicts,
    letters: usize,
    max_length: usize,
    law: Law,
}

/// The law of a text.
enum Law {
    /// The chance of each of `letters^length` texts, first letter slowest.
    Table { length: usize, chances: Vec<f64> },
    /// The chance of a letter after a letter, `[letters][letters]`; the first letter is uniform.
    Bigram(Vec<f64>),
}

impl Toy {
    /// A model of uniform letters, for tests of tokenisation.
    pub fn letters(max_length: usize, bos: Option<u32>, eos: Option<u32>) -> Self {
        let ids = SpecialIds {
            bos,
            eos,
            ..SpecialIds::default()
        };
        let law = Law::Bigram(vec![1.0 / 32.0; 32 * 32]);
        Self {
            kind: ModelKind::Autoregressive,
            ids,
            frame: Frame::default(),
            predicts: Predicts::Clean,
            letters: 32,
            max_length,
            law,
        }
    }

    /// A perfect model of a joint law over texts of `length` letters.
    pub fn table(kind: ModelKind, letters: usize, length: usize, weights: &[f64]) -> Self {
        assert_eq!(weights.len(), letters.pow(length as u32));
        let total: f64 = weights.iter().sum();
        let chances = weights.iter().map(|w| w / total).collect();
        let mask = kind.needs_mask().then_some(letters as u32);
        let ids = SpecialIds {
            mask,
            ..SpecialIds::default()
        };
        Self {
            kind,
            ids,
            frame: Frame::default(),
            predicts: Predicts::Clean,
            letters,
            max_length: length,
            law: Law::Table { length, chances },
        }
    }

    /// A left-to-right model with the given chances of a letter after a letter.
    pub fn bigram(letters: usize, max_length: usize, rows: &[f64], eos: Option<u32>) -> Self {
        assert_eq!(rows.len(), letters * letters);
        let ids = SpecialIds {
            eos,
            ..SpecialIds::default()
        };
        let law = Law::Bigram(rows.to_vec());
        Self {
            kind: ModelKind::Autoregressive,
            ids,
            frame: Frame::default(),
            predicts: Predicts::Clean,
            letters,
            max_length,
            law,
        }
    }

    /// The same law, told by a model of another kind.
    pub fn of_kind(self, kind: ModelKind) -> Self {
        Self { kind, ..self }
    }

    /// The same, trained on documents framed this way.
    pub fn framed(self, frame: Frame) -> Self {
        Self { frame, ..self }
    }

    /// All texts of a table in order, with their chances.
    pub fn texts(&self) -> Vec<(Vec<u32>, f64)> {
        let Law::Table { length, chances } = &self.law else {
            panic!("no table")
        };
        chances
            .iter()
            .enumerate()
            .map(|(i, c)| (self.text(i, *length), *c))
            .collect()
    }

    fn text(&self, mut index: usize, length: usize) -> Vec<u32> {
        let mut text = vec![0; length];
        for cell in text.iter_mut().rev() {
            *cell = (index % self.letters) as u32;
            index /= self.letters;
        }
        text
    }

    /// The chance of each letter in `cell`, given the weight that each cell's evidence puts on a
    /// letter.
    fn given(&self, cell: usize, evidence: &dyn Fn(usize, u32) -> f64) -> Vec<f64> {
        let mut chances = vec![0.0; self.letters];
        for (text, chance) in self.texts() {
            let weight: f64 = text
                .iter()
                .enumerate()
                .map(|(i, &v)| evidence(i, v))
                .product();
            chances[text[cell] as usize] += chance * weight;
        }
        let total: f64 = chances.iter().sum();
        chances.iter().map(|c| c / total).collect()
    }

    /// The chances of a letter in `cell` of one input row.
    fn predict(&self, row: &[u32], cell: usize, mask: &MaskKind, sigma: Option<f64>) -> Vec<f64> {
        let open = self.ids.mask;
        let known = |ids: &[u32], i: usize, v: u32| {
            f64::from(u8::from(Some(ids[i]) == open || ids[i] == v))
        };
        match (&self.law, mask) {
            (Law::Bigram(_), _) if cell == 0 => vec![1.0 / self.letters as f64; self.letters],
            (Law::Bigram(rows), _) => {
                let from = row[cell - 1] as usize * self.letters;
                rows[from..from + self.letters].to_vec()
            }
            (_, MaskKind::Causal) => {
                self.given(cell, &|i, v| if i < cell { known(row, i, v) } else { 1.0 })
            }
            (_, MaskKind::Bd3 { blocks }) => {
                let (noisy, clean) = row.split_at(blocks.len());
                self.given(cell, &|i, v| match blocks[i].cmp(&blocks[cell]) {
                    std::cmp::Ordering::Less => known(clean, i, v),
                    std::cmp::Ordering::Equal => known(noisy, i, v),
                    std::cmp::Ordering::Greater => 1.0,
                })
            }
            _ if self.kind == ModelKind::Uniform => {
                let alpha = (-sigma.expect("a uniform toy reads the noise level")).exp();
                let blur = (1.0 - alpha) / self.letters as f64;
                // The ratio of two noisy texts that differ in one cell follows from what the *other*
                // cells say of it: in UDLM's parameterisation the bound is tight for this, and not
                // for the posterior that has seen the cell too.
                self.given(cell, &|i, v| match (i == cell, row[i] == v) {
                    (true, _) => 1.0,
                    (_, true) => blur + alpha,
                    (_, false) => blur,
                })
            }
            _ => self.given(cell, &|i, v| known(row, i, v)),
        }
    }
}

impl LanguageModel for Toy {
    fn kind(&self) -> ModelKind {
        self.kind
    }

    fn ids(&self) -> &SpecialIds {
        &self.ids
    }

    fn predicts(&self) -> Predicts {
        self.predicts
    }

    fn frame(&self) -> Frame {
        self.frame
    }

    fn vocab_size(&self) -> usize {
        self.letters + usize::from(self.ids.mask.is_some())
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn time_conditioning(&self) -> bool {
        self.kind == ModelKind::Uniform
    }

    fn forward(&self, input: Input<'_>) -> Result<Output, EvalError> {
        let Rows::Ids { ids, batch, length } = &input.rows else {
            return Err(NnError::Input("a toy reads ids".into()).into());
        };
        let width = self.vocab_size();
        // The hidden state counts the letters so far.
        let mut hidden = vec![0f32; batch * length * width];
        for row in 0..*batch {
            for cell in 0..*length {
                for seen in &ids[row * length..=row * length + cell] {
                    if (*seen as usize) < width {
                        hidden[(row * length + cell) * width + *seen as usize] += 1.0;
                    }
                }
            }
        }
        let asked: Vec<u32> = match &input.asked {
            Asked::All => (0..(batch * length) as u32).collect(),
            Asked::None => Vec::new(),
            Asked::Rows(rows) => rows.clone(),
        };
        let mut logits = Vec::with_capacity(asked.len() * width);
        for flat in &asked {
            let (row, cell) = (*flat as usize / length, *flat as usize % length);
            let sigma = match &input.time {
                Some(NoiseLevel::PerSequence(levels)) => Some(f64::from(levels[row])),
                Some(NoiseLevel::PerCell(levels)) => Some(f64::from(levels[*flat as usize])),
                None => None,
            };
            let row = &ids[row * length..(row + 1) * length];
            let chances = self.predict(row, cell, &input.mask.kind, sigma);
            logits.extend(chances.iter().map(|c| c.max(1e-30).ln() as f32));
            // A perfect model need not know that the mask is never predicted.
            logits.extend(self.ids.mask.map(|_| 3.0f32));
        }
        let device = Device::flex();
        let logits = (!asked.is_empty()).then(|| {
            Tensor::<2>::from_data(TensorData::new(logits, [asked.len(), width]), &device)
        });
        let hidden =
            Tensor::<3>::from_data(TensorData::new(hidden, [*batch, *length, width]), &device);
        Ok(Output {
            hidden,
            logits,
            losses: None,
            scores: None,
            taps: Vec::new(),
        })
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, EvalError> {
        Ok(text
            .bytes()
            .map(|byte| u32::from(byte.saturating_sub(b'a')))
            .collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String, EvalError> {
        Ok(ids.iter().map(|id| char::from(b'a' + *id as u8)).collect())
    }

    fn device(&self) -> Device {
        Device::flex()
    }
}
