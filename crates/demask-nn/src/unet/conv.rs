//! Convolutions and norms with their parameters.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::UNetConfig;
use crate::NnError;
use crate::ops::{self, Groups, Stride};
use crate::transformer::Loader;

/// The filters of a convolution and its bias.
#[derive(Module, Debug)]
pub(super) struct Conv {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
}

impl Conv {
    /// Reads `{name}.weight` `[filters, channels, kernel, kernel]` and `{name}.bias` `[filters]`.
    pub fn load(
        name: &str,
        [filters, channels, kernel]: [usize; 3],
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let weight = [filters, channels, kernel, kernel];
        Ok(Self {
            weight: loader.param(&format!("{name}.weight"), weight)?,
            bias: loader.param(&format!("{name}.bias"), [filters])?,
        })
    }

    pub fn weight(&self) -> Tensor<4> {
        self.weight.val()
    }

    pub fn bias(&self) -> Tensor<1> {
        self.bias.val()
    }

    /// The convolution that keeps the size.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, kernel, _] = self.weight.dims();
        ops::conv2d(x, self.weight(), Some(self.bias()), Stride::same(kernel))
    }

    /// The convolution that halves the size.
    pub fn halved(&self, x: Tensor<4>) -> Tensor<4> {
        let stride = Stride {
            step: 2,
            padding: 1,
        };
        ops::conv2d(x, self.weight(), Some(self.bias()), stride)
    }

    /// Where it runs.
    pub fn device(&self) -> burn::tensor::Device {
        self.weight.val().device()
    }
}

/// A group norm.
#[derive(Module, Debug)]
pub(super) struct Norm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    groups: usize,
    eps: f64,
}

impl Norm {
    /// Reads `{name}.weight` and `{name}.bias`, both `[channels]`.
    pub fn load(
        name: &str,
        channels: usize,
        config: &UNetConfig,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        Ok(Self {
            weight: loader.param(&format!("{name}.weight"), [channels])?,
            bias: loader.param(&format!("{name}.bias"), [channels])?,
            groups: config.groups,
            eps: config.norm_eps,
        })
    }

    /// The norm alone.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.run(x, None, false)
    }

    /// SiLU of the norm of `x + shift`.
    pub fn activated(&self, x: Tensor<4>, shift: Option<Tensor<2>>) -> Tensor<4> {
        self.run(x, shift, true)
    }

    fn run(&self, x: Tensor<4>, shift: Option<Tensor<2>>, silu: bool) -> Tensor<4> {
        let groups = Groups {
            count: self.groups,
            eps: self.eps,
            silu,
        };
        ops::group_norm(x, shift, self.weight.val(), self.bias.val(), groups)
    }
}
