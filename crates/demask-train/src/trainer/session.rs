//! A running training.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::Device;
use demask_diffusion::objective::variance::Window;
use demask_diffusion::{Noise, Objective};
use demask_kernels::threads;
use demask_models::{Model, ModelSpec, SaveDtype};
use demask_nn::{Transformer, span};

use super::batch::Batch;
use super::params::{Params, Update, base_hash};
use super::pass::{Training, pass};
use super::setup::{Init, Parts};
use super::{TrainEvent, TrainObserver, TrainOptions, TrainSummary};
use crate::data::Row;
use crate::optimizer::{AdamW, Ema, clip_factor};
use crate::recipe::{CheckpointDtype, InitConfig};
use crate::run_dir::{CardFacts, Metrics, MetricsFile, RunDir, TrainState};
use crate::{Recipe, TrainError};

/// Streams of the seed of a run.
mod stream {
    pub const TRAIN: u64 = 1;
    pub const DROPOUT: u64 = 2;
    pub const VALID: u64 = 3;
    pub const SEARCH: u64 = 4;
    pub const MASK: u64 = 5;
    pub const LABEL: u64 = 6;
}

/// Keys of a recipe that may change when a training is resumed.
const MAY_CHANGE: &[&str] = &[
    "run.name",
    "run.steps",
    "run.threads",
    "run.eval_every",
    "run.eval_rows",
    "run.checkpoint_every",
    "run.checkpoint_dtype",
    "card.",
    "generation.",
];

pub(super) struct Session {
    parts: Parts,
    run: RunDir,
    options: TrainOptions,
    /// Where training happens: the device with gradients.
    device: Device,
    /// `None` only while an update is under way.
    network: Option<Transformer>,
    params: Params,
    /// Under adapters: the frozen weights.
    base: Option<Base>,
    /// The window that the variance search chose, and the objective in it.
    window: Option<(Window, Arc<dyn Objective>)>,
    metrics: MetricsFile,
    noise: Noise,
    time_conditioning: bool,
    step: u64,
    tokens: u64,
    /// Seconds of earlier sittings, and the clock at the start of this one.
    seconds: (f64, f64),
    valid: Option<(u64, f64)>,
    saved: Option<u64>,
}

/// The checkpoint that adapters stand on.
struct Base {
    path: String,
    spec: ModelSpec,
    hash: u64,
}

/// What one step came to, before it is known to be good.
struct Passes {
    loss: f64,
    normaliser: f64,
    tokens: u64,
}

