//! The decoder as a whole, on a toy denoiser.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use common::{Toy, config, message, policy, prompts};
use demask_models::ModelKind;
use demask_text::{
    Cell, Compat, ConstraintConfig, Crossing, DecodeConfig, Decoder, DrawKind, EosConfig, Finish,
    GuideConfig, LengthConfig, PaceConfig, Prompt, Row, StepEvent, TextError, Written,
    policy::registry,
};

const MASK: u32 = 11;

fn write(toy: &Toy, config: &DecodeConfig, prompts: &[Prompt]) -> Vec<Written> {
    Decoder::new(toy, config.clone())
        .unwrap()
        .run(prompts, &mut ())
        .unwrap()
}

#[test]
fn a_text_is_the_same_alone_and_in_any_batch() {
    let mut toy = Toy::new(5);
    toy.timed = true;
    for info in registry() {
        for plan in [
            LengthConfig::Whole,
            LengthConfig::SemiAutoregressive { block: 5 },
            LengthConfig::Blocks {
                block: 4,
                slide: false,
            },
        ] {
            let config = DecodeConfig {
                policy: policy(info.name),
                plan,
                temperature: 0.9,
                samples: 2,
                seed: 3,
                guides: vec![GuideConfig::ClassifierFree { scale: 0.5 }],
                ..config()
            };
            let prompts = prompts();
            let together = write(&toy, &config, &prompts);
            assert_eq!(together.len(), 8);
            for batch in [1, 3] {
                let decoder = Decoder::new(&toy, config.clone())
                    .unwrap()
                    .with_batch(batch);
                assert_eq!(
                    decoder.run(&prompts, &mut ()).unwrap(),
                    together,
                    "{}",
                    info.name
                );
            }
            for (i, prompt) in prompts.iter().enumerate() {
                let alone = write(&toy, &config, std::slice::from_ref(prompt));
                for (alone, written) in alone.iter().zip(&together[2 * i..]) {
                    assert_eq!(alone.ids, written.ids, "{} {plan:?}", info.name);
                    assert_eq!(
                        (alone.steps, alone.forwards, alone.rows),
                        (written.steps, written.forwards, written.rows)
                    );
                }
            }
            assert!(
                together
                    .iter()
                    .all(|w| w.open == 0 && w.finish == Finish::Length && !w.ids.contains(&MASK))
            );
        }
    }
}

#[test]
fn a_sample_does_not_depend_on_how_many_there_are() {
    let toy = Toy::new(1);
    let config = DecodeConfig {
        temperature: 4.0,
        samples: 3,
        ..config()
    };
    let three = write(&toy, &config, &prompts());
    let one = write(
        &toy,
        &DecodeConfig {
            samples: 1,
            ..config.clone()
        },
        &prompts(),
    );
    for (i, written) in one.iter().enumerate() {
        assert_eq!(written.ids, three[3 * i].ids);
    }
    assert_ne!(three[0].ids, three[1].ids);
    assert_eq!(
        three.iter().map(|w| (w.prompt, w.sample)).nth(4),
        Some((1, 1))
    );
    let other = write(&toy, &DecodeConfig { seed: 1, ..config }, &prompts());
    assert_ne!(other[0].ids, three[0].ids);
}

#[test]
fn a_block_causal_model_writes_the_same_whatever_stands_after_its_block() {
    let mut toy = Toy::new(2);
    toy.kind = ModelKind::BlockMasked { block: 4 };
    let config = DecodeConfig {
        plan: LengthConfig::Blocks {
            block: 4,
            slide: false,
        },
        steps: 12,
        ..config()
    };
    // Prompt of 5: the answer's first block holds 3 cells, then 4, 4, 1.
    let written = write(&toy, &config, &[Prompt::new(vec![3, 1, 4, 1, 5])]);
    assert_eq!(written[0].ids.len(), 12);
    assert!(written[0].notes.is_empty(), "{:?}", written[0].notes);
    // A step a cell, in every block. Rows: 3*8 + 4*12 + 4*16 + 1*17.
    assert_eq!(
        (written[0].forwards, written[0].rows),
        (12, 24 + 48 + 64 + 17)
    );
    // A longer answer begins with the same tokens when its blocks have the same steps.
    let longer = DecodeConfig {
        length: 15,
        steps: 15,
        ..config.clone()
    };
    let longer = write(&toy, &longer, &[Prompt::new(vec![3, 1, 4, 1, 5])]);
    assert_eq!(longer[0].ids[..11], written[0].ids[..11]);
    let wrong = DecodeConfig {
        plan: LengthConfig::Whole,
        ..config
    };
    assert!(message(&toy, wrong, &prompts()).contains("trained on blocks of 4"));
}

