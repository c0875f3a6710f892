//! The inverse of the distribution function at one number, without a distribution function.
//!
//! The probabilities of whole pieces of the vocabulary say in which piece the number falls; only its tokens are then
//! looked at one by one.

use demask_kernels::rowwise::{Asked, Softmax, score};

/// Tokens of a piece.
const PIECE: usize = 1024;

/// The token at which the running sum of the probabilities at `temperature`, tokens rising, first exceeds `u` times
/// their total. `softmax`: that of the whole row. 0 where no token is possible.
pub(super) fn draw(logits: &[f32], softmax: &Softmax, temperature: f64, u: f64) -> u32 {
    let asked = Asked {
        temperature,
        tempered: true,
        largest: 0,
    };
    let (whole, rest) = logits.split_at(logits.len() - logits.len() % PIECE);
    let mut pieces = Vec::new();
    for (logits, width) in [(whole, PIECE), (rest, rest.len())] {
        if !logits.is_empty() {
            let scores = score(logits, width, &asked, &[]);
            pieces.extend(scores.iter().map(|piece| softmax.share(&piece.tempered)));
        }
    }
    let target = u * pieces.iter().sum::<f64>();
    let (mut sum, mut last) = (0.0, 0);
    for (logits, (i, share)) in logits.chunks(PIECE).zip(pieces.iter().enumerate()) {
        // Beyond the last piece that holds anything rounding may lead, not the draw.
        let later = pieces[i + 1..].iter().any(|share| *share > 0.0);
        if sum + share <= target && later {
            sum += share;
            continue;
        }
        for (token, &z) in logits.iter().enumerate() {
            let p = softmax.probability(z);
            if p > 0.0 {
                sum += p;
                last = i * PIECE + token;
                if sum > target {
                    return last as u32;
                }
            }
        }
        // A piece and its tokens round differently: its last token stands at the border.
        return last as u32;
    }
    last as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use demask_diffusion::sampling;

    #[test]
    fn pieces_draw_what_the_whole_row_draws() {
        for vocab in [1, 3, 1023, 1024, 1025, 5000] {
            let logits: Vec<f32> = (0..vocab)
                .map(|i| match i % 7 {
                    0 => f32::NEG_INFINITY,
                    _ if (1024..3000).contains(&i) => -400.0,
                    _ => (i * 7919 % 3001) as f32 / 300.0,
                })
                .collect();
            for temperature in [0.3, 1.0, 2.5] {
                let p = sampling::softmax(&logits, temperature);
                let asked = Asked {
                    temperature,
                    tempered: true,
                    largest: 0,
                };
                let softmax = score(&logits, vocab, &asked, &[])[0].tempered;
                for i in 0..200 {
                    let u = (f64::from(i) + 0.5) / 200.0;
                    let wanted = sampling::categorical(&p, u) as u32;
                    assert_eq!(
                        draw(&logits, &softmax, temperature, u),
                        wanted,
                        "{vocab} {u}"
                    );
                }
            }
        }
    }
}
