//! Writing from left to right with an autoregressive model.
//!
//! The same configuration, prompts, events and counts as the diffusion [`Decoder`](crate::Decoder):
//! one text is one row whose open cells are committed in order, one a step. Keys and values of what
//! stands already are cached.

use demask_diffusion::Noise;
use demask_models::{Model, ModelKind, ModelSpec};
use demask_nn::{Asked, AttentionMask, Input, KvCache};

use crate::TextError;
use crate::canvas::{Cell, Row};
use crate::config::DecodeConfig;
use crate::constraint::Constraint;
use crate::denoiser::Denoiser;
use crate::draw::Draw;
use crate::eos::{end_tokens, is_end, is_first};
use crate::event::{Finish, Observer, StepEvent, Write};
use crate::model::host;
use crate::policy::score::probability;
use crate::prompt::{Prompt, Written, kept};
use crate::uniforms::{At, Uniforms, Use};

/// Texts that share a forward pass.
const BATCH: usize = 16;

/// Writes `samples` texts for each prompt, in the order of the prompts.
///
/// Of the configuration, `length`, `temperature`, `top_p`, `top_k`, `draw`, `constraints`, `eos`,
/// `seed` and `samples` count; what has no meaning here is refused ([`check`]). When the observer
/// stops the run, all texts are returned as far as they got.
///
/// # Errors
/// A model of another kind, a configuration or prompt that cannot be used (an empty prompt among
/// them: begin with the token that begins a text), a prediction that is not a number.
pub fn write(
    model: &Model,
    config: &DecodeConfig,
    prompts: &[Prompt],
    observer: &mut dyn Observer,
) -> Result<Vec<Written>, TextError> {
    config.check()?;
    check_kind(model)?;
    check(&model.spec, config)?;
    for prompt in prompts {
        check_gaps(prompt)?;
    }
    let writer = Writer::new(model, config);
    let mut texts = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        for sample in 0..config.samples {
            texts.push(writer.start(texts.len(), (index, prompt), sample)?);
        }
    }
    // Texts whose prompts have one length share a cache without padding between the cells.
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&i| (texts[i].row.start(), i));
    let mut stopped = false;
    let same = |a: &usize, b: &usize| texts[*a].row.start() == texts[*b].row.start();
    let groups: Vec<Vec<usize>> = order
        .chunk_by(same)
        .flat_map(|group| group.chunks(BATCH).map(<[usize]>::to_vec))
        .collect();
    for group in groups {
        if !stopped {
            writer.group(&mut texts, &group, observer, &mut stopped)?;
        }
    }
    texts.into_iter().map(|text| writer.written(text)).collect()
}

/// Refuses what has no meaning from left to right and is not what `spec` has anyway: plan, pace,
/// policy, guides, the order of end tokens, compatibility modes, and steps that are not a token each.
///
/// # Errors
/// [`TextError::Unsupported`] with the name of the setting.
pub fn check(spec: &ModelSpec, config: &DecodeConfig) -> Result<(), TextError> {
    let usual = DecodeConfig::for_model(spec)?;
    let held = |config: &DecodeConfig| config.eos.confidence_eos_eot_inf;
    let set = [
        (
            "steps",
            config.steps != config.length && config.steps != usual.steps,
        ),
        ("plan (block)", config.plan != usual.plan),
        ("pace", config.pace != usual.pace),
        ("policy", config.policy != usual.policy),
        ("guides (cfg)", config.guides != usual.guides),
        ("eos.confidence_eos_eot_inf", held(config) != held(&usual)),
        ("compat", config.compat != usual.compat),
    ];
    match set.into_iter().find(|(_, set)| *set) {
        None => Ok(()),
        Some((name, _)) => Err(TextError::Unsupported {
            what: format!("the setting {name}"),
            with: "an autoregressive model".into(),
            reason: "it has no meaning for a model that writes from left to right, a token a \
                     step; leave it out"
                .into(),
        }),
    }
}

fn check_kind(model: &Model) -> Result<(), TextError> {
    if model.spec.kind == ModelKind::Autoregressive && !model.spec.network.logit_shift {
        return Ok(());
    }
    Err(TextError::Unsupported {
        what: "writing from left to right".into(),
        with: format!("a model of kind {:?}", model.spec.kind),
        reason: "it needs a model whose row i predicts cell i + 1; use the decoder".into(),
    })
}

/// What stands after a gap cannot be seen from left to right, and an end token in the gap would cut
/// it off.
fn check_gaps(prompt: &Prompt) -> Result<(), TextError> {
    let gap = prompt
        .cells
        .iter()
        .position(Option::is_none)
        .unwrap_or(prompt.cells.len());
    if prompt.cells[gap..].iter().all(Option::is_none) {
        return Ok(());
    }
    Err(TextError::Unsupported {
        what: "a gap with text after it".into(),
        with: "an autoregressive model".into(),
        reason: "it writes from left to right and cannot see what follows; use a masked model"
            .into(),
    })
}

