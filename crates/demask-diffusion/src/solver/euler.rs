//! The Euler step of score entropy models (SEDD 2310.16834, section 4.3): `onehot(x_t) + (t-s) sigma'(t) R`, with the
//! reverse rates `R_y = s_y Q(y -> x_t)` off the present token and minus their sum on it; cut off below zero.

use std::sync::Arc;

use super::analytic::{Graph, scores};
use super::{Analytic, Cells, Reads, ReverseStep, Rows};
use crate::Result;
use crate::sampling::categorical;
use crate::schedule::Schedule;

/// The Euler step of a graph under a schedule.
#[derive(Clone, Debug)]
pub struct Euler {
    graph: Graph,
    schedule: Arc<dyn Schedule>,
}

impl Euler {
    /// A step on `graph`.
    pub fn new(graph: Graph, schedule: Arc<dyn Schedule>) -> Self {
        Self { graph, schedule }
    }

    /// The weights of one cell from its log-scores, in place; `rate` is `(t-s) sigma'(t)`.
    pub fn weights(&self, row: &mut [f64], present: u32, rate: f64) {
        let width = row.len() as f64;
        scores(row, present);
        let unit = match self.graph {
            Graph::Absorbing { mask } if mask == present => rate,
            Graph::Absorbing { .. } => 0.0,
            Graph::Uniform => rate / width,
        };
        row.iter_mut().for_each(|s| *s *= unit);
        row[present as usize] = 0.0;
        let leaving: f64 = row.iter().sum();
        row[present as usize] = (1.0 - leaving).max(0.0);
    }
}

impl ReverseStep for Euler {
    fn name(&self) -> &'static str {
        "euler"
    }

    fn reads(&self) -> Reads {
        Reads::LogScores
    }

    fn step(&self, rows: Rows<'_>, cells: &Cells<'_>, s: f64, t: f64) -> Result<Vec<u32>> {
        cells.check(&rows)?;
        self.graph.check(rows.width())?;
        let rate = (t - s) * self.schedule.sigma_rate(t);
        let mut row = Vec::new();
        let draw = |(i, &id): (usize, &u32)| {
            if self.graph.settled(id) {
                return id;
            }
            rows.read(i, &mut row);
            self.weights(&mut row, id, rate);
            categorical(&row, cells.node(i).uniform()) as u32
        };
        Ok(cells.ids.iter().enumerate().map(draw).collect())
    }

    /// SEDD's denoiser, which is analytic whatever the step was.
    fn last(&self, rows: Rows<'_>, cells: &Cells<'_>, t: f64) -> Result<Vec<u32>> {
        Analytic::new(self.graph, self.schedule.clone()).last(rows, cells, t)
    }
}
