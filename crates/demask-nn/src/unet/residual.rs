//! The residual block.

use burn::module::Module;
use burn::tensor::Tensor;

use super::UNetConfig;
use super::conv::{Conv, Norm};
use crate::NnError;
use crate::ops::{self, Stride};
use crate::transformer::{Linear, Loader};

/// `skip(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time)))`, where the time shifts every channel and `skip` is a 1×1
/// convolution if the channels change (diffusers' `ResnetBlock2D` with `time_embedding_norm` "default").
#[derive(Module, Debug)]
pub(super) struct Residual {
    norm1: Norm,
    conv1: Conv,
    time: Linear,
    norm2: Norm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl Residual {
    pub fn load(
        name: &str,
        (from, to): (usize, usize),
        config: &UNetConfig,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let at = |part: &str| format!("{name}.{part}");
        Ok(Self {
            norm1: Norm::load(&at("norm1"), from, config, loader)?,
            conv1: Conv::load(&at("conv1"), [to, from, 3], loader)?,
            time: Linear::load(&at("time_emb_proj"), [to, config.condition()], true, loader)?,
            norm2: Norm::load(&at("norm2"), to, config, loader)?,
            conv2: Conv::load(&at("conv2"), [to, to, 3], loader)?,
            shortcut: (from != to)
                .then(|| Conv::load(&at("conv_shortcut"), [to, from, 1], loader))
                .transpose()?,
        })
    }

    /// `x` `[batch, from, height, width]`, `time` `[batch, condition]` (after its SiLU), to
    /// `[batch, to, height, width]`.
    ///
    /// Constants of a channel are added where they cost nothing, forward or backward: the bias of the first convolution
    /// with the time, in the norm; that of the shortcut with the bias of the second convolution.
    pub fn forward(&self, x: Tensor<4>, time: &Tensor<2>) -> Tensor<4> {
        let y = self.norm1.activated(x.clone(), None);
        let y = ops::conv2d(y, self.conv1.weight(), None, Stride::same(3));
        let shift = self.time.forward(time.clone()) + self.conv1.bias().unsqueeze();
        let y = self.norm2.activated(y, Some(shift));
        let (skip, bias) = match &self.shortcut {
            None => (x, self.conv2.bias()),
            Some(shortcut) => (
                ops::conv2d(x, shortcut.weight(), None, Stride::same(1)),
                self.conv2.bias() + shortcut.bias(),
            ),
        };
        ops::conv2d_onto(skip, y, self.conv2.weight(), Some(bias), Stride::same(3))
    }
}
