//! Downloads on stderr: a bar for each file on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanDuration, ProgressBar, ProgressStyle};

use super::layout::harmless;
use super::note;

/// Shortest time between two plain lines.
const PAUSE: Duration = Duration::from_secs(10);

/// How downloads are shown.
pub struct Downloads {
    bars: bool,
}

/// The download of one file.
pub struct FileProgress {
    name: String,
    size: Option<u64>,
    bar: Option<ProgressBar>,
    begin: Instant,
    first: u64,
    last: Instant,
    position: u64,
}

impl Downloads {
    /// Bars if stderr is a terminal and nothing plain is asked for.
    pub fn new(plain: bool) -> Self {
        Self {
            bars: !plain && io::stderr().is_terminal(),
        }
    }

    /// Shows a file of which `have` bytes are there.
    pub fn begin(&self, name: &str, size: Option<u64>, have: u64) -> FileProgress {
        let name = harmless(name);
        let bar = self.bars.then(|| bar(&name, size, have));
        if bar.is_none() {
            let size = size.map(|size| format!(" ({})", DecimalBytes(size)));
            let size = size.unwrap_or_default();
            match have {
                0 => note(format!("downloading {name}{size} …")),
                have => note(format!(
                    "downloading {name}{size} from {} on …",
                    DecimalBytes(have)
                )),
            }
        }
        let now = Instant::now();
        FileProgress {
            name,
            size,
            bar,
            begin: now,
            first: have,
            last: now,
            position: have,
        }
    }
}

impl FileProgress {
    /// So many bytes are there.
    pub fn at(&mut self, position: u64) {
        self.position = position;
        match &self.bar {
            Some(bar) => bar.set_position(position),
            None if self.last.elapsed() >= PAUSE => {
                self.last = Instant::now();
                note(format!("{}  {}", self.name, self.numbers()));
            }
            None => {}
        }
    }

    /// All of it is there.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }

    /// `1.20 GB of 4.20 GB  35.00 MB/s  2 minutes left`
    fn numbers(&self) -> String {
        let come = self.position.saturating_sub(self.first) as f64;
        let speed = come / self.begin.elapsed().as_secs_f64().max(1e-3);
        let mut text = DecimalBytes(self.position).to_string();
        if let Some(size) = self.size {
            text += &format!(" of {}", DecimalBytes(size));
        }
        text += &format!("  {}/s", DecimalBytes(speed as u64));
        if let Some(size) = self.size {
            let left = size.saturating_sub(self.position) as f64 / speed.max(1.0);
            let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
            text += &format!("  {} left", HumanDuration(left));
        }
        text
    }
}

fn bar(name: &str, size: Option<u64>, have: u64) -> ProgressBar {
    let template = match size {
        Some(_) => {
            "{bar:30} {decimal_bytes}/{decimal_total_bytes}  {msg}  {decimal_bytes_per_sec}  {eta} left"
        }
        None => "{spinner} {decimal_bytes}  {msg}  {decimal_bytes_per_sec}",
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = match size {
        Some(size) => ProgressBar::new(size),
        None => ProgressBar::no_length(),
    };
    let bar = bar.with_style(style).with_message(name.to_owned());
    let bar = bar.with_position(have);
    bar.reset_eta();
    bar
}
