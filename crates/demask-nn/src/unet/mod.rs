//! The U-Net that removes noise from pictures (DDPM, arXiv 2006.11239; U-Net, arXiv 1505.04597).
//!
//! | part | file |
//! |---|---|
//! | configuration | `config.rs` |
//! | names and shapes of the parameters | `params.rs` |
//! | random parameters | `init.rs` |
//! | convolutions and norms | `conv.rs` |
//! | the residual block | `residual.rs` |
//! | self-attention over pixels | `attention.rs` |
//! | the way down, the middle, the way up | `level.rs` |
//! | a batch forward and backward, to be timed | `rehearsal.rs` |

mod attention;
mod config;
mod conv;
mod init;
mod level;
pub mod params;
mod rehearsal;
mod residual;

pub use config::UNetConfig;
pub use rehearsal::Rehearsal;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use crate::transformer::{Linear, Loader, Values, sinusoids};
use crate::{NnError, ParamSource, ops, span};
use conv::{Conv, Norm};
use level::{Down, Middle, Up};

/// A U-Net over pictures: residual blocks on the way down, where every level halves the size, and on the way up, where
/// each block also reads what one on the way down wrote.
///
/// It is a diffusers `UNet2DModel` under its own parameter names; [`UNetConfig`] says which.
#[derive(Module, Debug)]
pub struct UNet {
    time_in: Linear,
    time_out: Linear,
    conv_in: Conv,
    down: Vec<Down>,
    middle: Middle,
    up: Vec<Up>,
    norm_out: Norm,
    conv_out: Conv,
    #[module(skip)]
    config: UNetConfig,
}

/// What a [`UNet`] is asked.
#[derive(Debug, Clone)]
pub struct Input {
    /// Noisy pictures, `[batch, in_channels, height, width]`; height and width are multiples of
    /// [`UNetConfig::multiple`].
    pub pictures: Tensor<4>,
    /// The time of each picture, in the unit of the checkpoint (steps, 0 to 1000, in DDPM).
    pub times: Vec<f32>,
}

impl UNet {
    /// A new network with random parameters: the same for the same seed.
    ///
    /// # Errors
    /// [`NnError::Config`] when the configuration is unusable.
    pub fn init(config: &UNetConfig, seed: u64, device: &Device) -> Result<Self, NnError> {
        Self::from_source(config, &mut init::RandomSource { seed }, device)
    }

    /// A network whose parameters come from `source`, asked by name (see [`params`]).
    ///
    /// # Errors
    /// [`NnError::Config`] for an unusable configuration, [`NnError::Source`] for a parameter that
    /// is missing or has the wrong shape.
    pub fn from_source(
        config: &UNetConfig,
        source: &mut dyn ParamSource,
        device: &Device,
    ) -> Result<Self, NnError> {
        config.validate()?;
        let c = config;
        let loader = &mut Loader {
            source,
            device,
            pack: None,
        };
        let (first, condition, levels) = (c.channels[0], c.condition(), c.channels.len());
        let time = "time_embedding.linear";
        Ok(Self {
            time_in: Linear::load(&format!("{time}_1"), [condition, first], true, loader)?,
            time_out: Linear::load(&format!("{time}_2"), [condition; 2], true, loader)?,
            conv_in: Conv::load("conv_in", [first, c.in_channels, 3], loader)?,
            down: (0..levels)
                .map(|level| Down::load(level, c, loader))
                .collect::<Result<_, _>>()?,
            middle: Middle::load(c, loader)?,
            up: (0..levels)
                .rev()
                .map(|level| Up::load(level, c, loader))
                .collect::<Result<_, _>>()?,
            norm_out: Norm::load("conv_norm_out", first, c, loader)?,
            conv_out: Conv::load("conv_out", [c.out_channels, first, 3], loader)?,
            config: config.clone(),
        })
    }

    /// The configuration the network was built with.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.conv_in.device()
    }

    /// Calls `visit` with the name and the values of each parameter, in the order of [`params::for_each_shape`].
    pub fn for_each_param(&self, visit: &mut dyn FnMut(&str, TensorData)) {
        let mut values = Values::default();
        self.visit(&mut values);
        let mut found = values.0.into_iter();
        params::for_each_shape(&self.config, &mut |name, shape| {
            let value = found.next().expect("a value for each name");
            assert_eq!(value.shape().as_slice(), shape, "parameter order of {name}");
            visit(name, value);
        });
    }

    /// The prediction for each picture, `[batch, out_channels, height, width]`.
    ///
    /// # Errors
    /// [`NnError::Input`] when the pictures or the times do not fit the network or each other.
    pub fn forward(&self, input: Input) -> Result<Tensor<4>, NnError> {
        let _span = span::part("forward");
        self.check(&input)?;
        let Input { pictures, times } = input;
        let time = self.time(&times);
        let mut x = self.conv_in.forward(pictures);
        let mut left = vec![x.clone()];
        for level in &self.down {
            x = level.forward(x, &time, &mut left)?;
        }
        x = self.middle.forward(x, &time)?;
        for level in &self.up {
            x = level.forward(x, &time, &mut left)?;
        }
        Ok(self.conv_out.forward(self.norm_out.activated(x, None)))
    }

    /// SiLU of the vector of each time, `[batch, condition]`, which is what every block reads.
    fn time(&self, times: &[f32]) -> Tensor<2> {
        let width = self.config.channels[0];
        let features = TensorData::new(sinusoids(times, width), [times.len(), width]);
        let features = Tensor::from_data(features, &self.device());
        let hidden = ops::silu(self.time_in.forward(features));
        ops::silu(self.time_out.forward(hidden))
    }

    fn check(&self, input: &Input) -> Result<(), NnError> {
        let refuse = |message: String| Err(NnError::Input(message));
        let [batch, channels, height, width] = input.pictures.dims();
        let (wanted, multiple) = (self.config.in_channels, self.config.multiple());
        if batch == 0 || height == 0 || width == 0 {
            return refuse(format!("{batch} pictures of {height}x{width} are empty"));
        }
        if channels != wanted {
            return refuse(format!(
                "pictures of {channels} channels, the network reads {wanted}"
            ));
        }
        if !height.is_multiple_of(multiple) || !width.is_multiple_of(multiple) {
            return refuse(format!(
                "pictures of {height}x{width}: height and width must be multiples of {multiple}"
            ));
        }
        if input.times.len() != batch {
            return refuse(format!("{} times for {batch} pictures", input.times.len()));
        }
        match input.times.iter().find(|time| !time.is_finite()) {
            Some(time) => refuse(format!("a time of {time} is no number")),
            None => Ok(()),
        }
    }
}

/// A network of two small levels, for tests.
#[cfg(test)]
fn tiny() -> UNetConfig {
    UNetConfig {
        in_channels: 2,
        out_channels: 3,
        channels: vec![8, 12],
        blocks: 1,
        groups: 4,
        norm_eps: 1e-5,
        attention: vec![1],
        middle_attention: true,
        head_dim: 4,
    }
}
