//! `demask bench train`: one step of a training.

use anyhow::Result;
use demask::models::OpenOptions;
use demask::nn::{Dtype, Transformer};
use demask::train::trainer::Rehearsal;
use serde_json::json;

use super::dtype;
use super::measure::timed;
use super::report::{Layout, Row};
use super::shapes::{self, Pass, Shape};
use super::{Bench, Job, MeasureArgs, PeerArgs, need, peak};
use crate::args::value;

/// Measure training steps: forward pass, loss of the masked half of the cells, backward pass, AdamW
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  demask bench train --shape train-11m
  demask bench train --shape train-11m --dtype f32,bf16
  demask bench train --shape train-11m --batch 8 --length 256 --json
  demask bench train --shape train-11m --peer 'python bench/peers/torch_peer.py'")]
pub struct Train {
    #[arg(long, help = shapes::help(), value_name = "NAME,…", value_delimiter = ',', default_value = "train-11m", value_parser = shapes::parse)]
    shape: Vec<Shape>,

    /// Sequences of a batch
    #[arg(long, value_name = "N", default_value = "32", value_parser = value::count, allow_negative_numbers = true)]
    batch: usize,

    /// Cells of each sequence
    #[arg(long, value_name = "N", default_value = "128", value_parser = value::count, allow_negative_numbers = true)]
    length: usize,

    #[arg(long, help = dtype::help("Number types of the products", &dtype::TRAINED), value_name = "TYPE,…", value_delimiter = ',', default_value = "f32", value_parser = dtype::trained)]
    dtype: Vec<Dtype>,

    #[command(flatten)]
    peers: PeerArgs,

    #[command(flatten)]
    measure: MeasureArgs,
}

impl Train {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        let (batch, length) = (self.batch, self.length);
        for shape in &self.shape {
            let bytes = need::training(&shape.config, batch as f64 * length as f64);
            need::fits(bytes, "lower --batch or --length, or take a smaller shape")?;
        }
        need::counted(batch, length)?;
        let name = |shape: &Shape| format!("{} {batch}x{length}", shape.name);
        let names: Vec<String> = self.shape.iter().map(name).collect();
        let rows = names.iter().map(|name| (name.as_str(), "tokens/s"));
        let layout = Layout::new(rows).with_peak();
        let mut bench = Bench::start(&self.measure, &self.peers, layout)?;
        for &dtype in &self.dtype {
            let peak = peak::of(dtype)?;
            for shape in &self.shape {
                let cells = batch * length;
                let row = Row::new("train", dtype, name(shape), "tokens/s");
                let pass = Pass {
                    cells,
                    keys: length,
                    asked: cells / 2,
                };
                let job = Job {
                    for_peers: json!({
                        "kind": "train", "dtype": dtype, "threads": row.threads,
                        "shape": shape.name, "network": shape.config,
                        "batch": batch, "length": length,
                    }),
                    row,
                    work: cells as f64,
                    // The backward pass has two products for each of the forward pass.
                    operations: Some((3.0 * shape.operations(pass), peak)),
                };
                let device = OpenOptions::default().device.autodiff();
                let network = Transformer::init(&shape.config, 1, &device)?;
                let network = network.in_precision(dtype.precision())?;
                let mut training = Rehearsal::new(network, shape.ids(cells), [batch, length]);
                let ours = || {
                    let (seconds, loss) = timed(|| training.step());
                    loss?;
                    Ok(seconds)
                };
                bench.row(job, ours, |_, _| {})?;
            }
        }
        Ok(())
    }
}
