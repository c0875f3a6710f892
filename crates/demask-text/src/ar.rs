//! Writing from left to right with an autoregressive model.
//!
//! The same configuration, prompts, events and counts as the diffusion [`Decoder`](crate::Decoder):
//! one text is one row whose open cells are committed in order, one a step. Keys and values of what
//! stands already are cached.

use std::ops::ControlFlow;

use demask_diffusion::Noise;
use demask_models::{Model, ModelKind, ModelSpec};
use demask_nn::{Asked, AttentionMask, Input, KvCache, span};

use crate::TextError;
use crate::canvas::{Cell, Row};
use crate::config::DecodeConfig;
use crate::decoder::{tell, total};
use crate::denoiser::Denoiser;
use crate::draw::Draw;
use crate::eos::ended_at;
use crate::event::{Finish, Observer, StepEvent, Write};
use crate::forbid::Forbid;
use crate::model::host;
use crate::prompt::{Prompt, Written};
use crate::text::Text;
use crate::uniforms::{At, Uniforms, Use};

/// Texts that share a forward pass.
const BATCH: usize = 16;

/// Writes `samples` texts for each prompt, in the order of the prompts.
///
/// Of the configuration, `length`, `temperature`, `top_p`, `top_k`, `draw`, `constraints`, `eos`,
/// `seed` and `samples` count; what has no meaning here is refused ([`check`]). When the observer
/// stops the run, the texts that were begun are returned as far as they got.
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
    total(prompts, config)?;
    let writer = Writer::new(model, config, prompts);
    for (index, prompt) in prompts.iter().enumerate() {
        prompt.check(index, model, config.length, config.plan)?;
        check_begun(index, prompt)?;
        // What cannot be laid out is refused before the first forward pass.
        writer.start(index * config.samples)?;
    }
    // Texts whose prompts have one length forward equally many cells in every pass.
    let length = |prompt: &usize| prompts[*prompt].ids.len();
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(length);
    let mut written = Vec::new();
    'run: for same in order.chunk_by(|a, b| length(a) == length(b)) {
        let of_prompt =
            |&prompt: &usize| (0..config.samples).map(move |s| prompt * config.samples + s);
        // There may be more texts than memory holds: each group is laid out when its turn comes.
        let mut texts = same.iter().flat_map(of_prompt);
        loop {
            let group = texts.by_ref().take(BATCH).map(|index| writer.start(index));
            let mut group = group.collect::<Result<Vec<_>, _>>()?;
            if group.is_empty() {
                break;
            }
            let flow = writer.group(&mut group, observer)?;
            for (text, row) in group {
                let index = text.index;
                written.push((index, text.written(model, writer.forbid.ends(), &row)?));
            }
            if flow.is_break() {
                break 'run;
            }
        }
    }
    written.sort_by_key(|(index, _)| *index);
    Ok(written.into_iter().map(|(_, written)| written).collect())
}

/// Refuses what has no meaning from left to right and is not what `spec` has anyway: plan, pace,
/// policy, label, guides, cache (its own is always on), repetition, the order of end tokens, compatibility modes,
/// and steps that are not a token each.
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
        ("label", config.label != usual.label),
        ("guides (cfg)", config.guides != usual.guides),
        ("eos.confidence_eos_eot_inf", held(config) != held(&usual)),
        ("cache", config.cache != usual.cache),
        ("repetition", config.repetition != usual.repetition),
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

/// The first token is predicted from the one before it.
fn check_begun(index: usize, prompt: &Prompt) -> Result<(), TextError> {
    if !prompt.ids.is_empty() {
        return Ok(());
    }
    Err(TextError::Prompt {
        index,
        reason: "there is no token to go on from; begin with the token that begins a text".into(),
    })
}

/// What stands after a gap cannot be seen from left to right, whether a template or a constraint
/// puts it there.
fn check_gaps(answer: &[Option<u32>]) -> Result<(), TextError> {
    let gap = answer.iter().position(Option::is_none);
    if gap.is_none_or(|gap| answer[gap..].iter().all(Option::is_none)) {
        return Ok(());
    }
    Err(TextError::Unsupported {
        what: "a gap with text after it".into(),
        with: "an autoregressive model".into(),
        reason: "it writes from left to right and cannot see what follows; use a masked model"
            .into(),
    })
}

struct Writer<'a> {
    model: &'a Model,
    config: &'a DecodeConfig,
    prompts: &'a [Prompt],
    noise: Noise,
    draw: Draw,
    forbid: Forbid,
    blank: u32,
}