impl Session {
    /// Reads everything and builds the network, new or from the newest state.
    pub fn start(
        recipe: &Recipe,
        run: RunDir,
        options: TrainOptions,
        observer: &mut dyn TrainObserver,
    ) -> Result<Self, TrainError> {
        let _span = span::part("set-up");
        let resumed = match (options.resume, run.saved_steps()?.first()) {
            (true, _) => Some(run.load_state()?),
            (false, Some(&step)) => {
                return Err(TrainError::RunExists {
                    path: run.path().to_path_buf(),
                    step,
                });
            }
            (false, None) => None,
        };
        let options = TrainOptions {
            roots: run.roots(options.roots)?,
            ..options
        };
        let parts = Parts::build(recipe, &run, &options.roots)?;
        for note in parts.corpus.notes() {
            let _ = observer.event(&TrainEvent::Data(note));
        }
        let device = options.device.clone().autodiff();
        let averaged = parts.recipe.optimizer.ema > 0.0;
        let lora = parts.recipe.lora.as_ref();
        let first = || parts.network(&options.roots, &device);
        // Frozen weights are not in a state: they come from the checkpoint again.
        let frozen = lora.map(|_| first()).transpose()?;
        let base = frozen
            .as_ref()
            .and_then(|init| Base::of(&parts.recipe, init));
        let (network, params, window, [step, tokens], seconds) = match resumed {
            None => {
                let network = match (frozen, lora) {
                    (Some(init), Some(lora)) => {
                        init.network.init_lora(lora, parts.recipe.run.seed)?
                    }
                    _ => first()?.network,
                };
                let params = Params::new(&network, averaged);
                (network, params, None, [0, 0], 0.0)
            }
            Some((state, torn)) => {
                for error in torn {
                    let warning = format!("{error}; going on from step {}", state.step);
                    let _ = observer.event(&TrainEvent::Warning(warning));
                }
                check_same(&parts, &run, &state, base.as_ref().map(|base| base.hash))?;
                let (counts, seconds) = ([state.step, state.tokens], state.seconds);
                let window = (parts.search.as_ref().zip(state.window))
                    .and_then(|(search, window)| search.candidate(window));
                let config = &parts.recipe.network;
                let (params, mut weights) = Params::from_state(config, lora, state, averaged)?;
                let network = match (frozen, lora) {
                    (Some(init), Some(lora)) => init.network.with_lora(lora, &mut weights)?,
                    _ => Transformer::from_source(config, &mut weights, &device)?,
                };
                (network, params, window, counts, seconds)
            }
        };
        let network = network.in_precision(parts.recipe.run.dtype.precision())?;
        run.write_recipe(&parts.recipe)?;
        run.write_roots(&options.roots)?;
        let metrics = MetricsFile::open(run.path(), step)?;
        let valid = metrics
            .lines()
            .iter()
            .rev()
            .find_map(|m| Some((m.step, m.valid?)));
        let start = (options.clock)();
        let mut session = Self {
            noise: Noise::new(parts.recipe.run.seed),
            parts,
            run,
            options,
            device,
            network: Some(network),
            params,
            base,
            window,
            metrics,
            time_conditioning: false,
            step,
            tokens,
            seconds: (seconds, start),
            valid,
            saved: (step > 0).then_some(step),
        };
        session.probe()?;
        let _ = observer.event(&TrainEvent::Started {
            parameters: session.params.count(),
            vocabulary: session.parts.recipe.network.vocab_size,
            tokens: session.parts.corpus.tokens(),
            rows: session.parts.recipe.optimizer.rows_per_step()
                * session.options.communicator.world_size(),
            step,
            steps: session.parts.recipe.run.steps,
        });
        Ok(session)
    }

    /// Trains to the end, or until the observer asks to stop.
    pub fn run(&mut self, observer: &mut dyn TrainObserver) -> Result<TrainSummary, TrainError> {
        let config = self.parts.recipe.run.clone();
        let mut stopped = false;
        if self.step >= config.steps && self.options.communicator.rank() == 0 {
            // The last state was saved, but what is made from it may have been cut off.
            self.publish()?;
        }
        while self.step < config.steps && !stopped {
            let mut metrics = threads::awake(|| self.one_step())?;
            let last = self.step == config.steps;
            if last || (config.eval_every > 0 && self.step.is_multiple_of(config.eval_every)) {
                metrics.valid = self.validate()?;
                metrics.seconds = self.elapsed();
            }
            self.metrics.push(metrics)?;
            let watched = span::part("observer");
            stopped = observer.event(&TrainEvent::Step(&metrics)).is_break();
            drop(watched);
            if let Some(loss) = metrics.valid {
                self.valid = Some((self.step, loss));
                let event = TrainEvent::Validated {
                    step: self.step,
                    loss,
                };
                stopped |= observer.event(&event).is_break();
            }
            if self.is_search_due() {
                stopped |= self.search(observer)?.is_break();
            }
            if last || stopped || self.step.is_multiple_of(config.checkpoint_every) {
                stopped |= self.save(observer)?.is_break();
            }
        }
        let summary = TrainSummary {
            run: self.run.path().to_path_buf(),
            checkpoint: self.run.checkpoint(),
            step: self.step,
            steps: config.steps,
            stopped: self.step < config.steps,
            loss: self.metrics.lines().last().map_or(f64::NAN, |m| m.loss),
            valid: self.valid,
            tokens: self.tokens,
            seconds: self.elapsed(),
        };
        let _ = observer.event(&TrainEvent::Finished(&summary));
        Ok(summary)
    }

