//! The decoder and the autoregressive writer on the real network, with tiny random weights.

mod common;

use common::{model, stop_after};
use demask_kernels::threads::with_threads;
use demask_models::{Model, ModelKind, ModelSpec, Predicts};
use demask_nn::{Asked, AttentionMask, Input};
use demask_text::infill::Template;
use demask_text::{
    CacheConfig, Compat, ConstraintConfig, Crossing, DecodeConfig, Decoder, EosConfig, Finish,
    GuideConfig, LengthConfig, PaceConfig, PolicyConfig, Prompt, TextError, Then, Written, ar,
};
use serde_json::json;

fn masked(time: bool) -> Model {
    model(json!({ "kind": "masked" }), json!({ "kind": "full" }), time)
}

fn autoregressive() -> Model {
    model(
        json!({ "kind": "autoregressive" }),
        json!({ "kind": "causal" }),
        false,
    )
}

fn config() -> DecodeConfig {
    DecodeConfig {
        length: 10,
        steps: 10,
        temperature: 1.0,
        seed: 4,
        eos: EosConfig {
            early_stop: false,
            ..EosConfig::default()
        },
        ..DecodeConfig::default()
    }
}

fn prompts(model: &Model) -> Vec<Prompt> {
    ["Once upon a time", "Tim", "a dog"]
        .map(|text| Prompt::text(model, text).unwrap())
        .into()
}

