//! Random parameters of a new network.

use burn::tensor::TensorData;

use crate::transformer::uniforms;
use crate::{NnError, ParamSource};

/// Draws parameters by name, so that a parameter's values depend on the seed and its name only.
///
/// Weights are uniform in `±√(3 / inputs)`, which keeps the variance of what passes; norms are one, biases zero. What
/// ends a residual branch or the network is zero, so that a new network is the identity up to its head and predicts nothing
/// (as the code of DDPM has it, arXiv 2006.11239).
pub(super) struct RandomSource {
    pub seed: u64,
}

/// Ends of the names of weights that begin at zero.
const ZERO: [&str; 3] = ["conv2.weight", "to_out.0.weight", "conv_out.weight"];

impl ParamSource for RandomSource {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let n: usize = shape.iter().product();
        let values = match shape {
            [_] if name.ends_with(".weight") => vec![1.0; n],
            [_] => vec![0.0; n],
            _ if ZERO.iter().any(|end| name.ends_with(end)) => vec![0.0; n],
            [filters, ..] => {
                let bound = (3.0 * *filters as f64 / n as f64).sqrt();
                let mut uniform = uniforms(self.seed, name, 0);
                (0..n)
                    .map(|_| ((2.0 * uniform() - 1.0) * bound) as f32)
                    .collect()
            }
            [] => vec![0.0; n],
        };
        Ok(TensorData::new(values, shape.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, shape: &[usize]) -> Vec<f32> {
        let data = RandomSource { seed: 1 }.tensor(name, shape).unwrap();
        data.try_to_vec().unwrap()
    }

    #[test]
    fn weights_keep_the_variance_of_what_passes() {
        let (filters, inputs) = (64, 9 * 32);
        let v = values("conv1.weight", &[filters, 32, 3, 3]);
        let variance = v.iter().map(|x| x * x).sum::<f32>() / v.len() as f32;
        assert!((variance * inputs as f32 - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn branches_begin_at_zero_and_norms_at_one() {
        assert_eq!(values("norm1.weight", &[3]), [1.0; 3]);
        assert_eq!(values("norm1.bias", &[3]), [0.0; 3]);
        assert_eq!(values("a.conv2.weight", &[1, 1, 3, 3]), [0.0; 9]);
    }
}
