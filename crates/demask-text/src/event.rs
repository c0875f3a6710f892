//! What happens while a text is written.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::canvas::{Cell, Row};

/// One thing that happened. Applied in order to the row of their `Start`, the events of a row
/// replay its whole trajectory (see [`StepEvent::apply`]).
///
/// `row` counts the texts of a run: `prompt * samples + sample`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum StepEvent {
    /// A text was begun, or begun anew because it repeated itself.
    Start {
        /// Which text of the run.
        row: usize,
        /// Which prompt.
        prompt: usize,
        /// Which sample of the prompt.
        sample: usize,
        /// First cell of the answer.
        start: usize,
        /// The tokens of the row.
        ids: Vec<u32>,
        /// The states of its cells.
        cells: Vec<Cell>,
        /// The blocks of its cells.
        blocks: Vec<u32>,
    },
    /// A step was taken. Of steps in a row that are skipped because they write nothing only every
    /// 4096th is told, so that the observer can stop the run.
    Step {
        /// Which text of the run.
        row: usize,
        /// The step, counted from 0 over the whole text; skipped empty steps are counted.
        step: usize,
        /// The block being written.
        block: u32,
        /// Forward passes of this text so far.
        forwards: usize,
        /// Canvas positions forwarded for this text so far.
        rows: usize,
        /// The noise level the network was given; 0 where it was not asked.
        level: f64,
        /// The tokens that were written, cells rising.
        committed: Vec<Write>,
        /// The cells that were opened again, rising.
        reopened: Vec<usize>,
    },
    /// A block was finished.
    Block {
        /// Which text of the run.
        row: usize,
        /// The block.
        block: u32,
        /// One past its last cell.
        end: usize,
    },
    /// A text was finished.
    Finished {
        /// Which text of the run.
        row: usize,
        /// Why it ended.
        finish: Finish,
    },
}

/// A token that is written into a cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// The cell within its row.
    pub cell: usize,
    /// The token.
    pub token: u32,
    /// The probability that the prediction gives to this token, without temperature or filters.
    pub confidence: f64,
    /// The cell stays provisional: the token may be changed by a later step.
    pub provisional: bool,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// Every cell was written.
    Length,
    /// An end token was written, and everything before it.
    EndToken,
    /// It repeated itself ([`RepetitionConfig`](crate::RepetitionConfig)).
    Repetition,
    /// The observer stopped the run.
    Stopped,
}

impl StepEvent {
    /// Which text of the run the event belongs to.
    pub fn row(&self) -> usize {
        match self {
            Self::Start { row, .. }
            | Self::Step { row, .. }
            | Self::Block { row, .. }
            | Self::Finished { row, .. } => *row,
        }
    }

    /// Applies the event to the row it belongs to: `Start` makes it, `Step` changes it. `mask` is
    /// what stands in a cell that is opened again. A step without a start is ignored.
    pub fn apply(&self, state: &mut Option<Row>, mask: u32) {
        match self {
            Self::Start {
                ids,
                cells,
                blocks,
                start,
                ..
            } => {
                *state = Some(Row::new(ids.clone(), cells.clone(), blocks.clone(), *start));
            }
            Self::Step {
                committed,
                reopened,
                ..
            } => {
                if let Some(row) = state {
                    reopened.iter().for_each(|&cell| row.reopen(cell, mask));
                    committed
                        .iter()
                        .for_each(|w| row.write(w.cell, w.token, w.provisional));
                }
            }
            Self::Block { .. } | Self::Finished { .. } => {}
        }
    }
}

/// Watches a run and may stop it.
pub trait Observer {
    /// Called with each event, in order. `Break` stops the run; what is written so far is returned.
    fn event(&mut self, event: &StepEvent) -> ControlFlow<()>;
}

/// Watches nothing.
impl Observer for () {
    fn event(&mut self, _: &StepEvent) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A closure that watches.
impl<F: FnMut(&StepEvent) -> ControlFlow<()>> Observer for F {
    fn event(&mut self, event: &StepEvent) -> ControlFlow<()> {
        self(event)
    }
}
