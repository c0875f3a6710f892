//! What a person should know who asked for something else: settings that play no part, steps that
//! do not come out even. Sentences of [`Written::notes`](crate::Written).

use demask_diffusion::sampling::Crossing;

use crate::canvas::{Cell, Row};
use crate::compat::Compat;
use crate::config::DecodeConfig;
use crate::draw::DrawKind;
use crate::length::{LengthConfig, PaceConfig, share};
use crate::repetition::Then;

/// The notes of a text that begins, of a model with a context of `context` cells and `vocab` tokens.
/// `open` holds the open cells of each block, as its steps were shared out by them.
pub(crate) fn at_start(
    config: &DecodeConfig,
    row: &Row,
    open: &[usize],
    context: usize,
    vocab: usize,
) -> Vec<String> {
    let mut notes = Vec::new();
    if row.length() > context {
        notes.push(format!(
            "{} cells are more than the model's context of {context}: each block sees at most {context} up \
             to its own end",
            row.length()
        ));
    }
    let policy = config.policy.name();
    if config.policy.is_paced() {
        // Published loops share the steps out in ways of their own.
        let counted = config.compat == Compat::None
            && config.policy.reads_pace()
            && config.effective_pace() == PaceConfig::Fixed;
        notes.extend(sharing(config.steps, open, counted));
        let uneven = unequal_blocks(config.steps, open, counted);
        notes.extend(match (short_block(config, row, open), uneven) {
            (Some(short), Some(uneven)) => Some(format!("{short}; {uneven}")),
            (short, uneven) => short.or(uneven),
        });
    }
    if config.policy.reads_pace() {
        notes.extend(idle_steps(config, row));
    } else if config.pace != PaceConfig::Fixed {
        notes.push(format!(
            "`pace` plays no part under policy `{policy}`, which has a pace of its own"
        ));
    }
    if config.draw != DrawKind::default() && config.temperature == 0.0 {
        notes.push(
            "`draw` plays no part at temperature 0, which takes the most likely token".into(),
        );
    }
    if config.temperature == 0.0 && config.policy.usual_temperature() > 0.0 {
        // A configuration file that names a policy and no temperature has that of the model.
        notes.push(format!(
            "`{policy}` at temperature 0 takes the most likely tokens; as published it draws at {}",
            config.policy.usual_temperature()
        ));
    }
    notes.extend(config.repetition.doubt(vocab, row.length()));
    if config.repetition.then == Then::Again && config.temperature == 0.0 {
        notes.push(
            "at temperature 0 a text that repeats itself may come out the same in every attempt"
                .into(),
        );
    }
    if config.crossing != Crossing::default() && config.top_p.is_none() {
        notes.push("`crossing` plays no part without `top-p`".into());
    }
    notes
}

/// The note of a text that took more steps than it was given, under a policy that does not count
/// them (Fast-dLLM's rules and their kin run until all is written).
///
/// A text that was begun anew says how often; its steps are those of all attempts.
pub(crate) fn at_end(config: &DecodeConfig, taken: usize, tries: usize) -> Option<String> {
    if tries > 0 {
        let times = if tries == 1 { "once" } else { "more than once" };
        return Some(format!(
            "begun anew {times} because it repeated itself: {} attempts are counted in its steps and \
             forward passes",
            tries + 1
        ));
    }
    (!config.policy.is_paced() && taken > config.steps).then(|| {
        format!(
            "policy `{}` takes as many steps as it needs: {taken}, where `steps` says {}",
            config.policy.name(),
            config.steps
        )
    })
}

/// Steps that do not come out even among blocks of one size, or among the cells of such a block when
/// the pace counts them (`counted`).
fn sharing(steps: usize, open: &[usize], counted: bool) -> Option<String> {
    let cells = written(open);
    let blocks = cells.len();
    if steps < blocks {
        return Some(format!(
            "{steps} steps for {blocks} blocks: each block took one step, {blocks} in all"
        ));
    }
    let equal = cells.iter().all(|c| *c == cells[0]);
    if blocks == 0 || !equal {
        return None;
    }
    if !steps.is_multiple_of(blocks) {
        let more = steps % blocks;
        return Some(format!(
            "{steps} steps do not divide by {blocks} blocks: the first {more} took one step more"
        ));
    }
    let (cells, steps) = (cells[0], steps / blocks);
    (counted && is_uneven(cells, steps)).then(|| {
        let each = if blocks > 1 { "each block has " } else { "" };
        let (less, more) = (cells / steps, cells % steps);
        let counts = if steps <= LISTED {
            list((0..steps).map(|step| less + usize::from(step < more)))
        } else {
            format!("{} in the first {more}, {less} in the others", less + 1)
        };
        format!("{each}{cells} cells in {steps} steps: {counts}")
    })
}

