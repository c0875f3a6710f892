//! What a sampler asks of rows of logits.

use burn::tensor::Tensor;
use demask_kernels::rowwise::{self, Asked, RowAsked, Scored, score_allowed};

/// What is asked of rows of logits in their place.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a> {
    /// Of every row.
    pub asked: rowwise::Asked,
    /// Of each row: its random numbers and the tokens that must not stand there. All rows have random numbers, or none
    /// has.
    pub rows: &'a [RowAsked<'a>],
}

/// The scores of rows of logits `[rows, vocabulary]` of any device. The fast path is
/// [`PackedWeight::scores`](super::PackedWeight::scores), which never stores the logits.
///
/// # Panics
/// When there are not as many rows as are asked for.
pub fn scores(logits: Tensor<2>, scoring: &Scoring<'_>) -> Vec<Scored> {
    let [_, vocabulary] = logits.dims();
    let logits = logits.into_data().convert::<f32>().try_into_vec::<f32>();
    let mut logits = logits.expect("a float tensor can be read as f32");
    let asked: &Asked = &scoring.asked;
    score_allowed(&mut logits, vocabulary, asked, scoring.rows)
}

#[cfg(test)]
mod tests {
    use demask_kernels::rowwise::{Noise, TokenSet};

    use super::super::PackedWeight;
    use super::super::testing::{device, random};
    use super::*;
    use crate::Dtype;

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        let (x, bias) = (random([5, 24], 1, &d), random([90], 3, &d));
        let sets = [TokenSet::new(vec![3, 88])];
        let rows: Vec<RowAsked<'_>> = (0..5)
            .map(|i| RowAsked {
                noise: Some(Noise::Keystream([i as u32; 8])),
                forbidden: &sets[..i % 2],
            })
            .collect();
        for dtype in Dtype::ALL {
            let weight = PackedWeight::pack(random([90, 24], 2, &d), dtype);
            for temperature in [0.0, 0.8] {
                let scoring = Scoring {
                    asked: Asked {
                        temperature,
                        tempered: true,
                        largest: 2,
                    },
                    rows: &rows,
                };
                let fast = weight.scores(x.clone(), Some(bias.clone()), &scoring);
                let logits = weight.forward(x.clone(), Some(bias.clone()));
                assert_eq!(fast, scores(logits, &scoring), "{dtype} {temperature}");
            }
        }
    }
}
