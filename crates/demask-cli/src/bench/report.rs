//! What a row says: one JSON object a line, or a table for people.

use std::collections::BTreeSet;

use anyhow::Result;
use demask::nn::{Dtype, Transformer};
use serde::Serialize;
use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use super::measure::Sample;
use crate::args::listing::width;
use crate::memory;
use crate::terminal::columns::Columns;
use crate::terminal::line;
use crate::terminal::passing::Passing;

/// Columns of a number of any size that is likely.
const NUMBER: usize = 8;

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
    /// What went wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
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
    /// A peer that did nothing so far.
    fn new(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            name: None,
            median_s: None,
            min_s: None,
            repeats: 0,
            ratio: None,
            skip: None,
            failed: None,
        }
    }

    /// A peer that did the work.
    pub fn timed(command: &str, name: String, theirs: &Sample, ours: &Sample) -> Self {
        Self {
            name: Some(name),
            median_s: Some(theirs.median()),
            min_s: Some(theirs.min()),
            repeats: theirs.count(),
            ratio: Some(theirs.median() / ours.median()),
            ..Self::new(command)
        }
    }

    /// A peer that cannot do the work.
    pub fn skipped(command: &str, why: String) -> Self {
        Self {
            skip: Some(why),
            ..Self::new(command)
        }
    }

    /// A peer that failed in the middle of it.
    pub fn failed(command: &str) -> Self {
        Self {
            failed: Some("failed".to_owned()),
            ..Self::new(command)
        }
    }
}

/// A measurement of a bench's own that has a column in the table.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its name in [`Row::parts`].
    pub name: &'static str,
    /// The name of the column.
    pub title: &'static str,
    /// What the column shows of it.
    pub show: fn(Option<f64>) -> String,
}

/// What a table has room for: settled before its first row, so that each is printed once it is measured.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Columns of the longest shape.
    shape: usize,
    /// The unit that all rows have; nothing where they differ.
    unit: Option<&'static str>,
    peak: bool,
    parts: &'static [Part],
    peers: bool,
}

impl Layout {
    /// For rows of these shapes and units.
    pub fn new<'a>(rows: impl IntoIterator<Item = (&'a str, &'static str)>) -> Self {
        let (shapes, units): (Vec<_>, BTreeSet<_>) = rows.into_iter().unzip();
        let shapes = shapes.into_iter().map(UnicodeWidthStr::width);
        Self {
            shape: shapes.max().unwrap_or(0),
            unit: units.first().copied().filter(|_| units.len() == 1),
            ..Self::default()
        }
    }

    /// With the share of the peak.
    pub fn with_peak(self) -> Self {
        Self { peak: true, ..self }
    }

    /// With these measurements.
    pub fn with_parts(self, parts: &'static [Part]) -> Self {
        Self { parts, ..self }
    }

    /// With other programs below each row.
    pub fn with_peers(self, peers: bool) -> Self {
        Self { peers, ..self }
    }

    fn columns(&self) -> Columns {
        let times = Columns::default()
            .text("shape", self.shape)
            .text("type", 4)
            .number("median ms", NUMBER)
            .number("min ms", NUMBER);
        let mut columns = match self.unit {
            // A unit that all have stands above.
            Some(unit) => times.number(unit, NUMBER),
            None => times.number("rate", NUMBER).text("unit", 8),
        };
        if self.peak {
            columns = columns.number("peak %", 6);
        }
        for part in self.parts {
            columns = columns.number(part.title, 0);
        }
        if self.peers {
            columns = columns.number("ratio", 6).text("", 0);
        }
        columns
    }

    /// The cells of a row of ours.
    fn ours(&self, row: &Row) -> Vec<String> {
        let mut cells = vec![
            row.shape.clone(),
            row.dtype.map_or("-", Dtype::name).to_owned(),
            ms(row.median_s),
            ms(row.min_s),
            number(row.rate),
        ];
        if self.unit.is_none() {
            cells.push(row.unit.to_owned());
        }
        if self.peak {
            cells.push(percent(row.peak_fraction));
        }
        let value = |part: &Part| row.parts.get(part.name).and_then(Value::as_f64);
        cells.extend(self.parts.iter().map(|part| (part.show)(value(part))));
        if self.peers {
            cells.extend(["-", "demask"].map(str::to_owned));
        }
        cells
    }

    /// The cells of a peer, below ours.
    fn theirs(&self, peer: &PeerResult) -> Vec<String> {
        let mut cells = vec![String::new(); 2];
        cells.extend([ms(peer.median_s), ms(peer.min_s)]);
        let between = 1 + usize::from(self.unit.is_none()) + usize::from(self.peak);
        cells.extend(vec![String::new(); between + self.parts.len()]);
        cells.push(number(peer.ratio));
        let why = [&peer.skip, &peer.failed].into_iter().flatten().next();
        cells.push(match (&peer.name, why) {
            (Some(name), None) => name.clone(),
            (_, Some(why)) => format!("{}: {why}", peer.command),
            (None, None) => peer.command.clone(),
        });
        cells
    }
}

