//! `demask bench conv`: the network of pictures and its layers.

use anyhow::{Result, bail};
use clap::ValueEnum;
use demask::kernels::conv::{
    ConvShape, conv2d_backward_bias, conv2d_backward_weight, new_conv2d, new_conv2d_backward_input,
};
use demask::kernels::rowwise::{
    ChannelGradients, ChannelParams, GroupNorm, group_norm, group_norm_backward,
};
use demask::models::OpenOptions;
use demask::nn::unet::Rehearsal;
use demask::nn::{Dtype, UNet, UNetConfig};
use serde_json::json;

use super::measure::timed;
use super::pictures::{self, Layer, Norm};
use super::report::{Layout, Row};
use super::{Bench, Job, MeasureArgs, PeerArgs, need, peak};
use crate::args::value;

/// What is measured of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Each convolution of another shape, forward and backward.
    Layers,
    /// Each group norm of another shape, likewise.
    Norms,
    /// The whole network: forward pass, mean squared error, backward pass.
    Network,
}

/// Measure a U-Net of 3.0 million parameters and its convolutions and group norms, forward and backward
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
The network has three levels of 64, 64 and 128 channels, one residual block each (two on the way
up) and attention in the middle. Operations are those of direct products; minimal filtering makes
do with fewer, so the share of the peak may be above 100 %. Filters are prepared in the measured
time, as a training has to. The backward pass of a layer gives the gradients of its input, its
filters and its bias.

Examples:
  demask bench conv
  demask bench conv --part network --batch 4 --json
  demask bench conv --peer 'python bench/peers/torch_peer.py' \\
    --peer 'python bench/peers/torch_peer.py --variant channels-last'")]
pub struct Conv {
    /// What is measured
    #[arg(
        long,
        value_name = "PART,…",
        value_delimiter = ',',
        value_enum,
        default_value = "layers,norms,network"
    )]
    part: Vec<Part>,

    /// Pictures of a batch
    #[arg(long, value_name = "N", default_value = "16", value_parser = value::count, allow_negative_numbers = true)]
    batch: usize,

    /// Height and width of a picture, a multiple of 4
    #[arg(long, value_name = "N", default_value = "32", value_parser = value::count, allow_negative_numbers = true)]
    size: usize,

    #[command(flatten)]
    peers: PeerArgs,

    #[command(flatten)]
    measure: MeasureArgs,
}

/// Which way a layer is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    Backward,
}

impl Pass {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        }
    }
}

