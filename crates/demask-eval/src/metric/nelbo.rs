//! The negative evidence lower bound on held-out text, and the perplexity it bounds.
//!
//! | kind of model | bound | source |
//! |---|---|---|
//! | masked | continuous-time masked diffusion | MDLM, arXiv 2406.07524, Eq. 10 |
//! | block masked | the same in each block given the blocks before it, window (1e-3, 1) | BD3-LM, arXiv 2503.09573, Eq. 8 |
//! | uniform | continuous-time uniform diffusion | UDLM, arXiv 2412.10193, Eq. 18 |
//! | uniform, predicting scores | score entropy | SEDD, arXiv 2310.16834 |
//! | autoregressive | none needed: exact | — |
//!
//! Losses are summed over all windows and divided once by all scored tokens. The standard error is
//! that of the mean over independent draws of all times and masks; it says how well the bound of
//! *this* text is known, not how it varies between texts.

use demask_diffusion::objective::autoregressive::AutoregressiveConfig;
use demask_diffusion::objective::bd3::Bd3Config;
use demask_diffusion::objective::mdlm::MdlmConfig;
use demask_diffusion::objective::sedd_uniform::SeddUniformConfig;
use demask_diffusion::objective::udlm::UdlmConfig;
use demask_diffusion::objective::{LossInput, Objective, Wanted};
use demask_diffusion::schedule::{Convention, Draw, ScheduleConfig, TimeSampling};
use demask_diffusion::{Corrupted, Ids, Noise, ObjectiveConfig, Time, Vocabulary};
use demask_models::{ModelKind, Predicts, pass};
use serde::{Deserialize, Serialize};

use super::Metric;
use crate::data::Window;
use crate::evaluate::Bench;
use crate::observer::tell;
use crate::score::{host, logits, nats};
use crate::{EvalError, EvalObserver, LanguageModel, MetricName, Row};

/// Settings of the bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NelboConfig {
    /// Draws of times and masks for every window. An autoregressive model takes one.
    pub draws: usize,
    /// Smallest time drawn, above 0 and below 1; the largest is 1.
    pub eps: f64,
    /// Times of the windows of a draw are stratified over (0, 1), and the strata are dealt to the
    /// windows anew for each draw. Blocks of a block model always draw independently: strata in a
    /// fixed order would tie each block's place in the text to its noise level.
    pub antithetic: bool,
    /// The first cell of every window is given and not scored. `null` does what the kind of model
    /// is used to: autoregressive models cannot score it, block models are given it (BD3-LM, where
    /// it is the begin token), masked and uniform models score it.
    pub first_given: Option<bool>,
    /// Another objective than that of the model's kind, as in a recipe; `null` takes the kind's own. It must be a
    /// bound.
    pub objective: Option<ObjectiveConfig>,
}

impl Default for NelboConfig {
    fn default() -> Self {
        Self {
            draws: 16,
            eps: 1e-3,
            antithetic: true,
            first_given: None,
            objective: None,
        }
    }
}

impl NelboConfig {
    /// An error that names the field when a setting is outside its range.
    pub fn check(&self) -> Result<(), EvalError> {
        if self.draws == 0 {
            return Err(EvalError::setting("nelbo.draws", 0, "at least 1"));
        }
        if !(self.eps > 0.0 && self.eps < 1.0) {
            return Err(EvalError::setting(
                "nelbo.eps",
                self.eps,
                "a number in (0, 1)",
            ));
        }
        Ok(())
    }
}

/// The bound on a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nelbo {
    /// Nats a token.
    pub nats: f64,
    /// Standard error of [`Nelbo::nats`] over draws; 0 where the value is exact, `None` for one
    /// draw.
    pub std_error: Option<f64>,
    /// Scored tokens.
    pub tokens: usize,
    /// Bytes of text behind them.
    pub bytes: f64,
    /// Draws taken.
    pub draws: usize,
    /// Nats of each window, its mean over draws.
    pub windows: Vec<f64>,
}

impl Nelbo {
    /// `exp` of the nats a token.
    pub fn perplexity(&self) -> f64 {
        self.nats.exp()
    }

    /// Bits a token: bits a character (BPC) or dimension (BPD) where a token is one.
    pub fn bits_per_token(&self) -> f64 {
        self.nats / std::f64::consts::LN_2
    }

    /// Bits a byte of text, which compares models with different tokenizers; `None` where no text
    /// stands behind the tokens.
    pub fn bits_per_byte(&self) -> Option<f64> {
        (self.bytes > 0.0).then(|| self.bits_per_token() * self.tokens as f64 / self.bytes)
    }
}

