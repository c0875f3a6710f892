//! What is read from the predictions of cells: a token, and how sure it is.

use demask_diffusion::sampling;
use demask_kernels::rowwise::{Asked, Noise, RowScore, Softmax, score};
use demask_kernels::threads;

use super::filter::FEW;
use super::{Draw, DrawKind, categorical};
use crate::TextError;
use crate::uniforms::Numbers;

/// The reading of one row of logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The token that is drawn; 0 where none is possible.
    pub token: u32,
    /// Its logit.
    pub logit: f32,
    /// The softmax without temperature or filters.
    pub plain: Softmax,
    drawn_from: DrawnFrom,
}

/// The distribution that the token was drawn from.
#[derive(Debug, Clone, PartialEq)]
enum DrawnFrom {
    /// All tokens, at the temperature.
    All(Softmax),
    /// Those that filters keep, falling.
    Kept(Vec<(u32, f64)>),
}

impl Draw {
    /// Readings of rows of logits, `[rows, vocab]` row-major. `numbers` has those of each row
    /// ([`uniforms`](Self::uniforms) of them; at temperature 0 it may be empty). `chances`: whether
    /// [`Reading::drawn`], [`Reading::margin`] or [`Reading::neg_entropy`] will be asked for.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn read(
        &self,
        logits: &[f32],
        vocab: usize,
        numbers: &[Numbers],
        chances: bool,
    ) -> Vec<Reading> {
        let filters = self.filters(vocab);
        let draws = self.temperature > 0.0;
        let noise: Vec<Noise<'_>> = numbers.iter().map(Numbers::noise).collect();
        let by_kernel = draws && self.is_scored(vocab);
        let asked = Asked {
            temperature: self.temperature,
            tempered: chances || filters || draws && !by_kernel,
            largest: if filters { FEW } else { 0 },
        };
        let scores = score(logits, vocab, &asked, if by_kernel { &noise } else { &[] });
        let work = match (filters, draws && !by_kernel) {
            (true, _) => 50_000 * scores.len(),
            (false, true) => 30 * logits.len(),
            (false, false) => 0,
        };
        threads::map(scores.len(), work, |i| {
            let noise = noise.get(i).filter(|_| draws && !by_kernel);
            self.one(&logits[i * vocab..][..vocab], &scores[i], noise, filters)
        })
    }

    /// Whether the scores of a row are all that is read of it: its logits need not be stored. With filters a row is
    /// looked at again, and an inverse of the distribution function is, too.
    pub(crate) fn is_scored(&self, vocab: usize) -> bool {
        let at_once = self.temperature == 0.0 || self.kind == DrawKind::Gumbel;
        at_once && !self.filters(vocab)
    }

    /// What the kernels are asked for where [scores are enough](Self::is_scored).
    pub(crate) fn asked(&self, chances: bool) -> Asked {
        Asked {
            temperature: self.temperature,
            tempered: chances,
            largest: 0,
        }
    }

    /// The reading of a row. `noise`: its random numbers, if the token is still to be drawn.
    fn one(
        &self,
        logits: &[f32],
        scored: &RowScore,
        noise: Option<&Noise<'_>>,
        filters: bool,
    ) -> Reading {
        let Reading {
            mut token,
            mut drawn_from,
            ..
        } = Reading::of(scored);
        if filters {
            let kept = self.kept_of(logits, scored);
            token = match noise {
                None => kept.first().map_or(0, |(token, _)| *token),
                Some(noise) => self.among(&kept, logits, noise),
            };
            drawn_from = DrawnFrom::Kept(kept);
        } else if let Some(noise) = noise {
            token = categorical::draw(logits, &scored.tempered, self.temperature, noise.uniform(0));
        }
        Reading {
            token,
            logit: logits[token as usize],
            plain: scored.plain,
            drawn_from,
        }
    }

    /// A token of those that filters keep; 0 if there is none.
    fn among(&self, kept: &[(u32, f64)], logits: &[f32], noise: &Noise<'_>) -> u32 {
        let mut rising = kept.to_vec();
        rising.sort_unstable_by_key(|(token, _)| *token);
        let index = match self.kind {
            DrawKind::Gumbel => {
                let z = rising.iter().map(|(token, _)| logits[*token as usize]);
                let u = rising
                    .iter()
                    .map(|(token, _)| noise.uniform(*token as usize));
                sampling::gumbel_argmax_with(&z.collect::<Vec<_>>(), self.temperature, u)
            }
            DrawKind::Categorical => {
                let p: Vec<f64> = rising.iter().map(|(_, p)| *p).collect();
                sampling::categorical(&p, noise.uniform(0))
            }
        };
        rising.get(index).map_or(0, |(token, _)| *token)
    }
}

impl Reading {
    /// The reading of a row whose token the kernels have drawn.
    pub fn of(scored: &RowScore) -> Self {
        Self {
            token: scored.drawn,
            logit: scored.logit,
            plain: scored.plain,
            drawn_from: DrawnFrom::All(scored.tempered),
        }
    }

    /// Refuses a row that no token can be drawn from. `place`: cell and step of the row.
    ///
    /// # Errors
    /// [`TextError::Logits`] with what is wrong with it.
    pub fn check(&self, place: (usize, usize)) -> Result<(), TextError> {
        check(&self.plain, place)
    }

    /// Probability of the drawn token, after temperature and filters.
    pub fn drawn(&self) -> f64 {
        match &self.drawn_from {
            DrawnFrom::All(softmax) => softmax.probability(self.logit),
            DrawnFrom::Kept(kept) => {
                let own = kept.iter().find(|(token, _)| *token == self.token);
                own.map_or(0.0, |(_, p)| *p)
            }
        }
    }

    /// The largest probability minus the second, after temperature and filters.
    pub fn margin(&self) -> f64 {
        match &self.drawn_from {
            DrawnFrom::All(softmax) => softmax.margin(),
            DrawnFrom::Kept(kept) => sampling::confidence_margin(&probabilities(kept)),
        }
    }

    /// `Σ p ln p` after temperature and filters, in nats.
    pub fn neg_entropy(&self) -> f64 {
        match &self.drawn_from {
            DrawnFrom::All(softmax) => -softmax.entropy(),
            DrawnFrom::Kept(kept) => sampling::confidence_neg_entropy(&probabilities(kept)),
        }
    }
}

fn probabilities(kept: &[(u32, f64)]) -> Vec<f64> {
    kept.iter().map(|(_, p)| *p).collect()
}

/// Refuses a row of logits that is not of numbers or leaves nothing possible.
pub(crate) fn check(softmax: &Softmax, (cell, step): (usize, usize)) -> Result<(), TextError> {
    let sum = softmax.log_sum_exp();
    let reason = match sum {
        _ if softmax.top() == f32::INFINITY => "is infinite",
        _ if sum.is_nan() => "is not a number",
        f64::NEG_INFINITY => return Err(TextError::impossible(cell, step)),
        _ => return Ok(()),
    };
    Err(TextError::Logits { cell, step, reason })
}
