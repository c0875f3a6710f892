//! `demask bench`

use anyhow::Result;
use clap::Subcommand;

use crate::bench::accuracy::Accuracy;
use crate::bench::conv::Conv;
use crate::bench::forward::Forward;
use crate::bench::gemm::Gemm;
use crate::bench::generate::Generate;
use crate::bench::peak::Peak;
use crate::bench::step::Step;
use crate::bench::train::Train;
use crate::error::is_interruption;
use crate::terminal::interrupt::Listener;
use crate::terminal::note;

/// Measure speed: of this machine, of our kernels and networks, and of others in the same run
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Every row says the median and the fastest of its runs, the rate of the median, and which share of
the machine's peak that is (`demask bench peak --help` says which); the peak is measured in the same
run. With --peer another program does the same work in turns, and `ratio` is its time as a multiple
of ours.

Examples:
  demask bench peak
  demask bench gemm --rows 1,32,256
  demask bench step --shape dream-0.5b --rows 256
  demask bench generate --shape llada-0.2b --steps 64 --dtype int8
  demask bench train --peer 'python bench/peers/torch_peer.py'")]
pub struct Bench {
    /// What is measured.
    #[command(subcommand)]
    what: What,
}

/// The benches; the help of each is the doc comment of its own type.
#[derive(Debug, Clone, Subcommand)]
enum What {
    Peak(Peak),
    Gemm(Gemm),
    Forward(Forward),
    Step(Step),
    Generate(Generate),
    Train(Train),
    Conv(Conv),
    Accuracy(Accuracy),
}

impl Bench {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        let _listener = Listener::new();
        let outcome = self.measure();
        // Every row that was measured stands above.
        if outcome.as_ref().is_err_and(is_interruption) {
            note("stopped");
        }
        outcome
    }

    fn measure(&self) -> Result<()> {
        match &self.what {
            What::Peak(bench) => bench.run(),
            What::Gemm(bench) => bench.run(),
            What::Forward(bench) => bench.run(),
            What::Step(bench) => bench.run(),
            What::Generate(bench) => bench.run(),
            What::Train(bench) => bench.run(),
            What::Conv(bench) => bench.run(),
            What::Accuracy(bench) => bench.run(),
        }
    }
}
