//! `--timings`: where the time of a command went, by operation.
//!
//! The libraries open spans and know no clock ([`demask::nn::span`]); [`layer`] times them, [`ledger`]
//! adds them up, [`table`] is what is said of them.

mod layer;
mod ledger;
mod table;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use demask::nn::Dtype;

use crate::bench::peak;
use layer::Timing;
use ledger::{Ledger, lock};

/// The command that is being timed.
struct Running {
    begin: Instant,
    ledger: Arc<Mutex<Ledger>>,
    /// Whether the table was printed.
    told: AtomicBool,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// Begins to time this command: the layer that does.
pub fn start() -> Timing<impl Fn() -> Duration> {
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let begin = Instant::now();
    // A program runs one command.
    let _ = RUNNING.set(Running {
        begin,
        ledger: ledger.clone(),
        told: AtomicBool::new(false),
    });
    Timing::new(ledger, move || begin.elapsed())
}

/// Prints the table on stderr, with what the machine can do beside what it did. Nothing where no time
/// is taken, or where it was told already, or of a command that failed before it multiplied anything.
pub fn report(failed: bool) {
    // After a Ctrl-C nothing is measured any more.
    print(failed, |dtype| peak::of(dtype).ok());
}

/// As [`report`], in the middle of the work: a peak cannot be measured beside it.
pub fn report_cut_off() {
    print(false, |_| None);
}

fn print(only_work: bool, peak: impl Fn(Dtype) -> Option<f64>) {
    let Some(running) = RUNNING.get() else { return };
    let summary = lock(&running.ledger).summary(running.begin.elapsed());
    if only_work && summary.totals.iter().all(|total| total.work == 0) {
        return;
    }
    let text = table::text(&summary, peak);
    // Ctrl-C may have come while the peak was measured.
    if !running.told.swap(true, Ordering::SeqCst) {
        // The command does not fail because nobody can be told about it.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
