//! One text on its way from the first step to the last.

use demask_diffusion::process::Uniform;

use crate::TextError;
use crate::canvas::{Cell, Row};
use crate::compat::Compat;
use crate::config::DecodeConfig;
use crate::constraint::Constraint;
use crate::denoiser::Sight;
use crate::eos::{ended_at, is_first};
use crate::event::{Finish, StepEvent};
use crate::length::{Pace, share};
use crate::notes;
use crate::policy::{Ask, Candidates, Choice, Policy, Step};
use crate::prompt::{Prompt, Written, kept};
use crate::shared::Shared;
use crate::uniforms::{At, Use};

/// The state of one text besides its row.
pub(crate) struct Session {
    /// Which text of the run.
    pub index: usize,
    prompt: usize,
    /// Whether each cell held a token at the start.
    given: Vec<bool>,
    policy: Box<dyn Policy>,
    constraints: Vec<Box<dyn Constraint>>,
    /// Cells whose token must begin with a space.
    spaced: Vec<usize>,
    /// Steps of each block.
    steps: Vec<usize>,
    block: u32,
    clock: Clock,
    forwards: usize,
    rows: usize,
    pub finish: Option<Finish>,
    notes: Vec<String>,
}

/// Where a text is.
struct Clock {
    sample: usize,
    /// The pace of the current block.
    pace: Pace,
    /// Step within the block.
    at: usize,
    /// Step within the text.
    total: usize,
}

/// What a text needs from the next forward pass.
pub(crate) struct Work {
    /// The cells that may be written in this step.
    pub window: Vec<usize>,
    pub quota: usize,
    pub ask: Ask,
    pub level: f64,
    /// Cells of the row that are on the canvas.
    pub visible: usize,
    /// Other versions of the row, guide by guide.
    pub variants: Vec<Vec<Vec<u32>>>,
}

impl Session {
    /// Lays out the row of a prompt.
    pub fn start(
        shared: &Shared<'_>,
        index: usize,
        (number, prompt): (usize, &Prompt),
        sample: usize,
    ) -> Result<(Self, Row), TextError> {
        let config = shared.config;
        let (kind, vocab) = (shared.denoiser.kind(), shared.denoiser.vocab_size());
        let mut constraints = config
            .constraints
            .iter()
            .map(|c| c.build(vocab))
            .collect::<Result<Vec<_>, _>>()?;
        let mut answer = prompt.cells.clone();
        if answer.is_empty() {
            answer = vec![None; config.length];
        }
        for constraint in &mut constraints {
            constraint.fix(&mut answer)?;
        }

        let start = prompt.ids.len();
        let masked = kind.needs_mask();
        let is_open = |id: &Option<u32>| id.is_none_or(|id| masked && id == shared.mask);
        let tokens: Vec<Option<u32>> = prompt
            .ids
            .iter()
            .copied()
            .map(Some)
            .chain(answer.iter().copied())
            .collect();
        let given: Vec<bool> = tokens.iter().map(|id| !is_open(id)).collect();
        let mut blocks = vec![0; start];
        blocks.extend(shared.plan.layout(start, answer.len()));
        let open = if masked {
            Cell::Open
        } else {
            Cell::Provisional
        };
        let cells = given
            .iter()
            .map(|&given| if given { Cell::Fixed } else { open })
            .collect();
        let fill = |(cell, id): (usize, &Option<u32>)| match id {
            Some(id) => *id,
            None => {
                let at = At {
                    sample,
                    step: 0,
                    cell,
                    purpose: Use::Prior,
                };
                let drawn = |noise: &Uniform| noise.token_at(shared.source.at(at, 1)[0]);
                shared.target.noise.as_ref().map_or(shared.mask, drawn)
            }
        };
        let ids = tokens.iter().enumerate().map(fill).collect();
        let row = Row::new(ids, cells, blocks, start);

        let open_cells = open_cells(config, &row);
        let mut session = Self {
            index,
            prompt: number,
            given,
            policy: config.policy.build(&shared.target)?,
            constraints,
            spaced: prompt.spaced.iter().map(|cell| start + cell).collect(),
            steps: share(config.steps, &open_cells),
            block: 0,
            clock: Clock {
                sample,
                pace: Pace::new(config.effective_pace(), 0, 1),
                at: 0,
                total: 0,
            },
            forwards: 0,
            rows: 0,
            finish: None,
            notes: notes::at_start(config, &row, &open_cells),
        };
        session.enter(shared, &row);
        Ok((session, row))
    }

    /// The event that begins this text.
    pub fn start_event(&self, row: &Row) -> StepEvent {
        StepEvent::Start {
            row: self.index,
            prompt: self.prompt,
            sample: self.clock.sample,
            start: row.start(),
            ids: row.ids().to_vec(),
            cells: row.cells().to_vec(),
            blocks: row.blocks().to_vec(),
        }
    }

