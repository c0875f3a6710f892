//! `demask bench gemm`: one matrix product against a packed weight.

use anyhow::Result;
use demask::kernels::gemm::{Beta, MatrixMut, MatrixRef, gemm};
use demask::nn::{Dtype, span};
use serde_json::json;

use super::dtype;
use super::measure::timed;
use super::report::{Layout, Row};
use super::{Bench, Job, MeasureArgs, PeerArgs, need, peak};
use crate::args::value;

/// Measure matrix products: rows of activations times a weight that was packed before
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  demask bench gemm
  demask bench gemm --rows 1,32 --inner 896 --outer 4864 --json
  demask bench gemm --peer 'python bench/peers/torch_peer.py --variant packed'")]
pub struct Gemm {
    /// Rows of activations
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8,32,256,1024", value_parser = value::count, allow_negative_numbers = true)]
    rows: Vec<usize>,

    /// Inputs of the weight
    #[arg(long, value_name = "N", default_value = "4096", value_parser = value::count, allow_negative_numbers = true)]
    inner: usize,

    /// Outputs of the weight
    #[arg(long, value_name = "N", default_value = "4096", value_parser = value::count, allow_negative_numbers = true)]
    outer: usize,

    #[arg(long, help = dtype::help("Number types of the weight", &Dtype::ALL), value_name = "TYPE,…", value_delimiter = ',', default_value = "f32", value_parser = str::parse::<Dtype>)]
    dtype: Vec<Dtype>,

    #[command(flatten)]
    peers: PeerArgs,

    #[command(flatten)]
    measure: MeasureArgs,
}

impl Gemm {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        let (inner, outer) = (self.inner, self.outer);
        let most = self.rows.iter().copied().max().unwrap_or(0);
        need::fits(
            4.0 * (2.0 * inner as f64 * outer as f64 + most as f64 * (inner as f64 + outer as f64)),
            "lower --rows, --inner or --outer",
        )?;
        let shapes = self.rows.iter().map(|rows| self.shape(*rows));
        let shapes: Vec<String> = shapes.collect();
        let rows = self.dtype.iter().flat_map(|dtype| {
            let unit = dtype::unit(*dtype);
            shapes.iter().map(move |shape| (shape.as_str(), unit))
        });
        let layout = Layout::new(rows).with_peak();
        let mut bench = Bench::start(&self.measure, &self.peers, layout)?;
        for &dtype in &self.dtype {
            let peak = peak::of(dtype)?;
            // As an `[out, in]` weight of a checkpoint lies in memory.
            let weight = values(outer * inner);
            let load = span::part("load");
            let packed = dtype::pack(dtype, MatrixRef::new(&weight, outer, inner).t());
            drop((weight, load));
            for &rows in &self.rows {
                let (a, mut c) = (values(rows * inner), vec![0.0; rows * outer]);
                let operations = 2.0 * (rows * inner) as f64 * outer as f64;
                let row = Row::new("gemm", dtype, self.shape(rows), dtype::unit(dtype));
                let job = Job {
                    for_peers: json!({
                        "kind": "gemm", "dtype": dtype, "threads": row.threads,
                        "rows": rows, "inner": inner, "outer": outer,
                    }),
                    row,
                    work: 1e-9 * operations,
                    operations: Some((operations, peak)),
                };
                let ours = || {
                    let a = MatrixRef::new(&a, rows, inner);
                    let c = MatrixMut::new(&mut c, rows, outer);
                    let _span = span::product("gemm", dtype.name(), operations as usize);
                    Ok(timed(|| gemm(c, Beta::Overwrite, a, &packed, None)).0)
                };
                bench.row(job, ours, |_, _| {})?;
            }
        }
        Ok(())
    }

    /// What a row is called.
    fn shape(&self, rows: usize) -> String {
        format!("{rows}x{}x{}", self.inner, self.outer)
    }
}

/// Small numbers of both signs.
fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect()
}
