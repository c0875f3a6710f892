//! `--plot`: how the time of a token grows with the length of a sequence.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use demask::models::chat::Clock;

use super::plot::{Curve, svg};
use super::report::{Row, platform};
use crate::error::usage;

/// Measurements of one network by one program.
#[derive(Default)]
struct Line {
    name: String,
    /// Tokens of a sequence, microseconds and operations of a token.
    points: Vec<[f64; 3]>,
}

impl Line {
    fn measured(&self) -> Vec<(f64, f64)> {
        self.points
            .iter()
            .map(|&[tokens, time, _]| (tokens, time))
            .collect()
    }

    /// The first measurement, grown as the operations of a token grow.
    fn expected(&self) -> Vec<(f64, f64)> {
        let points = self.points.iter();
        points
            .map(|&[tokens, _, operations]| {
                let [_, time, first] = self.points[0];
                (tokens, time * operations / first)
            })
            .collect()
    }
}

/// A plot in the making.
pub struct Growth {
    file: PathBuf,
    /// The networks and how many sequences they read.
    measured: Vec<String>,
    /// Ours; their peers.
    lines: [Vec<Line>; 2],
}

impl Growth {
    /// A plot for sequences of these lengths.
    ///
    /// # Errors
    /// Before anything is measured: when there is but one length, or no such folder.
    pub fn new(file: &Path, tokens: &[usize]) -> Result<Self> {
        if tokens.iter().min() == tokens.iter().max() {
            return Err(usage(
                "--plot shows how time grows: give several lengths, such as --tokens 128,256,512,1024",
            ));
        }
        let refuse = |why: String| Err(usage(format!("--plot {}: {why}", file.display())));
        if file.is_dir() {
            return refuse("is a folder; give the name of a file in it".into());
        }
        let extension = file
            .extension()
            .map(|extension| extension.to_ascii_lowercase());
        if extension.is_none_or(|extension| extension != "svg") {
            return refuse("is written as SVG; give a name that ends with .svg".into());
        }
        let folder = folder(file);
        if !folder.is_dir() {
            return refuse(format!("there is no folder {}", folder.display()));
        }
        Ok(Self {
            file: file.to_path_buf(),
            measured: Vec::new(),
            lines: Default::default(),
        })
    }

    /// Adds the measurements of a pass over `batch` sequences of `tokens`, which takes so many operations.
    pub fn add(&mut self, network: &str, row: &Row, [batch, tokens]: [usize; 2], operations: f64) {
        let cells = (batch * tokens) as f64;
        let s = if batch == 1 { "" } else { "s" };
        let measured = format!("{network}, {batch} sequence{s}");
        if !self.measured.contains(&measured) {
            self.measured.push(measured);
        }
        let dtype = row
            .dtype
            .map(|dtype| format!(" {dtype}"))
            .unwrap_or_default();
        let ours = [(Some(format!("demask{dtype}")), row.median_s)];
        let peers = row
            .peers
            .iter()
            .map(|peer| (peer.name.clone(), peer.median_s));
        let both: [Vec<_>; 2] = [ours.into(), peers.collect()];
        for (lines, measured) in self.lines.iter_mut().zip(both) {
            for (name, seconds) in measured {
                let (Some(name), Some(seconds)) = (name, seconds) else {
                    continue;
                };
                let name = format!("{network}, {name}");
                let at = match lines.iter().position(|line| line.name == name) {
                    Some(at) => at,
                    None => {
                        lines.push(Line {
                            name,
                            ..Line::default()
                        });
                        lines.len() - 1
                    }
                };
                let point = [tokens as f64, seconds / cells * 1e6, operations / cells];
                // A peer that does the same beside each of our formats has one line.
                if lines[at].points.iter().any(|p| p[0] == point[0]) {
                    continue;
                }
                lines[at].points.push(point);
                lines[at].points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            }
        }
    }

    /// Writes the plot.
    ///
    /// # Errors
    /// When nothing was measured, or the file cannot be written.
    pub fn write(&self) -> Result<()> {
        if self.lines.iter().all(Vec::is_empty) {
            bail!("nothing was measured, so there is nothing to plot");
        }
        let [ours, peers] = &self.lines;
        let curves: Vec<Curve<'_>> = ours
            .iter()
            .map(|line| (line, line.expected()))
            .chain(peers.iter().map(|line| (line, Vec::new())))
            .map(|(line, expected)| Curve {
                name: &line.name,
                measured: line.measured(),
                expected,
            })
            .collect();
        let title = self.measured.join(" and ");
        let threads = demask::kernels::threads::count();
        let below = format!("{}, {}", platform(threads), date());
        let svg =
            svg([&title, &below], &curves).map_err(|e| anyhow!("cannot draw the plot: {e}"))?;
        replace(&self.file, svg.as_bytes())
            .with_context(|| format!("cannot write the plot to {}", self.file.display()))
    }
}

