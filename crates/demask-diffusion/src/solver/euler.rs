//! The Euler step of score entropy models (SEDD 2310.16834, section 4.3): `onehot(x_t) + (t-s) sigma'(t) R`, with the
//! reverse rates `R_y = s_y Q(y -> x_t)` off the present token and minus their sum on it; cut off below zero.

use super::analytic::{Graph, scores};

/// The Euler step of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Euler {
    graph: Graph,
}

impl Euler {
    /// A step on `graph`.
    pub fn new(graph: Graph) -> Self {
        Self { graph }
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
