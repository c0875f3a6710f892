//! The configuration of a U-Net.

use serde::{Deserialize, Serialize};

use crate::NnError;

/// Shape of a [`UNet`](super::UNet).
///
/// The fields say what those of a diffusers `UNet2DModel` say: `channels` is `block_out_channels`, `blocks`
/// `layers_per_block`, `groups` `norm_num_groups`, `head_dim` `attention_head_dim`, and `attention` names the levels whose
/// types are `AttnDownBlock2D` and `AttnUpBlock2D`. The features of the time are as many as the first level has channels,
/// the vector that the blocks read is four times as wide (`flip_sin_to_cos` true, `freq_shift` 0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the noisy picture.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Channels of each level, that of the whole picture first; every further level halves height and width. The first
    /// number is even, and `groups` divides all of them.
    pub channels: Vec<usize>,
    /// Residual blocks of a level on the way down; there is one more on the way up.
    #[serde(default = "default_blocks")]
    pub blocks: usize,
    /// Groups of channels in every norm.
    #[serde(default = "default_groups")]
    pub groups: usize,
    /// Added to the variance inside every norm.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Levels whose residual blocks are each followed by self-attention over the pixels; the first level is 0.
    #[serde(default)]
    pub attention: Vec<usize>,
    /// Whether there is self-attention between the two blocks in the middle.
    #[serde(default = "yes")]
    pub middle_attention: bool,
    /// Channels of an attention head; divides the channels of every level with attention.
    #[serde(default = "default_head")]
    pub head_dim: usize,
}

fn default_blocks() -> usize {
    2
}

fn default_groups() -> usize {
    32
}

fn default_eps() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}

fn default_head() -> usize {
    8
}

/// Most channels that are believed, most blocks, and most levels.
const MAX_CHANNELS: usize = 1 << 16;
const MAX_BLOCKS: usize = 1 << 8;
const MAX_LEVELS: usize = 16;

impl UNetConfig {
    /// Says the first thing that makes the configuration unusable.
    ///
    /// # Errors
    /// [`NnError::Config`] with the field and the reason.
    pub fn validate(&self) -> Result<(), NnError> {
        let refuse = |field: &str, reason: String| Err(NnError::config(field, reason));
        if !(1..=MAX_LEVELS).contains(&self.channels.len()) {
            let reason = format!("must have 1 to {MAX_LEVELS} levels");
            return refuse("channels", reason);
        }
        let sizes = [
            ("in_channels", self.in_channels, MAX_CHANNELS),
            ("out_channels", self.out_channels, MAX_CHANNELS),
            ("blocks", self.blocks, MAX_BLOCKS),
            ("groups", self.groups, MAX_CHANNELS),
            ("head_dim", self.head_dim, MAX_CHANNELS),
        ];
        let levels = self.channels.iter().map(|&n| ("channels", n, MAX_CHANNELS));
        for (field, value, most) in sizes.into_iter().chain(levels) {
            if !(1..=most).contains(&value) {
                return refuse(field, format!("{value} is not between 1 and {most}"));
            }
        }
        let groups = self.groups;
        if let Some(n) = self.channels.iter().find(|n| !n.is_multiple_of(groups)) {
            return refuse("groups", format!("{groups} does not divide {n} channels"));
        }
        if !self.channels[0].is_multiple_of(2) {
            let reason =
                "the first level must have an even number: half of the time's features are sines";
            return refuse("channels", reason.into());
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return refuse("norm_eps", "must be a finite number, 0 or larger".into());
        }
        let last = self.channels.len() - 1;
        for (i, &level) in self.attention.iter().enumerate() {
            if level > last {
                return refuse(
                    "attention",
                    format!("level {level} is not one of 0 to {last}"),
                );
            }
            if self.attention[..i].contains(&level) {
                return refuse("attention", format!("names level {level} twice"));
            }
        }
        let middle = self.middle_attention.then_some(last);
        for &level in self.attention.iter().chain(&middle) {
            let (n, head) = (self.channels[level], self.head_dim);
            if !n.is_multiple_of(head) {
                return refuse("head_dim", format!("{head} does not divide {n} channels"));
            }
        }
        Ok(())
    }