    /// The objective of the next step.
    fn objective(&self) -> &dyn Objective {
        match &self.window {
            Some((_, objective)) => objective.as_ref(),
            None => self.parts.objective.as_ref(),
        }
    }

    fn is_search_due(&self) -> bool {
        let due = |search: &super::search::Search| self.step.is_multiple_of(search.config.every);
        self.parts.search.as_ref().is_some_and(due)
    }

    /// A turn of the variance search. Every process comes to the same window by itself.
    fn search(&mut self, observer: &mut dyn TrainObserver) -> Result<ControlFlow<()>, TrainError> {
        let recipe = &self.parts.recipe;
        let Some(search) = &self.parts.search else {
            return Ok(ControlFlow::Continue(()));
        };
        let _span = span::part("search");
        let rows = self.parts.corpus.valid_rows(recipe.run.eval_rows);
        let node = self.noise.child(stream::SEARCH).child(self.step);
        let batch = recipe.optimizer.batch;
        let found = search.turn(&self.averaged()?, &rows, batch, &node)?;
        let Some(found) = found else {
            return Ok(ControlFlow::Continue(()));
        };
        self.window = search.candidate(found.window);
        Ok(observer.event(&TrainEvent::Searched {
            step: self.step,
            window: [found.window.min, found.window.max],
            variance: found.variance,
        }))
    }

    fn elapsed(&self) -> f64 {
        self.seconds.0 + (self.options.clock)() - self.seconds.1
    }

    fn network(&self) -> Result<&Transformer, TrainError> {
        self.network.as_ref().ok_or_else(|| TrainError::State {
            path: self.run.path().to_path_buf(),
            message: "an update was interrupted; resume from the saved state".into(),
        })
    }

    /// The rows of pass `pass` of step `step`. Processes take turns.
    fn rows(&self, step: u64, pass: usize) -> Vec<Row> {
        let optimizer = &self.parts.recipe.optimizer;
        let world = self.options.communicator.world_size() as u64;
        let rank = self.options.communicator.rank() as u64;
        let batch = optimizer.batch as u64;
        let passes = step * optimizer.accumulation as u64 + pass as u64;
        let first = (passes * world + rank) * batch;
        (first..first + batch)
            .map(|k| self.parts.corpus.train_row(k))
            .collect()
    }

    /// The node of the random tree for pass `pass` of step `step` in this process.
    fn node(&self, stream: u64, step: u64, pass: usize) -> Noise {
        let rank = self.options.communicator.rank() as u64;
        self.noise
            .child(stream)
            .child(step)
            .child(pass as u64)
            .child(rank)
    }

    /// Corrupts the first batch, to find out what is wrong before anything is trained and whether
    /// the network is told the noise level.
    fn probe(&mut self) -> Result<(), TrainError> {
        let batch = Batch::new(&self.rows(0, 0))?;
        let node = self.node(stream::TRAIN, 0, 0);
        let corrupted = self
            .parts
            .objective
            .corrupt(&batch.x0, &batch.loss_cells, &node)?;
        self.time_conditioning = corrupted.sigma.is_some();
        if self.time_conditioning && self.parts.recipe.network.time.is_none() {
            return Err(TrainError::recipe(format!(
                "objective `{}` gives the noise level to the network: add network.time = {{ frequencies = 256, cond = 128 }}, or turn its time conditioning off",
                self.parts.objective.name()
            )));
        }
        Ok(())
    }

