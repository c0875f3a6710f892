//! The levels of a U-Net: down, middle, up.

use burn::module::Module;
use burn::tensor::Tensor;

use super::UNetConfig;
use super::attention::Attention;
use super::conv::Conv;
use super::residual::Residual;
use crate::transformer::Loader;
use crate::{NnError, ops};

/// Residual blocks, each followed by attention where the level has some, then half the size.
#[derive(Module, Debug)]
pub(super) struct Down {
    blocks: Vec<Residual>,
    attentions: Vec<Attention>,
    halve: Option<Conv>,
}

/// A residual block, attention, a residual block.
#[derive(Module, Debug)]
pub(super) struct Middle {
    first: Residual,
    attention: Option<Attention>,
    second: Residual,
}

/// Residual blocks on the stream joined with what the way down left, each followed by attention where the level has
/// some, then twice the size.
#[derive(Module, Debug)]
pub(super) struct Up {
    blocks: Vec<Residual>,
    attentions: Vec<Attention>,
    double: Option<Conv>,
}

/// The attentions of a level, one for each of its blocks, or none.
fn attentions(
    name: &str,
    level: usize,
    blocks: usize,
    config: &UNetConfig,
    loader: &mut Loader<'_>,
) -> Result<Vec<Attention>, NnError> {
    let count = if config.attends(level) { blocks } else { 0 };
    (0..count)
        .map(|j| {
            let name = format!("{name}.attentions.{j}");
            Attention::load(&name, config.channels[level], config, loader)
        })
        .collect()
}

impl Down {
    pub fn load(level: usize, c: &UNetConfig, loader: &mut Loader<'_>) -> Result<Self, NnError> {
        let (name, own) = (format!("down_blocks.{level}"), c.channels[level]);
        let mut blocks = Vec::with_capacity(c.blocks);
        for (j, channels) in c.downward(level).into_iter().enumerate() {
            let name = format!("{name}.resnets.{j}");
            blocks.push(Residual::load(&name, channels, c, loader)?);
        }
        let attentions = attentions(&name, level, blocks.len(), c, loader)?;
        let name = format!("{name}.downsamplers.0.conv");
        let halve = (level + 1 < c.channels.len())
            .then(|| Conv::load(&name, [own, own, 3], loader))
            .transpose()?;
        Ok(Self {
            blocks,
            attentions,
            halve,
        })
    }

    /// Leaves in `left` every picture that the way up joins.
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        time: &Tensor<2>,
        left: &mut Vec<Tensor<4>>,
    ) -> Result<Tensor<4>, NnError> {
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, time);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x)?;
            }
            left.push(x.clone());
        }
        if let Some(halve) = &self.halve {
            x = halve.halved(x);
            left.push(x.clone());
        }
        Ok(x)
    }
}

impl Middle {
    pub fn load(c: &UNetConfig, loader: &mut Loader<'_>) -> Result<Self, NnError> {
        let own = c.channels[c.channels.len() - 1];
        Ok(Self {
            first: Residual::load("mid_block.resnets.0", (own, own), c, loader)?,
            attention: c
                .middle_attention
                .then(|| Attention::load("mid_block.attentions.0", own, c, loader))
                .transpose()?,
            second: Residual::load("mid_block.resnets.1", (own, own), c, loader)?,
        })
    }

    pub fn forward(&self, x: Tensor<4>, time: &Tensor<2>) -> Result<Tensor<4>, NnError> {
        let mut x = self.first.forward(x, time);
        if let Some(attention) = &self.attention {
            x = attention.forward(x)?;
        }
        Ok(self.second.forward(x, time))
    }
}

impl Up {
    pub fn load(level: usize, c: &UNetConfig, loader: &mut Loader<'_>) -> Result<Self, NnError> {
        let (index, own) = (c.channels.len() - 1 - level, c.channels[level]);
        let name = format!("up_blocks.{index}");
        let mut blocks = Vec::with_capacity(c.blocks + 1);
        for (j, (stream, joined, to)) in c.upward(level).into_iter().enumerate() {
            let name = format!("{name}.resnets.{j}");
            blocks.push(Residual::load(&name, (stream + joined, to), c, loader)?);
        }
        let attentions = attentions(&name, level, blocks.len(), c, loader)?;
        let name = format!("{name}.upsamplers.0.conv");
        let double = (level > 0)
            .then(|| Conv::load(&name, [own, own, 3], loader))
            .transpose()?;
        Ok(Self {
            blocks,
            attentions,
            double,
        })
    }

    /// Takes from `left` what is joined, the last picture first.
    pub fn forward(
        &self,
        mut x: Tensor<4>,
        time: &Tensor<2>,
        left: &mut Vec<Tensor<4>>,
    ) -> Result<Tensor<4>, NnError> {
        for (i, block) in self.blocks.iter().enumerate() {
            let joined = left.pop().expect("the way down leaves one for each block");
            x = block.forward(ops::join_channels(x, joined), time);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x)?;
            }
        }
        if let Some(double) = &self.double {
            x = double.forward(ops::upsample2(x));
        }
        Ok(x)
    }
}