/// The objective that bounds the likelihood of a kind of model.
pub fn objective_of(model: &dyn LanguageModel, config: &NelboConfig) -> ObjectiveConfig {
    if let Some(objective) = &config.objective {
        return objective.clone();
    }
    let draw = if config.antithetic {
        Draw::Antithetic
    } else {
        Draw::Independent
    };
    let time = TimeSampling {
        draw,
        min: config.eps,
        ..TimeSampling::default()
    };
    // p = t: the bound does not depend on the schedule, and this one reaches both ends.
    let schedule = ScheduleConfig::loglinear(Convention::Bd3lms);
    let time_input = model.time_conditioning();
    match model.kind() {
        ModelKind::Masked => ObjectiveConfig::Mdlm(MdlmConfig {
            schedule,
            time,
            time_input,
            ..Default::default()
        }),
        ModelKind::Uniform if model.predicts() != Predicts::Clean => {
            ObjectiveConfig::SeddUniform(SeddUniformConfig {
                // At time 1 this schedule keeps a thousandth of the text; the other would keep none,
                // at a total noise without end.
                schedule: ScheduleConfig::loglinear(Convention::Mdlm),
                time,
                time_input,
                ..Default::default()
            })
        }
        ModelKind::Uniform => ObjectiveConfig::Udlm(UdlmConfig {
            schedule,
            time,
            time_input,
            ..Default::default()
        }),
        ModelKind::BlockMasked { block: 1 } => ObjectiveConfig::Bd3(Bd3Config {
            block: 1,
            schedule,
            time: TimeSampling { min: 1.0, ..time },
            ignore_bos: config.first_given.unwrap_or(true),
            ..Default::default()
        }),
        ModelKind::BlockMasked { block } => ObjectiveConfig::Bd3(Bd3Config {
            block,
            schedule,
            time: TimeSampling {
                draw: Draw::Independent,
                ..time
            },
            ignore_bos: config.first_given.unwrap_or(true),
            ..Default::default()
        }),
        ModelKind::Autoregressive => {
            ObjectiveConfig::Autoregressive(AutoregressiveConfig::default())
        }
    }
}

/// The bound on `windows`, forwarding at most `batch` rows at a time.
pub fn nelbo(
    model: &dyn LanguageModel,
    windows: &[Window],
    config: &NelboConfig,
    batch: usize,
    noise: Noise,
    observer: &mut dyn EvalObserver,
) -> Result<Nelbo, EvalError> {
    config.check()?;
    let chosen = objective_of(model, config);
    let vocabulary = Vocabulary {
        size: model.vocab_size(),
        mask: model.ids().mask,
    };
    let objective = chosen.build(vocabulary)?;
    check_fit(model, &chosen, objective.name())?;
    if !objective.is_bound() {
        return Err(EvalError::setting(
            "nelbo.objective",
            objective.name(),
            "one whose expectation bounds the likelihood: weighted, over all times (from 0.001 or \
             less to 1) on a schedule from clean to noise, all cells counted alike",
        ));
    }
    let given = match (model.kind(), config.first_given) {
        (ModelKind::Autoregressive, Some(false)) => {
            return Err(EvalError::setting(
                "nelbo.first_given",
                false,
                "true or left out: an autoregressive model cannot score the first cell",
            ));
        }
        (ModelKind::Masked | ModelKind::Uniform, Some(given)) => given,
        // Their objectives leave the first cell out themselves.
        _ => false,
    };
    let exact = match (&chosen, model.kind()) {
        (ObjectiveConfig::Autoregressive(_), _) => true,
        (ObjectiveConfig::Bd3(bd3), _) => bd3.block == 1 && bd3.time.min >= 1.0,
        _ => false,
    };
    let draws = if exact { 1 } else { config.draws };
    let groups = by_length(windows);
    let rows_in_all = draws * windows.len();
    let mut sums = vec![0.0; windows.len()];
    let mut scored = vec![vec![false; 0]; windows.len()];
    let mut totals = Vec::with_capacity(draws);
    let mut done = 0;
    for draw in 0..draws as u64 {
        let mut total = 0.0;
        for (length, members) in &groups {
            let noise = noise.child(draw).child(*length as u64);
            let order = dealt(members, noise.child(0));
            let rows: Vec<&[u32]> = order.iter().map(|w| windows[*w].ids.as_slice()).collect();
            let x0 = Ids::from_rows(&rows)?;
            let cells: Vec<bool> = (0..x0.data().len())
                .map(|cell| !given || cell % length > 0)
                .collect();
            let corrupted = objective.corrupt(&x0, &cells, &noise.child(1))?;
            if draw == 0 {
                note_scored(&corrupted, &*objective, &order, *length, &mut scored)?;
            }
            let losses = losses(model, &*objective, &corrupted, batch, &mut |rows| {
                // Objectives with a reconstruction half have two input rows for each window.
                let of = corrupted.input.batch().max(1);
                tell(
                    observer,
                    "nelbo",
                    done + rows * members.len() / of,
                    rows_in_all,
                )
            })?;
            done += members.len();
            let mut by_window = vec![0.0; windows.len()];
            for (loss, cell) in losses.iter().zip(&corrupted.cell) {
                by_window[order[*cell as usize / length]] += loss;
            }
            for &window in members {
                sums[window] += by_window[window];
                total += by_window[window];
            }
        }
        totals.push(total);
    }
    let (mut tokens, mut bytes) = (0, 0.0);
    for (window, scored) in windows.iter().zip(&scored) {
        for (byte, _) in window
            .bytes
            .iter()
            .zip(scored)
            .filter(|(_, scored)| **scored)
        {
            tokens += 1;
            bytes += byte;
        }
    }
    if tokens == 0 {
        return Err(EvalError::Data(
            "no token is scored: every window is a single token, which this model is only given"
                .into(),
        ));
    }
    let (mean, error) = super::mean_and_error(&totals);
    let count = tokens as f64;
    Ok(Nelbo {
        nats: mean / count,
        std_error: if exact {
            Some(0.0)
        } else {
            error.map(|error| error / count)
        },
        tokens,
        bytes,
        draws,
        windows: sums.into_iter().map(|sum| sum / draws as f64).collect(),
    })
}