    /// Takes one step, or says why it could not be taken; the weights are then those before it.
    fn one_step(&mut self) -> Result<Metrics, TrainError> {
        let began = (self.options.clock)();
        let mut passes = self.passes()?;
        self.params.reduce(self.options.communicator.as_mut())?;
        // The loss is summed over processes as its share of the normaliser, in two words of f32.
        let mut shared = [passes.loss as f32, passes.normaliser as f32];
        if self.options.communicator.world_size() > 1 {
            self.options.communicator.all_reduce_sum(&mut shared)?;
            (passes.loss, passes.normaliser) = (f64::from(shared[0]), f64::from(shared[1]));
        }
        let scale = 1.0 / passes.normaliser.max(1.0);
        let loss = passes.loss * scale;
        let norm = {
            let _span = span::part("clip");
            self.params.norm() * scale
        };
        if !(loss.is_finite() && norm.is_finite()) {
            let what = match self.params.not_finite() {
                Some(name) if loss.is_finite() => format!("gradient of `{name}`"),
                _ => "loss".into(),
            };
            self.params.clear();
            return Err(self.not_finite(what));
        }
        let lr = self.learning_rate();
        self.update(
            lr,
            scale * clip_factor(norm, self.parts.recipe.optimizer.clip),
        )?;
        self.step += 1;
        self.tokens += passes.tokens * self.options.communicator.world_size() as u64;
        let took = ((self.options.clock)() - began).max(1e-9);
        Ok(Metrics {
            step: self.step,
            loss,
            valid: None,
            window: self.window.as_ref().map(|(w, _)| [w.min, w.max]),
            lr,
            grad_norm: norm,
            tokens: self.tokens,
            tokens_per_s: passes.tokens as f64 / took,
            seconds: self.elapsed(),
        })
    }

    fn learning_rate(&self) -> f64 {
        let recipe = &self.parts.recipe;
        recipe.optimizer.lr * recipe.schedule.factor(self.step, recipe.run.steps)
    }

    /// Forward and backward of all passes of the next step.
    fn passes(&mut self) -> Result<Passes, TrainError> {
        let mut out = Passes {
            loss: 0.0,
            normaliser: 0.0,
            tokens: 0,
        };
        let recipe = &self.parts.recipe;
        let adapters = recipe.lora.as_ref().map_or(0.0, |lora| lora.dropout);
        let dropout = recipe.network.dropout > 0.0 || adapters > 0.0;
        for number in 0..self.parts.recipe.optimizer.accumulation {
            let data = span::part("data");
            let mut batch = Batch::new(&self.rows(self.step, number))?;
            let share = self.parts.recipe.data.label_dropout();
            batch.drop_labels(share, &self.node(stream::LABEL, self.step, number));
            drop(data);
            let node = self.node(stream::TRAIN, self.step, number);
            let seed = |stream| self.node(stream, self.step, number).uniform().to_bits();
            let training = Training {
                dropout: dropout.then(|| seed(stream::DROPOUT)),
                opening: (self.parts.recipe.init.opening(self.step))
                    .map(|share| (share, seed(stream::MASK))),
            };
            let network = self.network()?;
            let result = pass(network, self.objective(), &batch, &node, training)?;
            out.tokens += batch.tokens;
            out.normaliser += result.normaliser;
            if let Some(sum) = result.sum {
                out.loss += f64::from(sum.clone().into_scalar::<f32>());
                let backward = span::part("backward");
                let grads = sum.backward();
                drop(backward);
                // Walking back is the whole cost; a loss that is no number is found out after it.
                if let Some(network) = &self.network {
                    let _span = span::part("gradients");
                    self.params.add(network, grads);
                }
            }
        }
        Ok(out)
    }

    fn update(&mut self, lr: f64, scale: f64) -> Result<(), TrainError> {
        let optimizer = &self.parts.recipe.optimizer;
        let adamw = AdamW {
            betas: optimizer.betas,
            eps: optimizer.eps,
            weight_decay: optimizer.weight_decay,
        };
        let number = self.step + 1;
        let update = Update {
            step: adamw.at(number, lr, scale),
            ema: (optimizer.ema > 0.0).then_some((
                Ema {
                    decay: optimizer.ema,
                },
                number,
            )),
            device: &self.device,
        };
        self.network()?;
        let _span = span::part("optimiser");
        self.network = self
            .network
            .take()
            .map(|network| self.params.update(network, &update));
        Ok(())
    }

