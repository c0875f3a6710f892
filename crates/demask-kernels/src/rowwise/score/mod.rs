//! Logits to scores: everything a sampler asks of a row, in one pass over the vocabulary.
//!
//! | file | |
//! |---|---|
//! | `softmax.rs` | largest value, probability, margin, entropy, log-sum-exp |
//! | `draw.rs` | a token by Gumbel-max |
//! | `chacha.rs` | the random bits for it |
//! | `largest.rs` | the k largest tokens |
//! | `token_set.rs` | tokens that must not be taken |
//!
//! A row is taken in chunks of [`CHUNK`] tokens (online softmax, Milakov & Gimelshein, arXiv 1805.02867), so
//! `[rows, vocab]` need not exist: whoever has the next chunk of logits gives it to [`State::fold`]. A chunk is read
//! from memory once; what is done to it afterwards finds it in the nearest cache.
//!
//! The order of the sums depends on the length of the vocabulary alone: within a chunk lanes, chunks of a
//! segment of [`SEGMENT`] tokens in their order, segments in theirs. Threads may share a row at segments.
//! Everything else (largest values, draws) does not depend on any order.

mod chacha;
mod draw;
mod largest;
mod softmax;
#[cfg(test)]
mod tests;
mod token_set;

pub use draw::Noise;
pub use softmax::Softmax;
pub use token_set::TokenSet;

use super::{get_or, row_count};
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;
use draw::Best;
use largest::Largest;

/// Tokens that are folded at a time: 4 KiB of logits.
pub(crate) const CHUNK: usize = 1024;
/// Tokens whose [`State`] may be merged with that of those before.
pub(crate) const SEGMENT: usize = 8 * CHUNK;

/// What is asked of each row; by default the most likely token and the plain softmax.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Asked {
    /// Temperature T ≥ 0 of the draw and of [`RowScore::tempered`]; 0 draws the most likely token and
    /// leaves the logits as they are.
    pub temperature: f64,
    /// Whether [`RowScore::tempered`] is wanted (at temperatures 0 and 1 it costs nothing).
    pub tempered: bool,
    /// How many of the largest tokens are listed.
    pub largest: usize,
}

/// Everything about one row of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct RowScore {
    /// The most likely token, the lowest of equals; 0 when all logits are −∞.
    pub token: u32,
    /// A draw from softmax(z / T): `argmax z − T·ln(−ln u)`, the lowest of equals. [`Self::token`] at temperature 0 or
    /// without noise, 0 when all logits are −∞.
    pub drawn: u32,
    /// The logit of [`Self::drawn`].
    pub logit: f32,
    /// softmax(z).
    pub plain: Softmax,
    /// softmax(z / T) if it was asked for, otherwise as `plain`.
    pub tempered: Softmax,
    /// The [`Asked::largest`] tokens with their logits, falling; of equals the lower first. Fewer where the others are −∞.
    pub largest: Vec<(u32, f32)>,
}

/// Scores of each row of logits.
///
/// Logits may be −∞ (a token that is forbidden); NaN in a row makes its probabilities NaN, +∞ its log-sum-exp
/// +∞ or NaN. Tokens and draws are exact; probabilities are within a relative 2e-6 of exact arithmetic, the margin within
/// 1e-6, and what a sure row leaves to others (1 − p, the entropy: a number x, however small) within `x·(1e-6 + 2e-7·|ln x|)`.
///
/// # Shapes
/// `logits`: `[rows, vocab]`; `noise`: `[rows]`, or empty when nothing is drawn.
///
/// # Panics
/// When the shapes do not fit together, or `vocab` is 2³² or more.
pub fn score(logits: &[f32], vocab: usize, asked: &Asked, noise: &[Noise<'_>]) -> Vec<RowScore> {
    let rows = row_count("score", logits.len(), vocab);
    check(vocab, noise.iter());
    assert!(
        noise.is_empty() || noise.len() == rows,
        "score: {rows} rows but {} noises",
        noise.len()
    );
    each_row(logits, vocab, asked, |row| noise.get(row))
}

/// The scores of each row, whose noise `noise` tells.
fn each_row<'a>(
    logits: &[f32],
    vocab: usize,
    asked: &Asked,
    noise: impl Fn(usize) -> Option<&'a Noise<'a>> + Sync,
) -> Vec<RowScore> {
    let isa = Isa::detect();
    let rows = logits.len() / vocab;
    threads::map(rows, logits.len().saturating_mul(30), |row| {
        let whole = Row {
            logits: &logits[row * vocab..][..vocab],
            asked,
            noise: noise(row),
        };
        dispatch(isa, whole)
    })
}

