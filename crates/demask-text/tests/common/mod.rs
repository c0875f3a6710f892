//! A toy denoiser with closed-form logits (sums of multiples of 1/64, exact in any order), the random
//! numbers of the recorded samplers, and a small configuration.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::ops::ControlFlow;

use burn::tensor::{Device, TensorData};
use demask_models::tokenizer::byte_bpe::bytes_only;
use demask_models::{Model, ModelKind, ModelSpec, SpecialIds};
use demask_nn::{NnError, ParamSource, Transformer};
use demask_text::uniforms::{At, Uniforms};
use demask_text::{
    DecodeConfig, Decoder, DenoiseRequest, Denoiser, EosConfig, PolicyConfig, Prediction, Prompt,
    Sight, StepEvent, TextError,
};
use serde_json::json;

/// Logits of a cell: a table for each neighbour within reach and one for every visible cell.
#[derive(Debug, Clone)]
pub struct Toy {
    pub kind: ModelKind,
    pub ids: SpecialIds,
    pub vocab: usize,
    pub max_length: usize,
    pub reach: Vec<i64>,
    /// `[reach][present token][predicted token]`, in 1/64.
    pub near: Vec<Vec<Vec<i64>>>,
    /// `[present token][predicted token]`, in 1/64.
    pub all: Vec<Vec<i64>>,
    /// Added to the logit of token `(round(100 level) mod vocab)`: a time input.
    pub timed: bool,
    /// Classes: a text of class `k` has more of token `k`.
    pub labels: Vec<String>,
    /// Written into the logits of this cell in place of what is right.
    pub broken: Option<(usize, f32)>,
}

impl Toy {
    /// Tables from a small generator. Tokens 0 to 8 are words; 9 ends a text, 10 a turn, 11 is the
    /// mask.
    pub fn new(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(2) + 1;
        let mut next = |range: i64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            ((state >> 33) % (2 * range as u64 + 1)) as i64 - range
        };
        let vocab = 12;
        let mut table = |range| -> Vec<Vec<i64>> {
            (0..vocab)
                .map(|_| (0..vocab).map(|_| next(range)).collect())
                .collect()
        };
        let reach = vec![-2, -1, 0, 1, 2];
        Self {
            kind: ModelKind::Masked,
            ids: SpecialIds {
                mask: Some(11),
                eos: Some(9),
                eot: Some(10),
                bos: None,
                pad: None,
            },
            vocab,
            max_length: 64,
            near: reach.iter().map(|_| table(96)).collect(),
            reach,
            all: table(24),
            timed: false,
            labels: Vec::new(),
            broken: None,
        }
    }

    fn logits(
        &self,
        row: &[u32],
        cell: usize,
        sight: Sight,
        level: f64,
        label: Option<u32>,
    ) -> Vec<f32> {
        let visible = |k: usize| match sight {
            Sight::Full => true,
            Sight::BlockCausal { block } => k / block <= cell / block,
        };
        let mut sum = vec![0i64; self.vocab];
        let mut add = |table: &[i64]| sum.iter_mut().zip(table).for_each(|(s, t)| *s += t);
        for (offset, table) in self.reach.iter().zip(&self.near) {
            let k = cell as i64 + offset;
            if k >= 0 && (k as usize) < row.len() && visible(k as usize) {
                add(&table[row[k as usize] as usize]);
            }
        }
        (0..row.len())
            .filter(|&k| visible(k))
            .for_each(|k| add(&self.all[row[k] as usize]));
        let mut logits: Vec<f32> = sum.iter().map(|&s| s as f32 / 64.0).collect();
        if self.timed {
            logits[(level * 100.0).round() as usize % self.vocab] += 3.0;
        }
        if let Some(label) = label {
            logits[label as usize] += 2.0;
        }
        if let Some((broken, value)) = self.broken
            && broken == cell
        {
            logits.fill(value);
        }
        logits
    }
}

