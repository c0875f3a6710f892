//! Scores in place of logits: where they are asked for, and that the text is the same to the bit.

mod common;

use std::cell::Cell;

use common::model;
use demask_models::{Model, ModelKind, SpecialIds};
use demask_nn::{Dtype, KvCache};
use demask_text::infill::Template;
use demask_text::policy::registry;
use demask_text::{
    CacheConfig, Compat, ConstraintConfig, DecodeConfig, Decoder, DenoiseRequest, Denoiser,
    DrawKind, EosConfig, GuideConfig, LengthConfig, PolicyConfig, Predicted, Prediction, Prompt,
    StepEvent, TextError, Written,
};
use serde_json::json;

/// The model, or one that knows no scores and answers with logits; and how often scores were asked for.
struct Watched<'a> {
    model: &'a Model,
    knows_scores: bool,
    scored: Cell<usize>,
}

impl<'a> Watched<'a> {
    fn new(model: &'a Model, knows_scores: bool) -> Self {
        Self {
            model,
            knows_scores,
            scored: Cell::new(0),
        }
    }

    fn request(&self, request: &DenoiseRequest) -> DenoiseRequest {
        let asked = usize::from(request.scoring.is_some());
        self.scored.set(self.scored.get() + asked);
        let mut request = request.clone();
        if !self.knows_scores {
            request.scoring = None;
        }
        request
    }

    fn checked(&self, request: &DenoiseRequest, answer: Prediction) -> Prediction {
        let scores = matches!(answer.cells, Predicted::Scores(_));
        assert_eq!(
            scores,
            request.scoring.is_some() && !request.asked.is_empty()
        );
        answer
    }
}

impl Denoiser for Watched<'_> {
    fn kind(&self) -> ModelKind {
        self.model.kind()
    }

    fn vocab_size(&self) -> usize {
        self.model.vocab_size()
    }

    fn ids(&self) -> &SpecialIds {
        Denoiser::ids(self.model)
    }

    fn max_length(&self) -> usize {
        self.model.max_length()
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        let request = self.request(request);
        let answer = self.model.predict(&request)?;
        Ok(self.checked(&request, answer))
    }

    fn predict_cached(
        &self,
        request: &DenoiseRequest,
        caches: Vec<&mut KvCache>,
    ) -> Result<Prediction, TextError> {
        let request = self.request(request);
        let answer = self.model.predict_cached(&request, caches)?;
        Ok(self.checked(&request, answer))
    }

    fn unassigned(&self) -> Vec<u32> {
        self.model.unassigned()
    }

    fn begins_with_space(&self, id: u32) -> bool {
        self.model.begins_with_space(id)
    }

    fn text(&self, ids: &[u32]) -> Result<String, TextError> {
        Denoiser::text(self.model, ids)
    }
}

fn packed(block: Option<usize>) -> Model {
    let mut model = match block {
        None => model(
            json!({ "kind": "masked" }),
            json!({ "kind": "full" }),
            false,
        ),
        Some(block) => model(
            json!({ "kind": "block_masked", "block": block }),
            json!({ "kind": "block_causal", "block": block }),
            false,
        ),
    };
    model.network = model.network.packed(Dtype::Int8);
    model
}

fn config() -> DecodeConfig {
    DecodeConfig {
        length: 12,
        steps: 6,
        temperature: 0.8,
        seed: 4,
        samples: 2,
        eos: EosConfig {
            early_stop: false,
            ..EosConfig::default()
        },
        ..DecodeConfig::default()
    }
}

/// What is written and told, and how many forward passes were asked for scores.
fn run(
    model: &Model,
    knows_scores: bool,
    config: &DecodeConfig,
    prompts: &[Prompt],
) -> (Vec<Written>, Vec<StepEvent>, usize) {
    let watched = Watched::new(model, knows_scores);
    let mut events = Vec::new();
    let mut observer = |event: &StepEvent| {
        events.push(event.clone());
        std::ops::ControlFlow::Continue(())
    };
    let decoder = Decoder::new(&watched, config.clone()).unwrap();
    let written = decoder.run(prompts, &mut observer).unwrap();
    (written, events, watched.scored.get())
}