    /// Begins the current block.
    fn enter(&mut self, shared: &Shared<'_>, row: &Row) {
        let mut open = row.window(self.block);
        if shared.config.compat.ignores_prompt_masks() {
            open.retain(|&i| i >= row.start() && row.blocks()[i] == self.block);
        }
        let steps = self.steps[self.block as usize];
        self.clock.pace = Pace::new(shared.config.effective_pace(), open.len(), steps);
        self.clock.at = 0;
    }

    /// Goes on to the next step that needs a forward pass; `None` when the text is finished.
    pub fn prepare(
        &mut self,
        shared: &Shared<'_>,
        row: &Row,
        emit: &mut dyn FnMut(&StepEvent),
    ) -> Result<Option<Work>, TextError> {
        let compat = shared.config.compat;
        loop {
            let window = row.window(self.block);
            let within = self.clock.at < self.clock.pace.steps();
            // Published loops take all their steps, on a finished canvas too.
            let idle = compat.forwards_empty_steps() && within && shared.config.policy.is_paced();
            let leaves_rest = compat == Compat::LladaOfficial && !within;
            if (window.is_empty() && !idle) || leaves_rest {
                let end = row.end_of(self.block);
                emit(&StepEvent::Block {
                    row: self.index,
                    block: self.block,
                    end,
                });
                if self.block == row.last_block() {
                    self.end(Finish::Length, emit);
                    return Ok(None);
                }
                self.block += 1;
                self.enter(shared, row);
                continue;
            }
            let quota = self.clock.pace.quota(self.clock.at, window.len());
            let ask = if window.is_empty() {
                Ask::default()
            } else {
                self.policy
                    .ask(&self.clock.step(shared, row, &window, quota))
            };
            if ask.cells.is_empty() && !compat.forwards_empty_steps() {
                if self.clock.at > self.clock.pace.steps() {
                    return Err(TextError::Unsupported {
                        what: format!("policy `{}`", shared.config.policy),
                        with: format!("step {} of text {}", self.clock.total, self.index),
                        reason: "it asks for no cell although cells are open".into(),
                    });
                }
                self.clock.at += 1;
                self.clock.total += 1;
                continue;
            }
            let visible = shared.plan.visible(row, self.block);
            let level = self.level(shared.sight, row, window.len(), ask.level, visible);
            let variants = shared
                .guides
                .iter()
                .map(|guide| guide.variants(row, &row.ids()[..visible], &self.given))
                .collect();
            return Ok(Some(Work {
                window,
                quota,
                ask,
                level,
                visible,
                variants,
            }));
        }
    }

    /// The noise level the network is told.
    ///
    /// A network that sees every cell was trained with one level for all of them: the share of the
    /// visible answer that is noise, which is `share` of the current block and all that is open in
    /// the visible blocks after it. A block-causal network was trained with a level for each block.
    /// `share` is what the policy says, or the open share of the block.
    fn level(
        &self,
        sight: Sight,
        row: &Row,
        open: usize,
        share: Option<f64>,
        visible: usize,
    ) -> f64 {
        let size = row.block_size(self.block).max(open).max(1);
        let share = share.unwrap_or(open as f64 / size as f64);
        if sight != Sight::Full {
            return share;
        }
        let later = (0..visible).filter(|&i| row.blocks()[i] > self.block);
        let later = later.filter(|&i| row.cells()[i].is_unsettled()).count();
        if later == 0 && self.block == 0 {
            // All there is: the share itself, to the bit.
            return share;
        }
        let answer = row.cells()[..visible]
            .iter()
            .filter(|cell| **cell != Cell::Fixed)
            .count();
        (share * size as f64 + later as f64) / answer.max(1) as f64
    }

    /// Forbids what must not be written, and checks what is left.
    pub fn constrain(
        &mut self,
        shared: &Shared<'_>,
        row: &Row,
        cell: usize,
        logits: &mut [f32],
    ) -> Result<(), TextError> {
        let broken = |reason| TextError::Logits {
            cell,
            step: self.clock.total,
            reason,
        };
        if logits.iter().any(|z| z.is_nan()) {
            return Err(broken("is not a number"));
        }
        if logits.contains(&f32::INFINITY) {
            return Err(broken("is infinite"));
        }
        if logits.iter().all(|z| *z == f32::NEG_INFINITY) {
            return Err(broken("leaves no token possible"));
        }
        let forbid = |logits: &mut [f32], id: u32| {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        };
        shared.never.iter().for_each(|&id| forbid(logits, id));
        let compat = shared.config.compat;
        if compat == Compat::None && row.cells()[cell..].contains(&Cell::Fixed) {
            // The template goes on after this gap, so the text cannot end in it. Published loops
            // know of no templates.
            shared.ends.iter().for_each(|&id| forbid(logits, id));
        }
        if shared.never_first && is_first(row, cell, shared.denoiser.ids().bos) {
            shared.ends.iter().for_each(|&id| forbid(logits, id));
        }
        if self.spaced.contains(&cell) {
            shared.spaceless.iter().for_each(|&id| forbid(logits, id));
        }
        for constraint in &mut self.constraints {
            constraint.forbid(row, cell, logits);
        }
        if logits.iter().all(|z| *z == f32::NEG_INFINITY) {
            let mut names = vec!["special tokens"];
            names.extend(self.constraints.iter().map(|c| c.name()));
            let constraints = names.join(", ");
            return Err(TextError::Constraint {
                cell,
                step: self.clock.total,
                constraints,
            });
        }
        Ok(())
    }