fn check_length(index: usize, given: usize, total: usize, limit: usize) -> Result<(), TextError> {
    let reason = if given == 0 {
        "there is no token to go on from; begin with the token that begins a text".to_owned()
    } else if total > limit {
        format!(
            "{total} cells in all, the model's context has {limit}; shorten it or lower `length`"
        )
    } else {
        return Ok(());
    };
    Err(TextError::Prompt { index, reason })
}

fn check_ids(index: usize, ids: &[u32], vocab: usize) -> Result<(), TextError> {
    match ids.iter().find(|&&id| id as usize >= vocab) {
        Some(id) => {
            let reason = format!("token {id} is outside the vocabulary of {vocab}");
            Err(TextError::Prompt { index, reason })
        }
        None => Ok(()),
    }
}

struct Writer<'a> {
    model: &'a Model,
    config: &'a DecodeConfig,
    noise: Noise,
    draw: Draw,
    ends: Vec<u32>,
    never: Vec<u32>,
    blank: u32,
}

struct Text {
    index: usize,
    prompt: usize,
    sample: usize,
    row: Row,
    constraints: Vec<Box<dyn Constraint>>,
    steps: usize,
    forwards: usize,
    rows: usize,
    finish: Option<Finish>,
}

impl<'a> Writer<'a> {
    fn new(model: &'a Model, config: &'a DecodeConfig) -> Self {
        let ids = &model.spec.ids;
        let mut never = model.unassigned();
        never.extend(ids.mask);
        if config.eos.logits_eos_inf {
            never.extend(ids.eos);
        }
        Self {
            model,
            config,
            noise: Noise::new(config.seed),
            draw: config.token_draw(),
            ends: end_tokens(ids),
            never,
            blank: ids.pad.or(ids.eos).unwrap_or(0),
        }
    }

    fn start(
        &self,
        index: usize,
        (number, prompt): (usize, &Prompt),
        sample: usize,
    ) -> Result<Text, TextError> {
        let (vocab, limit) = (self.model.vocab_size(), self.model.max_length());
        let mut answer = prompt.cells.clone();
        if answer.is_empty() {
            answer = vec![None; self.config.length];
        }
        let start = prompt.ids.len();
        check_length(number, start, start + answer.len(), limit)?;
        check_ids(number, &prompt.ids, vocab)?;
        let mut constraints = Vec::new();
        for config in &self.config.constraints {
            let mut constraint = config.build(vocab)?;
            constraint.fix(&mut answer)?;
            constraints.push(constraint);
        }
        let fixed: Vec<u32> = answer.iter().flatten().copied().collect();
        check_ids(number, &fixed, vocab)?;
        let state = |token: &Option<u32>| {
            if token.is_some() {
                Cell::Fixed
            } else {
                Cell::Open
            }
        };
        let mut cells = vec![Cell::Fixed; start];
        cells.extend(answer.iter().map(state));
        let mut ids = prompt.ids.clone();
        ids.extend(answer.iter().map(|token| token.unwrap_or(self.blank)));
        let row = Row::new(ids, cells, vec![0; start + answer.len()], start);
        let (prompt, finish) = (number, None);
        Ok(Text {
            index,
            prompt,
            sample,
            row,
            constraints,
            steps: 0,
            forwards: 0,
            rows: 0,
            finish,
        })
    }

    /// Writes texts whose prompts have one length.
    fn group(
        &self,
        texts: &mut [Text],
        group: &[usize],
        observer: &mut dyn Observer,
        stopped: &mut bool,
    ) -> Result<(), TextError> {
        group
            .iter()
            .for_each(|&i| *stopped |= observer.event(&texts[i].start_event()).is_break());
        let mut cache = KvCache::new();
        let mut from = 0;
        let mut to = texts[group[0]].row.start();
        loop {
            let (batch, length) = (group.len(), to - from);
            let cell = |i: &usize, c: usize| {
                // A finished text may end before its neighbours: its row goes on with blanks.
                texts[*i].row.ids().get(c).copied().unwrap_or(self.blank)
            };
            let ids = group
                .iter()
                .flat_map(|i| (from..to).map(move |c| cell(i, c)))
                .collect();
            let last = (0..batch).map(|b| ((b + 1) * length - 1) as u32).collect();
            let output = self.model.network.forward(Input {
                mask: AttentionMask::causal(),
                cache: Some(&mut cache),
                asked: Asked::Rows(last),
                ..Input::ids(ids, batch, length)
            })?;
            let mut logits = host(output)?;
            let rows = logits.chunks_exact_mut(self.model.vocab_size());
            let mut emit = |event: &StepEvent| *stopped |= observer.event(event).is_break();
            for (&i, logits) in group.iter().zip(rows) {
                if texts[i].finish.is_none() {
                    self.step(&mut texts[i], to, length, logits, &mut emit)?;
                }
            }
            if group.iter().all(|&i| texts[i].finish.is_some()) {
                return Ok(());
            }
            (from, to) = (to, to + 1);
            if *stopped {
                for &i in group {
                    if texts[i].finish.is_none() {
                        texts[i].end(Finish::Stopped, observer);
                    }
                }
                return Ok(());
            }
        }
    }