#[test]
fn counts_by_hand() {
    let toy = Toy::new(1);
    let written =
        |config: DecodeConfig| write(&toy, &config, &[Prompt::new(vec![3, 1, 4])]).remove(0);
    let counts = |w: &Written| (w.steps, w.forwards, w.rows, w.prompt_tokens);
    let plain = written(config());
    assert_eq!(counts(&plain), (6, 6, 6 * 15, 3));
    let guided = DecodeConfig {
        guides: vec![GuideConfig::ClassifierFree { scale: 1.0 }],
        ..config()
    };
    assert_eq!(counts(&written(guided)), (6, 6, 2 * 6 * 15, 3));
    // More steps than cells: the empty ones are counted and not forwarded.
    let slow = written(DecodeConfig {
        steps: 30,
        ..config()
    });
    assert_eq!(counts(&slow), (12, 12, 12 * 15, 3));
    let dream = DecodeConfig {
        steps: 30,
        pace: PaceConfig::Expected { eps: 1e-3 },
        ..config()
    };
    let dream = written(dream);
    assert_eq!((dream.steps, dream.forwards < 13), (30, true));
    // Blocks of the growing canvas: 2 steps each on 3+4, 3+8, 3+12 cells.
    let blocks = written(DecodeConfig {
        plan: LengthConfig::Blocks {
            block: 4,
            slide: false,
        },
        ..config()
    });
    assert_eq!(counts(&blocks), (6, 6, 2 * (7 + 11 + 15), 3));
}

#[test]
fn steps_that_do_not_divide_are_said_and_done() {
    let toy = Toy::new(1);
    let run = |steps, block| {
        let plan = LengthConfig::SemiAutoregressive { block };
        write(
            &toy,
            &DecodeConfig {
                steps,
                plan,
                ..config()
            },
            &[Prompt::new(vec![1])],
        )
        .remove(0)
    };
    let seven = run(7, 4);
    assert_eq!(seven.forwards, 7);
    assert!(
        seven.notes[0].contains("7 steps do not divide by 3 blocks: the first 1"),
        "{:?}",
        seven.notes
    );
    let two = run(2, 4);
    assert_eq!(two.forwards, 3);
    assert!(
        two.notes[0].contains("each block took one step, 3 in all"),
        "{:?}",
        two.notes
    );
    let short = run(6, 5);
    assert!(
        short.notes[0].contains("the last block has 2 cells of 5"),
        "{:?}",
        short.notes
    );
    assert!(run(6, 4).notes.is_empty());
}

#[test]
fn the_steps_of_a_template_go_to_the_blocks_with_gaps() {
    // Three blocks of 8: 5 open cells, none, 7 open cells.
    let mut cells = vec![None; 5];
    cells.extend([Some(3); 11]);
    cells.extend([None; 7]);
    let prompt = [Prompt::template(vec![1], cells)];
    let run = |steps, plan| {
        let config = DecodeConfig {
            steps,
            plan,
            ..config()
        };
        write(&Toy::new(1), &config, &prompt).remove(0)
    };
    for plan in [
        LengthConfig::SemiAutoregressive { block: 8 },
        LengthConfig::Blocks {
            block: 8,
            slide: false,
        },
    ] {
        let written = run(12, plan);
        assert_eq!((written.steps, written.open), (12, 0), "a step a cell");
        assert!(written.notes.is_empty(), "{:?}", written.notes);
        // 3 and 3 of them (2.5 and 3.5).
        assert_eq!(run(6, plan).steps, 6);
        let one = run(1, plan);
        assert_eq!(one.steps, 2);
        assert!(
            one.notes[0].contains("1 steps for 2 blocks: each block took one step, 2 in all"),
            "{:?}",
            one.notes
        );
    }
    // The last block that is written lies before one of given cells only.
    let cells = vec![None, None, Some(1), None, None, Some(2), Some(3), Some(4)];
    let config = DecodeConfig {
        steps: 4,
        plan: LengthConfig::SemiAutoregressive { block: 2 },
        ..config()
    };
    let written = write(&Toy::new(1), &config, &[Prompt::template(vec![1], cells)]).remove(0);
    assert_eq!((written.steps, written.notes.len()), (4, 0));
}

