//! How likely a model finds an answer after a prompt.
//!
//! | file | rule | source |
//! |---|---|---|
//! | `exact_count.rs` | exactly `l` answer tokens masked, `l` stratified over 1..L | LLaDA, arXiv 2502.09992, Eq. 6 |
//! | `bernoulli.rs` | each token masked with chance `p(t)`, `t` stratified | Dream, arXiv 2508.15487, evaluation code |
//! | `enumerate.rs` | every set of masked tokens once: the exact any-order value | — |
//! | `greedy.rs` | would greedy writing give this answer? | LLaDA, arXiv 2502.09992, evaluation code |
//!
//! An autoregressive model is scored exactly, whatever the rule says. A block model is scored block
//! by block in one pass over `[noisy ; clean]`.

mod bernoulli;
mod enumerate;
mod exact_count;
mod greedy;
mod report;

use burn::tensor::{Tensor, TensorData};
use demask_diffusion::Noise;
use demask_diffusion::sampling::classifier_free;
use demask_models::ModelKind;
use demask_nn::{Asked, AttentionMask, Input};
use serde::{Deserialize, Serialize};

pub use greedy::{GreedyMatch, greedy_match};
pub(crate) use report::{Answers, Greedy};

use crate::data::Pair;
use crate::score::{Canvases, host_f32, logits, mask_of, nats};
use crate::{EvalError, LanguageModel};

const METRIC: &str = "likelihood";

/// Which answer tokens are masked, and how the rows are weighted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// LLaDA: exactly `l` tokens, `l` stratified over the rows of a round.
    Llada {
        /// Half-way counts round to even, as in the published code. Some `l` then come up more
        /// often than others (for `L = 3` in rounds of 2: 1 three times as often as 3), which
        /// biases the estimate; rounding halves up keeps every `l` equally likely.
        #[serde(default)]
        ties_to_even: bool,
    },
    /// Dream: each token with chance `(1 - eps) t + eps`, `t` stratified over the rows of a round.
    Dream {
        /// Least chance of a mask, in [0, 1).
        #[serde(default = "eps")]
        eps: f64,
        /// The first and the last cell of the row are never masked, as in Dream's code, where the
        /// last one is an end token behind the answer: `demask eval` puts it there, and whoever
        /// calls [`log_likelihood`] does. Every answer token is then scored with the end in view.
        #[serde(default = "yes")]
        keep_edges: bool,
    },
    /// All `2^L - 1` sets of masked tokens: exact, for answers of at most 12 tokens.
    Enumerate,
}

fn eps() -> f64 {
    1e-3
}

fn yes() -> bool {
    true
}

/// Settings of the likelihood of answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LikelihoodConfig {
    /// Which answer tokens are masked.
    pub rule: Rule,
    /// Rows drawn for each answer; a multiple of `round`.
    pub mc_num: usize,
    /// Rows of a round, over which `l` or `t` is stratified.
    pub round: usize,
    /// Classifier-free guidance `w`: logits become `u + (w + 1)(c - u)` with `u` seen without the
    /// prompt. 0 is none.
    pub cfg: f64,
    /// The mask token is never predicted. `false` keeps its share of the softmax, as LLaDA's
    /// published numbers do.
    pub forbid_mask: bool,
    /// The model's begin token stands before the prompt. `null`: as in the documents it was trained
    /// on (Dream's base evaluation puts one, LLaDA's does not).
    ///
    /// See [`LanguageModel::frame`].
    pub bos: Option<bool>,
}

impl Default for LikelihoodConfig {
    fn default() -> Self {
        Self {
            rule: Rule::Llada {
                ties_to_even: false,
            },
            mc_num: 128,
            round: 16,
            cfg: 0.0,
            forbid_mask: true,
            bos: None,
        }
    }
}

