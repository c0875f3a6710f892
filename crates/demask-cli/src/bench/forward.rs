//! `demask bench forward`: a whole forward pass.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use demask::nn::{Asked, Dtype, Input};
use serde_json::json;

use super::dtype;
use super::growth::Growth;
use super::measure::timed;
use super::need::{self, Cells};
use super::networks::{Found, NetworkArgs, in_formats};
use super::report::{Layout, Row};
use super::shapes::{Pass, Shape};
use super::{Bench, Job, MeasureArgs, PeerArgs, peak};
use crate::args::value;

/// Which logits a forward pass gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Logits {
    /// Those of every cell.
    All,
    /// None: hidden states only.
    None,
}

/// Measure forward passes of whole networks
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  demask bench forward --shape blocks-2048 --logits none
  demask bench forward --shape dream-0.5b --tokens 512
  demask bench forward --shape llada-0.2b --tokens 128,256,512,1024,2048,4096 --plot growth.svg
  demask bench forward --model story --tokens 128 --batch 4 --json
  demask bench forward --shape blocks-2048 --peer 'python bench/peers/torch_peer.py'")]
pub struct Forward {
    #[command(flatten)]
    networks: NetworkArgs,

    /// Cells of each sequence
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1024", value_parser = value::count, allow_negative_numbers = true)]
    tokens: Vec<usize>,

    /// Sequences
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::count, allow_negative_numbers = true)]
    batch: usize,

    /// The cells whose logits are computed
    #[arg(long, value_name = "WHICH", value_enum, default_value = "all")]
    logits: Logits,

    #[arg(long, help = dtype::help_of_networks(), value_name = "TYPE,…", value_delimiter = ',', value_parser = str::parse::<Dtype>)]
    dtype: Vec<Dtype>,

    /// Plot how the time of a token grows with the length of a sequence
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    peers: PeerArgs,

    #[command(flatten)]
    measure: MeasureArgs,
}

impl Forward {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        let networks = self.networks.find()?;
        self.check(&networks)?;
        let plot = self.plot.as_deref();
        let mut growth = plot
            .map(|file| Growth::new(file, &self.tokens))
            .transpose()?;
        let names: Vec<String> = networks
            .iter()
            .flat_map(|found| self.tokens.iter().map(|n| self.name(found.shape(), *n)))
            .collect();
        let rows = names.iter().map(|name| (name.as_str(), "tokens/s"));
        let layout = Layout::new(rows).with_peak();
        let mut bench = Bench::start(&self.measure, &self.peers, layout)?;
        let measured = self.rows(&mut bench, &networks, growth.as_mut());
        // What was measured before a failure or a Ctrl-C is worth a plot as well.
        let plotted = growth.map_or(Ok(()), |growth| growth.write());
        measured.and(plotted)
    }

    fn rows(
        &self,
        bench: &mut Bench,
        networks: &[Found],
        mut growth: Option<&mut Growth>,
    ) -> Result<()> {
        for (dtype, found) in in_formats(&self.dtype, networks) {
            let peak = peak::of(dtype)?;
            let (shape, network) = (found.shape(), found.load(dtype)?);
            for &tokens in &self.tokens {
                let cells = self.batch * tokens;
                let asked = match self.logits {
                    Logits::All => cells,
                    Logits::None => 0,
                };
                let pass = Pass {
                    cells,
                    keys: tokens,
                    asked,
                };
                let operations = shape.operations(pass);
                let row = Row::new("forward", dtype, self.name(shape, tokens), "tokens/s");
                let job = Job {
                    for_peers: json!({
                        "kind": "forward", "dtype": dtype, "threads": row.threads,
                        "shape": shape.name, "network": shape.config,
                        "batch": self.batch, "tokens": tokens,
                        "logits": if asked > 0 { "all" } else { "none" },
                    }),
                    row,
                    work: cells as f64,
                    operations: Some((operations, peak)),
                };
                let ours = || {
                    let input = Input {
                        mask: shape.mask(tokens),
                        asked: if asked > 0 { Asked::All } else { Asked::None },
                        ..Input::ids(shape.ids(cells), self.batch, tokens)
                    };
                    let (seconds, output) = timed(|| network.forward(input));
                    output?;
                    Ok(seconds)
                };
                bench.row(job, ours, |row, _| {
                    if let Some(growth) = &mut growth {
                        growth.add(&shape.name, row, [self.batch, tokens], operations);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// What a row is called.
    fn name(&self, shape: &Shape, tokens: usize) -> String {
        format!("{} {}x{tokens}", shape.name, self.batch)
    }

    /// Refuses what there is no memory for.
    fn check(&self, networks: &[Found]) -> Result<()> {
        let tokens = self.tokens.iter().copied().max().unwrap_or(0);
        let forwarded = self.batch as f64 * tokens as f64;
        let cells = Cells {
            forwarded,
            kept: 0.0,
            logits: match self.logits {
                Logits::All => forwarded,
                Logits::None => 0.0,
            },
        };
        for (dtype, found) in in_formats(&self.dtype, networks) {
            let pass = need::forward(found.config(), cells);
            found.fits(
                dtype,
                pass,
                "lower --tokens or --batch, or take a smaller network",
            )?;
        }
        need::counted(self.batch, tokens)
    }
}