/// Panics unless rows of `vocab` tokens can be scored with such noise.
pub(crate) fn check<'a>(vocab: usize, noise: impl Iterator<Item = &'a Noise<'a>>) {
    assert!(
        u32::try_from(vocab).is_ok(),
        "score: {vocab} tokens are too many"
    );
    for noise in noise {
        if let Noise::Table(u) = noise {
            assert!(
                u.len() >= vocab,
                "score: {} numbers for {vocab} tokens",
                u.len()
            );
        }
    }
}

/// What a row is scored with besides its logits.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowAsked<'a> {
    /// The random numbers of its draw, if a token is drawn.
    pub noise: Option<Noise<'a>>,
    /// Tokens that must not be taken.
    pub forbidden: &'a [TokenSet],
}

/// The scores of a row from which tokens were taken away.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Of what was left.
    pub score: RowScore,
    /// Whether any of the forbidden tokens was possible.
    pub forbade: bool,
}

/// [`score`] of rows from which tokens are taken away first: their logits are overwritten.
///
/// # Shapes
/// `logits`: `[rows, vocab]`; `rows`: `[rows]`.
///
/// # Panics
/// As for [`score`].
pub fn score_allowed(
    logits: &mut [f32],
    vocab: usize,
    asked: &Asked,
    rows: &[RowAsked<'_>],
) -> Vec<Scored> {
    assert_eq!(
        row_count("score", logits.len(), vocab),
        rows.len(),
        "score: rows of logits, and what is asked of them"
    );
    let forbade: Vec<bool> = logits
        .chunks_exact_mut(vocab)
        .zip(rows)
        .map(|(logits, row)| forbid(row, logits, 0))
        .collect();
    check(vocab, rows.iter().filter_map(|row| row.noise.as_ref()));
    let scores = each_row(logits, vocab, asked, |row| rows[row].noise.as_ref());
    let scored = scores.into_iter().zip(forbade);
    scored
        .map(|(score, forbade)| Scored { score, forbade })
        .collect()
}

/// Takes the forbidden tokens out of the logits from token `first` on. Tells whether any of them was possible.
pub(crate) fn forbid(row: &RowAsked<'_>, logits: &mut [f32], first: usize) -> bool {
    let forbid = |any, set: &TokenSet| set.forbid(logits, first) | any;
    row.forbidden.iter().fold(false, forbid)
}

struct Row<'a> {
    logits: &'a [f32],
    asked: &'a Asked,
    noise: Option<&'a Noise<'a>>,
}

impl Kernel for Row<'_> {
    type Output = RowScore;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> RowScore {
        let mut state = State::new(self.asked, 0);
        for chunk in self.logits.chunks(CHUNK) {
            state.fold(s, chunk, self.noise);
        }
        state.finish()
    }
}

/// The scores of a row as far as its chunks are known.
#[derive(Clone, Debug)]
pub(crate) struct State {
    asked: Asked,
    /// The first token, a multiple of [`SEGMENT`], and the one after the last.
    begin: usize,
    end: usize,
    token: u32,
    best: Best,
    largest: Largest,
    plain: Sums,
    tempered: Option<Sums>,
}

/// A softmax over finished segments, and over the one that has begun.
#[derive(Clone, Copy, Debug)]
struct Sums {
    before: Softmax,
    open: Softmax,
}

impl Sums {
    fn new(scale: f64) -> Self {
        Self {
            before: Softmax::new(scale),
            open: Softmax::new(scale),
        }
    }

    fn close(&mut self) {
        self.before.add(&self.open);
        self.open = Softmax::new(self.before.scale());
    }
}