/// Refuses an objective that is not for models of this kind: their bound would be of another model.
fn check_fit(
    model: &dyn LanguageModel,
    objective: &ObjectiveConfig,
    name: &str,
) -> Result<(), EvalError> {
    let kind = ModelKind::trained_with(objective);
    let predicts = Predicts::trained_with(objective);
    // The scores of masked cells are the odds of clean tokens: cross-entropy reads them as they are.
    let reads =
        predicts == model.predicts() || (kind == ModelKind::Masked && predicts == Predicts::Clean);
    if kind == model.kind() && reads {
        return Ok(());
    }
    let needed = match model.kind() {
        ModelKind::Masked if model.predicts() != Predicts::Clean => {
            "one for masked cells, as mdlm, or sedd_absorbing as the model was trained".into()
        }
        ModelKind::Masked => "one for masked cells, as mdlm".into(),
        ModelKind::Uniform if model.predicts() != Predicts::Clean => "sedd_uniform".into(),
        ModelKind::Uniform => "udlm".into(),
        ModelKind::BlockMasked { block } => format!("bd3 with block = {block}"),
        ModelKind::Autoregressive => "autoregressive".to_string(),
    };
    let needed = format!("{needed}: the model writes and predicts that way");
    Err(EvalError::setting("nelbo.objective", name, needed))
}

/// The windows of each length, longest first, each group in order.
fn by_length(windows: &[Window]) -> Vec<(usize, Vec<usize>)> {
    let mut groups = std::collections::BTreeMap::<usize, Vec<usize>>::new();
    for (i, window) in windows
        .iter()
        .enumerate()
        .filter(|(_, window)| !window.ids.is_empty())
    {
        groups.entry(window.ids.len()).or_default().push(i);
    }
    groups.into_iter().rev().collect()
}

/// The windows in an order drawn for this draw alone. An antithetic draw gives row `i` the stratum
/// `i`, so each window's time is uniform over all draws only if its row is.
fn dealt(members: &[usize], noise: Noise) -> Vec<usize> {
    let uniforms = noise.uniforms(members.len());
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&a, &b| uniforms[a].total_cmp(&uniforms[b]).then(a.cmp(&b)));
    order.into_iter().map(|i| members[i]).collect()
}

/// Notes which cells of each window count. An objective scores all cells, but for the first where
/// the model is only given it.
fn note_scored(
    corrupted: &Corrupted,
    objective: &dyn Objective,
    order: &[usize],
    length: usize,
    scored: &mut [Vec<bool>],
) -> Result<(), EvalError> {
    let first_given = corrupted.scored < order.len() * length;
    if first_given && corrupted.scored != order.len() * (length - 1) {
        return Err(EvalError::setting(
            "nelbo.objective",
            objective.name(),
            "one that scores all cells, or all but the first",
        ));
    }
    for &window in order {
        scored[window] = (0..length).map(|cell| cell > 0 || !first_given).collect();
    }
    Ok(())
}

