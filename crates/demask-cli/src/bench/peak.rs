//! `demask bench peak`: what this machine can do at all.

use std::sync::OnceLock;

use anyhow::Result;
use demask::kernels::peak::{MemoryProbe, Probe, bf16_dot, f32_fma, int8_dot, int8_vector_dot};
use demask::nn::{Dtype, span};

use super::dtype;
use super::measure::{Sample, timed};
use super::report::{Layout, Report, Row};
use super::{MeasureArgs, measure};
use crate::threads;

/// Iterations of the shortest run that is believed.
const ITERATIONS: u64 = 1 << 16;
/// Seconds of a run: long enough for every thread to be awake in most of it, short enough that some
/// runs find all cores free on a machine that does other things as well.
const RUN: f64 = 0.008;
/// Seconds that a peak is looked for where it is only held against something.
const GLANCE: f64 = 0.4;
/// Bytes of the buffer that is read: many times the caches of any machine.
const BUFFER: usize = 512 << 20;

/// Measure the peak of this machine: products of each number type, and reading memory
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
The fastest run counts here, not the median: a disturbed run says nothing about the machine.

`peak %` of the other benches is held against these: f32 against its multiply-and-add, bf16 and int8
against their dot products (those of the tile unit, `tmm`, where there is one), int4 against that of
int8, of which its products are made. A format that the machine has no instruction for is held
against f32.

Examples:
  demask bench peak
  demask bench peak --threads 1 --json")]
pub struct Peak {
    #[command(flatten)]
    measure: MeasureArgs,
}

impl Peak {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        threads::limit(self.measure.threads)?;
        let budget = self.measure.budget();
        let mut probes = vec![
            (Dtype::F32, Some(f32_fma())),
            (Dtype::Bf16, bf16_dot()),
            (Dtype::Int8, int8_dot()),
        ];
        probes.extend(beside_tiles().map(|probe| (Dtype::Int8, Some(probe))));
        let named = |(dtype, probe): (Dtype, Option<Probe>)| {
            let name = probe.map_or("not on this machine", |probe| probe.instruction());
            (name, dtype::unit(dtype))
        };
        let reading = format!("reading {} MiB", BUFFER >> 20);
        let rows = probes.iter().copied().map(named);
        let layout = Layout::new(rows.chain([(reading.as_str(), "GB/s")]));
        let mut report = Report::new(self.measure.json, layout);
        for (dtype, probe) in probes {
            let (shape, _) = named((dtype, probe));
            let mut row = Row::new("peak", dtype, shape, dtype::unit(dtype));
            report.begins(&row);
            if let Some(probe) = probe {
                let (sample, operations) = run(&probe, &budget)?;
                row.fastest(&sample, 1e-9 * operations);
            }
            report.row(&row)?;
        }
        let memory = MemoryProbe::new(BUFFER);
        let mut row = Row::new("peak", Dtype::F32, reading, "GB/s");
        row.dtype = None;
        report.begins(&row);
        let mut bytes = 0;
        let mut party = || {
            let (seconds, read) = timed(|| memory.run());
            bytes = read;
            Ok(seconds)
        };
        let sample = measure::alternate(&budget, &mut [Box::new(&mut party)])?.remove(0)?;
        row.fastest(&sample, 1e-9 * bytes as f64);
        report.row(&row)
    }
}

/// The dot product of bytes on vectors, where it is another one than that of the tile unit.
fn beside_tiles() -> Option<Probe> {
    let tiles = int8_dot().map(|probe| probe.instruction());
    int8_vector_dot().filter(|probe| Some(probe.instruction()) != tiles)
}

/// Operations a second that products of this type can reach on this machine, with the threads of now;
/// measured once.
pub fn of(dtype: Dtype) -> Result<f64> {
    static KNOWN: [OnceLock<f64>; Dtype::ALL.len()] = [const { OnceLock::new() }; Dtype::ALL.len()];
    let known = &KNOWN[dtype as usize];
    if let Some(peak) = known.get() {
        return Ok(*peak);
    }
    let budget = measure::Budget {
        repeat: None,
        seconds: GLANCE,
    };
    let (sample, operations) = run(&dtype::probe(dtype), &budget)?;
    Ok(*known.get_or_init(|| operations / sample.min()))
}

/// The runs of a probe, and the operations of each.
fn run(probe: &Probe, budget: &measure::Budget) -> Result<(Sample, f64)> {
    let _span = span::part("peak");
    let shortest = timed(|| probe.run(ITERATIONS)).0;
    let iterations = (RUN / shortest.max(1e-9)).clamp(1.0, 1e6) * ITERATIONS as f64;
    let mut operations = 0;
    let mut party = || {
        let (seconds, done) = timed(|| probe.run(iterations as u64));
        operations = done;
        Ok(seconds)
    };
    let sample = measure::alternate(budget, &mut [Box::new(&mut party)])?.remove(0)?;
    Ok((sample, operations as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_format_is_held_against_has_a_row() {
        let rows = [Some(f32_fma()), bf16_dot(), int8_dot(), beside_tiles()];
        let rows = rows.into_iter().flatten().map(|probe| probe.instruction());
        let rows: Vec<_> = rows.collect();
        for dtype in Dtype::ALL {
            let instruction = dtype::probe(dtype).instruction();
            let found = rows.iter().filter(|row| **row == instruction);
            assert_eq!(found.count(), 1, "{dtype}: {instruction} of {rows:?}");
        }
    }
}
