//! The samplers of LLaDA and Dream against numbers that their published code wrote: tokens, order of
//! reveal, confidences and counts. `parity/README.md` says how the fixtures were made.

mod common;

use std::ops::ControlFlow;

use common::Recorded;
use demask_models::{ModelKind, Predicts, SpecialIds};
use demask_text::eos::HeldBack;
use demask_text::length::Pace;
use demask_text::policy::{Candidates, Score, Step, Target};
use demask_text::{
    Cell, Compat, DecodeConfig, Decoder, DenoiseRequest, Denoiser, GuideConfig, LengthConfig,
    PaceConfig, PolicyConfig, Prediction, Prompt, Row, StepEvent, TextError,
};
use serde::Deserialize;

const VOCAB: usize = 12;
const MASK: u32 = 11;

#[derive(Deserialize)]
struct Fixture {
    network: Network,
    #[serde(default)]
    counts: Vec<Counts>,
    cases: Vec<Case>,
}

/// The stand-in network of both sides: sums of multiples of 1/512, exact in any order. Unlike the
/// toy of the other tests it knows the position of a cell, so that no two confidences are equal:
/// which of two equals PyTorch's top-k takes is not specified.
#[derive(Deserialize)]
struct Network {
    reach: Vec<i64>,
    /// `[reach][present token][predicted token]`.
    near: Vec<Vec<Vec<i64>>>,
    /// `[present token][predicted token]`, for every cell of the row.
    all: Vec<Vec<i64>>,
    /// `[cell][predicted token]`.
    place: Vec<Vec<i64>>,
    #[serde(skip, default = "special_ids")]
    ids: SpecialIds,
}

fn special_ids() -> SpecialIds {
    SpecialIds {
        mask: Some(MASK),
        eos: Some(9),
        eot: Some(10),
        bos: None,
        pad: None,
    }
}

#[derive(Deserialize)]
struct Counts {
    cells: usize,
    steps: usize,
    counts: Vec<usize>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    prompt: Vec<u32>,
    #[serde(flatten)]
    sampler: Sampler,
    ids: Vec<u32>,
    /// The cells written in each step with their tokens, cells rising.
    trace: Vec<Vec<(usize, u32)>>,
    forwards: usize,
    /// What each step scored its candidates, cells rising. None where the order does not come from
    /// the predictions (`random`, `origin`).
    confidence: Option<Vec<Vec<f64>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sampler {
    Llada(Llada),
    Dream(Dream),
}

#[derive(Deserialize)]
struct Llada {
    length: usize,
    steps: usize,
    block: usize,
    temperature: f64,
    remasking: String,
    #[serde(default)]
    cfg_scale: f64,
    #[serde(default)]
    logits_eos_inf: bool,
    #[serde(default)]
    confidence_eos_eot_inf: bool,
}

#[derive(Deserialize)]
struct Dream {
    length: usize,
    steps: usize,
    temperature: f64,
    top_p: Option<f64>,
    top_k: Option<usize>,
    eps: f64,
    alg: String,
    alg_temp: Option<f64>,
}

impl Network {
    fn logits(&self, row: &[u32], cell: usize) -> Vec<f32> {
        let mut sum = self.place[cell].clone();
        let mut add = |table: &[i64]| sum.iter_mut().zip(table).for_each(|(s, t)| *s += t);
        for (offset, table) in self.reach.iter().zip(&self.near) {
            let neighbour = cell as i64 + offset;
            if neighbour >= 0 && (neighbour as usize) < row.len() {
                add(&table[row[neighbour as usize] as usize]);
            }
        }
        row.iter().for_each(|&id| add(&self.all[id as usize]));
        sum.iter().map(|&s| s as f32 / 512.0).collect()
    }
}

impl Denoiser for Network {
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
        self.place.len()
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        let one = |&asked: &u32| {
            let (b, cell) = (
                asked as usize / request.length,
                asked as usize % request.length,
            );
            self.logits(
                &request.ids[b * request.length..][..request.key_lengths[b]],
                cell,
            )
        };
        Ok(Prediction::of_logits(
            request.asked.iter().flat_map(one).collect(),
            request.key_lengths.clone(),
        ))
    }
}

