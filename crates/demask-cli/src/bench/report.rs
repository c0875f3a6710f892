//! What a row says: one JSON object a line, or a table for people.

use std::collections::BTreeSet;

use anyhow::Result;
use demask::nn::{Dtype, Transformer};
use serde::Serialize;
use serde_json::{Map, Value};

use super::measure::Sample;
use crate::args::listing::width;
use crate::memory;
use crate::terminal::table::Table;
use crate::terminal::{line, note};

/// A measured row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The bench.
    pub name: &'static str,
    /// The number format; nothing where there is none.
    pub dtype: Option<Dtype>,
    /// What the work was done on.
    pub shape: String,
    /// Threads of ours.
    pub threads: usize,
    /// The run in the middle, in seconds; nothing where the machine cannot do it.
    pub median_s: Option<f64>,
    /// The fastest run, in seconds.
    pub min_s: Option<f64>,
    /// Runs.
    pub repeats: usize,
    /// Work a second of the median run.
    pub rate: Option<f64>,
    /// The unit of the rate.
    pub unit: &'static str,
    /// The share of the peak of the same run that the products of the median run reach.
    pub peak_fraction: Option<f64>,
    /// Other measurements of our runs.
    #[serde(flatten)]
    pub parts: Map<String, Value>,
    /// The programs that did the same work in turns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerResult>,
}

/// What a peer did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeerResult {
    /// How it was started.
    pub command: String,
    /// What it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The run in the middle, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_s: Option<f64>,
    /// The fastest run, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_s: Option<f64>,
    /// Runs.
    pub repeats: usize,
    /// Its median time as a multiple of ours: above 1 we are faster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
}

impl Row {
    /// A row that is still to be measured.
    pub fn new(
        name: &'static str,
        dtype: Dtype,
        shape: impl Into<String>,
        unit: &'static str,
    ) -> Self {
        Self {
            name,
            dtype: Some(dtype),
            shape: shape.into(),
            threads: demask::kernels::threads::count(),
            median_s: None,
            min_s: None,
            repeats: 0,
            rate: None,
            unit,
            peak_fraction: None,
            parts: Map::new(),
            peers: Vec::new(),
        }
    }

    /// Enters the times. `work` is what a run does, in the unit of the rate; `operations` those of a run
    /// and the peak they are held against, a second.
    pub fn timed(&mut self, sample: &Sample, work: f64, operations: Option<(f64, f64)>) {
        let median = sample.median();
        self.median_s = Some(median);
        self.min_s = Some(sample.min());
        self.repeats = sample.count();
        self.rate = Some(work / median);
        self.peak_fraction = operations.map(|(operations, peak)| operations / median / peak);
    }

    /// Enters the times of a row whose fastest run is its rate.
    pub fn fastest(&mut self, sample: &Sample, work: f64) {
        self.timed(sample, work, None);
        self.rate = Some(work / sample.min());
    }

    /// Adds the bytes that the weights of a network take and, where the system says, the most that the program ever
    /// took.
    pub fn memory(&mut self, network: &Transformer) {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        self.part("weights_mib", mib(network.bytes() as f64));
        if let Some(peak) = memory::peak() {
            self.part("peak_mib", mib(peak));
        }
    }

    /// Adds a measurement of its own name.
    pub fn part(&mut self, name: &str, value: f64) {
        self.parts.insert(name.to_owned(), Value::from(value));
    }
}

impl PeerResult {
    /// A peer that did the work.
    pub fn timed(command: &str, name: String, theirs: &Sample, ours: &Sample) -> Self {
        Self {
            command: command.to_owned(),
            name: Some(name),
            median_s: Some(theirs.median()),
            min_s: Some(theirs.min()),
            repeats: theirs.count(),
            ratio: Some(theirs.median() / ours.median()),
            skip: None,
        }
    }

    /// A peer that cannot do the work.
    pub fn skipped(command: &str, why: String) -> Self {
        Self {
            command: command.to_owned(),
            name: None,
            median_s: None,
            min_s: None,
            repeats: 0,
            ratio: None,
            skip: Some(why),
        }
    }
}

/// Where rows go: to standard output as they come, or into a table at the end.
#[derive(Debug)]
pub struct Report {
    json: bool,
    rows: Vec<Row>,
}

impl Report {
    /// JSON lines, or a table.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            rows: Vec::new(),
        }
    }

    /// Says on stderr what is measured next.
    pub fn begins(&self, row: &Row) {
        let dtype = row.dtype.map_or("", Dtype::name);
        note(format!("{} {} {dtype}", row.name, row.shape));
    }

    /// Takes a finished row.
    pub fn row(&mut self, row: Row) -> Result<()> {
        if self.json {
            line(&serde_json::to_string(&row)?)?;
        } else {
            self.rows.push(row);
        }
        Ok(())
    }

    /// Prints the table.
    pub fn finish(self) -> Result<()> {
        if self.json {
            return Ok(());
        }
        Ok(line(text(&self.rows, width()).trim_end())?)
    }
}

/// The table and, above it, what holds for all rows.
fn text(rows: &[Row], width: Option<usize>) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let head = head(first.name, first.threads);
    format!("{head}\n\n{}", table(rows).text(width))
}

/// What holds for all that is measured in a run.
pub fn head(what: &str, threads: usize) -> String {
    let isa = demask::kernels::Isa::detect().name();
    let s = if threads == 1 { "" } else { "s" };
    let version = env!("CARGO_PKG_VERSION");
    format!("demask {version} {what}: {isa}, {threads} thread{s}")
}

