//! Where the time goes: a span around every operation, for whoever listens.
//!
//! Nothing here knows a clock. A `tracing` subscriber that times the spans of [`TARGET`] learns the name of each
//! operation (`op`), the number format of its products (`dtype`) and how many operations they take (`work`);
//! without one a span costs a load and a branch.

use tracing::span::EnteredSpan;
use tracing::trace_span;

/// Target of the spans.
pub const TARGET: &str = "demask::op";

/// A part of a run. Its own time is its time without that of the spans inside.
pub fn part(op: &'static str) -> EnteredSpan {
    trace_span!(target: TARGET, "op", op).entered()
}

/// An operation that takes `work` floating-point or integer operations in `dtype`.
pub fn product(op: &'static str, dtype: &'static str, work: usize) -> EnteredSpan {
    trace_span!(target: TARGET, "op", op, dtype, work = work as u64).entered()
}