impl Sampler {
    fn config(&self) -> DecodeConfig {
        match self {
            Self::Llada(s) => {
                let mut config = DecodeConfig {
                    length: s.length,
                    steps: s.steps,
                    plan: LengthConfig::SemiAutoregressive { block: s.block },
                    temperature: s.temperature,
                    policy: PolicyConfig::parse(&s.remasking).unwrap(),
                    compat: Compat::LladaOfficial,
                    ..DecodeConfig::default()
                };
                if s.cfg_scale > 0.0 {
                    let scale = s.cfg_scale;
                    config.guides.push(GuideConfig::ClassifierFree { scale });
                }
                config.eos.logits_eos_inf = s.logits_eos_inf;
                config.eos.confidence_eos_eot_inf = s.confidence_eos_eot_inf;
                config
            }
            Self::Dream(s) => {
                let policy = match (s.alg.as_str(), s.alg_temp) {
                    ("origin", _) => format!("origin:eps={}", s.eps),
                    (alg, None) => alg.to_owned(),
                    (alg, Some(temperature)) => format!("{alg}:alg_temp={temperature}"),
                };
                DecodeConfig {
                    length: s.length,
                    steps: s.steps,
                    policy: PolicyConfig::parse(&policy).unwrap(),
                    pace: PaceConfig::Expected { eps: s.eps },
                    temperature: s.temperature,
                    top_p: s.top_p,
                    top_k: s.top_k,
                    compat: Compat::DreamOfficial,
                    ..DecodeConfig::default()
                }
            }
        }
    }

    fn score(&self) -> Score {
        match self {
            Self::Llada(_) => Score::Probability,
            Self::Dream(s) => match s.alg.as_str() {
                "maskgit_plus" => Score::Drawn,
                "topk_margin" => Score::Margin,
                "entropy" => Score::NegEntropy,
                other => panic!("{other} scores nothing"),
            },
        }
    }

    /// Cells in a block.
    fn block(&self) -> usize {
        match self {
            Self::Llada(s) => s.block,
            Self::Dream(s) => s.length,
        }
    }
}

fn check_decoding(network: &Network, case: &Case) {
    let name = &case.name;
    let mut trace = Vec::new();
    let mut observer = |event: &StepEvent| {
        if let StepEvent::Step { committed, .. } = event {
            let step: Vec<_> = committed.iter().map(|w| (w.cell, w.token)).collect();
            trace.push(step);
        }
        ControlFlow::Continue(())
    };
    let decoder = Decoder::new(network, case.sampler.config())
        .unwrap()
        .with_uniforms(Recorded);
    let written = decoder
        .run(&[Prompt::new(case.prompt.clone())], &mut observer)
        .unwrap();
    assert_eq!(trace, case.trace, "{name}");
    assert_eq!(written[0].ids, case.ids[case.prompt.len()..], "{name}");
    assert_eq!(written[0].forwards, case.forwards, "{name}");
}

/// The canvas before each step, the published trajectory being followed.
fn canvases(case: &Case) -> Vec<Row> {
    let (start, length) = (case.prompt.len(), case.ids.len());
    let mut ids = case.prompt.clone();
    ids.resize(length, MASK);
    let mut cells: Vec<Cell> = ids
        .iter()
        .map(|&id| if id == MASK { Cell::Open } else { Cell::Fixed })
        .collect();
    let blocks: Vec<u32> = (0..length)
        .map(|i| (i.saturating_sub(start) / case.sampler.block()) as u32)
        .collect();
    let before = |step: &Vec<(usize, u32)>| {
        let row = Row::new(ids.clone(), cells.clone(), blocks.clone(), start);
        for &(cell, token) in step {
            (ids[cell], cells[cell]) = (token, Cell::Written);
        }
        row
    };
    case.trace.iter().map(before).collect()
}

