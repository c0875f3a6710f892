//! The analytic step of score entropy models (SEDD 2310.16834, section 4.3): the staggered score times the transition.
//!
//! With `d = sigma(t) - sigma(s)` and scores `s_y` (1 on the present token), the staggered score is
//! - absorbing: `e^d s_y`, plus `(1 - e^d) sum_y s_y` on the mask;
//! - uniform: `s_y/e + (e-1)/(V e) sum_y s_y` with `e = e^{-d}`.
//!
//! Multiplied by the row of `exp(d Q)^T` of the present token, cut off below zero, it is the distribution at `s`. The last
//! step goes from `sigma(t)` to 0 and leaves the mask out.

use std::sync::Arc;

use super::{Cells, Reads, ReverseStep, Rows};
use crate::sampling::categorical;
use crate::schedule::Schedule;
use crate::{DiffusionError, Result};

/// Which transition rates a score belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graph {
    /// Every token falls into the mask.
    Absorbing {
        /// The mask id.
        mask: u32,
    },
    /// Every token becomes every other at rate `1/V`.
    Uniform,
}

impl Graph {
    /// An error when the mask is outside rows of `width`.
    pub(crate) fn check(self, width: usize) -> Result<()> {
        match self {
            Self::Absorbing { mask } if mask as usize >= width => Err(DiffusionError::shape(
                "rows",
                "a column for the mask",
                width,
            )),
            _ => Ok(()),
        }
    }

    /// Whether a cell with this token cannot change: a written one under the absorbing graph.
    pub(crate) fn settled(self, id: u32) -> bool {
        matches!(self, Self::Absorbing { mask } if mask != id)
    }
}

/// Log-scores to scores, in place, the present token's being 1.
pub(crate) fn scores(row: &mut [f64], present: u32) {
    row.iter_mut().for_each(|x| *x = x.exp());
    row[present as usize] = 1.0;
}

/// The staggered score over `dsigma`, in place.
pub fn staggered_score(score: &mut [f64], graph: Graph, dsigma: f64) {
    let sum: f64 = score.iter().sum();
    let up = dsigma.exp();
    match graph {
        Graph::Absorbing { mask } => {
            score.iter_mut().for_each(|s| *s *= up);
            score[mask as usize] += (1.0 - up) * sum;
        }
        Graph::Uniform => {
            let shift = (1.0 - up) / score.len() as f64 * sum;
            score.iter_mut().for_each(|s| *s = *s * up + shift);
        }
    }
}

/// The row of the transposed transition `exp(dsigma Q)` of the present token: entry `y` is the chance that noise takes
/// `y` to `present`.
pub fn transposed_transition(width: usize, graph: Graph, present: u32, dsigma: f64) -> Vec<f64> {
    let stay = (-dsigma).exp();
    let moved = -(-dsigma).exp_m1();
    match graph {
        Graph::Absorbing { mask } => {
            let other = if present == mask { moved } else { 0.0 };
            let mut row = vec![other; width];
            row[present as usize] += stay;
            row
        }
        Graph::Uniform => {
            let other = moved / width as f64;
            let mut row = vec![other; width];
            row[present as usize] = 1.0 - other * (width as f64 - 1.0);
            row
        }
    }
}

/// The analytic step of a graph under a schedule.
#[derive(Clone, Debug)]
pub struct Analytic {
    graph: Graph,
    schedule: Arc<dyn Schedule>,
}

impl Analytic {
    /// A step on `graph`.
    pub fn new(graph: Graph, schedule: Arc<dyn Schedule>) -> Self {
        Self { graph, schedule }
    }

    /// The weights of one cell over `dsigma`, from its log-scores, in place.
    pub fn weights(&self, row: &mut [f64], present: u32, dsigma: f64) {
        scores(row, present);
        staggered_score(row, self.graph, dsigma);
        let transition = transposed_transition(row.len(), self.graph, present, dsigma);
        for (weight, chance) in row.iter_mut().zip(transition) {
            *weight = (*weight * chance).max(0.0);
        }
    }

    fn over(&self, rows: Rows<'_>, cells: &Cells<'_>, dsigma: f64, last: bool) -> Result<Vec<u32>> {
        cells.check(&rows)?;
        self.graph.check(rows.width())?;
        let mut row = Vec::new();
        let draw = |(i, &id): (usize, &u32)| {
            if self.graph.settled(id) {
                return id;
            }
            rows.read(i, &mut row);
            self.weights(&mut row, id, dsigma);
            if let (true, Graph::Absorbing { mask }) = (last, self.graph) {
                row[mask as usize] = 0.0;
            }
            categorical(&row, cells.node(i).uniform()) as u32
        };
        Ok(cells.ids.iter().enumerate().map(draw).collect())
    }
}

impl ReverseStep for Analytic {
    fn name(&self) -> &'static str {
        "analytic"
    }

    fn reads(&self) -> Reads {
        Reads::LogScores
    }

    fn step(&self, rows: Rows<'_>, cells: &Cells<'_>, s: f64, t: f64) -> Result<Vec<u32>> {
        let dsigma = self.schedule.sigma(t) - self.schedule.sigma(s);
        self.over(rows, cells, dsigma, false)
    }

    fn last(&self, rows: Rows<'_>, cells: &Cells<'_>, t: f64) -> Result<Vec<u32>> {
        self.over(rows, cells, self.schedule.sigma(t), true)
    }
}