/// The steps of blocks that differ in their open cells, when cells and steps do not come out even.
fn unequal_blocks(steps: usize, open: &[usize], counted: bool) -> Option<String> {
    let cells = written(open);
    let total: usize = cells.iter().sum();
    if steps < cells.len() || cells.iter().all(|c| *c == cells[0]) {
        return None;
    }
    let shares = share(steps, &cells);
    let uneven = |(&cells, &share): (&usize, &usize)| {
        !(steps * cells).is_multiple_of(total) || (counted && is_uneven(cells, share))
    };
    // More steps than cells are another matter.
    (steps < total && cells.iter().zip(&shares).any(uneven)).then(|| {
        let (cells, shares) = (list(cells.iter().copied()), list(shares.iter().copied()));
        format!("blocks of {cells} cells took {shares} steps")
    })
}

/// The open cells of the blocks that have any.
fn written(open: &[usize]) -> Vec<usize> {
    open.iter().copied().filter(|&cells| cells > 0).collect()
}

/// Whether some steps write more cells than others.
fn is_uneven(cells: usize, steps: usize) -> bool {
    steps < cells && !cells.is_multiple_of(steps)
}

/// Numbers that a note lists; there are more behind an ellipsis.
const LISTED: usize = 8;

fn list(numbers: impl ExactSizeIterator<Item = usize>) -> String {
    let rest = if numbers.len() > LISTED { ", …" } else { "" };
    let named: Vec<String> = numbers.take(LISTED).map(|n| n.to_string()).collect();
    named.join(", ") + rest
}

/// A last block, of those with open cells, that the answer does not fill. A template has the length
/// it has, and a canvas that grows by blocks ends where the text does.
fn short_block(config: &DecodeConfig, row: &Row, open: &[usize]) -> Option<String> {
    let LengthConfig::SemiAutoregressive { block } = config.plan else {
        return None;
    };
    let last = open.iter().rposition(|&cells| cells > 0)?;
    let one = open.iter().filter(|&&cells| cells > 0).count() < 2;
    let template = row.cells()[row.start()..].contains(&Cell::Fixed);
    let cells = &row.blocks()[row.start()..];
    let cells = cells.iter().filter(|&&b| b as usize == last).count();
    let plural = if cells == 1 { "" } else { "s" };
    (!one && !template && cells < block)
        .then(|| format!("the last block has {cells} cell{plural} of {block}"))
}

/// More steps than cells, under a pace that skips a step with nothing to write. A step a cell of the
/// configured length is what nobody asked for: the default.
fn idle_steps(config: &DecodeConfig, row: &Row) -> Option<String> {
    let open = row
        .cells()
        .iter()
        .filter(|cell| cell.is_unsettled())
        .count();
    let skipped = config.compat == Compat::None && config.effective_pace() == PaceConfig::Fixed;
    let asked = config.steps != config.length;
    (skipped && asked && config.steps > open).then(|| {
        format!(
            "{} steps for {open} open cells: a step writes at least one, so {open} were enough",
            config.steps
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_do_not_divide_are_listed() {
        let said = |steps, open: &[usize]| sharing(steps, open, true).unwrap_or_default();
        assert_eq!(said(3, &[10]), "10 cells in 3 steps: 4, 3, 3");
        assert_eq!(said(7, &[12]), "12 cells in 7 steps: 2, 2, 2, 2, 2, 1, 1");
        assert_eq!(
            said(64, &[100]),
            "100 cells in 64 steps: 2 in the first 36, 1 in the others"
        );
        assert_eq!(
            said(8, &[6, 0, 6]),
            "each block has 6 cells in 4 steps: 2, 2, 1, 1"
        );
        assert!(said(5, &[4, 4, 4]).contains("the first 2 took one step more"));
        for (steps, open) in [
            (5, &[10][..]),
            (10, &[10]),
            (20, &[10]),
            (4, &[4, 4]),
            (1, &[]),
        ] {
            assert_eq!(said(steps, open), "", "{steps} {open:?}");
        }
        // A pace that draws its counts has none to tell.
        assert_eq!(sharing(3, &[10], false), None);
    }

    #[test]
    fn blocks_that_differ_tell_their_steps() {
        let said = |steps, open: &[usize]| unequal_blocks(steps, open, true).unwrap_or_default();
        assert_eq!(
            said(4, &[4, 4, 2]),
            "blocks of 4, 4, 2 cells took 2, 1, 1 steps"
        );
        let many: Vec<usize> = (1..=10).collect();
        assert_eq!(
            said(11, &many),
            "blocks of 1, 2, 3, 4, 5, 6, 7, 8, … cells took 1, 1, 1, 1, 1, 1, 1, 1, … steps"
        );
        for (steps, open) in [
            (5, &[4, 4, 2][..]),
            (10, &[4, 4, 2]),
            (20, &[4, 4, 2]),
            (2, &[4, 4, 2]),
        ] {
            assert_eq!(said(steps, open), "", "{steps} {open:?}");
        }
    }
}