impl LikelihoodConfig {
    /// An error that names the field when a setting is outside its range.
    pub fn check(&self) -> Result<(), EvalError> {
        if self.round == 0 || self.mc_num == 0 || !self.mc_num.is_multiple_of(self.round) {
            let needed = format!("a positive multiple of likelihood.round = {}", self.round);
            return Err(EvalError::setting("likelihood.mc_num", self.mc_num, needed));
        }
        if !(self.cfg.is_finite() && self.cfg >= 0.0) {
            return Err(EvalError::setting(
                "likelihood.cfg",
                self.cfg,
                "a finite number, 0 (off) or larger",
            ));
        }
        if let Rule::Dream { eps, .. } = self.rule
            && !(0.0..1.0).contains(&eps)
        {
            return Err(EvalError::setting(
                "likelihood.rule.eps",
                eps,
                "a number in [0, 1)",
            ));
        }
        Ok(())
    }
}

/// An estimate of a log-likelihood, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogLikelihood {
    /// `ln p(answer | prompt)`, or a bound from below on it.
    pub value: f64,
    /// Standard error over rounds; 0 where the value is exact, `None` for a single round.
    pub std_error: Option<f64>,
    /// Tokens of the answer.
    pub tokens: usize,
}

/// One masked row: the masked cells of the whole sequence and the weight of each one's
/// cross-entropy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MaskedRow {
    /// Masked cells, rising.
    pub cells: Vec<usize>,
    /// Weight of each.
    pub weights: Vec<f64>,
}

/// Whether the first and the last cell of a row are seen and never masked. A left-to-right model masks
/// nothing: it is scored exactly, whatever the rule says.
fn keeps_edges(model: &dyn LanguageModel, rule: Rule) -> bool {
    let dream = matches!(
        rule,
        Rule::Dream {
            keep_edges: true,
            ..
        }
    );
    dream && model.kind() != ModelKind::Autoregressive
}

/// `ln p(answer | prompt)` by the rule of `config`, forwarding at most `batch` rows at a time.
pub fn log_likelihood(
    model: &dyn LanguageModel,
    prompt: &[u32],
    answer: &[u32],
    config: &LikelihoodConfig,
    batch: usize,
    noise: Noise,
) -> Result<LogLikelihood, EvalError> {
    config.check()?;
    let request = Request::new(model, prompt, answer, config)?;
    // The edges of the row are seen and never masked, so they are no part of what is measured.
    let tokens = if keeps_edges(model, config.rule) {
        let edge = |&cell: &usize| cell == 0 || cell + 1 == request.ids.len();
        answer.len() - (request.prompt..request.ids.len()).filter(edge).count()
    } else {
        answer.len()
    };
    if tokens == 0 {
        return Err(EvalError::Data(
            "an answer whose every token is an edge of its row has no likelihood; set keep_edges = false in \
             likelihood.rule"
                .into(),
        ));
    }
    if model.kind() == ModelKind::Autoregressive {
        let value = autoregressive(model, &request)?;
        return Ok(LogLikelihood {
            value,
            std_error: Some(0.0),
            tokens,
        });
    }
    if config.rule == Rule::Enumerate {
        let rows = enumerate::rows(&request.groups)?;
        let value = -row_losses(model, &request, &rows, batch)?
            .iter()
            .sum::<f64>();
        return Ok(LogLikelihood {
            value,
            std_error: Some(0.0),
            tokens,
        });
    }
    if matches!(config.rule, Rule::Llada { .. })
        && request.groups.iter().all(|group| group.len() == 1)
    {
        // One token a block has one way to be masked: a single row is exact.
        let rows = exact_count::rows(&request.groups, 1, false, noise);
        let value = -row_losses(model, &request, &rows, batch)?
            .iter()
            .sum::<f64>();
        return Ok(LogLikelihood {
            value,
            std_error: Some(0.0),
            tokens,
        });
    }
    let rounds = config.mc_num / config.round;
    let rows: Vec<MaskedRow> = (0..rounds as u64)
        .flat_map(|round| match config.rule {
            Rule::Dream { eps, keep_edges } => {
                bernoulli::rows(&request, config.round, eps, keep_edges, noise.child(round))
            }
            Rule::Llada { ties_to_even } => exact_count::rows(
                &request.groups,
                config.round,
                ties_to_even,
                noise.child(round),
            ),
            Rule::Enumerate => Vec::new(),
        })
        .collect();
    let losses = row_losses(model, &request, &rows, batch)?;
    let means: Vec<f64> = losses
        .chunks(config.round)
        .map(|round| -round.iter().sum::<f64>() / round.len() as f64)
        .collect();
    let (value, std_error) = super::mean_and_error(&means);
    Ok(LogLikelihood {
        value,
        std_error,
        tokens,
    })
}

