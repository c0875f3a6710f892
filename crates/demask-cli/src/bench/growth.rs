//! `--plot`: how the time of a token grows with the length of a sequence.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use plotters::prelude::*;

use super::report::Row;
use crate::error::usage;

const WIDTH: u32 = 800;
const HEIGHT: u32 = 450;
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 96, 32),
    RGBColor(44, 140, 70),
    RGBColor(150, 70, 160),
    RGBColor(140, 100, 60),
    RGBColor(90, 90, 90),
];

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
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let (file, folder) = (file.display(), folder.display());
            return Err(usage(format!("--plot {file}: there is no folder {folder}")));
        }
        Ok(Self {
            file: file.to_path_buf(),
            lines: Default::default(),
        })
    }

    /// Adds the measurements of a pass over `batch` sequences of `tokens`, which takes so many operations.
    pub fn add(&mut self, network: &str, row: &Row, [batch, tokens]: [usize; 2], operations: f64) {
        let cells = (batch * tokens) as f64;
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
        let mut svg = String::new();
        self.draw(&mut svg)
            .map_err(|e| anyhow!("cannot draw the plot: {e}"))?;
        std::fs::write(&self.file, svg)
            .with_context(|| format!("cannot write the plot to {}", self.file.display()))
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let [ours, peers] = &self.lines;
        let all = || ours.iter().chain(peers);
        let points = || all().flat_map(|line| &line.points);
        let [shortest, longest] = points().fold([f64::MAX, 2.0], |[low, high], p| {
            [p[0].min(low), p[0].max(high)]
        });
        let slowest = points().fold(0.0f64, |high, p| p[1].max(high));

        let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(
                (shortest.min(longest / 2.0)..longest).log_scale(),
                0.0..(slowest * 1.1).max(1e-3),
            )?;
        chart
            .configure_mesh()
            .x_desc("tokens of a sequence")
            .y_desc("microseconds a token")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        for (i, line) in all().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            chart
                .draw_series(LineSeries::new(line.measured(), colour.stroke_width(2)))?
                .label(&line.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
            if i < ours.len() {
                let thin = colour.mix(0.4);
                chart
                    .draw_series(LineSeries::new(line.expected(), thin.stroke_width(1)))?
                    .label("the same, grown as its operations")
                    .legend(move |(x, y)| {
                        PathElement::new([(x, y), (x + 18, y)], thin.stroke_width(1))
                    });
            }
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.4))
            .draw()?;
        root.present()?;
        Ok(())
    }
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
            "tiny, demask int8",
            "tokens of a sequence",
            "microseconds a token",
        ] {
            assert!(svg.contains(word), "{word}");
        }
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
    }
}