fn table(rows: &[Row]) -> Table {
    let with_peers = rows.iter().any(|row| !row.peers.is_empty());
    let with_peak = rows.iter().any(|row| row.peak_fraction.is_some());
    let units: BTreeSet<&str> = rows.iter().map(|row| row.unit).collect();
    let mut columns = vec!["shape", "type", "median ms", "min ms"];
    // A unit that all have stands above.
    match units.first() {
        Some(unit) if units.len() == 1 => columns.push(unit),
        _ => columns.extend(["rate", "unit"]),
    }
    let behind = columns.len() - 4 + usize::from(with_peak);
    if with_peak {
        columns.push("peak %");
    }
    if with_peers {
        columns.push("ratio");
    }
    columns.push("");
    let mut table = Table::new(columns);
    for row in rows {
        let mut cells = vec![
            row.shape.clone(),
            row.dtype.map_or("-", Dtype::name).to_owned(),
            ms(row.median_s),
            ms(row.min_s),
            digits(row.rate, 1.0),
        ];
        if units.len() != 1 {
            cells.push(row.unit.to_owned());
        }
        if with_peak {
            cells.push(digits(row.peak_fraction, 100.0));
        }
        if with_peers {
            cells.push("-".to_owned());
        }
        cells.push(ours(row, with_peers));
        table.row(cells);
        for peer in &row.peers {
            let mut cells = vec![String::new(); 2];
            cells.extend([ms(peer.median_s), ms(peer.min_s)]);
            cells.extend(vec![String::new(); behind]);
            cells.push(digits(peer.ratio, 1.0));
            cells.push(match (&peer.name, &peer.skip) {
                (Some(name), _) => name.clone(),
                (None, Some(why)) => format!("{}: {why}", peer.command),
                (None, None) => peer.command.clone(),
            });
            table.row(cells);
        }
    }
    table
}

/// What stands behind a row of ours: whose it is, where there are others, and its parts.
fn ours(row: &Row, with_peers: bool) -> String {
    let mut said = Vec::new();
    if with_peers {
        said.push("demask".to_owned());
    }
    said.extend(row.parts.iter().map(|(name, value)| {
        let value = value.as_f64();
        match name.strip_suffix("_s") {
            Some(part) => format!("{} {} ms", part.replace('_', " "), ms(value)),
            None => match (name.strip_suffix("_share"), name.strip_suffix("_mib")) {
                (Some(part), _) => format!("{part} share {} %", digits(value, 100.0)),
                (_, Some(part)) => format!("{part} {} MiB", digits(value, 1.0)),
                _ => format!("{} {}", name.replace('_', " "), digits(value, 1.0)),
            },
        }
    }));
    said.join(", ")
}

fn ms(seconds: Option<f64>) -> String {
    digits(seconds, 1e3)
}

/// Four digits that mean something; whole numbers above.
fn digits(value: Option<f64>, times: f64) -> String {
    let Some(x) = value.map(|value| value * times) else {
        return "-".to_owned();
    };
    let places = match x.abs() {
        x if x < 1.0 => 3,
        x if x < 10.0 => 3,
        x if x < 100.0 => 2,
        x if x < 1000.0 => 1,
        _ => 0,
    };
    format!("{x:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::{Budget, Party, alternate};

    fn sample(seconds: f64) -> Sample {
        let budget = Budget {
            repeat: Some(3),
            seconds: 0.0,
        };
        let mut party = [Box::new(|| Ok(seconds)) as Party<'_>];
        alternate(&budget, &mut party).unwrap().remove(0)
    }

    fn row() -> Row {
        let mut row = Row::new("gemm", Dtype::F32, "8x16x32", "GFLOP/s");
        row.threads = 2;
        row.timed(&sample(0.5), 4.0, Some((6.0, 24.0)));
        row
    }

    #[test]
    fn a_row_has_the_promised_names() {
        let value = serde_json::to_value(row()).unwrap();
        let wanted = serde_json::json!({
            "name": "gemm", "dtype": "f32", "shape": "8x16x32", "threads": 2, "median_s": 0.5, "min_s": 0.5,
            "repeats": 3, "rate": 8.0, "unit": "GFLOP/s", "peak_fraction": 0.5
        });
        assert_eq!(value, wanted);
    }

    #[test]
    fn a_peer_that_takes_longer_has_a_ratio_above_one() {
        let mut row = row();
        row.part("sampling_share", 0.25);
        row.peers = vec![
            PeerResult::timed("cmd", "other 1.0".into(), &sample(1.5), &sample(0.5)),
            PeerResult::skipped("cmd2", "no".into()),
        ];
        let value = serde_json::to_value(&row).unwrap();
        assert_eq!(value["sampling_share"], 0.25);
        assert_eq!(value["peers"][0]["ratio"], 3.0);
        assert_eq!(value["peers"][0]["median_s"], 1.5);
        assert_eq!(
            value["peers"][1],
            serde_json::json!({ "command": "cmd2", "repeats": 0, "skip": "no" })
        );
        let text = table(&[row]).text(None);
        let wanted = "\
shape    type  median ms  min ms  GFLOP/s  peak %  ratio
8x16x32  f32       500.0   500.0    8.000   50.00      -  demask, sampling share 25.00 %
                    1500    1500                   3.000  other 1.0
                       -       -                       -  cmd2: no
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn numbers_have_four_digits() {
        let found = [0.01234, 1.2345, 12.345, 123.45, 12345.6].map(|x| digits(Some(x), 1.0));
        assert_eq!(found, ["0.012", "1.234", "12.35", "123.5", "12346"]);
        assert_eq!(digits(None, 1.0), "-");
    }
}