/// Tokens of a pair: trailing blanks of the prompt move to the answer, both are encoded together
/// and split where the prompt alone would end (the convention of the common harnesses). Where the
/// whole answer melts into the last token of the prompt, the two are encoded apart.
pub fn encode_pair(
    model: &dyn LanguageModel,
    pair: &Pair,
) -> Result<(Vec<u32>, Vec<u32>), EvalError> {
    let kept = pair.prompt.trim_end();
    let whole = model.encode(&format!("{}{}", pair.prompt, pair.answer))?;
    let prompt = model.encode(kept)?;
    let cut = prompt.len().min(whole.len());
    if cut == whole.len() && !pair.answer.is_empty() {
        return Ok((model.encode(&pair.prompt)?, model.encode(&pair.answer)?));
    }
    Ok((whole[..cut].to_vec(), whole[cut..].to_vec()))
}

/// The loss of each masked row: `sum weight · -ln p(token)`, in order.
pub fn masked_row_losses(
    model: &dyn LanguageModel,
    prompt: &[u32],
    answer: &[u32],
    config: &LikelihoodConfig,
    rows: &[MaskedRow],
    batch: usize,
) -> Result<Vec<f64>, EvalError> {
    row_losses(
        model,
        &Request::new(model, prompt, answer, config)?,
        rows,
        batch,
    )
}

/// A prompt and an answer as one row.
struct Request {
    ids: Vec<u32>,
    /// Cells before the answer.
    prompt: usize,
    /// Answer cells that are masked together: all of them, or those of one block.
    groups: Vec<Vec<usize>>,
    mask: Option<u32>,
    forbidden: Option<u32>,
    cfg: f64,
}

/// The token before the prompt, if any. An autoregressive model needs one where there is no prompt.
fn begin(
    model: &dyn LanguageModel,
    config: &LikelihoodConfig,
    alone: bool,
) -> Result<Option<u32>, EvalError> {
    let bos = model.ids().bos;
    let needed = if alone && model.kind() == ModelKind::Autoregressive {
        "a prompt before every answer: the model has no begin token"
    } else {
        match config.bos {
            None => return Ok(bos.filter(|_| model.frame().bos)),
            Some(false) => return Ok(None),
            Some(true) => "a model with a begin token, or likelihood.bos = false",
        }
    };
    bos.map(Some).ok_or_else(|| EvalError::Needs {
        metric: METRIC,
        needed: needed.into(),
    })
}

impl Request {
    fn new(
        model: &dyn LanguageModel,
        prompt: &[u32],
        answer: &[u32],
        config: &LikelihoodConfig,
    ) -> Result<Self, EvalError> {
        if answer.is_empty() {
            return Err(EvalError::Data(
                "an answer without tokens has no likelihood".into(),
            ));
        }
        let kind = model.kind();
        let ids: Vec<u32> = begin(model, config, prompt.is_empty())?
            .into_iter()
            .chain(prompt.iter().chain(answer).copied())
            .collect();
        if ids.len() > model.max_length() {
            return Err(EvalError::Data(format!(
                "prompt and answer have {} tokens together; the model reads at most {}",
                ids.len(),
                model.max_length()
            )));
        }
        let prompt = ids.len() - answer.len();
        let cells: Vec<usize> = (prompt..ids.len()).collect();
        let (mask, groups) = match kind {
            ModelKind::Masked => (Some(mask_of(model, METRIC)?), vec![cells]),
            ModelKind::BlockMasked { block } => {
                let groups = cells.chunk_by(|a, b| a / block.max(1) == b / block.max(1));
                (
                    Some(mask_of(model, METRIC)?),
                    groups.map(<[usize]>::to_vec).collect(),
                )
            }
            ModelKind::Autoregressive => (None, vec![cells]),
            ModelKind::Uniform => {
                return Err(EvalError::Needs {
                    metric: METRIC,
                    needed: "a masked, block or autoregressive model; \
                             measure a uniform-noise model with `nelbo`"
                        .into(),
                });
            }
        };
        let forbidden = mask.filter(|_| config.forbid_mask);
        Ok(Self {
            ids,
            prompt,
            groups,
            mask,
            forbidden,
            cfg: config.cfg,
        })
    }