impl Conv {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        let (network, size) = (pictures::network(), self.size);
        let multiple = network.multiple();
        if !size.is_multiple_of(multiple) {
            bail!(
                "pictures of {size}x{size} cannot be halved twice: give a multiple of {multiple} as --size"
            );
        }
        // A picture of the first level is kept some 80 times, forward and backward.
        let picture = self.batch as f64 * network.channels[0] as f64 * (size as f64).powi(2);
        need::fits(4.0 * 80.0 * picture, "lower --batch or --size")?;
        let layers = pictures::distinct(pictures::layers(&network, size));
        let norms = pictures::distinct(pictures::norms(&network, size));
        let mut rows: Vec<(String, &str)> = Vec::new();
        for part in &self.part {
            // The backward pass has the longer name.
            match part {
                Part::Layers => rows.extend(layers.iter().map(|layer| {
                    let name = self.layer_name(layer, Pass::Backward);
                    (name, "GFLOP/s")
                })),
                Part::Norms => rows.extend(norms.iter().map(|norm| {
                    let name = self.norm_name(norm, network.groups, Pass::Backward);
                    (name, "GB/s")
                })),
                Part::Network => rows.push((self.network_name(&network), "pictures/s")),
            }
        }
        let layout = Layout::new(rows.iter().map(|(name, unit)| (name.as_str(), *unit)));
        let mut bench = Bench::start(&self.measure, &self.peers, layout.with_peak())?;
        for part in &self.part {
            match part {
                Part::Layers => {
                    for layer in &layers {
                        self.layer(&mut bench, *layer)?;
                    }
                }
                Part::Norms => {
                    for norm in &norms {
                        self.norm(&mut bench, *norm, network.groups)?;
                    }
                }
                Part::Network => self.network(&mut bench)?,
            }
        }
        Ok(())
    }

    /// What the row of a layer is called.
    fn layer_name(&self, layer: &Layer, pass: Pass) -> String {
        let Layer {
            channels,
            filters,
            kernel,
            step,
            size,
        } = layer;
        let (batch, pass) = (self.batch, pass.name());
        format!("{batch}x{channels}x{size}x{size} {kernel}x{kernel}/{step} to {filters}, {pass}")
    }

    /// What the row of a norm is called.
    fn norm_name(&self, norm: &Norm, groups: usize, pass: Pass) -> String {
        let Norm {
            channels,
            size,
            silu,
        } = norm;
        let activation = if *silu { " silu" } else { "" };
        let (batch, pass) = (self.batch, pass.name());
        format!("{batch}x{channels}x{size}x{size} in {groups}{activation}, {pass}")
    }

    /// What the row of the network is called.
    fn network_name(&self, config: &UNetConfig) -> String {
        let (batch, size) = (self.batch, self.size);
        format!(
            "{} {batch}x{}x{size}x{size}",
            pictures::NAME,
            config.in_channels
        )
    }

    fn layer(&self, bench: &mut Bench, layer: Layer) -> Result<()> {
        let batch = self.batch;
        let Layer {
            channels,
            filters,
            kernel,
            step,
            size,
        } = layer;
        let shape = ConvShape {
            batch,
            channels,
            height: size,
            width: size,
            filters,
            kernel: [kernel; 2],
            stride: [step; 2],
            padding: [kernel / 2; 2],
        };
        let (x, w) = (
            values(batch * channels * size * size),
            values(filters * channels * kernel * kernel),
        );
        let dy = values(batch * filters * (size / step).pow(2));
        let (bias, mut dw, mut db) = (values(filters), w.clone(), values(filters));
        for (pass, products) in [(Pass::Forward, 1.0), (Pass::Backward, 2.0)] {
            let operations = products * layer.operations(batch);
            let what = self.layer_name(&layer, pass);
            let row = Row::new("conv", Dtype::F32, what, "GFLOP/s");
            let job = Job {
                for_peers: json!({
                    "kind": "conv", "dtype": Dtype::F32, "threads": row.threads, "pass": pass.name(),
                    "batch": batch, "channels": channels, "size": size, "filters": filters,
                    "kernel": kernel, "step": step, "padding": kernel / 2,
                }),
                row,
                work: 1e-9 * operations,
                operations: Some((operations, peak::of(Dtype::F32)?)),
            };
            let ours = || {
                let (seconds, _) = timed(|| match pass {
                    Pass::Forward => new_conv2d(&shape, &x, &w, Some(&bias), None),
                    Pass::Backward => {
                        conv2d_backward_weight(&shape, &x, &dy, &mut dw);
                        conv2d_backward_bias(&shape, &dy, &mut db);
                        new_conv2d_backward_input(&shape, &w, &dy)
                    }
                });
                Ok(seconds)
            };
            bench.row(job, ours, |_, _| {})?;
        }
        Ok(())
    }

    fn norm(&self, bench: &mut Bench, norm: Norm, groups: usize) -> Result<()> {
        let (
            batch,
            Norm {
                channels,
                size,
                silu,
            },
        ) = (self.batch, norm);
        let shape = GroupNorm {
            batch,
            channels,
            pixels: size * size,
            groups,
            eps: 1e-5,
            silu,
        };
        let n = batch * channels * size * size;
        let (x, dy) = (values(n), values(n));
        let (weight, bias) = (values(channels), values(channels));
        let (mut dw, mut db) = (weight.clone(), bias.clone());
        let mut stats = vec![0.0; 2 * batch * groups];
        let params = ChannelParams {
            shift: None,
            weight: &weight,
            bias: &bias,
        };
        // Read and written: the input and the output; the input, the gradient of the output and that of the input.
        for (pass, arrays) in [(Pass::Forward, 2), (Pass::Backward, 3)] {
            let what = self.norm_name(&norm, groups, pass);
            let row = Row::new("group_norm", Dtype::F32, what, "GB/s");
            let job = Job {
                for_peers: json!({
                    "kind": "group_norm", "dtype": Dtype::F32, "threads": row.threads, "pass": pass.name(),
                    "batch": batch, "channels": channels, "size": size, "groups": groups,
                    "eps": 1e-5, "silu": silu,
                }),
                row,
                work: 4e-9 * (arrays * n) as f64,
                operations: None,
            };
            let ours = || {
                let (seconds, _) = timed(|| match pass {
                    Pass::Forward => group_norm(&shape, &x, params, &mut stats),
                    Pass::Backward => {
                        let gradients = ChannelGradients {
                            shift: None,
                            weight: &mut dw,
                            bias: &mut db,
                        };
                        group_norm_backward(&shape, &x, params, &stats, &dy, gradients)
                    }
                });
                Ok(seconds)
            };
            bench.row(job, ours, |_, _| {})?;
        }
        Ok(())
    }

    fn network(&self, bench: &mut Bench) -> Result<()> {
        let (config, batch, size) = (pictures::network(), self.batch, self.size);
        let row = Row::new("unet", Dtype::F32, self.network_name(&config), "pictures/s");
        // The backward pass has two products for each of the forward pass.
        let operations = 3.0 * pictures::operations(&config, batch, size);
        let job = Job {
            for_peers: json!({
                "kind": "unet", "dtype": Dtype::F32, "threads": row.threads, "network": config,
                "batch": batch, "size": size,
            }),
            row,
            work: batch as f64,
            operations: Some((operations, peak::of(Dtype::F32)?)),
        };
        let device = OpenOptions::default().device.autodiff();
        let rehearsal = Rehearsal::new(UNet::init(&config, 1, &device)?, batch, [size; 2]);
        let ours = || {
            let (seconds, loss) = timed(|| rehearsal.step());
            loss?;
            Ok(seconds)
        };
        bench.row(job, ours, |_, _| {})
    }
}

/// Small numbers of both signs.
fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect()
}