/// Logits of the open cells as a policy sees them.
fn prepared(network: &Network, config: &DecodeConfig, row: &Row, open: &[usize]) -> Vec<f32> {
    let predict = |ids: &[u32]| -> Vec<f32> {
        let one = |&cell: &usize| network.logits(ids, cell);
        open.iter().flat_map(one).collect()
    };
    let mut logits = predict(row.ids());
    let given: Vec<bool> = (0..row.length())
        .map(|i| row.cells()[i] == Cell::Fixed)
        .collect();
    for guide in &config.guides {
        let target = Target {
            kind: ModelKind::Masked,
            predicts: Predicts::Clean,
            mask: Some(MASK),
            noise: None,
        };
        let guide = guide.build(&target, None).unwrap().unwrap();
        let others: Vec<Vec<f32>> = guide
            .variants(row, row.ids(), &given)
            .iter()
            .map(|variant| predict(&variant.ids))
            .collect();
        let others: Vec<&[f32]> = others.iter().map(Vec::as_slice).collect();
        guide.apply(row, open, &mut logits, &others).unwrap();
    }
    for row in logits.chunks_exact_mut(VOCAB) {
        row[MASK as usize] = f32::NEG_INFINITY;
        if config.eos.logits_eos_inf {
            row[network.ids.eos.unwrap() as usize] = f32::NEG_INFINITY;
        }
    }
    logits
}

/// Returns how many confidences were compared.
fn check_confidence(network: &Network, case: &Case) -> usize {
    let Some(wanted) = &case.confidence else {
        return 0;
    };
    let config = case.sampler.config();
    let held = HeldBack::new(&config.eos, config.compat, config.temperature, &network.ids);
    let draw = config.token_draw();
    let mut compared = 0;
    let blocks = (case.ids.len() - case.prompt.len()) / case.sampler.block();
    let steps = config.steps / blocks;
    assert_eq!(wanted.len(), case.trace.len(), "{}", case.name);
    for (total, (row, wanted)) in canvases(case).iter().zip(wanted).enumerate() {
        let open = row.window((total / steps) as u32);
        let logits = prepared(network, &config, row, &open);
        let step = Step {
            row,
            open: &open,
            index: total % steps,
            steps,
            quota: case.trace[total].len(),
            total,
            draw: &draw,
            held_back: &held,
            sample: 0,
            source: &Recorded,
        };
        let candidates = Candidates::new(&open, &logits, VOCAB);
        let proposals = case.sampler.score().propose(&step, &candidates).unwrap();
        assert_eq!(proposals.len(), wanted.len(), "{}, step {total}", case.name);
        for (proposal, wanted) in proposals.iter().zip(wanted) {
            assert!(
                (proposal.score - wanted).abs() < 1e-5,
                "{}, step {total}, cell {}: {} is not {wanted}",
                case.name,
                proposal.cell,
                proposal.score
            );
        }
        compared += wanted.len();
    }
    compared
}

/// Checks all cases; returns how many confidences were compared.
fn check(fixture: &Fixture) -> usize {
    fixture
        .cases
        .iter()
        .map(|case| {
            check_decoding(&fixture.network, case);
            check_confidence(&fixture.network, case)
        })
        .sum()
}

fn dream() -> Fixture {
    serde_json::from_str(include_str!("fixtures/published-dream.json")).unwrap()
}

#[test]
fn llada_writes_what_the_published_code_wrote() {
    let fixture: Fixture =
        serde_json::from_str(include_str!("fixtures/published-llada.json")).unwrap();
    assert_eq!((fixture.cases.len(), check(&fixture)), (94, 5464));
}

#[test]
fn dream_writes_what_the_published_code_wrote() {
    let fixture = dream();
    assert_eq!((fixture.cases.len(), check(&fixture)), (113, 13293));
}

#[test]
fn dream_counts_are_those_of_the_published_loop() {
    let rows = dream().counts;
    assert_eq!(rows.len(), 9);
    for row in rows {
        let pace = Pace::new(PaceConfig::Expected { eps: 1e-3 }, row.cells, row.steps);
        let mut open = row.cells;
        for (i, wanted) in row.counts.into_iter().enumerate() {
            let quota = pace.quota(i, open);
            assert_eq!(
                quota, wanted,
                "step {i} of {} over {} cells",
                row.steps, row.cells
            );
            open -= quota;
        }
        assert_eq!(open, 0);
    }
}