    /// The sequence with `masked` cells open.
    fn noisy(&self, masked: &[usize]) -> Vec<u32> {
        let mut row = self.ids.clone();
        if let Some(mask) = self.mask {
            masked.iter().for_each(|cell| row[*cell] = mask);
        }
        row
    }

    /// The row without its prompt.
    fn unprompted(&self, row: &[u32]) -> Vec<u32> {
        let mask = self.mask.unwrap_or_default();
        let open = std::iter::repeat_n(mask, self.prompt);
        open.chain(row[self.prompt..].iter().copied()).collect()
    }
}

/// The (guided) logits of the asked cells of some rows.
fn guided(
    model: &dyn LanguageModel,
    request: &Request,
    noisy: &[Vec<u32>],
    clean: &[Vec<u32>],
    asked: &[(usize, usize)],
) -> Result<Tensor<2>, EvalError> {
    let kind = model.kind();
    let conditional = logits(
        model,
        Canvases {
            noisy,
            clean,
            asked,
        }
        .input(kind),
    )?;
    if request.cfg == 0.0 {
        return Ok(conditional);
    }
    let strip = |rows: &[Vec<u32>]| -> Vec<Vec<u32>> {
        rows.iter().map(|row| request.unprompted(row)).collect()
    };
    let (noisy, clean) = (strip(noisy), strip(clean));
    let free = logits(
        model,
        Canvases {
            noisy: &noisy,
            clean: &clean,
            asked,
        }
        .input(kind),
    )?;
    let (device, shape) = (conditional.device(), conditional.dims());
    let mut found = host_f32(conditional)?;
    classifier_free(&mut found, &host_f32(free)?, request.cfg);
    Ok(Tensor::from_data(TensorData::new(found, shape), &device))
}

fn row_losses(
    model: &dyn LanguageModel,
    request: &Request,
    rows: &[MaskedRow],
    batch: usize,
) -> Result<Vec<f64>, EvalError> {
    let mut losses = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(batch.max(1)) {
        let noisy: Vec<Vec<u32>> = chunk.iter().map(|row| request.noisy(&row.cells)).collect();
        let clean = vec![request.ids.clone(); chunk.len()];
        let asked: Vec<(usize, usize)> = chunk
            .iter()
            .enumerate()
            .flat_map(|(r, row)| row.cells.iter().map(move |cell| (r, *cell)))
            .collect();
        if asked.is_empty() {
            losses.extend(std::iter::repeat_n(0.0, chunk.len()));
            continue;
        }
        let targets: Vec<u32> = asked.iter().map(|(_, cell)| request.ids[*cell]).collect();
        let found = guided(model, request, &noisy, &clean, &asked)?;
        let mut nats = nats(found, &targets, request.forbidden)?.into_iter();
        for row in chunk {
            // zip would drop a value where the weights end: take exactly as many as there are.
            losses.push(
                row.weights
                    .iter()
                    .map(|w| w * nats.next().unwrap_or(f64::NAN))
                    .sum(),
            );
        }
    }
    Ok(losses)
}

/// `sum ln p(token | tokens before)` over the answer.
fn autoregressive(model: &dyn LanguageModel, request: &Request) -> Result<f64, EvalError> {
    let length = request.ids.len();
    let input = Input {
        mask: AttentionMask::causal(),
        asked: Asked::Rows((request.prompt..length).map(|cell| cell as u32).collect()),
        ..Input::ids(request.ids.clone(), 1, length)
    };
    let found = logits(model, input)?;
    Ok(-nats(found, &request.ids[request.prompt..], None)?
        .iter()
        .sum::<f64>())
}

#[cfg(test)]
mod tests;
