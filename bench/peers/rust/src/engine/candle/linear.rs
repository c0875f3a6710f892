//! A linear map whose weight is numbers or blocks.

use candle_core::quantized::QMatMul;
use candle_core::{Module, Result, Tensor};

use super::params::{Format, Params};

/// `x Wᵀ + b`.
#[derive(Debug)]
pub enum Linear {
    /// The weight is a tensor.
    Plain(candle_nn::Linear),
    /// The weight is in blocks, as in a GGUF file.
    Blocks {
        /// The product.
        weight: QMatMul,
        /// Added to it.
        bias: Option<Tensor>,
    },
}

impl Linear {
    /// A linear with random weights `[outer, inner]`.
    pub fn new(
        params: &mut Params,
        name: &str,
        inner: usize,
        outer: usize,
        biased: bool,
    ) -> Result<Self> {
        let weight = params.random(&format!("{name}.weight"), &[outer, inner])?;
        let bias = match biased {
            true => Some(params.random(&format!("{name}.bias"), &[outer])?),
            false => None,
        };
        Self::from_parts(params, weight, bias)
    }

    /// A linear with this weight `[outer, inner]`, brought into the format of `params`.
    pub fn from_parts(params: &Params, weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        Ok(match params.format() {
            Format::Plain(_) => Self::Plain(candle_nn::Linear::new(weight, bias)),
            Format::Blocks(format) => Self::Blocks {
                weight: QMatMul::from_arc(Params::blocks(&weight, format)?)?,
                bias,
            },
        })
    }

    /// `[.., inner]` to `[.., outer]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(linear) => linear.forward(x),
            Self::Blocks { weight, bias } => match bias {
                None => weight.forward(x),
                Some(bias) => weight.forward(x)?.broadcast_add(bias),
            },
        }
    }
}