impl State {
    /// Of a row of which no token before `begin` is looked at.
    ///
    /// # Panics
    /// When `begin` is not a multiple of [`SEGMENT`].
    pub fn new(asked: &Asked, begin: usize) -> Self {
        assert!(
            begin.is_multiple_of(SEGMENT),
            "score: {begin} is no segment"
        );
        let t = asked.temperature;
        Self {
            asked: *asked,
            begin,
            end: begin,
            token: 0,
            best: Best::new(),
            largest: Largest::new(asked.largest),
            plain: Sums::new(1.0),
            tempered: (asked.tempered && t != 0.0 && t != 1.0).then(|| Sums::new(1.0 / t)),
        }
    }

    /// Takes in the next chunk: [`CHUNK`] logits, fewer at the end of the row. `noise`: that of the row, if
    /// a token is drawn.
    ///
    /// # Panics
    /// When the chunk before was a short one.
    #[inline(always)]
    pub fn fold<S: Simd>(&mut self, s: S, x: &[f32], noise: Option<&Noise<'_>>) {
        let first = self.end;
        assert!(
            first.is_multiple_of(CHUNK) && x.len() <= CHUNK,
            "score: no chunk"
        );
        if first.is_multiple_of(SEGMENT) {
            self.plain.close();
            self.tempered.iter_mut().for_each(Sums::close);
        }
        self.end += x.len();
        let (top, second) = softmax::two_largest(s, x);
        let noise = noise.filter(|_| self.asked.temperature > 0.0);
        if top > self.plain.before.top().max(self.plain.open.top()) {
            self.token = (first + position(s, x, top)) as u32;
            if let Some(noise) = noise {
                // Its draw is a good one to beat: fewer others have to be computed.
                let z = f64::from(top);
                let (token, t) = (self.token as usize, self.asked.temperature);
                self.best.consider(z, token, t, noise);
            }
        }
        let plain = Softmax::of(s, x, (top, second), 1.0);
        self.plain.open.add(&plain);
        if let Some(sums) = &mut self.tempered {
            let tempered = Softmax::of(s, x, (top, second), sums.before.scale());
            sums.open.add(&tempered);
        }
        self.largest.fold(s, x, first, top);
        if let Some(noise) = noise {
            self.best.fold(s, x, first, self.asked.temperature, noise);
        }
    }

    /// Takes in the state of the next segment.
    ///
    /// # Panics
    /// When it is not the next one or more than one.
    pub fn merge(&mut self, later: &Self) {
        assert!(
            later.begin == self.end && later.end - later.begin <= SEGMENT,
            "score: {}..{} is not the segment after {}",
            later.begin,
            later.end,
            self.end
        );
        self.plain.close();
        self.tempered.iter_mut().for_each(Sums::close);
        if later.plain.open.top() > self.plain.before.top() {
            self.token = later.token;
        }
        self.plain.open = later.plain.open;
        if let (Some(sums), Some(later)) = (&mut self.tempered, &later.tempered) {
            sums.open = later.open;
        }
        self.largest.add(&later.largest);
        self.best.add(&later.best);
        self.end = later.end;
    }

    /// The scores of the row.
    pub fn finish(mut self) -> RowScore {
        self.plain.close();
        self.tempered.iter_mut().for_each(Sums::close);
        let drawn = self.best.token();
        RowScore {
            token: self.token,
            drawn: drawn.map_or(self.token, |(token, _)| token),
            logit: drawn.map_or(self.plain.before.top(), |(_, z)| z as f32),
            plain: self.plain.before,
            tempered: self.tempered.unwrap_or(self.plain).before,
            largest: self.largest.into_list(),
        }
    }
}

/// Where the first of these values is that equals `top`, which is one of them.
#[inline(always)]
fn position<S: Simd>(s: S, x: &[f32], top: f32) -> usize {
    let below = s.splat(top.next_down());
    for j in (0..x.len()).step_by(LANES) {
        let mask = s.lt_mask(below, get_or(s, x, j, f32::NEG_INFINITY));
        if mask != 0 {
            return j + mask.trailing_zeros() as usize;
        }
    }
    0
}
