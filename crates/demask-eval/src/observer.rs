//! Watching an evaluation, and stopping it.

use std::ops::ControlFlow;

use crate::EvalError;

/// How far one metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done: a metric's name, `writing` or `clustering`.
    pub stage: &'static str,
    /// Units done.
    pub done: usize,
    /// Units in all.
    pub total: usize,
}

/// Is told of progress and may ask to stop.
pub trait EvalObserver {
    /// Called after every batch. [`ControlFlow::Break`] ends the evaluation with
    /// [`EvalError::Stopped`].
    fn progress(&mut self, progress: Progress) -> ControlFlow<()>;
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl EvalObserver for Silent {
    fn progress(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(Progress) -> ControlFlow<()>> EvalObserver for F {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self(progress)
    }
}

/// Tells the observer and turns its wish to stop into an error.
pub(crate) fn tell(
    observer: &mut dyn EvalObserver,
    stage: &'static str,
    done: usize,
    total: usize,
) -> Result<(), EvalError> {
    match observer.progress(Progress { stage, done, total }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(EvalError::Stopped),
    }
}
