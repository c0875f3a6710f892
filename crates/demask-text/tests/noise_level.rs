//! The noise level a network is told, by hand.

mod common;

use std::ops::ControlFlow;

use common::Toy;
use demask_models::ModelKind;
use demask_text::{
    DecodeConfig, Decoder, EosConfig, LengthConfig, PolicyConfig, Prompt, StepEvent,
};

/// Eight cells in blocks of four, one cell a step.
fn config(plan: LengthConfig) -> DecodeConfig {
    DecodeConfig {
        length: 8,
        steps: 8,
        plan,
        eos: EosConfig {
            early_stop: false,
            ..EosConfig::default()
        },
        ..DecodeConfig::default()
    }
}

/// The levels of all steps of the text after `prompt`.
fn levels(kind: ModelKind, config: DecodeConfig, prompt: Prompt) -> Vec<f64> {
    let mut toy = Toy::new(4);
    (toy.kind, toy.timed) = (kind, true);
    let mut levels = Vec::new();
    let mut observer = |event: &StepEvent| {
        if let StepEvent::Step { level, .. } = event {
            levels.push(*level);
        }
        ControlFlow::Continue(())
    };
    let decoder = Decoder::new(&toy, config).unwrap();
    decoder.run(&[prompt], &mut observer).unwrap();
    levels
}

fn eighths(levels: &[f64]) -> Vec<f64> {
    levels.iter().map(|level| level * 8.0).collect()
}

const SEMI: LengthConfig = LengthConfig::SemiAutoregressive { block: 4 };
const BLOCKS: LengthConfig = LengthConfig::Blocks {
    block: 4,
    slide: false,
};

fn prompt() -> Prompt {
    Prompt::new(vec![3, 1, 4, 1])
}

#[test]
fn later_blocks_that_are_seen_as_masks_are_noise_too() {
    for plan in [LengthConfig::Whole, SEMI] {
        let levels = levels(ModelKind::Masked, config(plan), prompt());
        assert_eq!(
            eighths(&levels),
            [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
            "{plan:?}"
        );
    }
}

#[test]
fn later_blocks_that_are_not_on_the_canvas_are_not() {
    // The first block alone, all of it noise; then half of eight cells.
    let levels = levels(ModelKind::Masked, config(BLOCKS), prompt());
    assert_eq!(eighths(&levels), [8.0, 6.0, 4.0, 2.0, 4.0, 3.0, 2.0, 1.0]);
}

#[test]
fn a_block_causal_network_is_told_the_share_of_the_block() {
    let kind = ModelKind::BlockMasked { block: 4 };
    let levels = levels(kind, config(BLOCKS), prompt());
    assert_eq!(eighths(&levels), [8.0, 6.0, 4.0, 2.0, 8.0, 6.0, 4.0, 2.0]);
}

#[test]
fn given_cells_are_no_part_of_the_answer() {
    // Three open cells in the first block and two in the second.
    let cells = vec![None, Some(1), None, None, Some(2), None, None, Some(3)];
    let template = Prompt::template(vec![3, 1], cells);
    let levels = levels(ModelKind::Masked, config(SEMI), template);
    assert_eq!(levels, [1.0, 4.0 / 5.0, 3.0 / 5.0, 2.0 / 5.0, 1.0 / 5.0]);
}

#[test]
fn what_a_policy_says_is_said_of_its_block() {
    // Two steps a block and the last one: times 1, 3/4, 1/2 of four cells, with four or no cells of
    // pure noise after them.
    let config = DecodeConfig {
        steps: 4,
        policy: PolicyConfig::parse("ancestral:eps=0.5").unwrap(),
        ..config(SEMI)
    };
    let levels = levels(ModelKind::Uniform, config, prompt());
    assert_eq!(eighths(&levels), [8.0, 7.0, 6.0, 4.0, 3.0, 2.0]);
}
