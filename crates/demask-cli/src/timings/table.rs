//! The table of `--timings`.

use demask::nn::Dtype;

use super::ledger::{Summary, Total};
use crate::bench::report::head;
use crate::terminal::table::Table;

/// Parts whose own time is the tensor framework's: what it does between our operations.
const FRAMEWORK: [&str; 2] = ["forward", "backward"];

/// The table and a line above it. `peak` gives the operations a second that a number format can reach.
pub fn text(summary: &Summary, peak: impl Fn(Dtype) -> Option<f64>) -> String {
    let seconds = summary.wall.as_secs_f64();
    let threads = demask::kernels::threads::count();
    let head = head("timings", threads);
    let table = table(summary, peak).text(None);
    format!("\n{head}, {seconds:.4} s\n\n{table}")
}

fn table(summary: &Summary, peak: impl Fn(Dtype) -> Option<f64>) -> Table {
    let framework = |total: &&Total| FRAMEWORK.contains(&total.op.as_str());
    let mut ours: Vec<&Total> = summary.totals.iter().filter(|t| !framework(t)).collect();
    ours.sort_by_key(|total| std::cmp::Reverse(total.own));
    let mut table = Table::new([
        "operation",
        "type",
        "calls",
        "seconds",
        "share %",
        "GOP/s",
        "peak %",
    ]);
    let wall = summary.wall.as_secs_f64().max(1e-9);
    let share = |seconds: f64| format!("{:.1}", 100.0 * seconds / wall);
    for total in ours {
        let own = total.own.as_secs_f64();
        let rate = (total.work > 0).then(|| total.work as f64 / own.max(1e-9));
        let dtype = total.dtype.as_deref();
        let peak = rate.and(dtype).and_then(|name| peak(name.parse().ok()?));
        let fraction = rate.zip(peak).map(|(rate, peak)| 100.0 * rate / peak);
        let digits = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.1}"));
        table.row([
            total.op.clone(),
            dtype.unwrap_or("-").to_owned(),
            total.calls.to_string(),
            format!("{own:.4}"),
            share(own),
            digits(rate.map(|rate| 1e-9 * rate)),
            digits(fraction),
        ]);
    }
    let mut last = |name: String, calls: String, seconds: f64| {
        let (own, none) = (format!("{seconds:.4}"), || "-".to_owned());
        table.row([name, none(), calls, own, share(seconds), none(), none()]);
    };
    for total in summary.totals.iter().filter(framework) {
        let name = format!("framework, {}", total.op);
        last(name, total.calls.to_string(), total.own.as_secs_f64());
    }
    last("the rest".into(), "-".into(), summary.rest.as_secs_f64());
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn total(op: &str, dtype: Option<&str>, calls: u64, own: u64, work: u64) -> Total {
        Total {
            op: op.into(),
            dtype: dtype.map(str::to_owned),
            calls,
            own: Duration::from_millis(own),
            work,
        }
    }

    fn summary() -> Summary {
        Summary {
            totals: vec![
                total("forward", None, 3, 25, 0),
                total("norm", None, 6, 50, 0),
                total("linear", Some("f32"), 12, 400, 40_000_000_000),
            ],
            wall: Duration::from_millis(500),
            rest: Duration::from_millis(25),
        }
    }

    #[test]
    fn the_longest_comes_first_and_the_rest_last() {
        let peak = |dtype| (dtype == Dtype::F32).then_some(2e11);
        let wanted = "\
operation           type  calls  seconds  share %  GOP/s  peak %
linear              f32      12   0.4000     80.0  100.0    50.0
norm                -         6   0.0500     10.0      -       -
framework, forward  -         3   0.0250      5.0      -       -
the rest            -         -   0.0250      5.0      -       -
";
        assert_eq!(table(&summary(), peak).text(None), wanted);
    }

    #[test]
    fn without_a_peak_the_rate_stands_alone() {
        let text = text(&summary(), |_| None);
        assert!(text.contains("  100.0       -\n"), "{text}");
        assert!(text.starts_with("\ndemask 0."), "{text}");
        assert!(text.contains(", 0.5000 s\n\noperation"), "{text}");
    }
}
