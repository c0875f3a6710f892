//! The weight of a linear: every linear of a network goes through this one type.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::ParamSource;
use super::lora::{Attach, Lora};
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

/// `x Wᵀ + b`, and what an adapter adds to it.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Param<Tensor<1>>>,
    lora: Option<Lora>,
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
            lora: None,
        })
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.forward_with(x, None)
    }

    /// The same; `dropout` is the seed of what the adapter does not see while training.
    pub(super) fn forward_with(&self, x: Tensor<2>, dropout: Option<u64>) -> Tensor<2> {
        let added = self.lora.as_ref().map(|l| l.forward(x.clone(), dropout));
        let bias = self.bias.as_ref().map(Param::val);
        let y = match &self.weight {
            Weight::Dense(weight) => ops::linear(x, weight.val(), bias),
            Weight::Packed(weight) => weight.forward(x, bias),
        };
        match added {
            Some(added) => y + added,
            None => y,
        }
    }

    /// The same linear with the adapter that `attach` has for `name`.
    pub(super) fn adapted(self, name: &str, attach: &mut Attach) -> Result<Self, NnError> {
        let lora = match &self.weight {
            Weight::Dense(weight) => attach.adapter(name, weight.val().dims())?,
            Weight::Packed(_) => {
                return Err(NnError::source(name, "is packed and takes no adapter"));
            }
        };
        Ok(Self { lora, ..self })
    }

    /// The same linear with its adapter added into its weight. A packed one stays as it is, which
    /// [`Transformer::merged`](super::Transformer::merged) does not let happen.
    pub(super) fn merged(self) -> Self {
        match (self.weight, self.lora) {
            (Weight::Dense(weight), Some(lora)) => Self {
                weight: Weight::Dense(Param::from_tensor((weight.val() + lora.delta()).detach())),
                lora: None,
                bias: self.bias,
            },
            (weight, lora) => Self {
                weight,
                lora,
                bias: self.bias,
            },
        }
    }

    pub(super) fn is_packed(&self) -> bool {
        matches!(self.weight, Weight::Packed(_))
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
            lora: None,
        }
    }
}
