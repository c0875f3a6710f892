//! The step inside a block of BD3-LM (2503.09573, semi-autoregressive sampler): `p(x_0)` cut to its nucleus, then weights
//! `p(x_0) (1 - p_s/p_t)` and `p_s/p_t` on the mask, in `f64`. Its grid is `linspace(1, 0, T)` with step `1/T`.

use std::sync::Arc;

use super::{Ancestral, Cells, Reads, ReverseStep, Rows};
use crate::Result;
use crate::process::Absorbing;
use crate::sampling::{Crossing, keep_probabilities, top_p};
use crate::schedule::Schedule;

/// The ancestral step with a nucleus.
#[derive(Clone, Debug)]
pub struct BlockAncestral {
    inner: Ancestral,
    mask: u32,
    top_p: f64,
}

impl BlockAncestral {
    /// A step on `vocab` tokens that draws from the nucleus of mass `top_p` (0.9 in BD3-LM), the crossing token dropped.
    pub fn new(schedule: Arc<dyn Schedule>, vocab: usize, mask: u32, top_p: f64) -> Result<Self> {
        let process = Arc::new(Absorbing::new(vocab, mask)?);
        Ok(Self {
            inner: Ancestral::new(process, schedule, Some(mask)),
            mask,
            top_p,
        })
    }

    /// The rows with everything outside the nucleus, and the mask, taken out.
    fn nucleus(&self, rows: Rows<'_>) -> Vec<f64> {
        let mut all = Vec::with_capacity(rows.cells() * rows.width());
        let mut row = Vec::new();
        for i in 0..rows.cells() {
            rows.read(i, &mut row);
            if let Some(entry) = row.get_mut(self.mask as usize) {
                *entry = 0.0;
            }
            let keep = top_p(&row, self.top_p, Crossing::Drop);
            keep_probabilities(&mut row, &keep);
            all.extend_from_slice(&row);
        }
        all
    }
}

impl ReverseStep for BlockAncestral {
    fn name(&self) -> &'static str {
        "block_ancestral"
    }

    fn reads(&self) -> Reads {
        Reads::Probabilities
    }

    fn step(&self, rows: Rows<'_>, cells: &Cells<'_>, s: f64, t: f64) -> Result<Vec<u32>> {
        let all = self.nucleus(rows);
        self.inner.step(Rows::f64(&all, rows.width())?, cells, s, t)
    }

    fn last(&self, rows: Rows<'_>, cells: &Cells<'_>, t: f64) -> Result<Vec<u32>> {
        self.inner.last(rows, cells, t)
    }
}
