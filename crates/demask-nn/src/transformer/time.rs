//! The time input: sinusoids of the noise level through an MLP, and what it does to a block.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, activation};

use super::TimeConfig;
use super::loader::Loader;
use super::weight::Linear;
use crate::{Dtype, NnError, NoiseLevel};

/// Noise level to condition vector (DiT, arXiv 2212.09748): `out(silu(in(sinusoids(sigma))))`.
#[derive(Module, Debug)]
pub struct TimeEmbedding {
    #[module(skip)]
    config: TimeConfig,
    input: Linear,
    output: Linear,
}

/// Shift, scale and gate from the condition vector (adaLN).
#[derive(Module, Debug)]
pub struct AdaLn {
    linear: Linear,
    parts: usize,
}

/// One conditioned triple or pair, each `[rows, d_model]`.
pub(super) type Modulation = Vec<Tensor<2>>;

impl TimeEmbedding {
    pub(super) fn load(config: TimeConfig, loader: &mut Loader<'_>) -> Result<Self, NnError> {
        let TimeConfig { frequencies, cond } = config;
        let loader = &mut loader.packing(Dtype::of_condition);
        Ok(Self {
            config,
            input: Linear::load("time.in", [cond, frequencies], true, loader)?,
            output: Linear::load("time.out", [cond, cond], true, loader)?,
        })
    }

    /// `silu` of the condition vector for each row of the request, `[batch * length, cond]`, which
    /// is what every adaLN linear reads.
    pub(super) fn forward(
        &self,
        level: &NoiseLevel,
        [batch, length]: [usize; 2],
        device: &Device,
    ) -> Tensor<2> {
        let (values, repeat) = match level {
            NoiseLevel::PerSequence(v) => (v, length),
            NoiseLevel::PerCell(v) => (v, 1),
        };
        let features = sinusoids(values, self.config.frequencies);
        let features = TensorData::new(features, [values.len(), self.config.frequencies]);
        let hidden = activation::silu(self.input.forward(Tensor::from_data(features, device)));
        let cond = activation::silu(self.output.forward(hidden));
        let width = self.config.cond;
        cond.reshape([values.len(), 1, width])
            .expand([values.len(), repeat, width])
            .reshape([batch * length, width])
    }

    /// Bytes of the packed weights.
    pub(super) fn packed_bytes(&self) -> usize {
        self.input.packed_bytes() + self.output.packed_bytes()
    }

    pub(super) fn packed(self, dtype: Dtype) -> Self {
        let dtype = dtype.of_condition();
        Self {
            input: self.input.packed(dtype),
            output: self.output.packed(dtype),
            ..self
        }
    }
}

/// `[cos(v f_0), …, sin(v f_0), …]` with `f_i = 10000^(-i / half)`.
pub(crate) fn sinusoids(values: &[f32], count: usize) -> Vec<f32> {
    let half = count / 2;
    let frequency: Vec<f64> = (0..half)
        .map(|i| (-(10_000f64.ln()) * i as f64 / half as f64).exp())
        .collect();
    let mut out = Vec::with_capacity(values.len() * count);
    for &v in values {
        out.extend(frequency.iter().map(|f| (f64::from(v) * f).cos() as f32));
        out.extend(frequency.iter().map(|f| (f64::from(v) * f).sin() as f32));
    }
    out
}

impl AdaLn {
    /// `parts` vectors of width `d_model` from the condition.
    pub(super) fn load(
        name: &str,
        parts: usize,
        d_model: usize,
        cond: usize,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let loader = &mut loader.packing(Dtype::of_condition);
        let linear = Linear::load(name, [parts * d_model, cond], true, loader)?;
        Ok(Self { linear, parts })
    }

    pub(super) fn forward(&self, cond: Tensor<2>) -> Modulation {
        self.linear.forward(cond).chunk(self.parts, 1)
    }

    /// Bytes of the packed weight.
    pub(super) fn packed_bytes(&self) -> usize {
        self.linear.packed_bytes()
    }

    pub(super) fn packed(self, dtype: Dtype) -> Self {
        Self {
            linear: self.linear.packed(dtype.of_condition()),
            ..self
        }
    }
}

/// `x · (1 + scale) + shift`.
pub(super) fn modulate(x: Tensor<2>, shift: Tensor<2>, scale: Tensor<2>) -> Tensor<2> {
    x * (scale + 1.0) + shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_by_hand() {
        // Two frequencies: 1 and 10000^(-1/2) = 0.01.
        let found = sinusoids(&[2.0], 4);
        let expected = [-0.4161468, 0.9998, 0.9092974, 0.0199987];
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?}");
        }
    }
}