/// The weighted loss of every asked cell, in order, from passes over at most `batch` input rows.
fn losses(
    model: &dyn LanguageModel,
    objective: &dyn Objective,
    corrupted: &Corrupted,
    batch: usize,
    after: &mut dyn FnMut(usize) -> Result<(), EvalError>,
) -> Result<Vec<f64>, EvalError> {
    let (rows, length) = (corrupted.input.batch(), corrupted.input.length());
    let mut losses = Vec::with_capacity(corrupted.asked.len());
    let mut from = 0;
    for low in (0..rows).step_by(batch.max(1)) {
        let high = rows.min(low + batch.max(1));
        let count = corrupted.asked[from..].partition_point(|a| (*a as usize) < high * length);
        if count > 0 {
            let part = slice(corrupted, low..high, from..from + count)?;
            let found = logits(model, pass::input(objective, &part))?;
            let prediction = match objective.wants() {
                Wanted::Logits => LossInput::Logits(found),
                Wanted::CrossEntropy => {
                    let nats = nats(found, &part.target, part.forbidden)?;
                    losses.extend(nats.iter().zip(&part.weight).map(|(nats, w)| nats * w));
                    from += count;
                    after(high)?;
                    continue;
                }
            };
            losses.extend(host(
                objective.loss(prediction, &part)?,
                "the bound of a token",
            )?);
            from += count;
        }
        after(high)?;
    }
    Ok(losses)
}

/// The input rows `rows` and asked rows `asked` of a corrupted batch.
fn slice(
    corrupted: &Corrupted,
    rows: std::ops::Range<usize>,
    asked: std::ops::Range<usize>,
) -> Result<Corrupted, EvalError> {
    let length = corrupted.input.length();
    let cells = rows.start * length..rows.end * length;
    let cut = |time: &Time| -> Result<Time, EvalError> {
        let width = time.length();
        let data = time.data()[rows.start * width..rows.end * width].to_vec();
        Ok(if time.is_per_sequence() {
            Time::per_sequence(data)
        } else {
            Time::per_token(rows.len(), width, data)?
        })
    };
    Ok(Corrupted {
        input: Ids::new(rows.len(), length, corrupted.input.data()[cells].to_vec())?,
        blocks: corrupted.blocks.clone(),
        time: cut(&corrupted.time)?,
        sigma: corrupted.sigma.as_ref().map(cut).transpose()?,
        asked: corrupted.asked[asked.clone()]
            .iter()
            .map(|flat| flat - (rows.start * length) as u32)
            .collect(),
        target: corrupted.target[asked.clone()].to_vec(),
        present: corrupted.present[asked.clone()].to_vec(),
        row_time: corrupted.row_time[asked.clone()].to_vec(),
        cell: corrupted.cell[asked.clone()].to_vec(),
        weight: corrupted.weight[asked].to_vec(),
        normaliser: corrupted.normaliser,
        scored: corrupted.scored,
        forbidden: corrupted.forbidden,
    })
}

/// The rows `nelbo` and `ppl` of a report.
pub(crate) struct Bound {
    /// The perplexity instead of its logarithm.
    pub perplexity: bool,
}

impl Metric for Bound {
    fn measure(&self, bench: &mut Bench<'_>) -> Result<Vec<Row>, EvalError> {
        let metric = if self.perplexity {
            MetricName::Ppl
        } else {
            MetricName::Nelbo
        };
        let bound = bench.bound(metric)?;
        let over = match bound.std_error {
            Some(0.0) => format!("{} tokens", bound.tokens),
            _ => format!("{} tokens, {} draws", bound.tokens, bound.draws),
        };
        let row = |name: &str, value, scale: f64, unit| Row {
            metric,
            name: name.into(),
            value,
            std_error: bound.std_error.map(|error| error * scale),
            unit,
            over: over.clone(),
        };
        if self.perplexity {
            let value = bound.perplexity();
            return Ok(vec![row("ppl", value, value, "")]);
        }
        let bits = 1.0 / std::f64::consts::LN_2;
        let mut rows = vec![
            row("nelbo", bound.nats, 1.0, "nats/token"),
            row("bits per token", bound.bits_per_token(), bits, "bits/token"),
        ];
        if let Some(value) = bound.bits_per_byte() {
            let scale = bits * bound.tokens as f64 / bound.bytes;
            rows.push(row("bits per byte", value, scale, "bits/byte"));
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests;