/// Where rows go, each as soon as it is measured: lines of JSON, or a table.
#[derive(Debug)]
pub struct Report {
    json: bool,
    layout: Layout,
    columns: Columns,
    /// Whether the head of the table was printed.
    begun: bool,
    passing: Passing,
}

impl Report {
    /// JSON lines, or a table of this layout.
    pub fn new(json: bool, layout: Layout) -> Self {
        Self {
            json,
            columns: layout.columns(),
            layout,
            begun: false,
            passing: Passing::new(!json),
        }
    }

    /// Says on stderr what is measured next.
    pub fn begins(&mut self, row: &Row) {
        let dtype = row.dtype.map_or("", Dtype::name);
        self.passing
            .show(&format!("{} {} {dtype}", row.name, row.shape));
    }

    /// Prints a finished row.
    pub fn row(&mut self, row: &Row) -> Result<()> {
        self.passing.clear();
        if self.json {
            return Ok(line(&serde_json::to_string(row)?)?);
        }
        let mut text = String::new();
        if !self.begun {
            text += &format!("{}\n\n{}", head(row.name, row.threads), self.columns.head());
            self.begun = true;
        }
        let width = width();
        text += &self.columns.row(&self.layout.ours(row), width);
        for peer in &row.peers {
            text += &self.columns.row(&self.layout.theirs(peer), width);
        }
        Ok(line(text.trim_end())?)
    }
}

/// What holds for all that is measured in a run.
pub fn head(what: &str, threads: usize) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("demask {version} {what}: {}", platform(threads))
}

/// What it is measured on.
pub fn platform(threads: usize) -> String {
    let isa = demask::kernels::Isa::detect().name();
    let s = if threads == 1 { "" } else { "s" };
    format!("{isa}, {threads} thread{s}")
}

/// Seconds as milliseconds.
pub fn ms(seconds: Option<f64>) -> String {
    digits(seconds, 1e3)
}

/// A share as percent.
pub fn percent(share: Option<f64>) -> String {
    digits(share, 100.0)
}

/// A number as it is.
pub fn number(value: Option<f64>) -> String {
    digits(value, 1.0)
}

/// A number of things.
pub fn count(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.0}"))
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
        alternate(&budget, &mut party).unwrap().remove(0).unwrap()
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
        row.peers.push(PeerResult::failed("cmd3"));
        let parts: &[Part] = &[Part {
            name: "sampling_share",
            title: "sampling %",
            show: percent,
        }];
        let layout = Layout::new([(row.shape.as_str(), row.unit), ("128x16x32", row.unit)])
            .with_peak()
            .with_parts(parts)
            .with_peers(true);
        let columns = layout.columns();
        let theirs = row.peers.iter().map(|peer| layout.theirs(peer));
        let rows = std::iter::once(layout.ours(&row)).chain(theirs);
        let rows: String = rows.map(|cells| columns.row(&cells, None)).collect();
        let wanted = "\
shape      type  median ms    min ms   GFLOP/s  peak %  sampling %   ratio
8x16x32    f32       500.0     500.0     8.000   50.00       25.00       -  demask
                      1500      1500                                 3.000  other 1.0
                         -         -                                     -  cmd2: no
                         -         -                                     -  cmd3: failed
";
        assert_eq!(columns.head() + &rows, wanted);
    }

    #[test]
    fn units_that_differ_have_a_column() {
        let layout = Layout::new([("a", "GB/s"), ("b", "GFLOP/s")]);
        let head = layout.columns().head();
        assert!(head.ends_with("    rate  unit\n"), "{head}");
        let layout = Layout::new([("a", "GB/s"), ("b", "GB/s")]);
        assert!(layout.columns().head().ends_with("GB/s\n"));
    }

    #[test]
    fn numbers_have_four_digits() {
        let found = [0.01234, 1.2345, 12.345, 123.45, 12345.6].map(|x| number(Some(x)));
        assert_eq!(found, ["0.012", "1.234", "12.35", "123.5", "12346"]);
        assert_eq!((number(None), count(Some(64.0))), ("-".into(), "64".into()));
    }
}