    /// The network with the averaged weights, adapters merged, without gradients: what the
    /// checkpoint holds.
    fn averaged(&self) -> Result<Transformer, TrainError> {
        let (network, recipe) = (self.network()?, &self.parts.recipe);
        let mut weights = self.params.averaged(network);
        if recipe.lora.is_some() {
            network.for_each_param(&mut |name, data| {
                weights.0.insert(name.to_string(), data);
            });
        }
        let device = &self.options.device;
        let plain = Transformer::from_source(&recipe.network, &mut weights, device)?;
        Ok(match &recipe.lora {
            Some(lora) => plain.with_lora(lora, &mut weights)?.merged()?,
            None => plain,
        })
    }

    /// Mean loss of the validation rows under noise that is the same every time.
    fn validate(&self) -> Result<Option<f64>, TrainError> {
        let rows = self
            .parts
            .corpus
            .valid_rows(self.parts.recipe.run.eval_rows);
        if rows.is_empty() {
            return Ok(None);
        }
        let _span = span::part("validation");
        let network = self.averaged()?;
        // Windows come and go; the bound can be compared between steps and with others.
        let objective = self.parts.validation.as_ref();
        let (mut loss, mut normaliser) = (0.0, 0.0);
        for (number, rows) in rows.chunks(self.parts.recipe.optimizer.batch).enumerate() {
            let node = self.noise.child(stream::VALID).child(number as u64);
            let batch = Batch::new(rows)?;
            let result = pass(&network, objective, &batch, &node, Training::default())?;
            normaliser += result.normaliser;
            loss += result
                .sum
                .map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()));
        }
        Ok(Some(loss / normaliser))
    }

    /// The error of the step that is under way. The weights before it are suspects themselves, so
    /// that nothing is saved: what was saved last had been tried.
    fn not_finite(&self, what: String) -> TrainError {
        TrainError::NotFinite {
            step: self.step + 1,
            what,
            kept: self.saved.map(|step| self.run.state_path(step)),
        }
    }

    /// Tries the weights on one row before they replace what was saved: an update can throw them out
    /// of the range of f32, and only the next loss would tell.
    fn try_weights(&self) -> Result<(), TrainError> {
        let mut rows = self.rows(self.step, 0);
        rows.truncate(1);
        let batch = Batch::new(&rows)?;
        let node = self.node(stream::TRAIN, self.step, 0);
        for (network, what) in [
            (self.network()?, "loss"),
            (&self.averaged()?, "loss of the averaged weights"),
        ] {
            let tried = pass(
                network,
                self.objective(),
                &batch,
                &node,
                Training::default(),
            )?;
            let loss = tried.sum.map_or(0.0, |sum| sum.into_scalar::<f32>());
            if !loss.is_finite() {
                return Err(self.not_finite(what.into()));
            }
        }
        Ok(())
    }

    /// Saves state, checkpoint, card and plot.
    fn save(&mut self, observer: &mut dyn TrainObserver) -> Result<ControlFlow<()>, TrainError> {
        if self.options.communicator.rank() != 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let _span = span::part("checkpoint");
        self.try_weights()?;
        let state = TrainState {
            step: self.step,
            tokens: self.tokens,
            seconds: self.elapsed(),
            fingerprint: self.parts.corpus.fingerprint(),
            base: self.base.as_ref().map(|base| base.hash),
            window: self.window.as_ref().map(|(window, _)| *window),
            params: self.params.states(self.network()?),
        };
        self.metrics.sync()?;
        let path = self.run.save_state(&state)?;
        self.saved = Some(self.step);
        drop(state);
        let checkpoint = self.publish()?;
        Ok(observer.event(&TrainEvent::Saved {
            step: self.step,
            state: &path,
            checkpoint: &checkpoint,
        }))
    }

    /// Writes what a reader of the run wants: checkpoint, model card and plot.
    fn publish(&self) -> Result<PathBuf, TrainError> {
        let recipe = &self.parts.recipe;
        let part = self.run.new_checkpoint()?;
        let window = self.window.as_ref().map(|(window, _)| *window);
        let spec = self
            .parts
            .spec(self.time_conditioning, window, self.step, self.tokens);
        let dtype = match recipe.run.checkpoint_dtype {
            CheckpointDtype::F32 => SaveDtype::F32,
            CheckpointDtype::Bf16 => SaveDtype::Bf16,
        };
        Model::save(
            &part,
            &self.averaged()?,
            &spec,
            &self.parts.tokenizer,
            dtype,
        )?;
        let facts = CardFacts {
            parameters: recipe.network.parameters(),
            trained: self.params.count(),
            steps: self.step,
            tokens: self.tokens,
            seconds: self.elapsed(),
            train_tokens: self.parts.corpus.tokens()[0],
            loss: self.metrics.lines().last().map_or(f64::NAN, |m| m.loss),
            valid: self.valid,
            objective: self.parts.objective.name(),
        };
        if let (Some(lora), Some(base)) = (&recipe.lora, &self.base) {
            let mut params: Vec<_> = self
                .params
                .averaged(self.network()?)
                .0
                .into_iter()
                .collect();
            params.sort_by(|a, b| a.0.cmp(&b.0));
            (self.run).write_adapter(lora, &base.path, &base.spec, params)?;
        }
        self.run.write_card(&part, recipe, &facts)?;
        self.run.write_plot(self.metrics.lines())?;
        self.run.replace_checkpoint(&part)
    }
}

