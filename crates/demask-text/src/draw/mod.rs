//! How a token is drawn from the prediction of one cell, and what else is read from it.
//!
//! | file | |
//! |---|---|
//! | [`reading`] | token, probability, margin, entropy of each row, by the kernels |
//! | `categorical.rs` | the draw at one number |
//! | `filter.rs` | top-p and top-k, from the largest tokens alone where they are enough |

mod categorical;
mod filter;
pub mod reading;

use demask_diffusion::sampling::{self, Crossing};
use serde::{Deserialize, Serialize};

use crate::uniforms::Numbers;

pub use reading::Reading;

/// The two exact ways to draw from a distribution.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DrawKind {
    /// The largest logit after Gumbel noise, `argmax(z - T ln(-ln U))`, in `f64` with a uniform for
    /// each token (LLaDA, arXiv 2502.09992; why not in `f32`: arXiv 2409.02908).
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
    /// Tokens are dropped once the probability before them (or, as `crossing` says, up to them)
    /// exceeds this; the first always stays.
    pub top_p: Option<f64>,
    /// Whether the token whose probability crosses `top_p` stays.
    pub crossing: Crossing,
    /// Only this many of the most likely tokens are kept, and those equal to the last of them.
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
        if !self.filters(logits.len()) {
            return sampling::softmax(logits, self.softmax_temperature());
        }
        let mut p = vec![0.0; logits.len()];
        for (token, kept) in self.kept(logits) {
            p[token as usize] = kept;
        }
        p
    }

    /// A token; 0 where none is possible. `numbers` are [`uniforms`](Self::uniforms) of them.
    pub fn token(&self, logits: &[f32], numbers: &Numbers) -> u32 {
        self.read(logits, logits.len(), std::slice::from_ref(numbers), false)[0].token
    }

    /// What the softmax is taken at: temperature 0 is about the token, not about the chances.
    fn softmax_temperature(&self) -> f64 {
        if self.temperature > 0.0 {
            self.temperature
        } else {
            1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use demask_diffusion::Noise;

    fn draw(temperature: f64) -> Draw {
        Draw {
            temperature,
            top_p: None,
            crossing: Crossing::Keep,
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
    fn the_token_that_crosses_is_dropped_as_in_bd3lm() {
        let cut = |p| {
            Draw {
                top_p: Some(p),
                crossing: Crossing::Drop,
                ..draw(1.0)
            }
            .distribution(&logits())
        };
        // The second would bring 0.75, above 0.6; the first stays whatever it brings.
        close(&cut(0.6), &[1.0, 0.0, 0.0, 0.0]);
        close(&cut(0.4), &[1.0, 0.0, 0.0, 0.0]);
        close(&cut(0.8), &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
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
    fn filters_come_after_temperature() {
        // T = 0.5 squares: 16, 4, 1, 1 of 22.
        let hot = Draw {
            temperature: 0.5,
            ..draw(1.0)
        };
        close(
            &hot.distribution(&logits()),
            &[16. / 22., 4. / 22., 1. / 22., 1. / 22.],
        );
        let two = Draw {
            top_k: Some(2),
            ..hot
        };
        close(&two.distribution(&logits()), &[0.8, 0.2, 0.0, 0.0]);
        // 0.5 + 0.25 > 0.7 untempered, but 16/22 > 0.7 after temperature: one token stays.
        let nucleus = Draw {
            top_p: Some(0.7),
            ..hot
        };
        close(&nucleus.distribution(&logits()), &[1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let flat = [0.0f32, 1.0, 1.0];
        let greedy = draw(0.0);
        assert_eq!(greedy.token(&flat, &Numbers::Table(vec![])), 1);
    }

    #[test]
    fn gumbel_by_hand() {
        // -ln(-ln 0.5) = 0.3665, -ln(-ln 0.9) = 2.2504: with T = 1 the second wins 0 + 2.25 > 1 + 0.37,
        // with T = 0.5 the first does, 1 + 0.18 > 0 + 1.13.
        let (z, u) = ([1.0f32, 0.0], Numbers::Table(vec![0.5, 0.9]));
        assert_eq!(draw(1.0).token(&z, &u), 1);
        assert_eq!(draw(0.5).token(&z, &u), 0);
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
                let u = stream.by_ref().take(draw.uniforms(8)).collect();
                counts[draw.token(&z, &Numbers::Table(u)) as usize] += 1.0 / n as f64;
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
    fn the_kernels_draw_what_is_written_down() {
        let z: Vec<f32> = (0..5000)
            .map(|i| (i * 7919 % 3001) as f32 / 400.0)
            .collect();
        for seed in 0..50 {
            let node = Noise::new(seed);
            let wanted = sampling::gumbel_argmax(&z, 0.8, &node) as u32;
            assert_eq!(draw(0.8).token(&z, &Numbers::Key(node.key())), wanted);
            let table = Numbers::Table(node.uniforms(5000));
            assert_eq!(draw(0.8).token(&z, &table), wanted);
        }
    }

    #[test]
    fn impossible_tokens_are_never_drawn() {
        let z = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        for kind in [DrawKind::Gumbel, DrawKind::Categorical] {
            let draw = Draw { kind, ..draw(5.0) };
            for u in [1e-12, 0.5, 1.0 - 1e-12] {
                assert_eq!(draw.token(&z, &Numbers::Table(vec![u; 3])), 1);
            }
        }
    }

    #[test]
    fn any_temperature_draws_a_possible_token_or_says_so() {
        let z = [-3.0f32, -1.0, 2.0, 1.0];
        for temperature in [0.0, 5e-324, 1e-320, 1e-300, 1e-9, f64::MAX] {
            for kind in [DrawKind::Gumbel, DrawKind::Categorical] {
                let draw = Draw {
                    kind,
                    ..draw(temperature)
                };
                let token = |z: &[f32]| {
                    let numbers = [Numbers::Table(vec![0.6; 4])];
                    let reading = draw.read(z, 4, &numbers, true).remove(0);
                    let checked = reading.check((3, 7)).map(|()| reading.token);
                    checked.map_err(|error| error.to_string())
                };
                if temperature < 1.0 {
                    assert_eq!(token(&z), Ok(2), "{temperature} {kind:?}");
                }
                for (broken, what) in [
                    (f32::NEG_INFINITY, "leaves no token"),
                    (f32::NAN, "is not a number"),
                    (f32::INFINITY, "is infinite"),
                ] {
                    let said = token(&[broken; 4]).unwrap_err();
                    let what = format!("cell 3 at step 7 {what}");
                    assert!(said.contains(&what), "{said}");
                }
            }
        }
    }
}
