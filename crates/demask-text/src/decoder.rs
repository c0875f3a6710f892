//! The loop: length plan, denoiser, guides, constraints, policy, commit.

use demask_diffusion::Noise;
use demask_kernels::rowwise::Scored;
use demask_nn::{KvCache, span};

use crate::TextError;
use crate::cache::CacheConfig;
use crate::canvas::{Canvas, Grid};
use crate::config::DecodeConfig;
use crate::denoiser::{DenoiseRequest, Denoiser, Predicted, Prediction};
use crate::event::{Finish, Observer, StepEvent};
use crate::policy::Candidates;
use crate::prompt::{Prompt, Written};
use crate::session::{Next, Session, Work};
use crate::shared::Shared;
use crate::uniforms::Uniforms;

/// Texts that are written side by side unless another number is asked for.
const BATCH: usize = 16;

/// Writes texts with a diffusion model.
///
/// One step of a text is: length plan, forward pass, guides, constraints, policy, commit and
/// reopen, event. The texts of a run share their forward passes; each has steps and blocks of its
/// own, and when one ends the next takes its place. What a text becomes does not depend on its
/// neighbours.
pub struct Decoder<'a> {
    denoiser: &'a dyn Denoiser,
    config: DecodeConfig,
    source: Box<dyn Uniforms + 'a>,
    batch: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder.
    ///
    /// # Errors
    /// A configuration that cannot be used, or not with this denoiser.
    pub fn new(denoiser: &'a dyn Denoiser, config: DecodeConfig) -> Result<Self, TextError> {
        let _span = span::part("set-up");
        let source = Box::new(Noise::new(config.seed));
        Shared::new(denoiser, &config, source.as_ref(), &[])?;
        Ok(Self {
            denoiser,
            config,
            source,
            batch: BATCH,
        })
    }

    /// At most `batch` texts at once (at least one): memory against speed, never a different text.
    pub fn with_batch(self, batch: usize) -> Self {
        Self {
            batch: batch.max(1),
            ..self
        }
    }

    /// Other random numbers than those of the configuration's seed.
    pub fn with_uniforms(self, source: impl Uniforms + 'a) -> Self {
        Self {
            source: Box::new(source),
            ..self
        }
    }

    /// The configuration.
    pub fn config(&self) -> &DecodeConfig {
        &self.config
    }

    /// Writes `samples` texts for each prompt, in the order of the prompts. When the observer stops
    /// the run, the texts that were begun are returned as far as they got.
    ///
    /// # Errors
    /// A prompt that does not fit the model (checked before the first forward pass), a constraint
    /// that leaves nothing to write, a prediction that is not a number, a denoiser that fails.
    pub fn run(
        &self,
        prompts: &[Prompt],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Written>, TextError> {
        let set_up = span::part("set-up");
        let shared = Shared::new(self.denoiser, &self.config, self.source.as_ref(), prompts)?;
        for (index, prompt) in prompts.iter().enumerate() {
            prompt.check(index, self.denoiser, self.config.length, self.config.plan)?;
        }
        let given = |prompt: &Prompt| prompt.cells.iter().any(Option::is_some);
        let template = prompts.iter().any(given);
        self.config.repetition.check_template(template)?;
        drop(set_up);
        let mut run = Run {
            shared: &shared,
            prompts,
            canvas: Canvas::default(),
            sessions: Vec::new(),
            next: 0,
            total: total(prompts, &self.config)?,
            written: Vec::new(),
            stopped: false,
        };
        run.go(self.batch, observer)?;
        Ok(run
            .written
            .into_iter()
            .map(|(_, written)| written)
            .collect())
    }
}

/// A run on its way: the rows of the canvas and the sessions that write them, side by side.
struct Run<'a> {
    shared: &'a Shared<'a>,
    prompts: &'a [Prompt],
    canvas: Canvas,
    sessions: Vec<Session>,
    /// The next text to begin.
    next: usize,
    /// Texts of the run.
    total: usize,
    /// Finished texts with their number, in its order.
    written: Vec<(usize, Written)>,
    stopped: bool,
}

