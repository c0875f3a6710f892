//! What took how long, and what was inside what.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// The spans of a command, by operation. Moments are durations since its begin.
#[derive(Debug, Default)]
pub struct Ledger {
    totals: Vec<Total>,
    /// The open spans of each thread that has some, the innermost last.
    open: HashMap<ThreadId, Vec<Open>>,
    /// Time in which some thread had a span open, up to the last moment when none had.
    covered: Duration,
    /// Since when some thread has one.
    since: Duration,
}

/// All spans of an operation in a number format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Name of the operation.
    pub op: String,
    /// Number format of its products.
    pub dtype: Option<String>,
    /// Finished spans.
    pub calls: u64,
    /// Their time without that of the spans inside, over all threads.
    pub own: Duration,
    /// Their operations.
    pub work: u64,
}

/// Where the time went up to some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// By operation, in the order in which they came up.
    pub totals: Vec<Total>,
    /// Time of the command.
    pub wall: Duration,
    /// Time in which no thread had a span open.
    pub rest: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    place: usize,
    work: u64,
    start: Duration,
    /// Time of the finished spans inside.
    inside: Duration,
}

impl Ledger {
    /// The number that an operation is entered by.
    pub fn place(&mut self, op: &str, dtype: Option<&str>) -> usize {
        let same = |total: &Total| total.op == op && total.dtype.as_deref() == dtype;
        // There are a handful of them.
        if let Some(place) = self.totals.iter().position(same) {
            return place;
        }
        self.totals.push(Total {
            op: op.to_owned(),
            dtype: dtype.map(str::to_owned),
            calls: 0,
            own: Duration::ZERO,
            work: 0,
        });
        self.totals.len() - 1
    }

    /// A thread begins a span that takes `work` operations.
    pub fn enter(&mut self, thread: ThreadId, place: usize, work: u64, now: Duration) {
        if self.open.is_empty() {
            self.since = now;
        }
        self.open.entry(thread).or_default().push(Open {
            place,
            work,
            start: now,
            inside: Duration::ZERO,
        });
    }

    /// A thread ends its innermost span.
    pub fn exit(&mut self, thread: ThreadId, now: Duration) {
        let Some(stack) = self.open.get_mut(&thread) else {
            return;
        };
        if let Some(done) = stack.pop() {
            let took = now.saturating_sub(done.start);
            let total = &mut self.totals[done.place];
            total.calls += 1;
            total.own += took.saturating_sub(done.inside);
            total.work += done.work;
            if let Some(around) = stack.last_mut() {
                around.inside += took;
            }
        }
        if stack.is_empty() {
            self.open.remove(&thread);
            if self.open.is_empty() {
                self.covered += now.saturating_sub(self.since);
            }
        }
    }

    /// Where the time went until now. The time of open spans counts, their work does not yet.
    pub fn summary(&self, now: Duration) -> Summary {
        let mut totals = self.totals.clone();
        for stack in self.open.values() {
            let mut inner = Duration::ZERO;
            for open in stack.iter().rev() {
                let took = now.saturating_sub(open.start);
                totals[open.place].own += took.saturating_sub(open.inside + inner);
                inner = took;
            }
        }
        let going_on = match self.open.is_empty() {
            true => Duration::ZERO,
            false => now.saturating_sub(self.since),
        };
        Summary {
            totals,
            wall: now,
            rest: now.saturating_sub(self.covered + going_on),
        }
    }
}

/// Locks what no panic can leave half done.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn own(summary: &Summary) -> Vec<(&str, u64, u64)> {
        let own = |total: &Total| total.own.as_secs();
        let totals = summary.totals.iter();
        totals.map(|t| (&*t.op, t.calls, own(t))).collect()
    }

    #[test]
    fn own_time_is_without_what_is_inside() {
        let (mut ledger, me) = (Ledger::default(), std::thread::current().id());
        let [outer, inner] = ["outer", "inner"].map(|op| ledger.place(op, None));
        ledger.enter(me, outer, 0, s(1));
        for begin in [2, 5] {
            ledger.enter(me, inner, 7, s(begin));
            ledger.exit(me, s(begin + 2));
        }
        ledger.exit(me, s(10));
        let summary = ledger.summary(s(13));
        assert_eq!(own(&summary), [("outer", 1, 5), ("inner", 2, 4)]);
        assert_eq!((summary.wall, summary.rest), (s(13), s(4)));
        assert_eq!(summary.totals[1].work, 14);
    }

    #[test]
    fn what_is_cut_off_counts_as_far_as_it_got() {
        let (mut ledger, me) = (Ledger::default(), std::thread::current().id());
        let [outer, inner] = ["outer", "inner"].map(|op| ledger.place(op, None));
        ledger.enter(me, outer, 0, s(2));
        ledger.enter(me, inner, 7, s(3));
        ledger.exit(me, s(4));
        ledger.enter(me, inner, 7, s(6));
        let summary = ledger.summary(s(9));
        assert_eq!(own(&summary), [("outer", 0, 3), ("inner", 1, 4)]);
        assert_eq!((summary.rest, summary.totals[1].work), (s(2), 7));
    }

    #[test]
    fn formats_are_kept_apart() {
        let mut ledger = Ledger::default();
        let place = ledger.place("linear", Some("f32"));
        assert_ne!(ledger.place("linear", Some("int8")), place);
        assert_ne!(ledger.place("linear", None), place);
        assert_eq!(ledger.place("linear", Some("f32")), place);
    }
}
