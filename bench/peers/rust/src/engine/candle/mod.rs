//! candle on the CPU: the crate `gemm` for floats, kernels of its own for the formats of GGUF.

mod attention;
mod linear;
mod network;
mod params;
mod pictures;
mod train;

use candle_core::{Device, Tensor};

use super::{Failure, Ready, skip, version, whole};
use crate::job::{Dtype, Forward, Gemm, Job, Logits, Work};
use linear::Linear;
use network::{Flow, Transformer};
use params::{Format, Params};

/// Prepares a job.
pub fn prepare(job: &Job) -> Result<Ready, Failure> {
    match &job.work {
        Work::Gemm(work) => gemm(work, job.dtype),
        Work::Forward(work) => forward(work, job.dtype),
        Work::Train(work) => {
            only_f32(job.dtype, "networks are trained")?;
            train::prepare(work)
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
fn name(format: impl std::fmt::Display) -> String {
    format!("candle {} {format}", version::of("candle-core"))
}

/// A skip unless it is f32.
fn only_f32(dtype: Dtype, what: &str) -> Result<(), Failure> {
    match dtype {
        Dtype::F32 => Ok(()),
        other => Err(skip(format!("{what} here in f32, not in {other}"))),
    }
}

fn gemm(work: &Gemm, dtype: Dtype) -> Result<Ready, Failure> {
    let format = Format::of(dtype, &[work.inner])?;
    let mut params = Params::new(format);
    let linear = Linear::new(&mut params, "weight", work.inner, work.outer, false)?;
    let x = crate::random::values("x", work.rows * work.inner);
    let x = Tensor::from_vec(x, (work.rows, work.inner), &Device::Cpu)?;
    let x = x.to_dtype(format.activations())?;
    Ok(whole(name(format), move || Ok(linear.forward(&x)?)))
}

fn forward(work: &Forward, dtype: Dtype) -> Result<Ready, Failure> {
    let Forward {
        network,
        batch,
        tokens,
        logits,
    } = work;
    let (cells, length) = (batch * tokens, *tokens);
    let inner = [
        network.d_model,
        network.n_heads * network.head_dim,
        network.d_ff,
    ];
    let format = Format::of(dtype, &inner)?;
    let net = Transformer::new(network, length, &mut Params::new(format), Flow::Inference)?;
    let ids = Tensor::from_vec(network.ids(cells), (*batch, length), &Device::Cpu)?;
    let asked = match (logits, network.logit_shift) {
        (Logits::None, _) => None,
        (Logits::All, false) => Some(None),
        (Logits::All, true) => {
            let asked = network.predictors(0..cells, length);
            Some(Some(Tensor::from_vec(asked, cells, &Device::Cpu)?))
        }
    };
    let run = move || {
        let hidden = net.hidden(&ids)?;
        Ok(match &asked {
            None => hidden,
            Some(None) => net.logits(&hidden)?,
            Some(Some(asked)) => net.logits(&hidden.index_select(asked, 0)?)?,
        })
    };
    Ok(whole(name(format), run))
}

#[cfg(test)]
pub mod tests {
    pub use super::train::tests::losses;
    use super::*;
    use crate::network::Network;

    /// Logits of every cell of `[batch, length]`, in f32.
    fn logits(network: &Network, batch: usize, length: usize, flow: Flow) -> Vec<f32> {
        let mut params = match flow {
            Flow::Inference => Params::new(Format::Plain(candle_core::DType::F32)),
            Flow::Training => Params::trained(),
        };
        let net = Transformer::new(network, length, &mut params, flow).unwrap();
        let ids = Tensor::from_vec(network.ids(batch * length), (batch, length), &Device::Cpu);
        let logits = net.logits(&net.hidden(&ids.unwrap()).unwrap()).unwrap();
        logits.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Of the operations that infer, and of those that train.
    pub fn both(network: &Network, batch: usize, length: usize) -> [Vec<f32>; 2] {
        [Flow::Inference, Flow::Training].map(|flow| logits(network, batch, length, flow))
    }
}
