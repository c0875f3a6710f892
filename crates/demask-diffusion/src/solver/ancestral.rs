//! Ancestral sampling: draw from `q(x_s | x_t, x_0)` averaged over the prediction.
//!
//! For the absorbing process the weights are `p(x_0) (p_t - p_s)` and `p_s` on the mask (MDLM 2406.07524, `ddpm`), a
//! written cell stays; for the uniform one UDLM's posterior. The published sampler draws by a race of exponentials,
//! `argmax(w / (1e-10 - ln(u + 1e-10)))`, in which every token reads a uniform; here one uniform a cell inverts the
//! cumulative sum in `f64`: the same distribution without the two guards, at a fraction of the random numbers.

use std::sync::Arc;

use super::{Cells, Reads, ReverseStep, Rows};
use crate::process::Discrete;
use crate::sampling::{argmax, categorical};
use crate::schedule::Schedule;
use crate::{DiffusionError, Result};

/// The ancestral step of a process under a schedule.
#[derive(Clone, Debug)]
pub struct Ancestral {
    process: Arc<dyn Discrete>,
    schedule: Arc<dyn Schedule>,
    mask: Option<u32>,
}

impl Ancestral {
    /// A step of any discrete process. `mask` is the id that the last step must not leave, `None` under uniform noise.
    pub fn new(process: Arc<dyn Discrete>, schedule: Arc<dyn Schedule>, mask: Option<u32>) -> Self {
        Self {
            process,
            schedule,
            mask,
        }
    }

    fn check(&self, rows: &Rows<'_>, cells: &Cells<'_>) -> Result<()> {
        if rows.width() != self.process.vocab() {
            let width = self.process.vocab();
            return Err(DiffusionError::shape("row width", width, rows.width()));
        }
        cells.check(rows)
    }
}

impl ReverseStep for Ancestral {
    fn name(&self) -> &'static str {
        "ancestral"
    }

    fn reads(&self) -> Reads {
        Reads::Probabilities
    }

    fn step(&self, rows: Rows<'_>, cells: &Cells<'_>, s: f64, t: f64) -> Result<Vec<u32>> {
        self.check(&rows, cells)?;
        let (p_s, p_t) = (self.schedule.p(s), self.schedule.p(t));
        let (mut row, mut out) = (Vec::new(), vec![0.0; rows.width()]);
        let draw = |(i, &id): (usize, &u32)| {
            if self.mask.is_some_and(|mask| id != mask) {
                return id;
            }
            rows.read(i, &mut row);
            self.process.posterior(&row, id, p_s, p_t, &mut out);
            categorical(&out, cells.node(i).uniform()) as u32
        };
        Ok(cells.ids.iter().enumerate().map(draw).collect())
    }

    /// MDLM's noise removal: the most likely token in every masked cell; under uniform noise in every cell.
    fn last(&self, rows: Rows<'_>, cells: &Cells<'_>, _t: f64) -> Result<Vec<u32>> {
        self.check(&rows, cells)?;
        let mut row = Vec::new();
        let pick = |(i, &id): (usize, &u32)| {
            if self.mask.is_some_and(|mask| id != mask) {
                return id;
            }
            rows.read(i, &mut row);
            if let Some(entry) = self.mask.and_then(|mask| row.get_mut(mask as usize)) {
                *entry = f64::NEG_INFINITY;
            }
            argmax(&row) as u32
        };
        Ok(cells.ids.iter().enumerate().map(pick).collect())
    }
}
