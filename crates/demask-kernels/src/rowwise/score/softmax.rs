//! The softmax of a row, chunk by chunk.

use crate::rowwise::{get_or, put};
use crate::simd::math::{EXP_LOW, exp_within};
use crate::simd::{LANES, Simd};

/// What is known of a softmax `p_i = exp(s·z_i) / Σ exp(s·z)` over a row of logits, `s` being 1/temperature.
///
/// The largest value is left out of the sum, so that `1 − p` of a very sure row keeps its digits. A row
/// without any value above −∞ has probabilities, margin and entropy 0; NaN in the row makes them NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softmax {
    scale: f64,
    top: f32,
    second: f32,
    /// How many values equal the largest.
    count: f64,
    /// Σ exp(s·(z − top)) over the values below the largest.
    rest: f64,
    /// The same sum with each term times s·(z − top).
    bent: f64,
}

impl Softmax {
    /// Of no values, at 1/temperature.
    pub(super) fn new(scale: f64) -> Self {
        Self {
            // At the ends of the range 0 · ∞ would be NaN.
            scale: scale.clamp(f32::MIN_POSITIVE.into(), f32::MAX.into()),
            top: f32::NEG_INFINITY,
            second: f32::NEG_INFINITY,
            count: 0.0,
            rest: 0.0,
            bent: 0.0,
        }
    }

    /// Of a chunk whose two largest values are known.
    #[inline(always)]
    pub(super) fn of<S: Simd>(s: S, x: &[f32], (top, second): (f32, f32), scale: f64) -> Self {
        let mut new = Self {
            top,
            second,
            ..Self::new(scale)
        };
        if top == f32::NEG_INFINITY {
            if x.iter().any(|z| z.is_nan()) {
                new.rest = f64::NAN;
            }
            return new;
        }
        // Most rows have one largest value; only ties need a count.
        new.count = match second < top {
            true => 1.0,
            false => x.iter().filter(|&&z| z == top).count() as f64,
        };
        let (rest, bent) = sums(s, x, top, scale as f32);
        (new.rest, new.bent) = (f64::from(rest), f64::from(bent));
        new
    }

    /// This and what comes after it.
    pub(super) fn add(&mut self, later: &Self) {
        if later.top > self.top {
            let before = std::mem::replace(self, *later);
            self.second = self.second.max(before.top);
            self.add_below(&before);
        } else if later.top == self.top {
            self.second = if later.count > 0.0 {
                self.top
            } else {
                self.second
            };
            self.count += later.count;
            self.rest += later.rest;
            self.bent += later.bent;
        } else {
            self.second = self.second.max(later.top);
            self.add_below(later);
        }
    }

    /// Adds the sums of values that are all below the largest.
    fn add_below(&mut self, other: &Self) {
        let shift = (f64::from(other.top) - f64::from(self.top)) * self.scale;
        // Far below nothing is left, and 0 · ∞ would be NaN.
        let factor = if shift < -700.0 { 0.0 } else { shift.exp() };
        let shift = shift.max(-700.0);
        self.rest += (other.count + other.rest) * factor;
        self.bent += (other.bent + shift * (other.count + other.rest)) * factor;
    }

    /// 1/temperature.
    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    /// The largest logit; −∞ when there is none.
    pub fn top(&self) -> f32 {
        self.top
    }

    /// The second largest logit (the largest again where two are equal); −∞ when there is none.
    pub fn second(&self) -> f32 {
        self.second
    }

    /// Probability of a token with this logit.
    pub fn probability(&self, logit: f32) -> f64 {
        if logit == f32::NEG_INFINITY {
            return self.rest * 0.0;
        }
        ((f64::from(logit) - f64::from(self.top)) * self.scale).exp() / (self.count + self.rest)
    }

    /// Probability of all tokens of a part of the row together, whose softmax (at the same temperature) this is.
    pub fn share(&self, part: &Self) -> f64 {
        if part.top == f32::NEG_INFINITY {
            return part.rest;
        }
        self.probability(part.top) * (part.count + part.rest)
    }

    /// Probability of the most likely token minus that of the second.
    pub fn margin(&self) -> f64 {
        self.probability(self.top) - self.probability(self.second)
    }

    /// Entropy −Σ p ln p in nats.
    pub fn entropy(&self) -> f64 {
        let sum = self.count + self.rest;
        if sum == 0.0 {
            return 0.0;
        }
        // Both parts are positive: nothing cancels. 1 + x loses the digits of a small x, ln_1p keeps them.
        (self.count - 1.0 + self.rest).ln_1p() - self.bent / sum
    }

    /// ln Σ exp(s·z); −∞ when no value is above −∞.
    pub fn log_sum_exp(&self) -> f64 {
        f64::from(self.top) * self.scale + (self.count + self.rest).ln()
    }
}

/// The two largest values of a slice; equal ones count twice, NaN not at all.
#[inline(always)]
pub(super) fn two_largest<S: Simd>(s: S, x: &[f32]) -> (f32, f32) {
    let low = f32::NEG_INFINITY;
    // Two of each, so that one maximum need not wait for the other.
    let (mut top, mut second) = ([s.splat(low); 2], [s.splat(low); 2]);
    for j in (0..x.len()).step_by(2 * LANES) {
        for half in 0..2 {
            let at = j + half * LANES;
            if at < x.len() {
                let z = get_or(s, x, at, low);
                second[half] = s.max(s.min(z, top[half]), second[half]);
                top[half] = s.max(z, top[half]);
            }
        }
    }
    let second = s.max(s.min(top[0], top[1]), s.max(second[0], second[1]));
    let (mut tops, mut seconds) = ([low; LANES], [low; LANES]);
    put(s, &mut tops, 0, s.max(top[0], top[1]));
    put(s, &mut seconds, 0, second);
    let pairs = tops.into_iter().zip(seconds);
    pairs.fold((low, low), |(a, b), (c, d)| {
        if c > a {
            (c, if a > d { a } else { d })
        } else {
            (a, if c > b { c } else { b })
        }
    })
}

/// Σ e and Σ e·y over the values below `top`, with y = scale·(z − top) and e = exp(y). Lane j mod 16 has a sum
/// of its own.
#[inline(always)]
fn sums<S: Simd>(s: S, x: &[f32], top: f32, scale: f32) -> (f32, f32) {
    let scale = s.splat(scale);
    let (below, top) = (s.splat(top.next_down()), s.splat(top));
    let (zero, low) = (s.splat(0.0), s.splat(EXP_LOW));
    let (mut rest, mut bent) = (zero, zero);
    for j in (0..x.len()).step_by(LANES) {
        let z = get_or(s, x, j, f32::NEG_INFINITY);
        let y = s.mul(s.sub(z, top), scale);
        let clamped = s.max(low, y);
        let e = s.select_lt(y, low, zero, exp_within(s, clamped));
        // The largest is what exceeds the number below it; NaN does not and stays in the sum.
        let e = s.select_lt(below, z, zero, e);
        rest = s.add(rest, e);
        bent = s.fma(e, clamped, bent);
    }
    (s.sum(rest), s.sum(bent))
}
