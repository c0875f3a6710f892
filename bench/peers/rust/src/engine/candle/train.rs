//! A step of a training: forward pass, loss of the masked cells, backward pass, AdamW.

use anyhow::Result;
use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss};

use super::name;
use super::network::{Flow, Transformer};
use super::params::Params;
use crate::engine::{Failure, Ready, whole};
use crate::job::Train;
use crate::network::Masked;

/// Prepares steps on one batch.
pub fn prepare(work: &Train) -> Result<Ready, Failure> {
    let mut training = Training::new(work)?;
    Ok(whole(name("f32"), move || training.step()))
}

/// A network, its optimiser and one batch.
struct Training {
    network: Transformer,
    optimiser: AdamW,
    ids: Tensor,
    predictors: Tensor,
    targets: Tensor,
}

impl Training {
    fn new(work: &Train) -> Result<Self> {
        let (batch, length) = (work.batch, work.length);
        let mut params = Params::trained();
        let network = Transformer::new(&work.network, length, &mut params, Flow::Training)?;
        let settings = ParamsAdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
        };
        let masked = Masked::new(&work.network, batch, length);
        let n = masked.targets.len();
        Ok(Self {
            network,
            optimiser: AdamW::new(params.into_trained(), settings)?,
            ids: Tensor::from_vec(masked.ids, (batch, length), &Device::Cpu)?,
            predictors: Tensor::from_vec(masked.predictors, n, &Device::Cpu)?,
            targets: Tensor::from_vec(masked.targets, n, &Device::Cpu)?,
        })
    }

    /// Takes a step and gives the mean loss before it.
    fn step(&mut self) -> Result<f32> {
        let hidden = self.network.hidden(&self.ids)?;
        let logits = self
            .network
            .logits(&hidden.index_select(&self.predictors, 0)?)?;
        let loss = loss::cross_entropy(&logits, &self.targets)?;
        self.optimiser.backward_step(&loss)?;
        Ok(loss.to_scalar()?)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The losses before each of some steps.
    pub fn losses(work: &Train, steps: usize) -> Vec<f32> {
        let mut training = Training::new(work).unwrap();
        (0..steps).map(|_| training.step().unwrap()).collect()
    }
}