impl Denoiser for Toy {
    fn kind(&self) -> ModelKind {
        self.kind
    }

    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn ids(&self) -> &SpecialIds {
        &self.ids
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        assert_eq!(request.ids.len(), request.batch * request.length);
        assert!(request.asked.is_sorted());
        let mut logits = Vec::new();
        for &asked in &request.asked {
            let (b, cell) = (
                asked as usize / request.length,
                asked as usize % request.length,
            );
            assert!(cell < request.key_lengths[b], "padding was asked for");
            let row = &request.ids[b * request.length..][..request.key_lengths[b]];
            let (level, label) = (request.levels[b], request.labels[b]);
            logits.extend(self.logits(row, cell, request.sight, level, label));
        }
        Ok(Prediction::of_logits(logits, request.key_lengths.clone()))
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn begins_with_space(&self, id: u32) -> bool {
        id.is_multiple_of(2)
    }
}

/// The random numbers that recorded samplers were fed: a rule in integers.
pub struct Recorded;

impl Uniforms for Recorded {
    fn at(&self, at: At, n: usize) -> Vec<f64> {
        const P: u64 = 2_147_483_647;
        let place =
            at.step as u64 * 7919 + at.purpose as u64 * 1_299_709 + at.cell as u64 * 104_729;
        let one = |index: u64| {
            let mut x = (place + index * 15_485_863 + 12_345) % P;
            for _ in 0..3 {
                x = (x * 48_271 + 11) % P;
            }
            (x as f64 + 0.5) / P as f64
        };
        (0..n as u64).map(one).collect()
    }
}

/// Twelve cells in six steps, to the end.
pub fn config() -> DecodeConfig {
    DecodeConfig {
        length: 12,
        steps: 6,
        eos: EosConfig {
            early_stop: false,
            ..EosConfig::default()
        },
        ..DecodeConfig::default()
    }
}

pub fn policy(text: &str) -> PolicyConfig {
    PolicyConfig::parse(text).unwrap()
}

pub fn prompts() -> Vec<Prompt> {
    [
        vec![3, 1, 4, 1, 5],
        vec![2],
        vec![],
        vec![7, 8, 7, 8, 7, 8, 0, 0],
    ]
    .map(Prompt::new)
    .into()
}

/// An observer that stops the run when it has seen this many steps.
pub fn stop_after(steps: usize) -> impl FnMut(&StepEvent) -> ControlFlow<()> {
    let mut seen = 0;
    move |event| {
        seen += usize::from(matches!(event, StepEvent::Step { .. }));
        if seen >= steps {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// What a run that must fail says.
pub fn message(toy: &Toy, config: DecodeConfig, prompts: &[Prompt]) -> String {
    match Decoder::new(toy, config) {
        Err(error) => error.to_string(),
        Ok(decoder) => decoder.run(prompts, &mut ()).unwrap_err().to_string(),
    }
}

/// A model over the 256 bytes with `<mask>` 256, `<eos>` 257, `<bos>` 258 and one spare row.
pub fn model(kind: serde_json::Value, attention: serde_json::Value, time: bool) -> Model {
    let mut network = json!({
        "vocab_size": 260, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
        "head_dim": 8, "d_ff": 48, "max_length": 48, "attention": attention,
    });
    if time {
        network["time"] = json!({ "frequencies": 16, "cond": 16 });
    }
    let spec: ModelSpec = serde_json::from_value(json!({
        "model_type": "demask", "kind": kind, "network": network, "time_conditioning": time,
        "ids": { "mask": 256, "eos": 257, "bos": 258 },
    }))
    .unwrap();
    // A new network with a time input predicts the same everywhere: what conditions it is zero.
    let network = if time {
        Transformer::from_source(&spec.network, &mut Waves, &Device::flex()).unwrap()
    } else {
        Transformer::init(&spec.network, 3, &Device::flex()).unwrap()
    };
    let tokenizer = bytes_only(&["<mask>", "<eos>", "<bos>"]).unwrap();
    Model {
        network,
        spec,
        tokenizer,
        unusual: Vec::new(),
    }
}

/// Waves in every parameter, those that are zero in a new network too; the classes differ by much.
pub struct Waves;

impl ParamSource for Waves {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let n: usize = shape.iter().product();
        let height = if name == "labels.weight" { 4.0 } else { 0.3 };
        let wave = |i: usize| height * ((i * 7 + name.len()) as f32).sin();
        Ok(TensorData::new((0..n).map(wave).collect(), shape.to_vec()))
    }
}