/// The folder of a file.
fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The date of today, in UTC.
fn date() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let clock = Clock {
        unix_seconds: now.map_or(0, |now| now.as_secs() as i64),
    };
    clock.strftime("%Y-%m-%d").unwrap_or_default()
}

/// Writes a file beside and gives it the name then: what stands there is replaced by the whole or not at all.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder(file).join(format!(".{name}.{}.tmp", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut out| {
            out.write_all(bytes)?;
            out.sync_all()
        })
        .and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        // Whatever was wrong with it, it is of no use.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use demask::nn::Dtype;

    use super::super::report::PeerResult;
    use super::*;

    #[test]
    fn a_plot_has_a_line_for_each_format_and_peer_and_what_was_to_be_expected() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("growth.svg");
        let mut growth = Growth::new(&file, &[128, 256]).unwrap();
        for dtype in [Dtype::Int8, Dtype::Bf16] {
            for (tokens, seconds, operations) in [(256, 0.9, 3e9), (128, 0.2, 1e9)] {
                let mut row = Row::new("forward", dtype, String::new(), "tokens/s");
                row.median_s = Some(seconds);
                let peer = PeerResult::skipped("it", String::new());
                row.peers = vec![PeerResult {
                    name: Some("somebody".into()),
                    median_s: Some(2.0 * seconds),
                    ..peer
                }];
                growth.add("tiny", &row, [1, tokens], operations);
            }
        }
        let [ours, peers] = &growth.lines;
        let names = |lines: &[Line]| lines.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(ours), ["tiny, demask int8", "tiny, demask bf16"]);
        assert_eq!(names(peers), ["tiny, somebody"]);
        assert_eq!(peers[0].measured(), [(128.0, 3125.0), (256.0, 7031.25)]);
        // 0.2 s / 128 = 1,562.5 µs; a token of the longer sequence takes 1.5 times as many operations, and more time.
        assert_eq!(ours[0].measured(), [(128.0, 1562.5), (256.0, 3515.625)]);
        assert_eq!(ours[0].expected(), [(128.0, 1562.5), (256.0, 2343.75)]);
        growth.write().unwrap();
        let svg = std::fs::read_to_string(file).unwrap();
        for word in [
            "tiny, 1 sequence",
            "tiny, demask int8",
            "tokens of a sequence",
            "microseconds a token",
            &date(),
        ] {
            assert!(svg.contains(word), "{word}");
        }
        let files = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(files.count(), 1, "nothing is left beside");
    }

    #[test]
    fn a_plot_that_cannot_be_written_destroys_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.svg");
        std::fs::write(&file, "old").unwrap();
        // What is written beside is in the way.
        let beside = format!(".a.svg.{}.tmp", std::process::id());
        std::fs::create_dir(folder.path().join(&beside)).unwrap();
        assert!(replace(&file, b"new").is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
        std::fs::remove_dir(folder.path().join(&beside)).unwrap();
        replace(&file, b"new").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn nothing_measured_is_no_plot() {
        let growth = Growth::new(Path::new("never.svg"), &[128, 256]).unwrap();
        assert!(growth.write().is_err());
    }

    #[test]
    fn what_cannot_be_plotted_is_said_before_it_is_measured() {
        assert!(Growth::new(Path::new("a.svg"), &[128, 128]).is_err());
        assert!(Growth::new(Path::new("no/such/folder/a.svg"), &[128, 256]).is_err());
        assert!(Growth::new(Path::new("a.svg"), &[128, 256]).is_ok());
        let said = |file: &Path| {
            let refused = Growth::new(file, &[128, 256]).err();
            refused.expect("cannot be plotted").to_string()
        };
        assert!(said(Path::new("a.png")).contains("ends with .svg"));
        assert!(said(Path::new("svg")).contains("ends with .svg"));
        let folder = tempfile::tempdir().unwrap();
        assert!(said(folder.path()).contains("is a folder"));
    }
}
