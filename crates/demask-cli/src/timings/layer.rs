//! A subscriber that times the spans of operations.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::ledger::{Ledger, lock};

/// Enters the spans it sees into a [`Ledger`]; `clock` gives the time since the begin.
pub struct Timing<C> {
    ledger: Arc<Mutex<Ledger>>,
    clock: C,
}

/// What a span carries.
struct Entry {
    place: usize,
    work: u64,
}

/// The fields of a span.
#[derive(Default)]
struct Fields {
    op: Option<String>,
    dtype: Option<String>,
    work: u64,
}

impl<C: Fn() -> Duration> Timing<C> {
    /// Times spans with `clock`.
    pub fn new(ledger: Arc<Mutex<Ledger>>, clock: C) -> Self {
        Self { ledger, clock }
    }
}

impl<S, C> Layer<S> for Timing<C>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    C: Fn() -> Duration + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let op = fields.op.as_deref().unwrap_or(attributes.metadata().name());
        let place = lock(&self.ledger).place(op, fields.dtype.as_deref());
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Entry {
                place,
                work: fields.work,
            });
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(entry) = span.extensions().get::<Entry>() {
            let mut ledger = lock(&self.ledger);
            let thread = thread::current().id();
            ledger.enter(thread, entry.place, entry.work, (self.clock)());
        }
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        // Before the wait for others, which is no part of the work.
        let now = (self.clock)();
        lock(&self.ledger).exit(thread::current().id(), now);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "op" => self.op = Some(value.to_owned()),
            "dtype" => self.dtype = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "work" {
            self.work = value;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use demask::nn::span;
    use tracing::dispatcher::{Dispatch, with_default};
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::ledger::{Summary, Total};
    use super::*;

    /// A clock that somebody else moves, what is timed with it, and who listens.
    fn timed() -> (Arc<AtomicU64>, Arc<Mutex<Ledger>>, Dispatch) {
        let (seconds, ledger) = (Arc::<AtomicU64>::default(), Arc::default());
        let clock = seconds.clone();
        let now = move || Duration::from_secs(clock.load(Ordering::SeqCst));
        let layer = Timing::new(Arc::clone(&ledger), now);
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        (seconds, ledger, dispatch)
    }

    fn total(summary: &Summary, op: &str) -> Total {
        let mut totals = summary.totals.iter();
        totals.find(|total| total.op == op).unwrap().clone()
    }

    #[test]
    fn spans_are_timed_without_those_inside() {
        let (seconds, ledger, dispatch) = timed();
        let wait = |n| seconds.fetch_add(n, Ordering::SeqCst);
        with_default(&dispatch, || {
            wait(1);
            let _forward = span::part("forward");
            wait(2);
            for _ in 0..3 {
                let _linear = span::product("linear", "int8", 100);
                wait(4);
            }
        });
        let summary = lock(&ledger).summary(Duration::from_secs(20));
        let linear = Total {
            op: "linear".into(),
            dtype: Some("int8".into()),
            calls: 3,
            own: Duration::from_secs(12),
            work: 300,
        };
        assert_eq!(total(&summary, "linear"), linear);
        let forward = total(&summary, "forward");
        assert_eq!((forward.calls, forward.own.as_secs()), (1, 2));
        assert_eq!(summary.rest.as_secs(), 6);
    }

    #[test]
    fn each_thread_has_its_own_spans() {
        let (seconds, ledger, dispatch) = timed();
        let wait = |n| seconds.fetch_add(n, Ordering::SeqCst);
        with_default(&dispatch, || {
            let _outer = span::part("outer");
            wait(1);
            thread::scope(|scope| {
                let other = || {
                    with_default(&dispatch, || {
                        let _other = span::part("other");
                        wait(5);
                    });
                };
                scope.spawn(other).join().unwrap();
            });
            wait(1);
        });
        let summary = lock(&ledger).summary(Duration::from_secs(8));
        // Both ran at the same time, which they share: nothing is inside of what another thread does.
        assert_eq!(total(&summary, "outer").own.as_millis(), 4500);
        assert_eq!(total(&summary, "other").own.as_millis(), 2500);
        assert_eq!(summary.rest.as_secs(), 1);
    }

    #[test]
    fn a_span_costs_less_than_the_shortest_operation() {
        let begin = Instant::now();
        let layer = Timing::new(Arc::default(), move || begin.elapsed());
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layer));
        let fastest = with_default(&dispatch, || {
            let run = |_| {
                let begin = Instant::now();
                for work in 0..1000 {
                    let _span = span::product("linear", "f32", work);
                }
                begin.elapsed() / 1000
            };
            (0..20).map(run).min().unwrap()
        });
        // Less than half a microsecond on a machine that does nothing else.
        assert!(fastest < Duration::from_micros(5), "{fastest:?}");
    }
}
