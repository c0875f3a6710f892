//! A batch forward and backward, without data or an optimiser: what a step of a training costs.

use burn::tensor::{Tensor, TensorData};

use super::{Input, UNet};
use crate::{NnError, span};

/// Asks a network for the noise in one batch again and again, with the gradients of all parameters.
#[derive(Debug)]
pub struct Rehearsal {
    network: UNet,
    input: Input,
    noise: Tensor<4>,
}

impl Rehearsal {
    /// A batch of `batch` pictures of `size` (height, width) for `network`, which lives on a device with gradients. Pictures
    /// and noise are waves, the times spread over 0 to 1000.
    pub fn new(network: UNet, batch: usize, [height, width]: [usize; 2]) -> Self {
        let device = network.device();
        let waves = |channels: usize, frequency: f32| {
            let n = batch * channels * height * width;
            let values: Vec<f32> = (0..n).map(|i| (frequency * i as f32).sin()).collect();
            let data = TensorData::new(values, [batch, channels, height, width]);
            Tensor::from_data(data, &device)
        };
        let config = network.config();
        Self {
            input: Input {
                pictures: waves(config.in_channels, 0.7),
                times: (0..batch)
                    .map(|i| 1000.0 * i as f32 / batch as f32)
                    .collect(),
            },
            noise: waves(config.out_channels, 1.3),
            network,
        }
    }

    /// Goes forward and backward once and gives the mean squared error. The gradients are dropped.
    ///
    /// # Errors
    /// When the network refuses the batch.
    pub fn step(&self) -> Result<f64, NnError> {
        let prediction = self.network.forward(self.input.clone())?;
        let part = span::part("loss");
        let loss = (prediction - self.noise.clone()).square().mean();
        let value = f64::from(loss.clone().into_scalar::<f32>());
        drop(part);
        let _span = span::part("backward");
        drop(loss.backward());
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::super::tiny;
    use super::*;

    #[test]
    fn a_new_network_predicts_nothing_so_the_error_is_the_noise() {
        let network = UNet::init(&tiny(), 1, &Device::flex().autodiff()).unwrap();
        let rehearsal = Rehearsal::new(network, 2, [4, 6]);
        let noise = rehearsal.noise.clone().square().mean();
        let wanted = f64::from(noise.into_scalar::<f32>());
        let found = rehearsal.step().unwrap();
        assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
        assert!(
            (wanted - 0.5).abs() < 0.1,
            "waves have a mean square of a half"
        );
    }
}
