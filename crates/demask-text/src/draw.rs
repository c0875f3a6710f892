//! How a token is drawn from the prediction of one cell.

use serde::{Deserialize, Serialize};

/// The two exact ways to draw from a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrawKind {
    /// `argmax(z - T ln(-ln U))` in `f64` with a uniform for each token (LLaDA, arXiv 2502.09992;
    /// why not in `f32`: arXiv 2409.02908).
    #[default]
    Gumbel,
    /// The inverse of the distribution function at one uniform, tokens in rising order (the
    /// multinomial draw of Dream, arXiv 2508.15487).
    Categorical,
}

/// Temperature, filters and kind of draw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// 0 takes the most likely token; 1 draws from the prediction as it is.
    pub temperature: f64,
    /// Tokens are dropped once the probability before them exceeds this; the first always stays.
    pub top_p: Option<f64>,
    /// Only this many of the most likely tokens are kept.
    pub top_k: Option<usize>,
    /// How a token is drawn.
    pub kind: DrawKind,
}

impl Draw {
    /// Uniforms that [`token`](Self::token) reads for a vocabulary of `vocab` tokens.
    pub fn uniforms(&self, vocab: usize) -> usize {
        match self.kind {
            _ if self.temperature == 0.0 => 0,
            DrawKind::Gumbel => vocab,
            DrawKind::Categorical => 1,
        }
    }

    /// The distribution that tokens are drawn from: temperature (when above 0), then top-p, then
    /// top-k, then softmax, `[vocab]`.
    pub fn distribution(&self, logits: &[f32]) -> Vec<f64> {
        let scale = if self.temperature > 0.0 {
            self.temperature
        } else {
            1.0
        };
        let mut p: Vec<f64> = logits.iter().map(|&z| f64::from(z) / scale).collect();
        softmax(&mut p);
        if let Some(kept) = self.kept(&p) {
            let mut filtered = vec![0.0; p.len()];
            let total: f64 = kept.iter().map(|&i| p[i]).sum();
            kept.iter().for_each(|&i| filtered[i] = p[i] / total);
            p = filtered;
        }
        p
    }

    /// The tokens that pass the filters, most likely first; `None` without a filter.
    fn kept(&self, p: &[f64]) -> Option<Vec<usize>> {
        let top_p = self.top_p.filter(|&p| p < 1.0);
        let top_k = self.top_k.filter(|&k| k < p.len());
        if top_p.is_none() && top_k.is_none() {
            return None;
        }
        let mut order: Vec<usize> = (0..p.len()).collect();
        order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
        if let Some(limit) = top_p {
            let mut before = 0.0;
            let within = |&&i: &&usize| {
                let keep = before <= limit;
                before += p[i];
                keep
            };
            // The first token has nothing before it, so it always stays.
            let count = order.iter().take_while(within).count();
            order.truncate(count);
        }
        if let Some(k) = top_k {
            order.truncate(k);
        }
        Some(order)
    }

    /// A token. `distribution` is [`distribution`](Self::distribution) of `logits`, `u` holds
    /// [`uniforms`](Self::uniforms) numbers.
    pub fn token(&self, logits: &[f32], distribution: &[f64], u: &[f64]) -> u32 {
        if self.temperature == 0.0 {
            return argmax(distribution);
        }
        match self.kind {
            DrawKind::Gumbel => {
                let noisy = logits
                    .iter()
                    .zip(distribution)
                    .zip(u)
                    .map(|((&z, &p), &u)| {
                        if p > 0.0 {
                            f64::from(z) - self.temperature * (-u.ln()).ln()
                        } else {
                            f64::NEG_INFINITY
                        }
                    });
                first_max(noisy)
            }
            DrawKind::Categorical => categorical(distribution, u[0]),
        }
    }
}

/// The token at quantile `u` of a distribution that need not sum to 1.
pub(crate) fn categorical(weights: &[f64], u: f64) -> u32 {
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    let mut last = 0;
    for (i, &w) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        sum += w;
        last = i;
        if u * total < sum {
            break;
        }
    }
    last as u32
}

/// The softmax of a row, in place, in `f64`. Minus infinity becomes 0.
pub(crate) fn softmax(row: &mut [f64]) {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    for x in row.iter_mut() {
        *x = (*x - top).exp();
        total += *x;
    }
    row.iter_mut().for_each(|x| *x /= total);
}

