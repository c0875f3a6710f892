//! First hitting (Zheng et al. 2409.02908; BD3-LM 2503.09573): jump straight to the time of the next reveal.
//!
//! With `m` cells masked the next reveal happens at `p := p u^(1/m)`, in a uniformly chosen masked cell: exactly `m`
//! forward passes. BD3-LM writes it as `t := t u^(1/m)`, which is the same where `p = t`; other schedules go through
//! `p`. The drawn time matters only to a network with time input.

use std::sync::Arc;

use super::analytic::Graph;
use super::{Cells, Reads, ReverseStep, Rows};
use crate::sampling::{Crossing, argmax, categorical, keep_probabilities, top_p};
use crate::schedule::Schedule;
use crate::{Noise, Result};

/// The label of the streams that belong to a whole step and not to a position.
const STEP: u64 = u64::MAX;

/// The first-hitting step.
#[derive(Clone, Debug)]
pub struct FirstHitting {
    schedule: Arc<dyn Schedule>,
    mask: u32,
    top_p: f64,
}

impl FirstHitting {
    /// A step that draws from the nucleus of mass `top_p` (1 for all), the crossing token dropped as in BD3-LM.
    pub fn new(schedule: Arc<dyn Schedule>, mask: u32, top_p: f64) -> Self {
        Self {
            schedule,
            mask,
            top_p,
        }
    }

    /// The time of the next reveal, from time `t` with `masked` cells left. `noise` is the node of (sample, step).
    pub fn next_time(&self, t: f64, masked: usize, noise: &Noise) -> f64 {
        let u = noise.child(STEP).child(0).uniform();
        self.schedule
            .time_at(self.schedule.p(t) * u.powf(1.0 / masked.max(1) as f64))
    }

    /// Which of `masked` cells is revealed. `noise` is the node of (sample, step).
    pub fn choose(&self, masked: usize, noise: &Noise) -> usize {
        noise.child(STEP).child(1).below(masked)
    }
}

impl ReverseStep for FirstHitting {
    fn name(&self) -> &'static str {
        "first_hitting"
    }

    fn reads(&self) -> Reads {
        Reads::Probabilities
    }

    /// Reveals one masked cell; the times play no part.
    fn step(&self, rows: Rows<'_>, cells: &Cells<'_>, _s: f64, _t: f64) -> Result<Vec<u32>> {
        Graph::Absorbing { mask: self.mask }.check(rows.width())?;
        cells.check(&rows)?;
        let mut ids = cells.ids.to_vec();
        let masked: Vec<usize> = (0..ids.len()).filter(|&i| ids[i] == self.mask).collect();
        if masked.is_empty() {
            return Ok(ids);
        }
        let i = masked[self.choose(masked.len(), &cells.noise)];
        let mut row = Vec::new();
        rows.read(i, &mut row);
        row[self.mask as usize] = 0.0;
        let keep = top_p(&row, self.top_p, Crossing::Drop);
        keep_probabilities(&mut row, &keep);
        ids[i] = categorical(&row, cells.node(i).uniform()) as u32;
        Ok(ids)
    }

    /// The most likely token in every cell still masked.
    fn last(&self, rows: Rows<'_>, cells: &Cells<'_>, _t: f64) -> Result<Vec<u32>> {
        Graph::Absorbing { mask: self.mask }.check(rows.width())?;
        cells.check(&rows)?;
        let mut row = Vec::new();
        let pick = |(i, &id): (usize, &u32)| {
            if id != self.mask {
                return id;
            }
            rows.read(i, &mut row);
            row[self.mask as usize] = f64::NEG_INFINITY;
            argmax(&row) as u32
        };
        Ok(cells.ids.iter().enumerate().map(pick).collect())
    }
}