    /// Writes one cell of one text.
    fn step(
        &self,
        text: &mut Text,
        cell: usize,
        forwarded: usize,
        logits: &mut [f32],
        emit: &mut dyn FnMut(&StepEvent),
    ) -> Result<(), TextError> {
        let step = text.steps;
        let broken = |reason| TextError::Logits { cell, step, reason };
        if logits.iter().any(|z| z.is_nan() || *z == f32::INFINITY) {
            return Err(broken("is not a finite number"));
        }
        text.forwards += 1;
        text.rows += forwarded;
        text.steps += 1;
        let mut committed = Vec::new();
        if text.row.cells()[cell] == Cell::Open {
            for &id in &self.never {
                logits[id as usize] = f32::NEG_INFINITY;
            }
            if self.config.eos.never_first && is_first(&text.row, cell, self.model.spec.ids.bos) {
                for &id in &self.ends {
                    logits[id as usize] = f32::NEG_INFINITY;
                }
            }
            for constraint in &mut text.constraints {
                constraint.forbid(&text.row, cell, logits);
            }
            if logits.iter().all(|z| *z == f32::NEG_INFINITY) {
                let names: Vec<&str> = text.constraints.iter().map(|c| c.name()).collect();
                return Err(TextError::Constraint {
                    cell,
                    step,
                    constraints: names.join(", "),
                });
            }
            let at = At {
                sample: text.sample,
                step,
                cell,
                purpose: Use::Token,
            };
            let u = self.noise.at(at, self.draw.uniforms(logits.len()));
            let token = self.draw.token(logits, &self.draw.distribution(logits), &u);
            let confidence = probability(logits, token, &[]);
            committed.push(Write {
                cell,
                token,
                confidence,
                provisional: false,
            });
            text.row.write(cell, token, false);
        }
        emit(&StepEvent::Step {
            row: text.index,
            step,
            block: 0,
            forwards: text.forwards,
            rows: text.rows,
            level: 0.0,
            committed,
            reopened: Vec::new(),
        });
        let goes_on = text.row.cells()[cell + 1..].contains(&Cell::Fixed);
        if self.config.eos.early_stop && is_end(&text.row, cell, &self.ends) && !goes_on {
            text.finish = Some(Finish::EndToken);
        } else if cell + 1 == text.row.length() {
            text.finish = Some(Finish::Length);
        }
        if let Some(finish) = text.finish {
            emit(&StepEvent::Finished {
                row: text.index,
                finish,
            });
        }
        Ok(())
    }

    fn written(&self, text: Text) -> Result<Written, TextError> {
        let row = &text.row;
        let kept = kept(row, &self.ends);
        let shown: Vec<u32> = kept
            .clone()
            .filter(|&i| row.cells()[i] != Cell::Open)
            .map(|i| row.ids()[i])
            .collect();
        let count = |wanted: Cell| {
            row.cells()[row.start()..]
                .iter()
                .filter(|c| **c == wanted)
                .count()
        };
        Ok(Written {
            prompt: text.prompt,
            sample: text.sample,
            text: self.model.text(&shown)?,
            ids: row.answer().to_vec(),
            prompt_tokens: row.start() + count(Cell::Fixed),
            new_tokens: kept.filter(|&i| row.cells()[i] == Cell::Written).count(),
            open: count(Cell::Open),
            steps: text.steps,
            forwards: text.forwards,
            rows: text.rows,
            finish: text.finish.unwrap_or(Finish::Stopped),
            notes: Vec::new(),
        })
    }
}

impl Text {
    fn start_event(&self) -> StepEvent {
        StepEvent::Start {
            row: self.index,
            prompt: self.prompt,
            sample: self.sample,
            start: self.row.start(),
            ids: self.row.ids().to_vec(),
            cells: self.row.cells().to_vec(),
            blocks: self.row.blocks().to_vec(),
        }
    }

    fn end(&mut self, finish: Finish, observer: &mut dyn Observer) {
        self.finish = Some(finish);
        // The run is over: whether the observer wants to stop no longer matters.
        let _ = observer.event(&StepEvent::Finished {
            row: self.index,
            finish,
        });
    }
}
