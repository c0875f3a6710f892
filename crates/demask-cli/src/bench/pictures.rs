//! The U-Net that benches measure, and what its layers do.

use demask::nn::UNetConfig;
use demask::nn::unet::params::for_each_shape;

/// What a row calls the network.
pub const NAME: &str = "unet-3m";

/// 3,032,707 parameters: three levels of 64, 64 and 128 channels, one residual block each (two on the way up), attention in
/// the middle.
pub fn network() -> UNetConfig {
    UNetConfig {
        in_channels: 3,
        out_channels: 3,
        channels: vec![64, 64, 128],
        blocks: 1,
        groups: 32,
        norm_eps: 1e-5,
        attention: Vec::new(),
        middle_attention: true,
        head_dim: 8,
    }
}

/// A convolution of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    pub channels: usize,
    pub filters: usize,
    pub kernel: usize,
    /// Pixels between two places of the filter.
    pub step: usize,
    /// Height and width of what it reads.
    pub size: usize,
}

impl Layer {
    /// Floating-point operations for a batch, as a direct product has them.
    pub fn operations(&self, batch: usize) -> f64 {
        let pixels = (self.size / self.step).pow(2);
        2.0 * (batch * pixels * self.filters) as f64
            * (self.channels * self.kernel * self.kernel) as f64
    }
}

/// A group norm of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Norm {
    pub channels: usize,
    pub size: usize,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// Every convolution of a network over pictures of `size`, in the order of its parameters.
pub fn layers(config: &UNetConfig, size: usize) -> Vec<Layer> {
    let mut layers = Vec::new();
    for_each_shape(config, &mut |name, shape| {
        let &[filters, channels, kernel, _] = shape else {
            return;
        };
        let halves = name.contains("downsamplers");
        let level = level(config, name) - usize::from(name.contains("upsamplers"));
        layers.push(Layer {
            channels,
            filters,
            kernel,
            step: if halves { 2 } else { 1 },
            size: size >> level,
        });
    });
    layers
}

/// Every group norm, likewise.
pub fn norms(config: &UNetConfig, size: usize) -> Vec<Norm> {
    let mut norms = Vec::new();
    for_each_shape(config, &mut |name, shape| {
        if let (&[channels], true) = (shape, name.contains("norm") && name.ends_with(".weight")) {
            norms.push(Norm {
                channels,
                size: size >> level(config, name),
                silu: !name.contains("group_norm"),
            });
        }
    });
    norms
}

/// Of equal ones the first.
pub fn distinct<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in all {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

/// How often the picture was halved where a parameter is used.
fn level(config: &UNetConfig, name: &str) -> usize {
    let last = config.channels.len() - 1;
    let mut parts = name.split('.');
    let index = |part: Option<&str>| part.and_then(|part| part.parse().ok()).unwrap_or(0);
    match parts.next() {
        Some("down_blocks") => index(parts.next()),
        Some("mid_block") => last,
        Some("up_blocks") => last - index(parts.next()),
        _ => 0,
    }
}

/// Floating-point operations of a forward pass: those of the convolutions, beside which everything else is less than a
/// hundredth.
pub fn operations(config: &UNetConfig, batch: usize, size: usize) -> f64 {
    let all = layers(config, size);
    all.iter().map(|layer| layer.operations(batch)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_has_three_million_parameters() {
        network().validate().unwrap();
        assert_eq!(network().parameters(), 3_032_707);
    }

    #[test]
    fn layers_stand_where_the_picture_has_their_size() {
        let all = layers(&network(), 32);
        // Beginning and end; 11 blocks of two, 7 shortcuts (six joins, one change of width); twice down, twice up.
        assert_eq!(all.len(), 2 + 11 * 2 + 7 + 4);
        let layer = |[channels, filters, kernel, step, size]: [usize; 5]| Layer {
            channels,
            filters,
            kernel,
            step,
            size,
        };
        assert_eq!(all[0], layer([3, 64, 3, 1, 32]));
        assert_eq!(all[3], layer([64, 64, 3, 2, 32]));
        assert!(all.contains(&layer([256, 128, 3, 1, 8])));
        assert!(all.contains(&layer([128, 128, 3, 1, 16])));
        assert_eq!(all[all.len() - 1], layer([64, 3, 3, 1, 32]));
        assert_eq!(all[0].operations(2), 2.0 * 2.0 * 1024.0 * 64.0 * 27.0);
        assert_eq!(all[3].operations(1), 2.0 * 256.0 * 64.0 * 576.0);
    }

    #[test]
    fn every_block_has_two_norms() {
        let all = norms(&network(), 32);
        assert_eq!(all.len(), 11 * 2 + 2);
        assert_eq!(all.iter().filter(|norm| !norm.silu).count(), 1);
        let first = Norm {
            channels: 64,
            size: 32,
            silu: true,
        };
        assert_eq!(all[0], first);
        assert_eq!(distinct(vec![1, 2, 1, 3, 2]), [1, 2, 3]);
    }

    #[test]
    fn operations_of_the_whole() {
        // 1.216 G a picture of 32x32.
        let each = operations(&network(), 1, 32);
        assert!((each / 1e9 - 1.216).abs() < 0.001, "{each}");
        assert_eq!(operations(&network(), 16, 32), 16.0 * each);
    }
}