impl Base {
    fn of(recipe: &Recipe, init: &Init) -> Option<Self> {
        let InitConfig::Checkpoint { path, .. } = &recipe.init else {
            return None;
        };
        Some(Self {
            path: path.display().to_string(),
            spec: init.spec.clone()?,
            hash: base_hash(&init.network),
        })
    }
}

/// Refuses to go on with other data or other settings than the state was trained with.
fn check_same(
    parts: &Parts,
    run: &RunDir,
    state: &TrainState,
    base: Option<u64>,
) -> Result<(), TrainError> {
    let fail = |message: String| {
        Err(TrainError::ResumeMismatch {
            path: run.path().to_path_buf(),
            message,
        })
    };
    let before = RunDir::recipe(run.path(), &[])?;
    let changed: Vec<String> = before
        .differences(&parts.recipe)?
        .into_iter()
        .filter(|key| {
            let may = MAY_CHANGE
                .iter()
                .any(|may| key == may || (may.ends_with('.') && key.starts_with(may)));
            // A variance search measures on the validation rows.
            !may || (key == "run.eval_rows" && parts.search.is_some())
        })
        .collect();
    if !changed.is_empty() {
        let may: Vec<&str> = MAY_CHANGE
            .iter()
            .map(|key| key.trim_end_matches('.'))
            .collect();
        return fail(format!(
            "the recipe differs in {}; only {} may change. Start a new run to train with other settings",
            changed.join(", "),
            may.join(", ")
        ));
    }
    if state.fingerprint != parts.corpus.fingerprint() {
        return fail("the data files are not those it was trained on".into());
    }
    if let Some(window) = state.window
        && (parts.search.as_ref()).is_none_or(|search| search.candidate(window).is_none())
    {
        return fail("its window of times is not one of search.windows".into());
    }
    if state.base != base {
        return fail(
            "the checkpoint under the adapters is not the one they were trained on".into(),
        );
    }
    if state.step > parts.recipe.run.steps {
        return fail(format!(
            "it is at step {}, past run.steps = {}",
            state.step, parts.recipe.run.steps
        ));
    }
    Ok(())
}
