//! Random parameters of a new network.

use burn::tensor::TensorData;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{ParamSource, TransformerConfig};
use crate::NnError;

/// Draws parameters by name, so that a parameter's values depend on the seed and its name only.
///
/// Linears and embeddings are normal with standard deviation 0.02 (GPT-2); the projections that
/// write into the residual stream are divided by `√(2 layers)`. Norm scales are one, biases zero.
/// The adaLN linears, and the head of a network with a time input, start at zero (DiT). Label
/// vectors are standard normal, as UDLM has them (arXiv 2412.10193: PyTorch's default for an
/// embedding): a condition nothing else scales, so 0.02 would leave the classes almost alike.
pub(super) struct RandomSource {
    seed: u64,
    residual: f32,
    time_input: bool,
}

impl RandomSource {
    pub(super) fn new(config: &TransformerConfig, seed: u64) -> Self {
        let residual = (2.0 * config.n_layers as f32).sqrt().recip();
        Self {
            seed,
            residual,
            time_input: config.time.is_some(),
        }
    }
}

impl ParamSource for RandomSource {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let n = shape.iter().product();
        let zero = name.ends_with(".bias")
            || name.contains("adaln")
            || (self.time_input && name == "head.weight");
        let values = if zero {
            vec![0.0; n]
        } else if shape.len() == 1 {
            vec![1.0; n]
        } else {
            let residual = name.ends_with("attn.o.weight") || name.ends_with("mlp.down.weight");
            let deviation = match residual {
                _ if name == "labels.weight" => 1.0,
                true => 0.02 * self.residual,
                false => 0.02,
            };
            normal(self.seed, name, n, deviation)
        };
        Ok(TensorData::new(values, shape.to_vec()))
    }
}

/// Draws the parameters of new adapters by name: `A` uniform in `±1/√in` (Kaiming with `a = √5`, as
/// PEFT does), `B` zero.
pub(super) struct RandomAdapters {
    pub seed: u64,
}

impl ParamSource for RandomAdapters {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let n = shape.iter().product();
        let values = match shape {
            [_, inputs] if name.ends_with("lora_A.weight") => {
                let bound = (*inputs as f64).sqrt().recip();
                let mut uniform = uniforms(self.seed, name);
                (0..n)
                    .map(|_| ((2.0 * uniform() - 1.0) * bound) as f32)
                    .collect()
            }
            _ => vec![0.0; n],
        };
        Ok(TensorData::new(values, shape.to_vec()))
    }
}

/// Normal values by the Box-Muller transform, from a stream of its own for each name.
fn normal(seed: u64, name: &str, n: usize, deviation: f32) -> Vec<f32> {
    let mut uniform = uniforms(seed, name);
    let mut out = Vec::with_capacity(n + 1);
    while out.len() < n {
        let radius = (-2.0 * uniform().ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
        out.push((radius * cos) as f32 * deviation);
        out.push((radius * sin) as f32 * deviation);
    }
    out.truncate(n);
    out
}

/// Uniform values in (0, 1), from a stream of its own for each name.
pub(crate) fn uniforms(seed: u64, name: &str) -> impl FnMut() -> f64 + use<> {
    // FNV-1a: small, stable across versions and platforms.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(hash);
    move || (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_values_have_the_asked_deviation() {
        let v = normal(1, "embed.weight", 20_000, 0.5);
        let mean = v.iter().sum::<f32>() / v.len() as f32;
        let var = v.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / v.len() as f32;
        // Standard errors: 0.0035 and 0.0025.
        assert!(mean.abs() < 0.015, "{mean}");
        assert!((var - 0.25).abs() < 0.01, "{var}");
        assert_eq!(v[..10], normal(1, "embed.weight", 10, 0.5)[..]);
        assert_ne!(v[..10], normal(1, "head.weight", 10, 0.5)[..]);
    }

    #[test]
    fn new_adapters_are_uniform_and_zero() {
        let mut source = RandomAdapters { seed: 3 };
        let mut draw = |name: &str, shape: &[usize]| {
            let data = source.tensor(name, shape).unwrap();
            data.try_into_vec::<f32>().unwrap()
        };
        let a = draw("layers.0.attn.q.lora_A.weight", &[200, 100]);
        // Within ±1/√100, with the variance (2/10)² / 12 of a uniform.
        assert!(a.iter().all(|x| x.abs() <= 0.1));
        let var = a.iter().map(|x| x * x).sum::<f32>() / a.len() as f32;
        assert!((var - 0.04 / 12.0).abs() < 1e-4, "{var}");
        assert_ne!(a[..9], draw("layers.1.attn.q.lora_A.weight", &[3, 3])[..]);
        let b = draw("layers.0.attn.q.lora_B.weight", &[100, 2]);
        assert!(b.iter().all(|&x| x == 0.0));
    }
}
