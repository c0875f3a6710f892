//! Layers of networks on pictures.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use burn::module::Param;
use burn::nn;
use burn::tensor::activation::silu;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Tensor};

use super::name;
use super::params::Params;
use crate::engine::{Failure, Ready, whole};
use crate::job::{Conv, Dtype, GroupNorm, Pass};

/// Prepares a convolution.
pub fn conv(work: &Conv) -> Result<Ready, Failure> {
    let params = params(work.pass);
    let x = params.random("x", [work.batch, work.channels, work.size, work.size]);
    let weight = params.random(
        "weight",
        [work.filters, work.channels, work.kernel, work.kernel],
    );
    let bias = params.random("bias", [work.filters]);
    let options = ConvOptions::new([work.step; 2], [work.padding; 2], [1; 2], 1);
    Ok(layer_of(work.pass, x, move |x| {
        conv2d(x, weight.val(), Some(bias.val()), options.clone())
    }))
}

/// Prepares a group norm, and SiLU where it follows.
pub fn group_norm(work: &GroupNorm) -> Result<Ready, Failure> {
    let params = params(work.pass);
    let x = params.random("x", [work.batch, work.channels, work.size, work.size]);
    let layer = nn::GroupNorm {
        gamma: Some(params.random("weight", [work.channels])),
        beta: Some(params.random("bias", [work.channels])),
        num_groups: work.groups,
        num_channels: work.channels,
        epsilon: work.eps,
        affine: true,
    };
    let activated = work.silu;
    Ok(layer_of(work.pass, x, move |x| {
        let y = layer.forward(x);
        if activated { silu(y) } else { y }
    }))
}

fn params(pass: Pass) -> Params {
    let device = match pass {
        Pass::Forward => Device::flex(),
        Pass::Backward => Device::flex().autodiff(),
    };
    Params::new(DType::F32, device)
}

/// A layer forward, or backward alone. Going back uses up what the layer kept, so each run goes forward
/// before, and does not count it.
fn layer_of(
    pass: Pass,
    x: Param<Tensor<4>>,
    layer: impl Fn(Tensor<4>) -> Tensor<4> + 'static,
) -> Ready {
    match pass {
        Pass::Forward => whole(name(Dtype::F32), move || Ok(layer(x.val()))),
        Pass::Backward => {
            let work = move || {
                let y = layer(x.val());
                let begin = Instant::now();
                black_box(y.backward());
                Ok(begin.elapsed())
            };
            Ready {
                name: name(Dtype::F32),
                work: Box::new(work),
            }
        }
    }
}