    /// Number of trained values in the network.
    pub fn parameters(&self) -> u64 {
        let mut total = 0u64;
        super::params::for_each_shape(self, &mut |_, shape| {
            let count = shape.iter().map(|&n| n as u64);
            total = total.saturating_add(count.fold(1, u64::saturating_mul));
        });
        total
    }

    /// Height and width of a picture must be multiples of this: it is halved between levels.
    pub fn multiple(&self) -> usize {
        1 << (self.channels.len() - 1)
    }

    /// Width of the vector through which the blocks learn the time.
    pub(super) fn condition(&self) -> usize {
        4 * self.channels[0]
    }

    /// Channels of the residual blocks of a level on the way up, `(the stream, what is joined to it, result)`, in the order
    /// of the forward pass. Joined are the pictures of the way down, the last ones first.
    pub(super) fn upward(&self, level: usize) -> Vec<(usize, usize, usize)> {
        let own = self.channels[level];
        let below = self.channels[(level + 1).min(self.channels.len() - 1)];
        let above = self.channels[level.saturating_sub(1)];
        (0..=self.blocks)
            .map(|i| {
                let stream = if i == 0 { below } else { own };
                let joined = if i == self.blocks { above } else { own };
                (stream, joined, own)
            })
            .collect()
    }

    /// Channels of the residual blocks of a level on the way down, `(from, to)`.
    pub(super) fn downward(&self, level: usize) -> Vec<(usize, usize)> {
        let (above, own) = (self.channels[level.saturating_sub(1)], self.channels[level]);
        (0..self.blocks)
            .map(|i| (if i == 0 { above } else { own }, own))
            .collect()
    }

    /// Whether the blocks of a level are followed by attention.
    pub(super) fn attends(&self, level: usize) -> bool {
        self.attention.contains(&level)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tiny;
    use super::*;

    #[test]
    fn what_cannot_be_built_is_refused_with_the_field() {
        let says = |change: fn(&mut UNetConfig)| {
            let mut config = tiny();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        tiny().validate().unwrap();
        for (change, said) in [
            (
                (|c| c.channels.clear()) as fn(&mut UNetConfig),
                "`channels`",
            ),
            (|c| c.channels = vec![8, 0], "`channels` 0 is not between"),
            (|c| c.blocks = 0, "`blocks` 0 is not between"),
            (|c| c.groups = 3, "`groups` 3 does not divide 8 channels"),
            (
                |c| c.head_dim = 7,
                "`head_dim` 7 does not divide 12 channels",
            ),
            (
                |c| c.attention = vec![2],
                "`attention` level 2 is not one of 0 to 1",
            ),
            (
                |c| c.attention = vec![1, 1],
                "`attention` names level 1 twice",
            ),
            (|c| c.norm_eps = -1.0, "`norm_eps`"),
        ] {
            let message = says(change);
            assert!(message.contains(said), "{message}");
        }
        let odd = UNetConfig {
            channels: vec![3],
            groups: 1,
            head_dim: 1,
            attention: Vec::new(),
            ..tiny()
        };
        assert!(odd.validate().unwrap_err().to_string().contains("even"));
    }

    #[test]
    fn blocks_are_joined_with_the_way_down_in_reverse() {
        let config = UNetConfig {
            channels: vec![64, 96, 128],
            blocks: 2,
            ..tiny()
        };
        // The way down leaves 64 (its begin), 64, 64, 64 (halved), 96, 96, 96 (halved), 128, 128.
        let mut left = vec![64, 64, 64, 64, 96, 96, 96, 128, 128];
        let mut stream = 128;
        for level in [2, 1, 0] {
            for (from, joined, to) in config.upward(level) {
                assert_eq!((from, Some(joined)), (stream, left.pop()));
                stream = to;
            }
        }
        assert!(left.is_empty());
    }

    #[test]
    fn unknown_fields_are_errors() {
        let text = r#"{"in_channels": 3, "out_channels": 3, "channels": [32], "layers": 1}"#;
        let error = serde_json::from_str::<UNetConfig>(text).unwrap_err();
        assert!(error.to_string().contains("layers"), "{error}");
    }
}