#[test]
fn the_real_network_writes_the_same_alone_and_in_any_batch() {
    let block = model(
        json!({ "kind": "block_masked", "block": 4 }),
        json!({ "kind": "block_causal", "block": 4 }),
        false,
    );
    for (model, plan) in [
        (masked(false), LengthConfig::Whole),
        (masked(true), LengthConfig::SemiAutoregressive { block: 4 }),
        (
            block,
            LengthConfig::Blocks {
                block: 4,
                slide: false,
            },
        ),
    ] {
        let guides = vec![GuideConfig::ClassifierFree { scale: 0.7 }];
        let policy = PolicyConfig::parse("first_hitting").unwrap();
        for config in [
            DecodeConfig { plan, ..config() },
            DecodeConfig {
                plan,
                guides,
                policy,
                ..config()
            },
        ] {
            let run = |prompts: &[Prompt]| {
                Decoder::new(&model, config.clone())
                    .unwrap()
                    .run(prompts, &mut ())
                    .unwrap()
            };
            let prompts = prompts(&model);
            let together = run(&prompts);
            for (prompt, written) in prompts.iter().zip(&together) {
                let alone = run(std::slice::from_ref(prompt)).remove(0);
                assert_eq!(alone.ids, written.ids);
                assert_eq!(alone.text, written.text);
                assert!(
                    written.ids.iter().all(|id| *id != 256 && *id != 259),
                    "mask or spare row"
                );
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    // Sixteen texts of the whole context: enough for the kernels to share their work out.
    let block = model(
        json!({ "kind": "block_masked", "block": 4 }),
        json!({ "kind": "block_causal", "block": 4 }),
        true,
    );
    let plan = LengthConfig::Blocks {
        block: 4,
        slide: false,
    };
    let config = DecodeConfig {
        samples: 16,
        ..config()
    };
    let cached = DecodeConfig {
        plan,
        cache: CacheConfig::Block,
        ..config.clone()
    };
    let left_to_right = autoregressive();
    for (model, config) in [
        (&masked(true), &config),
        (&block, &cached),
        (&left_to_right, &config),
    ] {
        let prompt = Prompt::text(model, "Once upon a time there was a little").unwrap();
        let write = |threads| {
            with_threads(threads, || match model.spec.kind {
                ModelKind::Autoregressive => {
                    ar::write(model, config, std::slice::from_ref(&prompt), &mut ())
                }
                _ => Decoder::new(model, config.clone())
                    .unwrap()
                    .run(std::slice::from_ref(&prompt), &mut ()),
            })
        };
        assert_eq!(
            write(1).unwrap(),
            write(2).unwrap(),
            "{:?}",
            model.spec.kind
        );
    }
}

#[test]
fn a_template_keeps_every_given_character() {
    let model = masked(false);
    let template = Template::parse("Tim had a [[3]] dog.[[2]] End", 4).unwrap();
    let prompt = template.prompt(&model.tokenizer, vec![258]).unwrap();
    let config = DecodeConfig {
        temperature: 0.5,
        ..config()
    };
    let decoder = Decoder::new(&model, config).unwrap();
    let written = decoder.run(&[prompt], &mut ()).unwrap().remove(0);
    let bytes = model.tokenizer.decode_bytes(&written.ids).unwrap();
    assert!(bytes.starts_with(b"Tim had a "));
    assert_eq!(&bytes[13..18], b" dog.");
    assert!(bytes.ends_with(b" End"));
    assert_eq!(
        (written.new_tokens, written.prompt_tokens),
        (5, 1 + 10 + 5 + 4)
    );
}

#[test]
fn left_to_right_is_the_same_alone_and_in_any_batch() {
    let model = autoregressive();
    let config = DecodeConfig {
        samples: 2,
        ..config()
    };
    let mut prompts = prompts(&model);
    prompts.push(Prompt::text(&model, "two").unwrap());
    let together = ar::write(&model, &config, &prompts, &mut ()).unwrap();
    assert_eq!(together.len(), 8);
    for (i, prompt) in prompts.iter().enumerate() {
        let alone = ar::write(&model, &config, std::slice::from_ref(prompt), &mut ()).unwrap();
        for (alone, written) in alone.iter().zip(&together[2 * i..]) {
            assert_eq!((&alone.ids, alone.rows), (&written.ids, written.rows));
            // The prompt once, then each new token but the last.
            assert_eq!((written.forwards, written.rows), (10, prompt.ids.len() + 9));
            assert_eq!((written.prompt, written.finish), (i, Finish::Length));
        }
    }
    assert_ne!(together[0].ids, together[1].ids);
    let other = DecodeConfig { seed: 5, ..config };
    assert_ne!(
        ar::write(&model, &other, &prompts, &mut ()).unwrap()[0].ids,
        together[0].ids
    );
}

#[test]
fn the_cache_changes_nothing() {
    // Greedy writing with the cache against the whole row forwarded anew for each token.
    let model = autoregressive();
    let config = DecodeConfig {
        temperature: 0.0,
        ..config()
    };
    let prompt = Prompt::text(&model, "Once").unwrap();
    let written = ar::write(&model, &config, std::slice::from_ref(&prompt), &mut ()).unwrap();
    let mut row = prompt.ids.clone();
    for &token in &written[0].ids {
        let last = row.len() as u32 - 1;
        let output = model.network.forward(Input {
            mask: AttentionMask::causal(),
            asked: Asked::Rows(vec![last]),
            ..Input::ids(row.clone(), 1, row.len())
        });
        let logits = output.unwrap().logits.unwrap().into_data();
        let logits = logits.try_into_vec::<f32>().unwrap();
        // The written token is the likeliest of those that stand for one.
        let best = (0..259).filter(|id| *id != 256).map(|id| logits[id]);
        let best = best.fold(f32::NEG_INFINITY, f32::max);
        assert!(logits[token as usize] >= best - 1e-5);
        row.push(token);
    }
}

#[test]
fn from_left_to_right_what_has_no_meaning_is_refused() {
    let spec = autoregressive().spec;
    let usual = DecodeConfig::for_model(&spec).unwrap();
    ar::check(&spec, &usual).unwrap();
    // A token a step, whether the steps were counted or not.
    for steps in [7, usual.steps] {
        let config = DecodeConfig {
            length: 7,
            steps,
            ..usual.clone()
        };
        ar::check(&spec, &config).unwrap();
    }
    type Change = fn(&mut DecodeConfig);
    let changes: [(&str, Change); 9] = [
        ("cache", |c| c.cache = CacheConfig::Block),
        ("repetition", |c| c.repetition.then = Then::Cut),
        ("steps", |c| c.steps = 5),
        ("plan", |c| {
            c.plan = LengthConfig::Blocks {
                block: 2,
                slide: false,
            }
        }),
        ("pace", |c| c.pace = PaceConfig::Expected { eps: 0.1 }),
        ("policy", |c| c.policy = PolicyConfig::Random {}),
        ("guides", |c| {
            c.guides = vec![GuideConfig::ClassifierFree { scale: 1.0 }];
        }),
        ("eos.confidence_eos_eot_inf", |c| {
            c.eos.confidence_eos_eot_inf = true;
        }),
        ("compat", |c| c.compat = Compat::DreamOfficial),
    ];
    for (name, change) in changes {
        let mut config = usual.clone();
        change(&mut config);
        let error = ar::check(&spec, &config).unwrap_err().to_string();
        assert!(error.contains(&format!("setting {name}")), "{error}");
        assert!(error.contains("from left to right"), "{error}");
        let model = autoregressive();
        assert!(ar::write(&model, &config, &prompts(&model), &mut ()).is_err());
    }
}

#[test]
fn a_text_after_nothing_is_not_empty() {
    // Nothing but the end token may be written, and not as the first.
    let only_ends = |never_first| DecodeConfig {
        steps: 10,
        constraints: vec![ConstraintConfig::Bans {
            ids: (0..256).chain([258]).collect(),
        }],
        eos: EosConfig {
            never_first,
            ..EosConfig::default()
        },
        ..config()
    };
    let begin = Prompt::new(vec![258]);
    let word = Prompt::new(vec![258, 65]);
    let left_to_right = autoregressive();
    let write_left = |prompt: &Prompt, never_first| {
        let prompts = std::slice::from_ref(prompt);
        ar::write(&left_to_right, &only_ends(never_first), prompts, &mut ())
    };
    let any_order = masked(false);
    let write_any = |prompt: &Prompt, never_first| {
        let decoder = Decoder::new(&any_order, only_ends(never_first)).unwrap();
        decoder.run(std::slice::from_ref(prompt), &mut ())
    };
    type Write<'a> = &'a dyn Fn(&Prompt, bool) -> Result<Vec<Written>, TextError>;
    let writers: [Write<'_>; 2] = [&write_left, &write_any];
    for write in writers {
        let empty = write(&begin, false).unwrap();
        assert_eq!((empty[0].new_tokens, &*empty[0].text), (0, ""));
        let error = write(&begin, true).unwrap_err();
        assert!(
            matches!(error, TextError::Constraint { cell: 1, .. }),
            "{error}"
        );
        let after_a_word = write(&word, true).unwrap();
        assert_eq!(after_a_word[0].new_tokens, 0);
    }
}

#[test]
fn left_to_right_keeps_constraints_and_stops() {
    let model = autoregressive();
    let stop = DecodeConfig {
        constraints: vec![
            ConstraintConfig::Bans {
                ids: (0..256).collect(),
            },
            ConstraintConfig::Fixed {
                cells: [(0, 65)].into(),
            },
        ],
        eos: EosConfig::default(),
        ..config()
    };
    // Only the end token is left for the second cell (bos is allowed too: ban it).
    let mut stop = stop;
    stop.constraints
        .push(ConstraintConfig::Bans { ids: vec![258] });
    let written = ar::write(&model, &stop, &prompts(&model), &mut ()).unwrap();
    for written in &written {
        assert_eq!(
            (&written.text[..], written.new_tokens, written.finish),
            ("A", 0, Finish::EndToken)
        );
        assert_eq!((written.forwards, written.open), (2, 8));
    }
    let mut stop = stop_after(3);
    let stopped = ar::write(&model, &config(), &prompts(&model)[..1], &mut stop).unwrap();
    assert_eq!(
        (stopped[0].finish, stopped[0].new_tokens, stopped[0].open),
        (Finish::Stopped, 3, 7)
    );
    let empty = ar::write(&model, &config(), &[Prompt::default()], &mut ()).unwrap_err();
    assert!(empty.to_string().contains("begins a text"), "{empty}");
    let wrong = ar::write(&masked(false), &config(), &prompts(&model), &mut ()).unwrap_err();
    assert!(wrong.to_string().contains("use the decoder"), "{wrong}");
}

#[test]
fn a_gap_that_was_left_its_space_begins_with_it() {
    // A byte is a token, and one of them begins with a space.
    let text = "a rab".bytes().map(|b| Some(u32::from(b)));
    let mut prompt = Prompt::template(vec![258], text.chain([None; 4]).collect());
    prompt.spaced = vec![5];
    for seed in 0..4 {
        let config = DecodeConfig { seed, ..config() };
        let prompt = std::slice::from_ref(&prompt);
        let left = ar::write(&autoregressive(), &config, prompt, &mut ()).unwrap();
        let model = masked(false);
        let decoder = Decoder::new(&model, config).unwrap();
        let any = decoder.run(prompt, &mut ()).unwrap();
        assert_eq!([left[0].ids[5], any[0].ids[5]], [32, 32]);
    }
}

#[test]
fn left_to_right_nothing_is_given_after_a_gap() {
    let model = autoregressive();
    let fixed = |cells: &[(usize, u32)]| DecodeConfig {
        constraints: vec![ConstraintConfig::Fixed {
            cells: cells.iter().copied().collect(),
        }],
        ..config()
    };
    let prompt = [Prompt::new(vec![258])];
    let begin = ar::write(&model, &fixed(&[(0, 65), (1, 66)]), &prompt, &mut ()).unwrap();
    assert!(begin[0].text.starts_with("AB"), "{}", begin[0].text);
    let template = [Prompt::template(vec![258], vec![None, Some(65)])];
    for (config, prompts) in [(fixed(&[(0, 65), (5, 66)]), &prompt), (config(), &template)] {
        let error = ar::write(&model, &config, prompts, &mut ()).unwrap_err();
        assert!(
            error.to_string().contains("a gap with text after it"),
            "{error}"
        );
    }
}

#[test]
fn left_to_right_absurd_numbers_are_refused_or_begun_lazily() {
    let model = autoregressive();
    let endless = DecodeConfig {
        length: usize::MAX,
        steps: usize::MAX,
        ..config()
    };
    let error = ar::write(&model, &endless, &prompts(&model), &mut ()).unwrap_err();
    assert!(error.to_string().contains("context has 48"), "{error}");
    let uncountable = DecodeConfig {
        samples: usize::MAX,
        ..config()
    };
    let error = ar::write(&model, &uncountable, &prompts(&model), &mut ()).unwrap_err();
    assert!(error.to_string().contains("`samples`"), "{error}");
    let many = DecodeConfig {
        samples: 1_000_000_000_000,
        ..config()
    };
    // Those of the group that was begun, all of the shortest prompt.
    let begun = ar::write(&model, &many, &prompts(&model), &mut stop_after(1)).unwrap();
    assert_eq!(begun.len(), 16);
    assert!(
        begun
            .iter()
            .all(|w| (w.prompt, w.new_tokens, w.open) == (1, 1, 9))
    );
}

#[test]
fn both_loops_say_alike_that_no_token_is_left() {
    let config = DecodeConfig {
        constraints: vec![ConstraintConfig::Bans {
            ids: (0..259).collect(),
        }],
        ..config()
    };
    let prompt = [Prompt::new(vec![258])];
    let left = ar::write(&autoregressive(), &config, &prompt, &mut ()).unwrap_err();
    let model = masked(false);
    let decoder = Decoder::new(&model, config).unwrap();
    let any = decoder.run(&prompt, &mut ()).unwrap_err();
    assert_eq!(left.to_string(), any.to_string());
    assert!(
        left.to_string().contains("(special tokens, bans)"),
        "{left}"
    );
}

#[test]
fn the_configuration_of_a_model_follows_its_kind() {
    let block = json!({ "kind": "block_masked", "block": 4 });
    let block = model(block, json!({ "kind": "block_causal", "block": 4 }), false);
    let config = DecodeConfig::for_model(&block.spec).unwrap();
    assert_eq!(
        (config.plan, config.length, config.steps),
        (
            LengthConfig::Blocks {
                block: 4,
                slide: true
            },
            24,
            24
        )
    );
    let mut spec = masked(false).spec;
    spec.generation.length = Some(16);
    spec.generation.policy = Some("entropy:alg_temp=0.2".into());
    spec.generation.cfg = Some(0.5);
    let config = DecodeConfig::for_model(&spec).unwrap();
    assert_eq!((config.length, config.steps), (16, 16));
    assert_eq!(
        config.policy,
        PolicyConfig::Entropy {
            alg_temp: Some(0.2)
        }
    );
    assert_eq!(config.guides.len(), 1);
    // BD3-LM's nucleus is a recommendation like any other.
    assert_eq!(config.crossing, Crossing::Keep);
    spec.generation.crossing = Some(Crossing::Drop);
    let crossing = DecodeConfig::for_model(&spec).unwrap().crossing;
    assert_eq!(crossing, Crossing::Drop);
    // A sampler of the reverse process samples, unless the authors say otherwise.
    assert_eq!(config.temperature, 0.0);
    spec.generation.policy = Some("ancestral".into());
    let temperature = |spec: &ModelSpec| DecodeConfig::for_model(spec).unwrap().temperature;
    assert_eq!(temperature(&spec), 1.0);
    spec.generation.temperature = Some(0.0);
    assert_eq!(temperature(&spec), 0.0);
    (spec.generation.policy, spec.generation.temperature) = (None, None);
    spec.kind = ModelKind::Uniform;
    assert_eq!(
        DecodeConfig::for_model(&spec).unwrap().policy.name(),
        "ancestral"
    );
    assert_eq!(temperature(&spec), 1.0);
    spec.predicts = Predicts::LogScores {
        scale_by_sigma: false,
    };
    assert_eq!(temperature(&spec), 1.0);
}

#[test]
fn the_unknown_token_is_not_written_unless_it_is_another_too() {
    use demask_models::Tokenizer;
    use demask_text::Denoiser;
    let file = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "truncation": null, "padding": null,
        "model": { "type": "WordLevel", "vocab": { "a": 0, "b": 1, "<unk>": 2 }, "unk_token": "<unk>" },
    });
    let mut model = masked(false);
    model.tokenizer = Tokenizer::from_json(&file.to_string()).unwrap();
    assert_eq!(model.tokenizer.unknown(), Some(2));
    assert!(model.unassigned().contains(&2) && !model.unassigned().contains(&1));
    model.spec.ids.eos = Some(2);
    assert!(!model.unassigned().contains(&2));
}