/// Checks that both ways write the same; how many forward passes there were, and how many were asked for scores.
fn both(model: &Model, config: &DecodeConfig, prompts: &[Prompt]) -> (usize, usize) {
    let (written, events, scored) = run(model, true, config, prompts);
    let (stored, told, _) = run(model, false, config, prompts);
    assert_eq!(written, stored);
    assert_eq!(events, told);
    assert!(written.iter().all(|text| !text.ids.contains(&256)));
    (written.iter().map(|text| text.forwards).sum(), scored)
}

fn prompts(model: &Model) -> Vec<Prompt> {
    ["Once", "Tim and"]
        .map(|text| Prompt::text(model, text).unwrap())
        .into()
}

#[test]
fn every_policy_writes_the_same_text_from_scores() {
    let model = packed(None);
    let prompts = prompts(&model);
    for info in registry() {
        for temperature in [0.0, 0.8] {
            let config = DecodeConfig {
                policy: PolicyConfig::parse(info.name).unwrap(),
                temperature,
                ..config()
            };
            let (_, scored) = both(&model, &config, &prompts);
            let reads_logits = ["analytic", "euler"].contains(&info.name);
            assert_eq!(scored == 0, reads_logits, "{}", info.name);
        }
    }
}

#[test]
fn constraints_and_templates_hold_for_scores() {
    let model = packed(None);
    let bans: Vec<u32> = (0..256).filter(|id| id % 3 > 0).collect();
    let banned = DecodeConfig {
        constraints: vec![ConstraintConfig::Bans { ids: bans.clone() }],
        ..config()
    };
    let (_, scored) = both(&model, &banned, &prompts(&model));
    assert!(scored > 0);
    let (written, ..) = run(&model, true, &banned, &prompts(&model));
    let mut new = written.iter().flat_map(|text| &text.ids);
    assert!(new.all(|id| !bans.contains(id)));

    let template = Template::parse("The [[5]] sat[[3]].", 4).unwrap();
    let prompt = template.prompt(&model.tokenizer, Vec::new()).unwrap();
    let (_, scored) = both(&model, &config(), &[prompt]);
    assert!(scored > 0);
}

#[test]
fn a_cache_answers_with_scores() {
    let model = packed(Some(4));
    let prompts = prompts(&model);
    let cached = DecodeConfig {
        plan: LengthConfig::Blocks {
            block: 4,
            slide: false,
        },
        cache: CacheConfig::Block,
        ..config()
    };
    // Prompts of different lengths: several passes a step.
    let (_, scored) = both(&model, &cached, &prompts);
    assert!(scored > 0);
    let plain = DecodeConfig {
        cache: CacheConfig::None,
        ..cached.clone()
    };
    let ids = |config| {
        run(&model, true, config, &prompts)
            .0
            .into_iter()
            .map(|text| text.ids)
    };
    assert!(ids(&cached).eq(ids(&plain)));
}

#[test]
fn what_reads_logits_is_given_them() {
    let model = packed(None);
    let prompts = prompts(&model);
    let held_back = DecodeConfig {
        compat: Compat::LladaOfficial,
        temperature: 0.0,
        eos: EosConfig {
            confidence_eos_eot_inf: true,
            early_stop: false,
            ..EosConfig::default()
        },
        ..config()
    };
    let settings = [
        DecodeConfig {
            guides: vec![GuideConfig::ClassifierFree { scale: 0.5 }],
            ..config()
        },
        DecodeConfig {
            top_p: Some(0.9),
            ..config()
        },
        DecodeConfig {
            top_k: Some(5),
            ..config()
        },
        DecodeConfig {
            draw: DrawKind::Categorical,
            ..config()
        },
        held_back,
    ];
    for config in settings {
        let (forwards, scored) = both(&model, &config, &prompts);
        assert!(forwards > 0);
        assert_eq!(scored, 0, "{config:?}");
    }
}

#[test]
fn what_leaves_no_token_is_said_in_the_same_words() {
    let model = packed(None);
    let config = DecodeConfig {
        constraints: vec![ConstraintConfig::Bans {
            ids: (0..260).collect(),
        }],
        ..config()
    };
    let said = |knows_scores| {
        let watched = Watched::new(&model, knows_scores);
        let decoder = Decoder::new(&watched, config.clone()).unwrap();
        let said = decoder.run(&prompts(&model), &mut ()).unwrap_err();
        said.to_string()
    };
    assert!(
        said(true).contains("(special tokens, bans)"),
        "{}",
        said(true)
    );
    assert_eq!(said(true), said(false));
}
