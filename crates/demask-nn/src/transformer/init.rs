//! Random parameters of a new network.

use std::ops::Range;

use burn::tensor::TensorData;
use demask_kernels::threads;
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

/// How the values of a parameter are begun.
enum Start {
    All(f32),
    /// Normal with this standard deviation.
    Normal(f32),
}

impl RandomSource {
    fn start(&self, name: &str, dimensions: usize) -> Start {
        let zero = name.ends_with(".bias")
            || name.contains("adaln")
            || (self.time_input && name == "head.weight");
        let residual = name.ends_with("attn.o.weight") || name.ends_with("mlp.down.weight");
        match (zero, dimensions) {
            (true, _) => Start::All(0.0),
            (false, 1) => Start::All(1.0),
            _ if name == "labels.weight" => Start::Normal(1.0),
            _ if residual => Start::Normal(0.02 * self.residual),
            _ => Start::Normal(0.02),
        }
    }

    /// Values `range` of a parameter. The range begins at an even number.
    fn values(&self, name: &str, dimensions: usize, range: Range<usize>) -> Vec<f32> {
        match self.start(name, dimensions) {
            Start::All(value) => vec![value; range.len()],
            Start::Normal(deviation) => normal(self.seed, name, range, deviation),
        }
    }
}

impl ParamSource for RandomSource {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let values = self.values(name, shape.len(), 0..shape.iter().product());
        Ok(TensorData::new(values, shape.to_vec()))
    }

    fn bands(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        height: usize,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), NnError> {
        // Normal values come in pairs: a band of an even number of rows begins with one.
        if !height.is_multiple_of(2) {
            let band = height.saturating_mul(columns).max(1);
            let values = self.values(name, 2, 0..rows * columns);
            values.chunks(band).for_each(take);
            return Ok(());
        }
        for row in (0..rows).step_by(height) {
            let range = row * columns..(row + height).min(rows) * columns;
            take(&self.values(name, 2, range));
        }
        Ok(())
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
                let mut uniform = uniforms(self.seed, name, 0);
                (0..n)
                    .map(|_| ((2.0 * uniform() - 1.0) * bound) as f32)
                    .collect()
            }
            _ => vec![0.0; n],
        };
        Ok(TensorData::new(values, shape.to_vec()))
    }
}

/// Values that are drawn by one task.
const PART: usize = 1 << 16;

/// Normal values by the Box-Muller transform, from a stream of its own for each name: those of a range that begins at an
/// even number. Two numbers of the stream make two values, so every value has its place in it.
fn normal(seed: u64, name: &str, range: Range<usize>, deviation: f32) -> Vec<f32> {
    assert!(range.start.is_multiple_of(2), "half of a pair");
    let part = |from: usize| {
        let n = PART.min(range.end - from);
        let mut uniform = uniforms(seed, name, from);
        let mut out = Vec::with_capacity(n + 1);
        while out.len() < n {
            let radius = (-2.0 * uniform().ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * uniform()).sin_cos();
            out.push((radius * cos) as f32 * deviation);
            out.push((radius * sin) as f32 * deviation);
        }
        out.truncate(n);
        out
    };
    let tasks = range.len().div_ceil(PART);
    let mut parts = threads::map(tasks, 50 * range.len(), |i| part(range.start + i * PART));
    match parts.len() {
        1 => parts.remove(0),
        _ => parts.concat(),
    }
}

/// Uniform values in (0, 1) from number `from` on, from a stream of its own for each name.
pub(crate) fn uniforms(seed: u64, name: &str, from: usize) -> impl FnMut() -> f64 + use<> {
    // FNV-1a: small, stable across versions and platforms.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(hash);
    rng.set_word_pos(from as u128);
    move || (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_values_have_the_asked_deviation() {
        let v = normal(1, "embed.weight", 0..20_000, 0.5);
        let mean = v.iter().sum::<f32>() / v.len() as f32;
        let var = v.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / v.len() as f32;
        // Standard errors: 0.0035 and 0.0025.
        assert!(mean.abs() < 0.015, "{mean}");
        assert!((var - 0.25).abs() < 0.01, "{var}");
        assert_eq!(v[..10], normal(1, "embed.weight", 0..10, 0.5)[..]);
        assert_ne!(v[..10], normal(1, "head.weight", 0..10, 0.5)[..]);
    }

    #[test]
    fn a_value_has_its_place_in_the_stream() {
        // Several tasks, and an odd number of values.
        let n = 2 * PART + 3;
        let all = normal(7, "embed.weight", 0..n, 0.5);
        let mut uniform = uniforms(7, "embed.weight", 0);
        let mut one_by_one = Vec::new();
        while one_by_one.len() < n {
            let (u, v) = (uniform(), uniform());
            let radius = (-2.0 * u.ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
            one_by_one.extend([(radius * cos) as f32 * 0.5, (radius * sin) as f32 * 0.5]);
        }
        assert_eq!(all, one_by_one[..n]);
        let middle = PART + 4..PART + 9;
        assert_eq!(normal(7, "embed.weight", middle.clone(), 0.5), all[middle]);
    }

    #[test]
    fn bands_are_the_rows_of_the_whole() {
        let mut source = RandomSource {
            seed: 5,
            residual: 0.5,
            time_input: true,
        };
        for (name, rows, columns, height) in [
            ("embed.weight", 13, 7, 4),
            ("embed.weight", 13, 7, 5),
            ("layers.0.attn.o.weight", 6, 9, 64),
            ("head.weight", 3, 3, 2),
        ] {
            let whole = source.tensor(name, &[rows, columns]).unwrap();
            let (mut bands, mut heights) = (Vec::new(), Vec::new());
            let mut take = |band: &[f32]| {
                bands.extend_from_slice(band);
                heights.push(band.len() / columns);
            };
            let dims = [rows, columns];
            source.bands(name, dims, height, &mut take).unwrap();
            let last = heights.pop().unwrap();
            assert!(heights.iter().all(|&h| h == height) && last <= height);
            assert_eq!(bands, whole.try_into_vec::<f32>().unwrap(), "{name}");
        }
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
