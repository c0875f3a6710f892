//! The weight of a linear: every linear of a network goes through this one type.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::ParamSource;
use crate::NnError;
use crate::ops::{self, PackedWeight};

/// The matrix of a linear.
#[derive(Module, Debug)]
pub enum Weight {
    /// `[out, in]` as a trainable tensor.
    Dense(Param<Tensor<2>>),
    /// Packed once for the CPU kernels; inference only.
    Packed(PackedWeight),
}

/// `x Wᵀ + b`.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// Reads `{name}.weight` `[out, in]` and, with `bias`, `{name}.bias` `[out]`.
    pub(super) fn from_source(
        name: &str,
        [outputs, inputs]: [usize; 2],
        bias: bool,
        source: &mut dyn ParamSource,
        device: &Device,
    ) -> Result<Self, NnError> {
        let weight = param(&format!("{name}.weight"), [outputs, inputs], source, device)?;
        let bias = bias
            .then(|| param(&format!("{name}.bias"), [outputs], source, device))
            .transpose()?;
        Ok(Self {
            weight: Weight::Dense(weight),
            bias,
        })
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let bias = self.bias.as_ref().map(Param::val);
        match &self.weight {
            Weight::Dense(weight) => ops::linear(x, weight.val(), bias),
            Weight::Packed(weight) => weight.forward(x, bias),
        }
    }

    /// The same linear with its weight packed for the CPU kernels; unchanged on other devices.
    pub(super) fn packed(self) -> Self {
        let weight = match self.weight {
            Weight::Dense(weight) if ops::on_cpu(&weight.val().device()) => {
                Weight::Packed(PackedWeight::pack(weight.val()))
            }
            other => other,
        };
        Self { weight, ..self }
    }
}

/// Reads one parameter as a trainable tensor.
pub(super) fn param<const D: usize>(
    name: &str,
    shape: [usize; D],
    source: &mut dyn ParamSource,
    device: &Device,
) -> Result<Param<Tensor<D>>, NnError> {
    let data = source.tensor(name, &shape)?;
    if data.shape().as_slice() != shape {
        return Err(NnError::source(
            name,
            format!(
                "has shape {:?}, the network needs {shape:?}",
                data.shape().as_slice()
            ),
        ));
    }
    Ok(Param::from_tensor(Tensor::from_data(data, device)))
}

impl Linear {
    /// A head that reads the embedding matrix.
    pub(super) fn tied(weight: Tensor<2>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self {
            weight: Weight::Dense(Param::from_tensor(weight)),
            bias,
        }
    }
}
