//! Drawing a token by Gumbel-max without a logarithm for every token.
//!
//! The draw is `argmax z − T·ln(−ln u)` in `f64`, one uniform u a token: low precision sharpens the distribution
//! (arXiv 2409.02908). A token can only win if `−ln(−ln u) > d = (best − z) / T`, and because of
//! `−ln u ≥ v` for `v = 1 − u` only if `log₂ v < −d·log₂ e`. The bits of a float, read as a whole number, are
//! its logarithm from below: `log₂ (2ᵉ(1 + f)) ≥ e + f`. So one multiply-add and one comparison of vectors find the
//! few tokens (about the logarithm of their number) whose draw is computed; the others cannot change the result,
//! which therefore is the same on every instruction set.

use super::chacha::{self, WIDTH};
use crate::rowwise::{get_or, put};
use crate::simd::{LANES, Simd};

/// Where the uniforms of a row come from: number i, in the open interval (0, 1), is that of token i.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Noise<'a> {
    /// The keystream of ChaCha8 under this key: `u = (⌊w / 2¹²⌋ + ½) / 2⁵²` of its i-th 64-bit word w. Nothing is stored.
    Keystream([u32; 8]),
    /// Numbers of any origin, `[vocab]`.
    Table(&'a [f64]),
}

/// Above every `−ln(−ln u)` of these uniforms.
const GUMBEL_MAX: f64 = 36.75;
/// Bits of the mantissa: the weight of the exponent in the bits of a float.
const ONE: f64 = (1u32 << 23) as f64;

impl Noise<'_> {
    /// The uniform of a token.
    pub fn uniform(&self, token: usize) -> f64 {
        match self {
            Self::Keystream(key) => {
                let bits = chacha::bits(key, token);
                ((bits >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
            }
            Self::Table(u) => u[token],
        }
    }

    /// From below: the logarithms of `2³²·(1 − u)` of the tokens from `first` on, as bits of floats.
    #[inline(always)]
    fn bounds<S: Simd>(&self, s: S, first: usize, out: &mut [f32; WIDTH]) {
        match self {
            Self::Keystream(key) => {
                let high = chacha::high_words(s, key, first);
                for (i, high) in high.into_iter().enumerate() {
                    put(s, out, LANES * i, s.bits_to_f32(high));
                }
            }
            Self::Table(u) => {
                for (out, u) in out.iter_mut().zip(&u[first..]) {
                    *out = (((1.0 - u) * 2f64.powi(32)) as f32).to_bits() as f32;
                }
            }
        }
    }
}

/// The largest of these logits; NaN is none.
#[inline(always)]
fn largest<S: Simd>(s: S, x: &[f32]) -> f64 {
    let low = f32::NEG_INFINITY;
    let mut top = s.splat(low);
    for j in (0..x.len()).step_by(LANES) {
        top = s.max(get_or(s, x, j, low), top);
    }
    f64::from(s.max_lane(top))
}

/// The best draw so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Best {
    score: f64,
    token: u32,
    /// Its logit.
    z: f64,
}

impl Best {
    pub fn new() -> Self {
        Self {
            score: f64::NEG_INFINITY,
            token: 0,
            z: f64::NEG_INFINITY,
        }
    }

    /// The token and its logit, if any was possible.
    pub fn token(&self) -> Option<(u32, f64)> {
        (self.score > f64::NEG_INFINITY).then_some((self.token, self.z))
    }

    /// The better of the two; of equals the lower token.
    pub fn add(&mut self, later: &Self) {
        if later.score > self.score {
            *self = *later;
        }
    }

    /// Takes in the tokens from `first` (a multiple of [`WIDTH`]) on.
    #[inline(always)]
    pub fn fold<S: Simd>(
        &mut self,
        s: S,
        x: &[f32],
        first: usize,
        temperature: f64,
        noise: &Noise<'_>,
    ) {
        let mut bounds = [0.0; WIDTH];
        let (mut slope, mut offset) = self.limit(temperature);
        for (i, x) in x.chunks(WIDTH).enumerate() {
            let first = first + i * WIDTH;
            // At a low temperature most of a row is too far below for any draw.
            if self.is_beyond(largest(s, x), temperature) {
                continue;
            }
            noise.bounds(s, first, &mut bounds);
            for j in (0..x.len()).step_by(LANES) {
                let limit = s.fma(
                    get_or(s, x, j, f32::NEG_INFINITY),
                    s.splat(slope),
                    s.splat(offset),
                );
                let mut mask = s.lt_mask(get_or(s, &bounds, j, 0.0), limit);
                if mask == 0 {
                    continue;
                }
                while mask != 0 {
                    let at = j + mask.trailing_zeros() as usize;
                    self.consider(f64::from(x[at]), first + at, temperature, noise);
                    mask &= mask - 1;
                }
                (slope, offset) = self.limit(temperature);
            }
        }
    }

    /// `slope·z + offset` is what the bound of a token must be below to win.
    fn limit(&self, temperature: f64) -> (f32, f32) {
        let slope = std::f64::consts::LOG2_E / temperature;
        let reach = slope * self.score.abs().max(1.0);
        // At the ends of the range every token is looked at.
        if !(reach < 1e20 && slope > 1e-20) {
            return (f32::MIN_POSITIVE, f32::INFINITY);
        }
        // 32 bits before the point, the bias of the exponent, and more than all roundings.
        let offset = 32.0 + 127.0 + 1e-3 + 1e-6 * reach - slope * self.score;
        ((slope * ONE) as f32, (offset * ONE) as f32)
    }

    /// Whether even the luckiest draw of a logit would not win.
    fn is_beyond(&self, z: f64, temperature: f64) -> bool {
        z == f64::NEG_INFINITY || z + temperature * GUMBEL_MAX < self.score
    }

    /// Takes in one token; of equal draws the lower token wins, whenever it comes.
    pub fn consider(&mut self, z: f64, token: usize, temperature: f64, noise: &Noise<'_>) {
        if self.is_beyond(z, temperature) {
            return;
        }
        let score = z - temperature * (-noise.uniform(token).ln()).ln();
        if score > self.score || score == self.score && (token as u32) < self.token {
            (self.score, self.token, self.z) = (score, token as u32, z);
        }
    }
}
