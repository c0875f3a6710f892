//! The analytic step of score entropy models (SEDD 2310.16834, section 4.3): the staggered score times the transition.
//!
//! With `d = sigma(t) - sigma(s)` and scores `s_y` (1 on the present token), the staggered score is
//! - absorbing: `e^d s_y`, plus `(1 - e^d) sum_y s_y` on the mask;
//! - uniform: `s_y/e + (e-1)/(V e) sum_y s_y` with `e = e^{-d}`.
//!
//! Multiplied by the row of `exp(d Q)^T` of the present token, cut off below zero, it is the distribution at `s`. The last
//! step goes from `sigma(t)` to 0 and leaves the mask out.

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

/// The analytic step of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Analytic {
    graph: Graph,
}

impl Analytic {
    /// A step on `graph`.
    pub fn new(graph: Graph) -> Self {
        Self { graph }
    }

    /// The weights of one cell over `dsigma`, from its log-scores, in place. The mask must be a column of the row.
    pub fn weights(&self, row: &mut [f64], present: u32, dsigma: f64) {
        scores(row, present);
        staggered_score(row, self.graph, dsigma);
        let transition = transposed_transition(row.len(), self.graph, present, dsigma);
        for (weight, chance) in row.iter_mut().zip(transition) {
            *weight = (*weight * chance).max(0.0);
        }
    }
}
