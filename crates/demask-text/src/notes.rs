//! What a person should know who asked for something else: settings that play no part, steps that
//! do not come out even. Sentences of [`Written::notes`](crate::Written).

use demask_diffusion::sampling::Crossing;

use crate::canvas::{Cell, Row};
use crate::compat::Compat;
use crate::config::DecodeConfig;
use crate::draw::DrawKind;
use crate::length::PaceConfig;

/// The notes of a text that begins. `open` holds the open cells of each block, as its steps were
/// shared out by them.
pub(crate) fn at_start(config: &DecodeConfig, row: &Row, open: &[usize]) -> Vec<String> {
    let mut notes = Vec::new();
    let policy = config.policy.name();
    if config.policy.is_paced() {
        notes.extend(sharing(config.steps, open));
        notes.extend(short_block(config, row, open));
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
    if config.crossing != Crossing::default() && config.top_p.is_none() {
        notes.push("`crossing` plays no part without `top-p`".into());
    }
    notes
}

/// The note of a text that took more steps than it was given, under a policy that does not count
/// them (Fast-dLLM's rules and their kin run until all is written).
pub(crate) fn at_end(config: &DecodeConfig, taken: usize) -> Option<String> {
    (!config.policy.is_paced() && taken > config.steps).then(|| {
        format!(
            "policy `{}` takes as many steps as it needs: {taken}, where `steps` says {}",
            config.policy.name(),
            config.steps
        )
    })
}

/// Steps that do not come out even. Blocks of different sizes differ in steps anyway.
fn sharing(steps: usize, open: &[usize]) -> Option<String> {
    let cells: Vec<usize> = open.iter().copied().filter(|&cells| cells > 0).collect();
    let blocks = cells.len();
    if steps < blocks {
        return Some(format!(
            "{steps} steps for {blocks} blocks: each block took one step, {blocks} in all"
        ));
    }
    let equal = cells.iter().all(|c| *c == cells[0]);
    (blocks > 0 && equal && !steps.is_multiple_of(blocks)).then(|| {
        let more = steps % blocks;
        format!(
            "{steps} steps do not divide by {blocks} blocks: the first {more} took one step more"
        )
    })
}

/// A last block, of those with open cells, that the answer does not fill. A template has the length
/// it has.
fn short_block(config: &DecodeConfig, row: &Row, open: &[usize]) -> Option<String> {
    let block = config.plan.block()?;
    let last = open.iter().rposition(|&cells| cells > 0)?;
    let one = open.iter().filter(|&&cells| cells > 0).count() < 2;
    let template = row.cells()[row.start()..].contains(&Cell::Fixed);
    let cells = &row.blocks()[row.start()..];
    let cells = cells.iter().filter(|&&b| b as usize == last).count();
    (!one && !template && cells < block)
        .then(|| format!("the last block has {cells} cells of {block}"))
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
