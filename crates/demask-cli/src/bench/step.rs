//! `demask bench step`: one denoising step, from the ids of the open cells to the tokens written.

use std::cell::RefCell;

use anyhow::{Result, anyhow};
use demask::diffusion::Noise;
use demask::kernels::rowwise::{Asked, RowAsked, Scored};
use demask::nn::{self, Dtype, Input, KvCache, Output, Scoring, Transformer};
use demask::text::eos::HeldBack;
use demask::text::policy::{Candidates, Policy, Step as PolicyStep, low_confidence::LowConfidence};
use demask::text::{Cell, Crossing, Draw, DrawKind, Reading, Row as CanvasRow};
use serde_json::json;

use super::dtype;
use super::measure::{median, timed};
use super::need::{self, Cells};
use super::networks::{Found, NetworkArgs, in_formats};
use super::report::{Layout, Part, Row, number, percent};
use super::shapes::{Pass, Shape};
use super::{Bench, Job, MeasureArgs, PeerArgs, peak};
use crate::args::value;

/// Measure denoising steps: forward pass, logits of every open cell, and the policy's choice
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
The policy is `low_confidence` without temperature: the most likely token of every open cell and its
probability, the surest cell is written. The head scores its rows as it multiplies them, as in
`demask generate`; `sampling` is then the choice alone.

Examples:
  demask bench step --shape dream-0.5b --rows 128,256
  demask bench step --shape llada-0.2b --rows 32 --cached 256
  demask bench step --shape dream-0.5b --dtype int8 --stored
  demask bench step --shape dream-0.5b --peer 'python bench/peers/torch_peer.py --dtype bf16'")]
pub struct Step {
    #[command(flatten)]
    networks: NetworkArgs,

    /// Open cells, which are forwarded and predicted
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "256", value_parser = value::count, allow_negative_numbers = true)]
    rows: Vec<usize>,

    /// Cells before them whose keys and values are given
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0", value_parser = value::cells, allow_negative_numbers = true)]
    cached: Vec<usize>,

    #[arg(long, help = dtype::help_of_networks(), value_name = "TYPE,…", value_delimiter = ',', value_parser = str::parse::<Dtype>)]
    dtype: Vec<Dtype>,

    /// Store the logits of the open cells and read them then, as guides, top-p and top-k need them
    #[arg(long)]
    stored: bool,

    #[command(flatten)]
    peers: PeerArgs,

    #[command(flatten)]
    measure: MeasureArgs,
}

impl Step {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        let networks = self.networks.find()?;
        self.check(&networks)?;
        let names: Vec<String> = networks
            .iter()
            .flat_map(|found| self.sizes().map(|sizes| sizes.name(found.shape())))
            .collect();
        let rows = names.iter().map(|name| (name.as_str(), "cells/s"));
        let layout = Layout::new(rows).with_peak().with_parts(&PARTS);
        let mut bench = Bench::start(&self.measure, &self.peers, layout)?;
        for (dtype, found) in in_formats(&self.dtype, &networks) {
            let peak = peak::of(dtype)?;
            let (shape, network) = (found.shape(), found.load(dtype)?);
            for sizes in self.sizes() {
                one(&mut bench, dtype, peak, shape, &network, sizes)?;
            }
        }
        Ok(())
    }

    /// The steps, in the order in which they are measured.
    fn sizes(&self) -> impl Iterator<Item = Sizes> {
        let stored = self.stored;
        self.cached.iter().flat_map(move |&cached| {
            self.rows.iter().map(move |&rows| Sizes {
                cached,
                rows,
                stored,
            })
        })
    }

    /// Refuses what there is no memory for.
    fn check(&self, networks: &[Found]) -> Result<()> {
        let most = |cells: &[usize]| cells.iter().copied().max().unwrap_or(0);
        let (rows, cached) = (most(&self.rows), most(&self.cached));
        let (open, before) = (rows as f64, cached as f64);
        let cells = Cells {
            forwarded: open.max(before),
            kept: if cached > 0 { open + before } else { 0.0 },
            logits: if self.stored { open } else { 0.0 },
        };
        for (dtype, found) in in_formats(&self.dtype, networks) {
            // What the policy reads of each cell, stored logits on the host among it.
            let run = need::forward(found.config(), cells) + need::texts(1.0, open + before);
            found.fits(
                dtype,
                run,
                "lower --rows or --cached, or take a smaller network",
            )?;
        }
        need::counted(1, rows.saturating_add(cached))
    }
}

/// What the table shows of our runs beside their times; the rest is in the lines of JSON.
const PARTS: [Part; 3] = [
    Part {
        name: "sampling_share",
        title: "sampling %",
        show: percent,
    },
    Part {
        name: "weights_mib",
        title: "weights MiB",
        show: number,
    },
    Part {
        name: "peak_mib",
        title: "peak MiB",
        show: number,
    },
];

/// The cells of a step.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Before the open ones, with keys and values.
    cached: usize,
    /// Open.
    rows: usize,
    /// Whether the logits of the open ones are stored.
    stored: bool,
}

impl Sizes {
    /// What a row is called.
    fn name(&self, shape: &Shape) -> String {
        let mut name = format!("{} {}", shape.name, self.rows);
        if self.cached > 0 {
            name += &format!(", {} cached", self.cached);
        }
        if self.stored {
            name += ", logits stored";
        }
        name
    }
}