#[test]
fn settings_that_play_no_part_are_noted() {
    let toy = Toy::new(1);
    let notes = |change: fn(&mut DecodeConfig)| {
        let mut config = DecodeConfig {
            length: 12,
            steps: 12,
            ..config()
        };
        change(&mut config);
        let written = write(&toy, &config, &[Prompt::new(vec![1])]).remove(0);
        (written.steps, written.notes.join("; "))
    };
    let silent = |change| notes(change).1.is_empty();
    let (steps, said) = notes(|c| {
        c.policy = policy("threshold:tau=1");
        c.steps = 3;
    });
    assert_eq!(steps, 12);
    assert!(
        said.contains(
            "policy `threshold` takes as many steps as it needs: 12, where `steps` says 3"
        ),
        "{said}"
    );
    let (steps, said) = notes(|c| {
        c.policy = policy("first_hitting");
        c.steps = 3;
    });
    assert!(steps == 12 && said.contains("`steps` says 3"), "{said}");
    // Fewer than allowed is what such a policy is for.
    assert!(silent(|c| c.policy = policy("threshold")));
    for name in ["origin", "first_hitting", "threshold", "ancestral"] {
        let config = DecodeConfig {
            policy: policy(name),
            pace: PaceConfig::Expected { eps: 0.1 },
            length: 12,
            steps: 12,
            ..config()
        };
        let written = write(&toy, &config, &[Prompt::new(vec![1])]).remove(0);
        let said = written.notes.join("; ");
        assert!(
            said.contains(&format!("`pace` plays no part under policy `{name}`")),
            "{said}"
        );
    }
    assert!(silent(|c| c.pace = PaceConfig::Expected { eps: 0.1 }));
    let (_, said) = notes(|c| c.draw = DrawKind::Categorical);
    assert!(
        said.contains("`draw` plays no part at temperature 0"),
        "{said}"
    );
    assert!(silent(|c| {
        c.draw = DrawKind::Categorical;
        c.temperature = 1.0;
    }));
    let (steps, said) = notes(|c| c.steps = 100);
    assert_eq!(steps, 12);
    assert!(said.contains("100 steps for 12 open cells"), "{said}");
    // A grid of times may be finer than the cells.
    assert!(silent(|c| {
        c.steps = 100;
        c.policy = policy("ancestral");
        c.temperature = 1.0;
    }));
    let (_, said) = notes(|c| c.policy = policy("ancestral"));
    assert!(said.contains("as published it draws at 1"), "{said}");
    let (_, said) = notes(|c| c.crossing = Crossing::Drop);
    assert!(
        said.contains("`crossing` plays no part without `top-p`"),
        "{said}"
    );
    assert!(silent(|_| {}));
}

#[test]
fn events_replay_the_trajectory() {
    let mut toy = Toy::new(4);
    for kind in [ModelKind::Masked, ModelKind::Uniform] {
        toy.kind = kind;
        let uniform = kind == ModelKind::Uniform;
        let policy = policy(if uniform { "ancestral" } else { "factor:f=2" });
        let config = DecodeConfig {
            policy,
            temperature: 1.0,
            samples: 2,
            ..config()
        };
        let mut rows: BTreeMap<usize, Option<Row>> = BTreeMap::new();
        let mut last = BTreeMap::new();
        let mut observer = |event: &StepEvent| {
            event.apply(rows.entry(event.row()).or_default(), MASK);
            if let StepEvent::Step {
                row,
                step,
                forwards,
                rows,
                committed,
                ..
            } = event
            {
                assert!(
                    committed
                        .iter()
                        .all(|w| w.confidence >= 0.0 && w.confidence <= 1.0)
                );
                last.insert(*row, (*step + 1, *forwards, *rows));
            }
            ControlFlow::Continue(())
        };
        let decoder = Decoder::new(&toy, config).unwrap();
        let written = decoder.run(&prompts(), &mut observer).unwrap();
        for (i, written) in written.iter().enumerate() {
            let row = rows[&i].as_ref().unwrap();
            assert_eq!(row.answer(), written.ids);
            assert!(!row.cells().iter().any(|cell| cell.is_unsettled()));
            assert_eq!(last[&i], (written.steps, written.forwards, written.rows));
        }
    }
}

