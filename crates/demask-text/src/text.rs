//! One text on its way, as every loop knows it: what may stand in it, what it took, and why it
//! ended. In which order its cells are written is the business of the loop.

use demask_kernels::rowwise::{Scored, TokenSet};

use crate::TextError;
use crate::canvas::{Cell, Row};
use crate::config::DecodeConfig;
use crate::constraint::Constraint;
use crate::denoiser::Denoiser;
use crate::eos::cut;
use crate::event::{Finish, StepEvent};
use crate::forbid::Forbid;
use crate::prompt::{Prompt, Written};

/// A text besides its row.
pub(crate) struct Text {
    /// Which text of the run.
    pub index: usize,
    pub prompt: usize,
    pub sample: usize,
    constraints: Vec<Box<dyn Constraint>>,
    /// Cells of the row whose token must begin with a space.
    spaced: Vec<usize>,
    /// Steps taken, skipped ones included.
    pub steps: usize,
    pub forwards: usize,
    pub rows: usize,
    pub finish: Option<Finish>,
    /// The cell that a text which repeats itself is cut before.
    pub cut: Option<usize>,
    pub notes: Vec<String>,
}

impl Text {
    /// Text `index` of a run, and the cells of its answer: what the prompt and the constraints give.
    /// The prompt has been [checked](Prompt::check).
    pub fn start(
        config: &DecodeConfig,
        vocab: usize,
        prompts: &[Prompt],
        index: usize,
    ) -> Result<(Self, Vec<Option<u32>>), TextError> {
        let (number, sample) = (index / config.samples, index % config.samples);
        let prompt = &prompts[number];
        let mut answer = prompt.cells.clone();
        if answer.is_empty() {
            answer = vec![None; config.length];
        }
        let mut constraints = Vec::new();
        for config in &config.constraints {
            let mut constraint = config.build(vocab)?;
            constraint.fix(&mut answer)?;
            constraints.push(constraint);
        }
        let start = prompt.ids.len();
        let text = Self {
            index,
            prompt: number,
            sample,
            constraints,
            spaced: prompt.spaced.iter().map(|cell| start + cell).collect(),
            steps: 0,
            forwards: 0,
            rows: 0,
            finish: None,
            cut: None,
            notes: Vec::new(),
        };
        Ok((text, answer))
    }

    /// The event that begins this text.
    pub fn start_event(&self, row: &Row) -> StepEvent {
        StepEvent::Start {
            row: self.index,
            prompt: self.prompt,
            sample: self.sample,
            start: row.start(),
            ids: row.ids().to_vec(),
            cells: row.cells().to_vec(),
            blocks: row.blocks().to_vec(),
        }
    }

    /// The sets of tokens that must not be written into a cell in this step.
    pub fn forbidden(&mut self, forbid: &Forbid, row: &Row, cell: usize) -> Vec<TokenSet> {
        let mut sets = forbid.sets(row, cell, self.spaced.contains(&cell));
        for constraint in &mut self.constraints {
            constraint.forbid(row, cell, &mut sets);
        }
        sets
    }

    /// Forbids what must not be written into a cell in this step, and checks that something is left. That
    /// it consists of numbers shows when it is read ([`Reading`](crate::draw::Reading)).
    pub fn constrain(
        &mut self,
        forbid: &Forbid,
        row: &Row,
        cell: usize,
        logits: &mut [f32],
    ) -> Result<(), TextError> {
        let impossible = |logits: &[f32]| logits.iter().all(|z| *z == f32::NEG_INFINITY);
        if impossible(logits) {
            return Err(TextError::impossible(cell, self.steps));
        }
        for set in self.forbidden(forbid, row, cell) {
            set.forbid(logits, 0);
        }
        match impossible(logits) {
            true => Err(self.nothing_left(cell)),
            false => Ok(()),
        }
    }

    /// The same check for a cell whose logits were scored without the tokens that are forbidden.
    pub fn check(&self, cell: usize, scored: &Scored) -> Result<(), TextError> {
        let plain = &scored.score.plain;
        // Of a row that is not of numbers the reading says so.
        let impossible = plain.top() == f32::NEG_INFINITY && !plain.log_sum_exp().is_nan();
        match (impossible, scored.forbade) {
            (false, _) => Ok(()),
            (true, false) => Err(TextError::impossible(cell, self.steps)),
            (true, true) => Err(self.nothing_left(cell)),
        }
    }

    /// What was possible in a cell is forbidden.
    fn nothing_left(&self, cell: usize) -> TextError {
        let mut names = vec!["special tokens"];
        names.extend(self.constraints.iter().map(|c| c.name()));
        TextError::Constraint {
            cell,
            step: self.steps,
            constraints: names.join(", "),
        }
    }

    /// Ends the text.
    pub fn end(&mut self, finish: Finish, emit: &mut dyn FnMut(&StepEvent)) {
        self.finish = Some(finish);
        emit(&StepEvent::Finished {
            row: self.index,
            finish,
        });
    }

    /// The text as it stands. `ends` are the tokens that end one.
    pub fn written(
        self,
        denoiser: &dyn Denoiser,
        ends: &[u32],
        row: &Row,
    ) -> Result<Written, TextError> {
        let cut = cut(row, ends);
        let end = cut.unwrap_or(row.length());
        let kept = row.start()
            ..self
                .cut
                .map_or(end, |before| end.min(before.max(row.start())));
        let cell = |i: &usize| row.cells()[*i];
        let shown: Vec<u32> = kept
            .clone()
            .filter(|i| cell(i) != Cell::Open)
            .map(|i| row.ids()[i])
            .collect();
        let given = (row.start()..row.length()).filter(|i| cell(i) == Cell::Fixed);
        let new = |i: &usize| !matches!(cell(i), Cell::Open | Cell::Fixed);
        let unsettled = row.cells().iter().filter(|cell| cell.is_unsettled());
        Ok(Written {
            prompt: self.prompt,
            sample: self.sample,
            text: denoiser.text(&shown)?,
            ids: row.answer().to_vec(),
            kept: kept.len(),
            ended: cut == Some(kept.end),
            prompt_tokens: row.start() + given.count(),
            new_tokens: kept.filter(new).count(),
            open: unsettled.count(),
            steps: self.steps,
            forwards: self.forwards,
            rows: self.rows,
            finish: self.finish.unwrap_or(Finish::Stopped),
            notes: self.notes,
        })
    }
}