fn one(
    bench: &mut Bench,
    dtype: Dtype,
    peak: f64,
    shape: &Shape,
    network: &Transformer,
    sizes: Sizes,
) -> Result<()> {
    let Sizes {
        cached,
        rows,
        stored,
    } = sizes;
    let mut cache = KvCache::new();
    let length = cached + rows;
    let ids = shape.ids(length);
    if cached > 0 {
        network.forward(Input {
            mask: shape.mask(cached),
            asked: nn::Asked::None,
            caches: vec![&mut cache],
            ..Input::ids(ids[..cached].to_vec(), 1, cached)
        })?;
    }
    let row = Row::new("step", dtype, sizes.name(shape), "cells/s");
    let pass = Pass {
        cells: rows,
        keys: length,
        asked: rows,
    };
    let job = Job {
        for_peers: json!({
            "kind": "step", "dtype": dtype, "threads": row.threads,
            "shape": shape.name, "network": shape.config, "rows": rows, "cached": cached,
        }),
        row,
        work: rows as f64,
        operations: Some((shape.operations(pass), peak)),
    };
    let mut chooser = Chooser::new(ids.clone(), cached);
    let asked = vec![RowAsked::default(); rows];
    let parts = RefCell::new(Vec::new());
    let ours = || {
        let input = Input {
            mask: shape.mask(length),
            caches: if cached > 0 { vec![&mut cache] } else { vec![] },
            scoring: (!stored).then_some(Scoring {
                asked: Asked::default(),
                rows: &asked,
            }),
            ..Input::ids(ids[cached..].to_vec(), 1, rows)
        };
        let (network, output) = timed(|| Predicted::of(network.forward(input)?));
        let output = output?;
        let (sampling, chosen) = timed(|| chooser.choose(&output));
        chosen?;
        cache.truncate(cached);
        parts.borrow_mut().push((network, sampling));
        Ok(network + sampling)
    };
    bench.row(job, ours, |row, runs| {
        // The first run does not count.
        let parts = parts.borrow();
        let counted = &parts[parts.len() - runs..];
        let of =
            |part: fn(&(f64, f64)) -> f64| median(&counted.iter().map(part).collect::<Vec<_>>());
        row.part("network_s", of(|p| p.0));
        row.part("sampling_s", of(|p| p.1));
        row.part("sampling_share", of(|p| p.1 / (p.0 + p.1)));
        row.memory(network);
    })
}

/// What a network says of the open cells.
enum Predicted {
    Logits { values: Vec<f32>, vocabulary: usize },
    Scores(Vec<Scored>),
}

impl Predicted {
    /// On the host.
    fn of(output: Output) -> Result<Self> {
        match (output.scores, output.logits) {
            (Some(scores), _) => Ok(Self::Scores(scores)),
            (None, Some(logits)) => {
                let [_, vocabulary] = logits.dims();
                let values = logits.into_data().convert::<f32>().try_into_vec::<f32>();
                let values = values.map_err(|error| anyhow!("logits: {error:?}"))?;
                Ok(Self::Logits { values, vocabulary })
            }
            (None, None) => Err(anyhow!("the network predicted nothing")),
        }
    }
}

/// The policy on a canvas whose last cells are open.
struct Chooser {
    canvas: CanvasRow,
    open: Vec<usize>,
    draw: Draw,
    held_back: HeldBack,
    noise: Noise,
    policy: LowConfidence,
}

impl Chooser {
    /// The cells from `cached` on are open.
    fn new(ids: Vec<u32>, cached: usize) -> Self {
        let length = ids.len();
        let cell = |i| {
            if i < cached {
                Cell::Written
            } else {
                Cell::Open
            }
        };
        let cells = (0..length).map(cell).collect();
        Self {
            canvas: CanvasRow::new(ids, cells, vec![0; length], 0),
            open: (cached..length).collect(),
            draw: Draw {
                temperature: 0.0,
                top_p: None,
                crossing: Crossing::Keep,
                top_k: None,
                kind: DrawKind::Gumbel,
            },
            held_back: HeldBack::default(),
            noise: Noise::new(0),
            policy: LowConfidence,
        }
    }

    /// The token that is written.
    fn choose(&mut self, predicted: &Predicted) -> Result<u32> {
        let step = PolicyStep {
            row: &self.canvas,
            open: &self.open,
            index: 0,
            steps: self.open.len(),
            quota: 1,
            total: 0,
            draw: &self.draw,
            held_back: &self.held_back,
            sample: 0,
            source: &self.noise,
        };
        let readings: Vec<Reading>;
        let candidates = match predicted {
            Predicted::Logits { values, vocabulary } => {
                Candidates::new(&self.open, values, *vocabulary)
            }
            Predicted::Scores(scores) => {
                readings = scores.iter().map(|row| Reading::of(&row.score)).collect();
                Candidates::scored(&self.open, &readings)
            }
        };
        let choice = self.policy.choose(&step, &candidates)?;
        let write = choice.write.first();
        write
            .map(|write| write.token)
            .ok_or_else(|| anyhow!("the policy chose nothing"))
    }
}

#[cfg(test)]
mod tests {
    use demask::kernels::rowwise::score_allowed;

    use super::*;

    #[test]
    fn the_surest_open_cell_is_chosen() {
        let mut chooser = Chooser::new(vec![0, 0, 0], 1);
        let mut values = vec![0.0, 1.0, 0.5, 3.0, 0.0, 0.0];
        let rows = [RowAsked::default(); 2];
        let scores = score_allowed(&mut values, 3, &Asked::default(), &rows);
        let scores = Predicted::Scores(scores);
        let logits = Predicted::Logits {
            values,
            vocabulary: 3,
        };
        assert_eq!(chooser.choose(&logits).unwrap(), 0);
        assert_eq!(chooser.choose(&scores).unwrap(), 0);
    }
}