#[test]
fn templates_keep_their_text() {
    let toy = Toy::new(7);
    let cells = [Some(9), None, None, Some(5), None, Some(10), None];
    let mut prompt = Prompt::template(vec![1, 2], cells.to_vec());
    prompt.spaced = vec![1, 4];
    for (temperature, seed) in [(0.0, 0), (2.0, 1), (2.0, 2), (2.0, 3)] {
        let config = DecodeConfig {
            temperature,
            seed,
            policy: policy("threshold"),
            ..config()
        };
        let written = write(&toy, &config, std::slice::from_ref(&prompt)).remove(0);
        for (cell, (&id, given)) in written.ids.iter().zip(&cells).enumerate() {
            assert_ne!(id, MASK);
            match given {
                Some(given) => assert_eq!(id, *given),
                None if cell < 5 => assert!(id < 9, "an end token inside the template"),
                None => {}
            }
        }
        assert!(
            written.ids[1].is_multiple_of(2) && written.ids[4].is_multiple_of(2),
            "begins with a space"
        );
        assert_eq!((written.prompt_tokens, written.open), (5, 0));
        let tail = written.ids[6];
        assert_eq!(
            written.new_tokens,
            if tail == 9 || tail == 10 { 3 } else { 4 }
        );
    }
    let config = DecodeConfig {
        constraints: vec![ConstraintConfig::Fixed {
            cells: BTreeMap::from([(2, 6), (11, 0)]),
        }],
        ..config()
    };
    let written = write(&toy, &config, &prompts());
    assert!(
        written
            .iter()
            .all(|w| w.ids[2] == 6 && w.ids[11] == 0 && w.prompt_tokens >= 2)
    );
}

#[test]
fn end_tokens_before_given_text_cut_nothing() {
    // Published loops may write an end token before a given cell: here nothing else is allowed.
    let config = DecodeConfig {
        compat: Compat::LladaOfficial,
        constraints: vec![
            ConstraintConfig::Bans {
                ids: (0..9).chain([10]).collect(),
            },
            ConstraintConfig::Fixed {
                cells: BTreeMap::from([(5, 3)]),
            },
        ],
        ..config()
    };
    let written = write(&Toy::new(3), &config, &[Prompt::new(vec![1, 2])]).remove(0);
    assert_eq!(written.text, "9 9 9 9 9 3");
    assert_eq!(
        (written.kept, written.ended, written.new_tokens),
        (6, true, 5)
    );
}

#[test]
fn bans_and_end_token_rules() {
    let toy = Toy::new(3);
    let hot = DecodeConfig {
        temperature: 8.0,
        samples: 40,
        ..config()
    };
    let has = |config: &DecodeConfig, id: u32| {
        write(&toy, config, &[Prompt::new(vec![1, 2])])
            .iter()
            .filter(|w| w.ids.contains(&id))
            .count()
    };
    assert!(has(&hot, 4) > 5 && has(&hot, 9) > 5);
    assert_eq!(has(&hot, MASK), 0);
    let ban = DecodeConfig {
        constraints: vec![ConstraintConfig::Bans { ids: vec![4, 5] }],
        ..hot.clone()
    };
    assert_eq!((has(&ban, 4), has(&ban, 5)), (0, 0));
    let mut no_end = hot.clone();
    no_end.eos.logits_eos_inf = true;
    assert_eq!(has(&no_end, 9), 0);
    assert!(has(&no_end, 10) > 5, "end of turn is another token");
    let all = DecodeConfig {
        constraints: vec![ConstraintConfig::Bans {
            ids: (0..12).collect(),
        }],
        ..hot
    };
    let error = message(&toy, all, &prompts());
    assert!(
        error.contains("cell 5") || error.contains("forbid all"),
        "{error}"
    );
    assert!(error.contains("bans"), "{error}");
}