impl<'a> Writer<'a> {
    fn new(model: &'a Model, config: &'a DecodeConfig, prompts: &'a [Prompt]) -> Self {
        let ids = &model.spec.ids;
        Self {
            model,
            config,
            prompts,
            noise: Noise::new(config.seed),
            draw: config.token_draw(),
            forbid: Forbid::new(model, config, prompts),
            blank: ids.pad.or(ids.eos).unwrap_or(0),
        }
    }

    /// Lays out text `index`.
    fn start(&self, index: usize) -> Result<(Text, Row), TextError> {
        let vocab = self.model.vocab_size();
        let (text, answer) = Text::start(self.config, vocab, self.prompts, index)?;
        check_gaps(&answer)?;
        let given = &self.prompts[text.prompt].ids;
        let state = |token: &Option<u32>| token.map_or(Cell::Open, |_| Cell::Fixed);
        let mut cells = vec![Cell::Fixed; given.len()];
        cells.extend(answer.iter().map(state));
        let mut ids = given.clone();
        ids.extend(answer.iter().map(|token| token.unwrap_or(self.blank)));
        let blocks = vec![0; ids.len()];
        Ok((text, Row::new(ids, cells, blocks, given.len())))
    }

    /// Writes texts whose prompts have one length.
    fn group(
        &self,
        group: &mut [(Text, Row)],
        observer: &mut dyn Observer,
    ) -> Result<ControlFlow<()>, TextError> {
        let mut stopped = false;
        for (text, row) in group.iter() {
            tell(observer, &mut stopped, &text.start_event(row));
        }
        let mut caches = vec![KvCache::new(); group.len()];
        let mut from = 0;
        let mut to = group[0].1.start();
        while !stopped {
            // A finished text takes no part any more; each sequence has a cache of its own.
            let open = group.iter_mut().zip(&mut caches);
            let (mut texts, caches): (Vec<_>, Vec<_>) =
                open.filter(|((text, _), _)| text.finish.is_none()).unzip();
            if texts.is_empty() {
                break;
            }
            let (batch, length) = (texts.len(), to - from);
            let ids = texts
                .iter()
                .flat_map(|(_, row)| row.ids()[from..to].to_vec());
            let last = (0..batch).map(|b| ((b + 1) * length - 1) as u32).collect();
            let output = self.model.network.forward(Input {
                mask: AttentionMask::causal(),
                caches,
                asked: Asked::Rows(last),
                ..Input::ids(ids.collect(), batch, length)
            })?;
            let mut logits = host(output)?;
            let rows = logits.chunks_exact_mut(self.model.vocab_size());
            let mut emit = |event: &StepEvent| tell(observer, &mut stopped, event);
            for ((text, row), logits) in texts.iter_mut().zip(rows) {
                self.step(text, row, to, length, logits, &mut emit)?;
            }
            (from, to) = (to, to + 1);
        }
        let flow = if stopped {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        };
        for (text, _) in group.iter_mut().filter(|(text, _)| text.finish.is_none()) {
            text.end(Finish::Stopped, &mut |e| tell(observer, &mut stopped, e));
        }
        Ok(flow)
    }

    /// Writes one cell of one text.
    fn step(
        &self,
        text: &mut Text,
        row: &mut Row,
        cell: usize,
        forwarded: usize,
        logits: &mut [f32],
        emit: &mut dyn FnMut(&StepEvent),
    ) -> Result<(), TextError> {
        let mut committed = Vec::new();
        if row.cells()[cell] == Cell::Open {
            let constraint = span::part("constraint");
            text.constrain(&self.forbid, row, cell, logits)?;
            drop(constraint);
            let _span = span::part("policy");
            let at = At {
                sample: text.sample,
                step: text.steps,
                cell,
                purpose: Use::Token,
            };
            let numbers = self.noise.numbers(at, self.draw.uniforms(logits.len()));
            let read = self.draw.read(logits, logits.len(), &[numbers], false);
            read[0].check((cell, text.steps))?;
            let token = read[0].token;
            committed.push(Write {
                cell,
                token,
                confidence: read[0].plain.probability(read[0].logit),
                provisional: false,
            });
            row.write(cell, token, false);
        }
        text.forwards += 1;
        text.rows += forwarded;
        emit(&StepEvent::Step {
            row: text.index,
            step: text.steps,
            block: 0,
            forwards: text.forwards,
            rows: text.rows,
            level: 0.0,
            committed,
            reopened: Vec::new(),
        });
        text.steps += 1;
        if self.config.eos.early_stop && ended_at(row, self.forbid.ends()).is_some() {
            text.end(Finish::EndToken, emit);
        } else if cell + 1 == row.length() {
            text.end(Finish::Length, emit);
        }
        Ok(())
    }
}
