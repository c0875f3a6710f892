//! Runs that are stopped: what was begun is kept, and what was not costs nothing.

mod common;

use common::{Toy, config, message, policy, prompts, stop_after};
use demask_text::{DecodeConfig, Decoder, Finish, StepEvent};

#[test]
fn the_observer_stops_the_run_and_keeps_what_is_written() {
    let toy = Toy::new(1);
    let mut stop = stop_after(4);
    let mut finished = 0;
    let mut observer = |event: &StepEvent| {
        finished += usize::from(matches!(
            event,
            StepEvent::Finished {
                finish: Finish::Stopped,
                ..
            }
        ));
        stop(event)
    };
    let decoder = Decoder::new(&toy, config()).unwrap().with_batch(2);
    let written = decoder.run(&prompts(), &mut observer).unwrap();
    // The two that were begun.
    assert_eq!((written.len(), finished), (2, 2));
    assert!(written.iter().all(|w| w.finish == Finish::Stopped));
    assert!(written.iter().all(|w| (w.open, w.forwards) == (8, 2)));
    assert_eq!((written[0].new_tokens, written[0].kept), (4, 12));
    assert_eq!(written[0].text.split(' ').count(), 4);
}

#[test]
fn more_texts_than_memory_holds_are_begun_one_by_one() {
    let toy = Toy::new(1);
    let many = DecodeConfig {
        samples: 1_000_000_000_000,
        ..config()
    };
    let decoder = Decoder::new(&toy, many).unwrap().with_batch(3);
    let begun = decoder.run(&prompts(), &mut stop_after(1)).unwrap();
    assert_eq!(begun.len(), 3);
    let uncountable = DecodeConfig {
        samples: usize::MAX,
        ..config()
    };
    let said = message(&toy, uncountable, &prompts());
    assert!(
        said.contains("`samples` = 18446744073709551615: with 4 prompts"),
        "{said}"
    );
}

#[test]
fn steps_that_write_nothing_ask_whether_to_go_on() {
    let toy = Toy::new(1);
    let config = DecodeConfig {
        length: 8,
        steps: 4_000_000_000,
        policy: policy("ancestral"),
        temperature: 1.0,
        ..config()
    };
    let mut stop = stop_after(3);
    let mut steps = Vec::new();
    let mut observer = |event: &StepEvent| {
        if let StepEvent::Step {
            step,
            forwards,
            committed,
            ..
        } = event
        {
            assert_eq!((*forwards, committed.len()), (0, 0));
            steps.push(*step);
        }
        stop(event)
    };
    let decoder = Decoder::new(&toy, config).unwrap();
    let written = decoder.run(&prompts()[..1], &mut observer).unwrap();
    assert_eq!(steps, [4095, 8191, 12287]);
    assert_eq!((written[0].steps, written[0].open), (12288, 8));
}
