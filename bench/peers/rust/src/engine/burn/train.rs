//! A step of a training: forward pass, loss of the masked cells, backward pass, AdamW.

use anyhow::{Context, Result};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{DType, Device, Int, Tensor};

use super::network::Transformer;
use super::params::Params;
use super::{ids, name};
use crate::engine::{Ready, whole};
use crate::job::{Dtype, Train};
use crate::network::Masked;

/// Prepares steps on one batch.
pub fn prepare(work: &Train) -> Ready {
    let mut training = Training::new(work);
    whole(name(Dtype::F32), move || training.step())
}

/// A network, its optimiser and one batch.
struct Training {
    /// Absent only while it is being updated.
    network: Option<Transformer>,
    optimiser: ModuleOptimizer,
    loss: CrossEntropyLoss,
    ids: Tensor<2, Int>,
    predictors: Tensor<1, Int>,
    targets: Tensor<1, Int>,
}

impl Training {
    fn new(work: &Train) -> Self {
        let (batch, length) = (work.batch, work.length);
        let device = Device::flex().autodiff();
        let params = Params::new(DType::F32, device.clone());
        let network = Transformer::new(&work.network, length, &params);
        let settings = AdamWConfig::new().with_beta_1(0.9).with_beta_2(0.95);
        let settings = settings.with_epsilon(1e-8).with_weight_decay(0.1);
        let masked = Masked::new(&work.network, batch, length);
        let n = masked.targets.len();
        Self {
            network: Some(network),
            optimiser: settings.init(),
            loss: CrossEntropyLossConfig::new().init(&device),
            ids: ids(masked.ids, [batch, length], &device),
            predictors: ids(masked.predictors, [n], &device),
            targets: ids(masked.targets, [n], &device),
        }
    }

    /// Takes a step and gives the mean loss before it.
    fn step(&mut self) -> Result<f32> {
        let network = self
            .network
            .take()
            .context("the network was lost in a step")?;
        let hidden = network.hidden(self.ids.clone());
        let logits = network.logits(hidden.select(0, self.predictors.clone()));
        let loss = self.loss.forward(logits, self.targets.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        self.network = Some(self.optimiser.step(1e-3, network, grads));
        Ok(loss.into_scalar())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// The losses before each of some steps.
    pub fn losses(work: &Train, steps: usize) -> Vec<f32> {
        let mut training = Training::new(work);
        (0..steps).map(|_| training.step().unwrap()).collect()
    }
}
