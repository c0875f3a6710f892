//! What becomes of texts that repeat themselves.

mod common;

use std::ops::ControlFlow;

use common::{Toy, config, message, policy};
use demask_models::ModelKind;
use demask_text::{
    DecodeConfig, Decoder, Finish, LengthConfig, Prompt, RepetitionConfig, Row, StepEvent, Then,
    Written,
};

/// A model whose texts repeat themselves at low temperatures.
fn toy() -> Toy {
    let mut toy = Toy {
        kind: ModelKind::Masked,
        max_length: 200,
        ..Toy::new(5)
    };
    // No end token shall end a text first.
    (toy.ids.eos, toy.ids.eot) = (None, None);
    toy
}

fn blocks(rule: RepetitionConfig) -> DecodeConfig {
    DecodeConfig {
        length: 48,
        steps: 48,
        plan: LengthConfig::Blocks {
            block: 8,
            slide: false,
        },
        policy: policy("first_hitting"),
        temperature: 1.0,
        repetition: rule,
        samples: 6,
        ..config()
    }
}

fn rule(entropy: f64, then: Then) -> RepetitionConfig {
    RepetitionConfig {
        window: 16,
        entropy,
        then,
        ..RepetitionConfig::default()
    }
}

/// The texts, and the rows that their events lead to.
fn run(toy: &Toy, config: &DecodeConfig) -> (Vec<Written>, Vec<Option<Row>>, usize) {
    let mut rows = vec![None; config.samples];
    let mut starts = 0;
    let mut observer = |event: &StepEvent| {
        starts += usize::from(matches!(event, StepEvent::Start { .. }));
        event.apply(&mut rows[event.row()], 11);
        ControlFlow::Continue(())
    };
    let decoder = Decoder::new(toy, config.clone()).unwrap();
    let written = decoder.run(&[Prompt::new(vec![2])], &mut observer).unwrap();
    (written, rows, starts)
}

fn entropy(ids: &[u32]) -> f64 {
    let share = |id: u32| ids.iter().filter(|i| **i == id).count() as f64 / ids.len() as f64;
    (0..12)
        .map(share)
        .filter(|p| *p > 0.0)
        .map(|p| -p * p.ln())
        .sum()
}

/// The entropies that are looked at: at the ends of blocks with more than 16 tokens before them.
fn entropies(row: &Row) -> Vec<(usize, f64)> {
    let ends = (17..=row.length()).filter(|end| (end - 1) % 8 == 0);
    ends.map(|end| (end, entropy(&row.ids()[end - 16..end])))
        .collect()
}

/// The texts without a rule, and a bound that half of them fall below somewhere.
fn half(toy: &Toy) -> (Vec<Row>, f64) {
    let free = blocks(rule(1.0, Then::Keep));
    let (_, rows, _) = run(toy, &free);
    let rows: Vec<Row> = rows.into_iter().map(Option::unwrap).collect();
    let lowest = |row: &Row| {
        entropies(row)
            .into_iter()
            .map(|(_, e)| e)
            .fold(f64::MAX, f64::min)
    };
    let mut lowest: Vec<f64> = rows.iter().map(lowest).collect();
    lowest.sort_by(f64::total_cmp);
    (rows, (lowest[2] + lowest[3]) / 2.0)
}

#[test]
fn a_text_that_repeats_itself_is_drawn_again() {
    let toy = toy();
    let (plain, bound) = half(&toy);
    let again = RepetitionConfig {
        tries: 50,
        ..rule(bound, Then::Again)
    };
    let (written, rows, starts) = run(&toy, &blocks(again));
    let repeats = |row: &Row| entropies(row).iter().any(|(_, e)| *e < bound);
    let mut begun = 0;
    for ((text, row), plain) in written.iter().zip(&rows).zip(&plain) {
        let row = row.as_ref().unwrap();
        assert_eq!(text.ids, row.answer(), "the events replay the text");
        assert!(!repeats(row));
        assert_eq!(text.finish, Finish::Length);
        if repeats(plain) {
            begun += 1;
            assert!(
                text.notes.iter().any(|n| n.starts_with("begun anew")),
                "{:?}",
                text.notes
            );
            // What was thrown away is counted.
            assert!(text.forwards > 48 && text.steps == text.forwards);
        } else {
            // What was good stays as it was, to the bit.
            assert_eq!(row, plain);
            assert_eq!(text.forwards, 48);
        }
    }
    assert_eq!(begun, 3);
    assert!(starts >= 6 + begun);
    // Nothing of this depends on the neighbours.
    let alone = Decoder::new(&toy, blocks(again)).unwrap().with_batch(1);
    let alone = alone.run(&[Prompt::new(vec![2])], &mut ()).unwrap();
    assert_eq!(alone, written);
}

#[test]
fn a_text_can_be_cut_instead() {
    let toy = toy();
    let (plain, bound) = half(&toy);
    let (written, _, starts) = run(&toy, &blocks(rule(bound, Then::Cut)));
    assert_eq!(starts, 6);
    for (text, plain) in written.iter().zip(&plain) {
        let first = entropies(plain).into_iter().find(|(_, e)| *e < bound);
        // What was looked at is taken off: 16 tokens, and the prompt's one is none of the answer.
        let kept = first.map_or(48, |(end, _)| end - 16 - 1);
        assert_eq!(
            (text.kept, text.new_tokens, text.ended),
            (kept, kept, false)
        );
        assert_eq!(text.text.split_whitespace().count(), kept);
        assert_eq!(text.ids[..kept], plain.answer()[..kept]);
        let finish = if first.is_some() {
            Finish::Repetition
        } else {
            Finish::Length
        };
        assert_eq!(text.finish, finish);
    }
}

#[test]
fn after_so_many_attempts_the_last_one_is_given() {
    // Greedy: every attempt is the same.
    let greedy = DecodeConfig {
        temperature: 0.0,
        samples: 1,
        policy: policy("low_confidence"),
        ..blocks(RepetitionConfig {
            tries: 3,
            ..rule(2.7, Then::Again)
        })
    };
    let (written, _, starts) = run(&toy(), &greedy);
    assert_eq!((written[0].finish, starts), (Finish::Repetition, 4));
    let note = &written[0].notes;
    assert!(
        note.iter()
            .any(|n| n.contains("every one of 4 attempts (the entropy of its last 16 tokens is")),
        "{note:?}"
    );
    // The second block is the first with more than 16 tokens before its end.
    assert_eq!(written[0].forwards, 4 * 16);
    // A policy that counts its own steps says nothing of them here.
    let uncounted = DecodeConfig {
        steps: 20,
        policy: policy("threshold:tau=0.9"),
        ..greedy
    };
    let (written, _, _) = run(&toy(), &uncounted);
    assert_eq!(written[0].finish, Finish::Repetition);
    assert!(!written[0].notes.iter().any(|n| n.contains("as many steps")));
}

#[test]
fn bounds_that_can_not_be_used_are_refused() {
    let toy = toy();
    let said = message(&toy, blocks(rule(9.0, Then::Cut)), &[]);
    assert!(said.contains("`repetition.entropy` = 9"), "{said}");
    let template = Prompt::template(vec![1], vec![None, Some(3), None]);
    for then in [Then::Again, Then::Cut] {
        let said = message(
            &toy,
            blocks(rule(1.0, then)),
            std::slice::from_ref(&template),
        );
        assert!(said.contains("leave `repetition.then` at `keep`"), "{said}");
    }
}
