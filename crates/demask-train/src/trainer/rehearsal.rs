//! Steps of a training without its recipe, data and run folder: what a step costs.

use burn::tensor::Device;
use demask_nn::{Asked, Input, NnError, Targets, Transformer, span};

use super::params::{Params, Update};
use crate::optimizer::{AdamW, clip_factor};

/// Trains one batch again and again, every second cell of it masked. A step is a step of [`train`]: the
/// same network, loss, gradients, clipping and update.
///
/// [`train`]: super::train
#[derive(Debug)]
pub struct Rehearsal {
    /// Absent only while it is being updated.
    network: Option<Transformer>,
    params: Params,
    device: Device,
    ids: Vec<u32>,
    dims: [usize; 2],
    asked: Vec<u32>,
    targets: Vec<u32>,
    step: u64,
}

impl Rehearsal {
    /// A training of `network`, which lives on a device with gradients, on `ids` `[batch, length]`. The
    /// last token of the vocabulary is the mask.
    pub fn new(network: Transformer, ids: Vec<u32>, dims: [usize; 2]) -> Self {
        let mask = network.config().vocab_size as u32 - 1;
        let asked: Vec<u32> = (0..ids.len() as u32).skip(1).step_by(2).collect();
        let targets = asked.iter().map(|&cell| ids[cell as usize]).collect();
        let mut masked = ids;
        for &cell in &asked {
            masked[cell as usize] = mask;
        }
        Self {
            params: Params::new(&network, false),
            device: network.device(),
            network: Some(network),
            ids: masked,
            dims,
            asked,
            targets,
            step: 0,
        }
    }

    /// Takes a step and gives the mean loss before it.
    ///
    /// # Errors
    /// When the network refuses the batch.
    pub fn step(&mut self) -> Result<f64, NnError> {
        let Some(network) = &self.network else {
            return Err(NnError::Input("the network was lost in a step".into()));
        };
        let [batch, length] = self.dims;
        let output = network.forward(Input {
            asked: Asked::Rows(self.asked.clone()),
            targets: Some(Targets {
                ids: self.targets.clone(),
                forbidden: None,
            }),
            ..Input::ids(self.ids.clone(), batch, length)
        })?;
        let Some(losses) = output.losses else {
            return Err(NnError::Input(
                "a batch of one cell has none to mask".into(),
            ));
        };
        let part = span::part("loss");
        let sum = losses.sum();
        let loss = f64::from(sum.clone().into_scalar::<f32>());
        drop(part);
        let part = span::part("backward");
        let grads = sum.backward();
        drop(part);
        let part = span::part("gradients");
        self.params.add(network, grads);
        drop(part);
        let scale = 1.0 / self.asked.len() as f64;
        let part = span::part("clip");
        let norm = self.params.norm() * scale;
        drop(part);
        self.step += 1;
        let adamw = AdamW {
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.1,
        };
        let update = Update {
            step: adamw.at(self.step, 1e-3, scale * clip_factor(norm, 1.0)),
            ema: None,
            device: &self.device,
        };
        let _span = span::part("optimiser");
        let network = self.network.take();
        self.network = network.map(|network| self.params.update(network, &update));
        Ok(loss * scale)
    }
}

#[cfg(test)]
mod tests {
    use demask_nn::TransformerConfig;

    use super::*;

    #[test]
    fn what_is_rehearsed_is_learned() {
        let config: TransformerConfig = serde_json::from_value(serde_json::json!({
            "vocab_size": 11, "d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2,
            "head_dim": 8, "d_ff": 32, "max_length": 8
        }))
        .unwrap();
        let network = Transformer::init(&config, 1, &Device::flex().autodiff()).unwrap();
        let ids = (0..16).map(|i| i * 3 % 10).collect();
        let mut training = Rehearsal::new(network, ids, [2, 8]);
        let first = training.step().unwrap();
        assert!((first - 11f64.ln()).abs() < 0.1, "{first}");
        let last = (0..60).map(|_| training.step().unwrap()).last().unwrap();
        assert!(last < 0.8 * first, "{first} {last}");
    }
}
