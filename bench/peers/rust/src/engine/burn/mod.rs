//! burn on its flex backend: the crate `gemm` for products, f32 inside whatever the format.

mod network;
mod params;
mod pictures;
mod train;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::{Failure, Ready, skip, version, whole};
use crate::job::{Dtype, Forward, Gemm, Job, Logits, Work};
use network::Transformer;
use params::Params;

/// Prepares a job.
pub fn prepare(job: &Job) -> Result<Ready, Failure> {
    match &job.work {
        Work::Gemm(work) => gemm(work, job.dtype),
        Work::Forward(work) => forward(work, job.dtype),
        Work::Train(work) => {
            only_f32(job.dtype, "networks are trained")?;
            Ok(train::prepare(work))
        }
        Work::Conv(work) => {
            only_f32(job.dtype, "pictures are convolved")?;
            pictures::conv(work)
        }
        Work::GroupNorm(work) => {
            only_f32(job.dtype, "pictures are normed")?;
            pictures::group_norm(work)
        }
    }
}

/// What the peer calls itself.
fn name(format: Dtype) -> String {
    format!("burn {} flex {format}", version::of("burn"))
}

/// A skip unless it is f32.
fn only_f32(dtype: Dtype, what: &str) -> Result<(), Failure> {
    match dtype {
        Dtype::F32 => Ok(()),
        other => Err(skip(format!("{what} here in f32, not in {other}"))),
    }
}

/// The type of weights and activations.
fn dtype(dtype: Dtype) -> Result<DType, Failure> {
    match dtype {
        Dtype::F32 => Ok(DType::F32),
        Dtype::Bf16 => Ok(DType::BF16),
        Dtype::Int8 | Dtype::Int4 => {
            let why =
                "burn's flex backend multiplies no whole numbers: it unpacks them to f32 first";
            Err(skip(why))
        }
    }
}

fn gemm(work: &Gemm, format: Dtype) -> Result<Ready, Failure> {
    let params = Params::new(dtype(format)?, Device::flex());
    let x = params.constant(
        crate::random::values("x", work.rows * work.inner),
        [work.rows, work.inner],
    );
    let weight = params.matrix("weight.weight", work.inner, work.outer);
    let run = move || {
        let y = x.clone().matmul(weight.val());
        Ok(y)
    };
    Ok(whole(name(format), run))
}

fn forward(work: &Forward, format: Dtype) -> Result<Ready, Failure> {
    let Forward {
        network,
        batch,
        tokens,
        logits,
    } = work;
    let (cells, length) = (batch * tokens, *tokens);
    let params = Params::new(dtype(format)?, Device::flex());
    let net = Transformer::new(network, length, &params);
    let ids = ids(network.ids(cells), [*batch, length], &Device::flex());
    let asked = match (logits, network.logit_shift) {
        (Logits::None, _) => None,
        (Logits::All, false) => Some(None),
        (Logits::All, true) => {
            let asked = network.predictors(0..cells, length);
            Some(Some(self::ids(asked, [cells], &Device::flex())))
        }
    };
    let run = move || {
        let hidden = net.hidden(ids.clone());
        Ok(match &asked {
            None => hidden,
            Some(None) => net.logits(hidden),
            Some(Some(asked)) => net.logits(hidden.select(0, asked.clone())),
        })
    };
    Ok(whole(name(format), run))
}

/// Whole numbers of a shape.
fn ids<const D: usize>(values: Vec<u32>, shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    let values: Vec<i32> = values.into_iter().map(|id| id as i32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
pub mod tests {
    pub use super::train::tests::losses;
    use super::*;
    use crate::network::Network;

    /// Logits of every cell of `[batch, length]`, in f32.
    fn logits(network: &Network, batch: usize, length: usize, device: &Device) -> Vec<f32> {
        let net = Transformer::new(network, length, &Params::new(DType::F32, device.clone()));
        let ids = ids(network.ids(batch * length), [batch, length], device);
        let logits = net.logits(net.hidden(ids)).into_data();
        logits.try_into_vec().unwrap()
    }

    /// On a device without gradients, and on one with them.
    pub fn both(network: &Network, batch: usize, length: usize) -> [Vec<f32>; 2] {
        let devices = [Device::flex(), Device::flex().autodiff()];
        devices.map(|device| logits(network, batch, length, &device))
    }
}