    /// Takes the step: lets the policy choose, writes, and tells what happened.
    pub fn take(
        &mut self,
        shared: &Shared<'_>,
        row: &mut Row,
        work: &Work,
        logits: &[f32],
        forwarded: usize,
        emit: &mut dyn FnMut(&StepEvent),
    ) -> Result<(), TextError> {
        let Choice {
            mut write,
            mut reopen,
        } = {
            let step = self.clock.step(shared, row, &work.window, work.quota);
            if work.ask.cells.is_empty() {
                Choice::default()
            } else {
                let vocab = shared.denoiser.vocab_size();
                self.policy
                    .choose(&step, &Candidates::new(&work.ask.cells, logits, vocab))?
            }
        };
        write.sort_by_key(|w| w.cell);
        reopen.sort_unstable();
        reopen
            .iter()
            .for_each(|&cell| row.reopen(cell, shared.mask));
        write
            .iter()
            .for_each(|w| row.write(w.cell, w.token, w.provisional));
        self.forwards += 1;
        self.rows += forwarded;
        emit(&StepEvent::Step {
            row: self.index,
            step: self.clock.total,
            block: self.block,
            forwards: self.forwards,
            rows: self.rows,
            level: work.level,
            committed: write,
            reopened: reopen,
        });
        self.clock.at += 1;
        self.clock.total += 1;
        let may_stop = shared.config.eos.early_stop && !shared.config.compat.runs_to_the_end();
        if may_stop && ended_at(row, &shared.ends).is_some() {
            self.end(Finish::EndToken, emit);
        }
        Ok(())
    }

    /// Ends the text.
    pub fn end(&mut self, finish: Finish, emit: &mut dyn FnMut(&StepEvent)) {
        self.finish = Some(finish);
        emit(&StepEvent::Finished {
            row: self.index,
            finish,
        });
    }

    /// The text as it stands.
    pub fn written(mut self, shared: &Shared<'_>, row: &Row) -> Result<Written, TextError> {
        self.notes
            .extend(notes::at_end(shared.config, self.clock.total));
        let kept = kept(row, &shared.ends);
        let cell = |i: &usize| row.cells()[*i];
        let shown: Vec<u32> = kept
            .clone()
            .filter(|i| cell(i) != Cell::Open)
            .map(|i| row.ids()[i])
            .collect();
        let given = (row.start()..row.length())
            .filter(|i| cell(i) == Cell::Fixed)
            .count();
        Ok(Written {
            prompt: self.prompt,
            sample: self.clock.sample,
            text: shared.denoiser.text(&shown)?,
            ids: row.answer().to_vec(),
            prompt_tokens: row.start() + given,
            new_tokens: kept
                .filter(|i| !matches!(cell(i), Cell::Open | Cell::Fixed))
                .count(),
            open: row
                .cells()
                .iter()
                .filter(|cell| cell.is_unsettled())
                .count(),
            steps: self.clock.total,
            forwards: self.forwards,
            rows: self.rows,
            finish: self.finish.unwrap_or(Finish::Stopped),
            notes: self.notes,
        })
    }
}

impl Clock {
    /// The step that is due, as a policy sees it.
    fn step<'a>(
        &self,
        shared: &'a Shared<'_>,
        row: &'a Row,
        open: &'a [usize],
        quota: usize,
    ) -> Step<'a> {
        Step {
            row,
            open,
            index: self.at,
            steps: self.pace.steps(),
            quota,
            total: self.total,
            draw: &shared.draw,
            held_back: &shared.held_back,
            sample: self.sample,
            source: shared.source,
        }
    }
}

/// The open cells of each block that its steps are shared out by. Published loops share them out
/// among all blocks alike: they know of no templates.
fn open_cells(config: &DecodeConfig, row: &Row) -> Vec<usize> {
    let blocks = row.last_block() as usize + 1;
    if config.compat != Compat::None {
        return vec![1; blocks];
    }
    let mut open = vec![0; blocks];
    let cells = row.cells().iter().zip(row.blocks());
    for (_, &block) in cells.filter(|(cell, _)| cell.is_unsettled()) {
        open[block as usize] += 1;
    }
    open
}
