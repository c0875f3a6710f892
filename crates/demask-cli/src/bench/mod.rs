//! Measured speed: what the machine can do, what we make of it, and what others do in the same run.
//!
//! | bench | file | what is timed |
//! |---|---|---|
//! | `peak` | [`peak`] | loops of one instruction, reads of memory |
//! | `gemm` | [`gemm`] | one matrix product against a packed weight |
//! | `forward` | [`forward`] | a whole forward pass |
//! | `step` | [`step`] | a denoising step: forward pass, logits, the policy's choice |
//! | `generate` | [`generate`] | whole texts through the decoder |
//! | `train` | [`train`] | a training step: forward, loss, backward, update |
//! | `conv` | [`conv`] | a U-Net, its convolutions and group norms, forward and backward |
//!
//! [`shapes`] names the networks, [`networks`] finds and loads those of the flags, [`subject`] lets one write,
//! [`pictures`] is the U-Net, [`dtype`] is where a number format meets the library, [`need`] knows what a run takes of
//! memory, [`measure`] takes turns with the clock, [`peer`] speaks with the programs we compare with, whose
//! processes are a [`group`], [`report`] is what a
//! row says, [`growth`] is what the plot of `forward` says and [`plot`] how it is
//! drawn.

pub mod accuracy;
pub mod conv;
pub mod dtype;
pub mod forward;
pub mod gemm;
pub mod generate;
pub mod group;
pub mod growth;
pub mod measure;
pub mod need;
pub mod networks;
pub mod peak;
pub mod peer;
pub mod pictures;
pub mod plot;
pub mod report;
pub mod shapes;
pub mod step;
pub mod subject;
pub mod train;

use anyhow::Result;
use serde_json::Value;

use crate::args::value;
use crate::error::Interrupted;
use crate::terminal::interrupt;
use crate::threads;
use measure::{Budget, Party, Sample};
use peer::{Offer, Peer};
use report::{Layout, PeerResult, Report, Row};

/// The flags of every bench.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Measuring")]
pub struct MeasureArgs {
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = value::threads, allow_negative_numbers = true)]
    threads: Option<usize>,

    /// How often each row is measured [default: as often as --seconds allows, three times at least]
    #[arg(long, value_name = "N", value_parser = value::count, allow_negative_numbers = true)]
    repeat: Option<usize>,

    /// Time for each row, for us and for each peer
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = value::non_negative, allow_negative_numbers = true)]
    seconds: f64,

    /// Print one JSON object a row, as soon as it is measured, instead of a table
    #[arg(long)]
    json: bool,
}

/// The flags of every bench that others can run as well.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Measuring")]
pub struct PeerArgs {
    /// A program that does the same work in turns with us, as a command of the shell; may be given
    /// several times. bench/peers/ holds some, and how to write one
    #[arg(long, value_name = "CMD", value_parser = command)]
    peer: Vec<String>,
}

impl MeasureArgs {
    /// How long a row is measured.
    fn budget(&self) -> Budget {
        Budget {
            repeat: self.repeat,
            seconds: self.seconds,
        }
    }
}

/// A command of the shell, which there is.
fn command(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is empty: give the command that starts the program".into()),
        _ => Ok(text.to_owned()),
    }
}

/// A measurement that is going on: rows are printed, peers take their turns.
pub struct Bench {
    budget: Budget,
    peers: Vec<Peer>,
    report: Report,
}

/// What is measured in one row.
pub struct Job {
    /// The row before it is measured: everything but times.
    pub row: Row,
    /// Work of one run, in the unit of the rate.
    pub work: f64,
    /// Floating-point (or whole-number) operations of one run, and the peak to hold them against.
    pub operations: Option<(f64, f64)>,
    /// What a peer is told.
    pub for_peers: Value,
}

impl Bench {
    /// Limits the threads and starts the peers.
    pub fn start(measure: &MeasureArgs, peers: &PeerArgs, layout: Layout) -> Result<Self> {
        threads::limit(measure.threads)?;
        Ok(Self {
            budget: measure.budget(),
            peers: peers
                .peer
                .iter()
                .map(|c| Peer::start(c))
                .collect::<Result<_>>()?,
            report: Report::new(measure.json, layout.with_peers(!peers.peer.is_empty())),
        })
    }

    /// Measures one row, ours and the peers' in turns, and prints it. `ours` does the work once and gives the seconds
    /// it took; `detail` may add to the finished row what it knows of our runs, of which the last ones count.
    ///
    /// # Errors
    /// What `ours` says, or that the user asked to stop. What a peer says, too, but only after our own row was printed.
    pub fn row(
        &mut self,
        job: Job,
        mut ours: impl FnMut() -> Result<f64>,
        detail: impl FnOnce(&mut Row, usize),
    ) -> Result<()> {
        let Job {
            mut row,
            work,
            operations,
            for_peers,
        } = job;
        self.report.begins(&row);
        let mut offers = Vec::new();
        for peer in &mut self.peers {
            offers.push(peer.offer(&for_peers));
            if interrupt::pressed() {
                return Err(Interrupted.into());
            }
        }
        let ready = self.peers.iter_mut().zip(&offers);
        let mut ready: Vec<&mut Peer> = ready
            .filter(|(_, offer)| matches!(offer, Ok(Offer::Ready { .. })))
            .map(|(peer, _)| peer)
            .collect();
        let mut parties: Vec<Party<'_>> = vec![Box::new(&mut ours)];
        for peer in &mut ready {
            parties.push(Box::new(|| peer.run()));
        }
        let mut samples = measure::alternate(&self.budget, &mut parties)?.into_iter();
        drop(parties);
        let sample = samples.next().unwrap_or_else(|| Ok(Sample::default()))?;
        row.timed(&sample, work, operations);
        let mut failed = None;
        for (peer, offer) in self.peers.iter().zip(offers) {
            let command = peer.command();
            let theirs = match offer {
                Ok(Offer::Skip(why)) => Ok(PeerResult::skipped(command, why)),
                Ok(Offer::Ready { name }) => {
                    let theirs = samples.next().unwrap_or_else(|| Ok(Sample::default()));
                    theirs.map(|theirs| PeerResult::timed(command, name, &theirs, &sample))
                }
                Err(error) => Err(error),
            };
            row.peers.push(theirs.unwrap_or_else(|error| {
                failed.get_or_insert(error);
                PeerResult::failed(command)
            }));
        }
        detail(&mut row, sample.count());
        self.report.row(&row)?;
        failed.map_or(Ok(()), Err)
    }
}

impl Drop for Bench {
    /// Tells all peers to end before one is waited for.
    fn drop(&mut self) {
        self.peers.iter_mut().for_each(Peer::farewell);
    }
}
