//! One text on its way from the first step to the last.

use std::ops::Range;

use demask_diffusion::process::Uniform;
use demask_nn::{KvCache, span};

use crate::TextError;
use crate::cache::Caches;
use crate::canvas::{Cell, Row};
use crate::compat::Compat;
use crate::config::DecodeConfig;
use crate::denoiser::Sight;
use crate::eos::ended_at;
use crate::event::{Finish, StepEvent};
use crate::guide::Variant;
use crate::length::{Pace, share};
use crate::notes;
use crate::policy::{Ask, Candidates, Choice, Policy, Step};
use crate::prompt::{Prompt, Written};
use crate::repetition::Then;
use crate::shared::Shared;
use crate::text::Text;
use crate::uniforms::{At, Use};

/// One text, written by a policy.
pub(crate) struct Session {
    pub text: Text,
    /// Whether each cell held a token at the start.
    given: Vec<bool>,
    policy: Box<dyn Policy>,
    /// Steps of each block.
    steps: Vec<usize>,
    block: u32,
    clock: Clock,
    /// How often the text was begun anew.
    tries: usize,
    caches: Caches,
}

/// Where a block is.
struct Clock {
    /// Its pace.
    pace: Pace,
    /// Step within it.
    at: usize,
}

/// What a text needs from the next forward pass.
pub(crate) struct Work {
    /// The cells that may be written in this step.
    pub window: Vec<usize>,
    pub quota: usize,
    pub ask: Ask,
    pub level: f64,
    /// The cells of the row that are on the canvas.
    pub visible: Range<usize>,
    /// How many of them, from the first on, will not change any more.
    pub clean: usize,
    /// Other versions of the row, guide by guide.
    pub variants: Vec<Vec<Variant>>,
}

/// What a text does next.
pub(crate) enum Next {
    /// It takes part in the forward pass.
    Forward(Work),
    /// It goes on skipping steps that write nothing; whoever watches has been asked.
    Skip,
    /// It repeats itself and is begun anew.
    Again,
    /// It is finished.
    Done,
}

/// Steps that are skipped in a row before whoever watches is asked again whether to go on.
const SKIPS: usize = 4096;

impl Session {
    /// Lays out the row of text `index`.
    pub fn start(
        shared: &Shared<'_>,
        prompts: &[Prompt],
        index: usize,
    ) -> Result<(Self, Row), TextError> {
        Self::begin(shared, prompts, index, 0)
    }

    /// Lays out the row of this text anew. What was spent on it stays counted, and the random numbers
    /// go on where they were.
    pub fn again(&self, shared: &Shared<'_>, prompts: &[Prompt]) -> Result<(Self, Row), TextError> {
        let (text, tries) = (&self.text, self.tries + 1);
        let (mut session, row) = Self::begin(shared, prompts, text.index, text.steps)?;
        session.text.forwards = text.forwards;
        session.text.rows = text.rows;
        session.tries = tries;
        Ok((session, row))
    }

