//! What the masked objectives share: draw times, hide tokens, ask the hidden cells.

use std::sync::Arc;

use super::{Corrupted, Normalise, Row, Rows, Vocabulary, check_batch};
use crate::process::{Absorbing, Discrete};
use crate::schedule::{Moment, Schedule, TimeSampling};
use crate::{Ids, Noise, Result, Time};

/// The stream that times are drawn from.
pub(crate) const TIMES: u64 = 0;
/// The stream that decides which cells are hit.
pub(crate) const CELLS: u64 = 1;
/// The stream of everything else an objective draws.
pub(crate) const OTHER: u64 = 2;

/// An absorbing process with a schedule and a way to draw times.
#[derive(Clone, Debug)]
pub(crate) struct Masking {
    pub schedule: Arc<dyn Schedule>,
    pub process: Absorbing,
    pub time: TimeSampling,
}

impl Masking {
    pub fn new(
        schedule: Arc<dyn Schedule>,
        time: TimeSampling,
        vocabulary: Vocabulary,
    ) -> Result<Self> {
        time.check()?;
        let process = Absorbing::new(vocabulary.size, vocabulary.need_mask()?)?;
        Ok(Self {
            schedule,
            process,
            time,
        })
    }

    pub fn mask(&self) -> u32 {
        self.process.mask()
    }

    /// Whether the summed loss of all loss cells bounds the likelihood: no noise level is left out, and the weights
    /// hold no sequence's length.
    pub fn bounds(&self, normalise: Normalise) -> bool {
        self.time.spans(&*self.schedule) && normalise != Normalise::Sequence
    }

    /// Checks the batch and draws one moment for each sequence.
    pub fn moments(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Vec<Moment>> {
        check_batch(x0, loss_cells, self.process.vocab(), Some(self.mask()))?;
        Ok(self
            .time
            .sample(&*self.schedule, x0.batch(), &noise.child(TIMES)))
    }

    /// Hides cells of each sequence at its moment and asks the hidden ones, weighted by `weight(moment of the row)`.
    pub fn hide(
        &self,
        x0: &Ids,
        loss_cells: &[bool],
        noise: &Noise,
        moments: &[Moment],
        weight: impl Fn(&Moment) -> f64,
    ) -> Result<Corrupted> {
        let p = Time::per_sequence(moments.iter().map(|m| m.p).collect());
        let noisy = self
            .process
            .corrupt_ids(x0, &p, loss_cells, &noise.child(CELLS))?;
        let rows = masked_rows(x0, &noisy, loss_cells, self.mask(), |b, _| {
            (moments[b].t, weight(&moments[b]))
        });
        let time = Time::per_sequence(moments.iter().map(|m| m.t).collect());
        let mut corrupted = rows.finish(noisy, time, count(loss_cells));
        corrupted.forbidden = Some(self.mask());
        Ok(corrupted)
    }
}

/// Number of loss cells.
pub(crate) fn count(loss_cells: &[bool]) -> usize {
    loss_cells.iter().filter(|&&cell| cell).count()
}

/// The rows of all loss cells that hold the mask, with `(time, weight)` of `(row, position)`.
pub(crate) fn masked_rows(
    x0: &Ids,
    noisy: &Ids,
    loss_cells: &[bool],
    mask: u32,
    moment: impl Fn(usize, usize) -> (f64, f64),
) -> Rows {
    let mut rows = Rows::default();
    for (b, l, target) in x0.iter() {
        let cell = b * x0.length() + l;
        let present = noisy.get(b, l);
        if loss_cells[cell] && present == mask {
            let (time, weight) = moment(b, l);
            let asked = b * noisy.length() + l;
            rows.push(Row {
                asked,
                cell,
                target,
                present,
                time,
                weight,
            });
        }
    }
    rows
}

/// The time input of a network that has one: one number a sequence.
pub(crate) fn condition(wanted: bool, moments: &[Moment]) -> Option<Time> {
    wanted.then(|| Time::per_sequence(moments.iter().map(|m| m.condition).collect()))
}
