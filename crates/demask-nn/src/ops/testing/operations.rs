//! Which operations take place.

use std::sync::{Arc, LazyLock, Mutex};

use burn::tensor::Tensor;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use super::Leaves;
use crate::span;

/// The names of the operations on the way back through `f` where only the inputs of these numbers are tracked, in the
/// order in which they begin.
pub fn operations_back<const D: usize>(
    tracked: &[usize],
    f: impl Fn(&mut Leaves) -> Tensor<D>,
) -> Vec<String> {
    LazyLock::force(&ANOTHER);
    let mut leaves = Leaves::tracked(tracked.to_vec());
    let loss = f(&mut leaves).sum();
    let names = Arc::default();
    tracing::subscriber::with_default(Listener(Arc::clone(&names)), || loss.backward());
    let names: &Mutex<Vec<String>> = &names;
    std::mem::take(&mut names.lock().unwrap())
}

/// While there is a single listener, `tracing` asks the thread that reaches a span first whether anybody listens, and
/// that of another test says no for all of them.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Listener(Arc::default())));

/// Notes the names of spans.
struct Listener(Arc<Mutex<Vec<String>>>);

impl Visit for &Listener {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "op" {
            self.0.lock().unwrap().push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == span::TARGET
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut &*self);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