    /// Lays out the row of text `index`, whose first step is number `step`.
    fn begin(
        shared: &Shared<'_>,
        prompts: &[Prompt],
        index: usize,
        step: usize,
    ) -> Result<(Self, Row), TextError> {
        let config = shared.config;
        let (kind, vocab) = (shared.denoiser.kind(), shared.denoiser.vocab_size());
        let (mut text, answer) = Text::start(config, vocab, prompts, index)?;
        text.steps = step;
        let (prompt, sample) = (&prompts[text.prompt], text.sample);

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
                    step,
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
        let context = shared.denoiser.max_length();
        text.notes = notes::at_start(config, &row, &open_cells, context, vocab);
        let mut session = Self {
            text,
            given,
            policy: config.policy.build(&shared.target)?,
            steps: share(config.steps, &open_cells),
            block: 0,
            clock: Clock {
                pace: Pace::new(config.effective_pace(), 0, 1),
                at: 0,
            },
            tries: 0,
            caches: Caches::default(),
        };
        session.enter(shared, &row);
        Ok((session, row))
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

    /// Goes on to the next step that needs a forward pass.
    pub fn prepare(
        &mut self,
        shared: &Shared<'_>,
        row: &Row,
        emit: &mut dyn FnMut(&StepEvent),
    ) -> Result<Next, TextError> {
        let compat = shared.config.compat;
        let mut skipped = 0;
        loop {
            let window = row.window(self.block);
            let within = self.clock.at < self.clock.pace.steps();
            // Published loops take all their steps, on a finished canvas too.
            let idle = compat.forwards_empty_steps() && within && shared.config.policy.is_paced();
            let leaves_rest = compat == Compat::LladaOfficial && !within;
            if (window.is_empty() && !idle) || leaves_rest {
                let end = row.end_of(self.block);
                emit(&StepEvent::Block {
                    row: self.text.index,
                    block: self.block,
                    end,
                });
                if let Some(next) = self.repeats(shared, row, end, emit) {
                    return Ok(next);
                }
                if self.block == row.last_block() {
                    self.text.end(Finish::Length, emit);
                    return Ok(Next::Done);
                }
                self.block += 1;
                self.enter(shared, row);
                continue;
            }
            let quota = self.clock.pace.quota(self.clock.at, window.len());
            let ask = if window.is_empty() {
                Ask::default()
            } else {
                let _span = span::part("policy");
                self.policy
                    .ask(&self.clock.step(shared, &self.text, row, &window, quota))
            };
            if ask.cells.is_empty() && !compat.forwards_empty_steps() {
                if self.clock.at > self.clock.pace.steps() {
                    return Err(TextError::Unsupported {
                        what: format!("policy `{}`", shared.config.policy),
                        with: format!("step {} of text {}", self.text.steps, self.text.index),
                        reason: "it asks for no cell although cells are open".into(),
                    });
                }
                self.clock.at += 1;
                self.text.steps += 1;
                skipped += 1;
                if skipped < SKIPS {
                    continue;
                }
                emit(&StepEvent::Step {
                    row: self.text.index,
                    step: self.text.steps - 1,
                    block: self.block,
                    forwards: self.text.forwards,
                    rows: self.text.rows,
                    level: 0.0,
                    committed: Vec::new(),
                    reopened: Vec::new(),
                });
                return Ok(Next::Skip);
            }
            let visible = shared.plan.visible(row, self.block);
            if let Some(cell) = ask.cells.iter().find(|cell| !visible.contains(cell)) {
                return Err(TextError::Unsupported {
                    what: format!("the open cell {cell} of text {}", self.text.index),
                    with: format!("a canvas that begins at cell {}", visible.start),
                    reason: "the model's context has moved past it; shorten the prompt".into(),
                });
            }
            let level = self.level(shared.sight, row, window.len(), ask.level, &visible);
            let clean = match shared.sight {
                Sight::Full => 0,
                Sight::BlockCausal { block } => {
                    let settled = row.first_unsettled(visible.clone()) - visible.start;
                    settled - settled % block
                }
            };
            let (ids, given) = (&row.ids()[visible.clone()], &self.given[visible.clone()]);
            let variants = shared.guides.iter();
            let variants = variants.map(|guide| {
                let _span = span::part("guide");
                guide.variants(row, ids, given)
            });
            return Ok(Next::Forward(Work {
                window,
                quota,
                ask,
                level,
                clean,
                variants: variants.collect(),
                visible,
            }));
        }
    }

    /// What becomes of the text if it repeats itself at the end of a block.
    fn repeats(
        &mut self,
        shared: &Shared<'_>,
        row: &Row,
        end: usize,
        emit: &mut dyn FnMut(&StepEvent),
    ) -> Option<Next> {
        let rule = shared.config.repetition;
        let entropy = rule.found(row, end)?;
        let why = format!(
            "the entropy of its last {} tokens is {entropy:.2} nats, below `repetition.entropy` = {}",
            rule.window, rule.entropy
        );
        match rule.then {
            Then::Keep => return None,
            Then::Again if self.tries < rule.tries => return Some(Next::Again),
            Then::Again => self.text.notes.push(format!(
                "the text repeats itself in every one of {} attempts ({why}); this is the last one, and its \
                 steps and forward passes are those of all",
                self.tries + 1
            )),
            Then::Cut => {
                self.text.cut = Some(end - rule.window);
                let said = format!("the text repeats itself and ends before them: {why}");
                self.text.notes.push(said);
            }
        }
        self.text.end(Finish::Repetition, emit);
        Some(Next::Done)
    }

    /// The caches of the row and of its other versions.
    pub fn caches(&mut self, work: &Work) -> &mut [KvCache] {
        let versions = work.variants.iter().map(Vec::len).sum();
        self.caches.rows(work.visible.start, versions)
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
        visible: &Range<usize>,
    ) -> f64 {
        let size = row.block_size(self.block).max(open).max(1);
        let share = share.unwrap_or(open as f64 / size as f64);
        if sight != Sight::Full {
            return share;
        }
        let later = visible.clone().filter(|&i| row.blocks()[i] > self.block);
        let later = later.filter(|&i| row.cells()[i].is_unsettled()).count();
        if later == 0 && self.block == 0 {
            // All there is: the share itself, to the bit.
            return share;
        }
        let answer = row.cells()[visible.clone()]
            .iter()
            .filter(|cell| **cell != Cell::Fixed)
            .count();
        (share * size as f64 + later as f64) / answer.max(1) as f64
    }

    /// The step that is taken with this work, as a policy sees it.
    pub fn step<'a>(&'a self, shared: &'a Shared<'_>, row: &'a Row, work: &'a Work) -> Step<'a> {
        self.clock
            .step(shared, &self.text, row, &work.window, work.quota)
    }

    /// Takes the step: lets the policy choose, writes, and tells what happened.
    pub fn take(
        &mut self,
        shared: &Shared<'_>,
        row: &mut Row,
        work: &Work,
        candidates: &Candidates<'_>,
        forwarded: usize,
        emit: &mut dyn FnMut(&StepEvent),
    ) -> Result<(), TextError> {
        let Choice {
            mut write,
            mut reopen,
        } = {
            let step = self
                .clock
                .step(shared, &self.text, row, &work.window, work.quota);
            if work.ask.cells.is_empty() {
                Choice::default()
            } else {
                let _span = span::part("policy");
                self.policy.choose(&step, candidates)?
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
        self.text.forwards += 1;
        self.text.rows += forwarded;
        emit(&StepEvent::Step {
            row: self.text.index,
            step: self.text.steps,
            block: self.block,
            forwards: self.text.forwards,
            rows: self.text.rows,
            level: work.level,
            committed: write,
            reopened: reopen,
        });
        self.clock.at += 1;
        self.text.steps += 1;
        let may_stop = shared.config.eos.early_stop && !shared.config.compat.runs_to_the_end();
        if may_stop && ended_at(row, shared.forbid.ends()).is_some() {
            self.text.end(Finish::EndToken, emit);
        }
        Ok(())
    }

    /// The text as it stands.
    pub fn written(mut self, shared: &Shared<'_>, row: &Row) -> Result<Written, TextError> {
        // A text that ends because it repeats itself has said so.
        if self.text.finish != Some(Finish::Repetition) {
            let said = notes::at_end(shared.config, self.text.steps, self.tries);
            self.text.notes.extend(said);
        }
        self.text
            .written(shared.denoiser, shared.forbid.ends(), row)
    }
}

impl Clock {
    /// The step that is due, as a policy sees it.
    fn step<'a>(
        &self,
        shared: &'a Shared<'_>,
        text: &Text,
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
            total: text.steps,
            draw: &shared.draw,
            held_back: &shared.held_back,
            sample: text.sample,
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
