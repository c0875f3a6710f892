//! Layers of networks on pictures.

use anyhow::Result;
use candle_core::{Device, Module, Tensor, Var};
use candle_nn::ops;

use super::name;
use crate::engine::{Failure, Ready, whole};
use crate::job::{Conv, GroupNorm, Pass};
use crate::random;

/// Prepares a convolution.
pub fn conv(work: &Conv) -> Result<Ready, Failure> {
    let &Conv {
        pass,
        channels,
        filters,
        kernel,
        step,
        padding,
        ..
    } = work;
    let x = random_var("x", &[work.batch, channels, work.size, work.size])?;
    let weight = random_var("weight", &[filters, channels, kernel, kernel])?;
    let bias = random_var("bias", &[filters])?;
    let config = candle_nn::Conv2dConfig {
        padding,
        stride: step,
        ..Default::default()
    };
    let layer = candle_nn::Conv2d::new(weight.into_inner(), Some(bias.into_inner()), config);
    layer_of(pass, x, move |x| layer.forward(x))
}

/// Prepares a group norm, and SiLU where it follows.
pub fn group_norm(work: &GroupNorm) -> Result<Ready, Failure> {
    let &GroupNorm {
        pass,
        channels,
        groups,
        eps,
        silu,
        ..
    } = work;
    let x = random_var("x", &[work.batch, channels, work.size, work.size])?;
    let weight = random_var("weight", &[channels])?.into_inner();
    let bias = random_var("bias", &[channels])?.into_inner();
    let layer = candle_nn::GroupNorm::new(weight, bias, channels, groups, eps)?;
    layer_of(pass, x, move |x| {
        let y = layer.forward(x)?;
        if silu { ops::silu(&y) } else { Ok(y) }
    })
}

/// A layer forward, or backward alone: candle keeps what the layer gave, and goes back from there.
fn layer_of(
    pass: Pass,
    x: Var,
    layer: impl Fn(&Tensor) -> candle_core::Result<Tensor> + 'static,
) -> Result<Ready, Failure> {
    Ok(match pass {
        Pass::Forward => {
            let x = x.as_detached_tensor();
            whole(name("f32"), move || Ok(layer(&x)?))
        }
        Pass::Backward => {
            let y = layer(&x)?;
            whole(name("f32"), move || Ok(y.backward()?))
        }
    })
}

fn random_var(name: &str, shape: &[usize]) -> candle_core::Result<Var> {
    let values = random::values(name, shape.iter().product());
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)
}
