//! What took how long, and what was inside what.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// The spans of a command, by operation. Moments are durations since its begin.
///
/// Every moment is shared by the threads that have a span open then, and goes to the innermost span of each: so the
/// times of all operations, and the rest, add up to the time of the command.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    totals: Vec<Total>,
    /// The open spans of each thread that has some, the innermost last.
    open: HashMap<ThreadId, Vec<Open>>,
    /// Time in which no thread had a span open.
    rest: Duration,
    /// Up to when time has been given out.
    until: Duration,
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
    /// Their share of the time of the command, without that of the spans inside.
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
        self.advance(now);
        let stack = self.open.entry(thread).or_default();
        stack.push(Open { place, work });
    }

    /// A thread ends its innermost span.
    pub fn exit(&mut self, thread: ThreadId, now: Duration) {
        self.advance(now);
        let Some(stack) = self.open.get_mut(&thread) else {
            return;
        };
        if let Some(done) = stack.pop() {
            let total = &mut self.totals[done.place];
            total.calls += 1;
            total.work += done.work;
        }
        if stack.is_empty() {
            self.open.remove(&thread);
        }
    }

    /// Gives out the time up to `now`. Threads look at the clock before they come here, so a moment may lie before one
    /// that has been.
    fn advance(&mut self, now: Duration) {
        let time = now.saturating_sub(self.until);
        self.until += time;
        let Ok(threads @ 1..) = u32::try_from(self.open.len()) else {
            self.rest += time;
            return;
        };
        for open in self.open.values().filter_map(|stack| stack.last()) {
            self.totals[open.place].own += time / threads;
        }
    }

    /// Where the time went until now. The time of open spans counts, their work does not yet.
    pub fn summary(&self, now: Duration) -> Summary {
        let mut then = self.clone();
        then.advance(now);
        Summary {
            totals: then.totals,
            wall: now,
            rest: then.rest,
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
    fn threads_share_the_time_they_have_in_common() {
        let mut ledger = Ledger::default();
        let me = std::thread::current().id();
        let other = std::thread::spawn(|| std::thread::current().id());
        let other = other.join().unwrap();
        let [one, two] = ["one", "two"].map(|op| ledger.place(op, None));
        ledger.enter(me, one, 0, s(0));
        ledger.enter(other, two, 0, s(4));
        ledger.exit(other, s(10));
        // It looked at the clock before the other did.
        ledger.exit(me, s(9));
        let summary = ledger.summary(s(12));
        assert_eq!(own(&summary), [("one", 1, 7), ("two", 1, 3)]);
        assert_eq!(summary.rest, s(2));
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