impl Run<'_> {
    fn go(&mut self, batch: usize, observer: &mut dyn Observer) -> Result<(), TextError> {
        loop {
            self.begin(batch, observer)?;
            let works = self.prepare(observer)?;
            self.collect()?;
            if self.stopped {
                return self.abandon(observer);
            }
            if !works.is_empty() {
                self.step(&works, observer)?;
                self.collect()?;
            }
            if self.stopped {
                return self.abandon(observer);
            }
            if self.sessions.is_empty() && self.next == self.total {
                return Ok(());
            }
        }
    }

    /// Begins texts until the batch is full.
    fn begin(&mut self, batch: usize, observer: &mut dyn Observer) -> Result<(), TextError> {
        while self.sessions.len() < batch && self.next < self.total && !self.stopped {
            let (session, row) = Session::start(self.shared, self.prompts, self.next)?;
            self.next += 1;
            let event = session.text.start_event(&row);
            tell(observer, &mut self.stopped, &event);
            self.sessions.push(session);
            self.canvas.push(row);
        }
        Ok(())
    }

    /// What each text needs from the next forward pass, in the order of the rows that go on; nothing
    /// to rely on once the run is stopped.
    fn prepare(&mut self, observer: &mut dyn Observer) -> Result<Vec<Work>, TextError> {
        let mut works = Vec::new();
        let stopped = &mut self.stopped;
        for (i, session) in self.sessions.iter_mut().enumerate() {
            while !*stopped {
                let row = self.canvas.row_mut(i);
                match session.prepare(self.shared, row, &mut |e| tell(observer, stopped, e))? {
                    Next::Skip => {}
                    Next::Again => {
                        (*session, *row) = session.again(self.shared, self.prompts)?;
                        let event = session.text.start_event(row);
                        tell(observer, stopped, &event);
                    }
                    Next::Forward(work) => {
                        works.push(work);
                        break;
                    }
                    Next::Done => break,
                }
            }
        }
        Ok(works)
    }

    /// One forward pass and what follows from it.
    fn step(&mut self, works: &[Work], observer: &mut dyn Observer) -> Result<(), TextError> {
        let request = self.request(works);
        let vocab = self.shared.denoiser.vocab_size();
        let denoiser = self.shared.denoiser;
        let Prediction { cells, rows } = match self.shared.config.cache {
            CacheConfig::None => denoiser.predict(&request)?,
            CacheConfig::Block => denoiser.predict_cached(&request, self.caches(works))?,
        };
        let found = match &cells {
            Predicted::Logits(logits) if logits.len() == request.asked.len() * vocab => Ok(()),
            Predicted::Scores(scores) if request.scoring.is_none() => Err(format!(
                "{} scores where logits were asked for",
                scores.len()
            )),
            Predicted::Scores(scores) if scores.len() == request.asked.len() => Ok(()),
            Predicted::Logits(logits) => Err(format!("{} logits", logits.len())),
            Predicted::Scores(scores) => Err(format!("{} scores", scores.len())),
        };
        let found = found.and_then(|()| match rows.len() == request.batch {
            true => Ok(()),
            false => Err("predictions".into()),
        });
        found.map_err(|found| {
            TextError::Denoiser(format!(
                "{found} of {} rows for {} asked cells of {} rows and {vocab} tokens",
                rows.len(),
                request.asked.len(),
                request.batch,
            ))
        })?;
        match cells {
            Predicted::Logits(logits) => self.read_logits(works, logits, &rows, observer),
            Predicted::Scores(scores) => self.read_scores(works, &scores, &rows, observer),
        }
    }

    /// Lets each text take its step by the scores of its cells. `rows`: the cells that were forwarded for each.
    fn read_scores(
        &mut self,
        works: &[Work],
        mut scores: &[Scored],
        rows: &[usize],
        observer: &mut dyn Observer,
    ) -> Result<(), TextError> {
        for (i, work) in works.iter().enumerate() {
            let (session, row) = (&mut self.sessions[i], self.canvas.row_mut(i));
            let (own, others) = scores.split_at(work.ask.cells.len());
            scores = others;
            let readings = session.readings(work, own)?;
            let candidates = Candidates::scored(&work.ask.cells, &readings);
            let stopped = &mut self.stopped;
            let mut emit = |e: &StepEvent| tell(observer, stopped, e);
            session.take(self.shared, row, work, &candidates, rows[i], &mut emit)?;
        }
        Ok(())
    }

    /// Lets each text take its step by the logits of its cells, which guides and constraints change first.
    fn read_logits(
        &mut self,
        works: &[Work],
        mut logits: Vec<f32>,
        rows: &[usize],
        observer: &mut dyn Observer,
    ) -> Result<(), TextError> {
        let vocab = self.shared.denoiser.vocab_size();
        // The rows themselves come first, then the versions of each row: so do their logits.
        let own: usize = works.iter().map(|work| work.ask.cells.len() * vocab).sum();
        let (mut own, versions) = logits.split_at_mut(own);
        let (mut version, mut version_row) = (0, works.len());
        for (i, work) in works.iter().enumerate() {
            let (session, row) = (&mut self.sessions[i], self.canvas.row_mut(i));
            let size = work.ask.cells.len() * vocab;
            let (mine, others) = own.split_at_mut(size);
            own = others;
            // The prediction that a guide wants mixed in by the policy, and the exponent of the own one.
            let mut unguided: Option<(Vec<f32>, f64)> = None;
            let mut forwarded = rows[i];
            for (guide, variants) in self.shared.guides.iter().zip(&work.variants) {
                let _span = span::part("guide");
                let slices: Vec<&[f32]> = (0..variants.len())
                    .map(|v| &versions[version + v * size..][..size])
                    .collect();
                version += variants.len() * size;
                forwarded += rows[version_row..version_row + variants.len()]
                    .iter()
                    .sum::<usize>();
                version_row += variants.len();
                match guide.mixes_posteriors() {
                    Some(gamma) => unguided = slices.first().map(|z| (z.to_vec(), gamma)),
                    None => guide.apply(row, &work.ask.cells, mine, &slices)?,
                }
            }
            let second = unguided.iter_mut().map(|(z, _)| z.as_mut_slice());
            let constraint = span::part("constraint");
            for logits in std::iter::once(&mut *mine).chain(second) {
                for (&cell, logits) in work.ask.cells.iter().zip(logits.chunks_exact_mut(vocab)) {
                    let forbid = &self.shared.forbid;
                    session.text.constrain(forbid, row, cell, logits)?;
                }
            }
            drop(constraint);
            let mut candidates = Candidates::new(&work.ask.cells, mine, vocab);
            if let Some((logits, gamma)) = &unguided {
                candidates = candidates.with_unguided(logits, *gamma);
            }
            let stopped = &mut self.stopped;
            let mut emit = |e: &StepEvent| tell(observer, stopped, e);
            session.take(self.shared, row, work, &candidates, forwarded, &mut emit)?;
        }
        Ok(())
    }

    /// The caches of the rows of [`request`](Self::request).
    fn caches(&mut self, works: &[Work]) -> Vec<&mut KvCache> {
        let (mut own, mut versions) = (Vec::new(), Vec::new());
        for (session, work) in self.sessions.iter_mut().zip(works) {
            let mut caches = session.caches(work).iter_mut();
            own.extend(caches.next());
            versions.extend(caches);
        }
        own.append(&mut versions);
        own
    }

    /// The request for a forward pass: the visible part of each row, then all other versions.
    fn request(&mut self, works: &[Work]) -> DenoiseRequest {
        let rows = self.canvas.rows();
        let scoring = self.shared.scoring(works, rows, &mut self.sessions);
        let own = self
            .canvas
            .rows()
            .iter()
            .zip(works)
            .map(|(row, w)| &row.ids()[w.visible.clone()]);
        let versions = works
            .iter()
            .flat_map(|w| w.variants.iter().flatten().map(|v| v.ids.as_slice()));
        let grid = Grid::from_rows(own.chain(versions), self.shared.mask);
        let owners = works
            .iter()
            .flat_map(|w| std::iter::repeat_n(w, w.variants.iter().flatten().count()));
        let (mut asked, mut levels, mut clean) = (Vec::new(), Vec::new(), Vec::new());
        for (b, work) in works.iter().chain(owners).enumerate() {
            let place = |&cell: &usize| (b * grid.length + cell - work.visible.start) as u32;
            asked.extend(work.ask.cells.iter().map(place));
            levels.push(work.level);
            clean.push(work.clean);
        }
        let own = works.iter().map(|_| self.shared.label);
        let versions = works.iter().flat_map(|w| w.variants.iter().flatten());
        let labels = own.chain(versions.map(|v| v.label)).collect();
        let Grid {
            ids,
            batch,
            length,
            key_lengths,
        } = grid;
        DenoiseRequest {
            ids,
            batch,
            length,
            key_lengths,
            sight: self.shared.sight,
            levels,
            labels,
            clean,
            asked,
            scoring,
        }
    }

    /// Takes finished texts off the canvas.
    fn collect(&mut self) -> Result<(), TextError> {
        let mut i = 0;
        while i < self.sessions.len() {
            if self.sessions[i].text.finish.is_some() {
                self.take_off(i)?;
            } else {
                i += 1;
            }
        }
        Ok(())
    }

    fn take_off(&mut self, i: usize) -> Result<(), TextError> {
        let (session, row) = (self.sessions.remove(i), self.canvas.remove(i));
        let index = session.text.index;
        let written = session.written(self.shared, &row)?;
        let place = self.written.partition_point(|(other, _)| *other < index);
        self.written.insert(place, (index, written));
        Ok(())
    }

    /// Ends the texts that were begun where they are. Of the others there is nothing to tell, and
    /// there may be more of them than memory holds.
    fn abandon(&mut self, observer: &mut dyn Observer) -> Result<(), TextError> {
        for session in &mut self.sessions {
            session.text.end(Finish::Stopped, &mut |e| {
                tell(observer, &mut self.stopped, e)
            });
        }
        self.collect()
    }
}

/// The number of texts of a run.
pub(crate) fn total(prompts: &[Prompt], config: &DecodeConfig) -> Result<usize, TextError> {
    let (prompts, samples) = (prompts.len(), config.samples);
    prompts.checked_mul(samples).ok_or_else(|| {
        let reason = format!("with {prompts} prompts these are more texts than can be counted");
        TextError::setting("samples", samples, reason)
    })
}

/// Tells the observer, and notes if it wants to stop.
pub(crate) fn tell(observer: &mut dyn Observer, stopped: &mut bool, event: &StepEvent) {
    let _span = span::part("observer");
    *stopped |= observer.event(event).is_break();
}