#[test]
fn a_text_stops_at_its_end_token() {
    let toy = Toy::new(3);
    let hot = DecodeConfig {
        temperature: 3.0,
        samples: 60,
        steps: 12,
        ..config()
    };
    let full = write(&toy, &hot, &[Prompt::new(vec![1, 2])]);
    let stop = DecodeConfig {
        eos: EosConfig::default(),
        ..hot
    };
    let early = write(&toy, &stop, &[Prompt::new(vec![1, 2])]);
    let mut stopped = 0;
    for (full, early) in full.iter().zip(&early) {
        // The same draws: the stopped text is the cut one, in fewer steps.
        assert_eq!(
            (&full.text, full.new_tokens),
            (&early.text, early.new_tokens)
        );
        let end = full.ids.iter().position(|id| *id == 9 || *id == 10);
        assert_eq!(full.new_tokens, end.unwrap_or(12));
        // Whether or not the loop stopped at it, an end token ends the text.
        for written in [full, early] {
            assert_eq!(
                (written.kept, written.ended),
                (end.unwrap_or(12), end.is_some())
            );
        }
        if early.finish == Finish::EndToken {
            stopped += 1;
            assert!(early.forwards <= full.forwards && early.ids[early.new_tokens] >= 9);
        }
    }
    assert!(stopped > 10, "{stopped}");
    assert!(
        early
            .iter()
            .zip(&full)
            .any(|(e, f)| e.forwards < f.forwards)
    );
}

#[test]
fn uniform_noise_starts_from_tokens_and_settles_all() {
    for mask in [0, 5, MASK] {
        uniform_noise(mask);
    }
}

/// Writes over uniform noise in a vocabulary with its mask here.
fn uniform_noise(mask: u32) {
    let mut toy = Toy::new(6);
    toy.kind = ModelKind::Uniform;
    toy.ids.mask = Some(mask);
    let config = DecodeConfig {
        policy: policy("ancestral"),
        temperature: 1.0,
        ..config()
    };
    let mut provisional = 0;
    let mut observer = |event: &StepEvent| {
        match event {
            StepEvent::Start {
                ids, cells, start, ..
            } => {
                assert!(ids[*start..].iter().all(|&id| id <= MASK && id != mask));
                assert!(
                    cells[*start..]
                        .iter()
                        .all(|cell| *cell == Cell::Provisional)
                );
            }
            StepEvent::Step { committed, .. } => {
                provisional += committed.iter().filter(|w| w.provisional).count();
            }
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let decoder = Decoder::new(&toy, config.clone()).unwrap();
    let written = decoder.run(&prompts(), &mut observer).unwrap();
    assert!(
        written.iter().all(|w| w.open == 0 && w.forwards == 7),
        "6 steps and the denoiser"
    );
    assert!(written.iter().all(|w| !w.ids.contains(&mask)));
    assert!(provisional > 20, "{provisional}");
    assert!(
        message(
            &toy,
            DecodeConfig {
                policy: policy("random"),
                ..config
            },
            &prompts()
        )
        .contains("ancestral")
    );
}

#[test]
fn broken_predictions_and_models_are_errors() {
    let mut toy = Toy::new(1);
    let prompt = [Prompt::new(vec![1])];
    for (value, wanted) in [
        (f32::NAN, "is not a number"),
        (f32::INFINITY, "is infinite"),
        (f32::NEG_INFINITY, "leaves no token possible"),
    ] {
        toy.broken = Some((4, value));
        let said = message(&toy, config(), &prompt);
        assert!(
            said.contains("cell 4 at step 0") && said.contains(wanted),
            "{said}"
        );
    }
    toy.broken = None;
    toy.kind = ModelKind::Autoregressive;
    assert!(message(&toy, config(), &prompt).contains("ar::write"));
    toy.kind = ModelKind::Masked;
    toy.ids.mask = None;
    assert!(message(&toy, config(), &prompt).contains("without a mask token"));
    toy.kind = ModelKind::Uniform;
    let guided = DecodeConfig {
        policy: policy("ancestral"),
        guides: vec![GuideConfig::ClassifierFree { scale: 1.0 }],
        ..config()
    };
    // With a mask in its vocabulary or without one.
    for mask in [None, Some(MASK)] {
        toy.ids.mask = mask;
        assert!(matches!(
            Decoder::new(&toy, guided.clone()),
            Err(TextError::Unsupported { .. })
        ));
    }
}