/// Index of the largest value; the lower index wins a tie.
pub(crate) fn argmax(row: &[f64]) -> u32 {
    first_max(row.iter().copied())
}

fn first_max(values: impl Iterator<Item = f64>) -> u32 {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, value) in values.enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use demask_diffusion::Noise;

    fn draw(temperature: f64) -> Draw {
        Draw {
            temperature,
            top_p: None,
            top_k: None,
            kind: DrawKind::Gumbel,
        }
    }

    fn close(found: &[f64], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        for (f, w) in found.iter().zip(wanted) {
            assert!((f - w).abs() < 1e-7, "{found:?} is not {wanted:?}");
        }
    }

    /// Logits whose softmax is 0.5, 0.25, 0.125, 0.125.
    fn logits() -> Vec<f32> {
        [0.5f32, 0.25, 0.125, 0.125]
            .iter()
            .map(|p| p.ln())
            .collect()
    }

    #[test]
    fn top_p_keeps_the_token_that_crosses() {
        let cut = |p| {
            Draw {
                top_p: Some(p),
                ..draw(1.0)
            }
            .distribution(&logits())
        };
        close(&cut(0.4), &[1.0, 0.0, 0.0, 0.0]);
        close(&cut(0.6), &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        close(&cut(0.8), &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0, 0.0]);
        close(&cut(1.0), &[0.5, 0.25, 0.125, 0.125]);
    }

    #[test]
    fn filters_come_after_temperature_and_ties_go_to_the_lower_id() {
        // T = 0.5 squares: 16, 4, 1, 1 of 22.
        let hot = Draw {
            temperature: 0.5,
            ..draw(1.0)
        };
        close(
            &hot.distribution(&logits()),
            &[16. / 22., 4. / 22., 1. / 22., 1. / 22.],
        );
        let three = Draw {
            top_k: Some(3),
            ..hot
        };
        close(
            &three.distribution(&logits()),
            &[16. / 21., 4. / 21., 1. / 21., 0.0],
        );
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let flat = [0.0f32, 1.0, 1.0];
        let greedy = draw(0.0);
        assert_eq!(greedy.token(&flat, &greedy.distribution(&flat), &[]), 1);
    }

    #[test]
    fn gumbel_by_hand() {
        // -ln(-ln 0.5) = 0.3665, -ln(-ln 0.9) = 2.2504: with T = 1 the second wins 0 + 2.25 > 1 + 0.37,
        // with T = 0.5 the first does, 1 + 0.18 > 0 + 1.13.
        let z = [1.0f32, 0.0];
        let one = draw(1.0);
        assert_eq!(one.token(&z, &one.distribution(&z), &[0.5, 0.9]), 1);
        let half = draw(0.5);
        assert_eq!(half.token(&z, &half.distribution(&z), &[0.5, 0.9]), 0);
    }

    #[test]
    fn both_kinds_draw_the_same_distribution() {
        // Within 1 % over 1e5 draws on a fixed 8-way vector, as the specification asks.
        let z: Vec<f32> = vec![0.3, -1.2, 2.0, 0.0, 1.1, -0.4, 0.9, 1.7];
        for kind in [DrawKind::Gumbel, DrawKind::Categorical] {
            let draw = Draw {
                temperature: 0.7,
                kind,
                ..draw(1.0)
            };
            let p = draw.distribution(&z);
            let mut counts = [0f64; 8];
            let mut stream = Noise::new(11).uniform_stream();
            let n = 100_000;
            for _ in 0..n {
                let u: Vec<f64> = stream.by_ref().take(draw.uniforms(8)).collect();
                counts[draw.token(&z, &p, &u) as usize] += 1.0 / n as f64;
            }
            for (count, p) in counts.iter().zip(&p) {
                assert!(
                    (count - p).abs() < 0.01,
                    "{kind:?}: {counts:?} is not {p:?}"
                );
            }
        }
    }

    #[test]
    fn impossible_tokens_are_never_drawn() {
        let z = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        for kind in [DrawKind::Gumbel, DrawKind::Categorical] {
            let draw = Draw { kind, ..draw(5.0) };
            let p = draw.distribution(&z);
            for u in [1e-12, 0.5, 1.0 - 1e-12] {
                assert_eq!(draw.token(&z, &p, &[u; 3]), 1);
            }
        }
    }
}
