//! Reverse steps: one step back in time, from a prediction, on the host in `f64`.
//!
//! | name | reads | from |
//! |---|---|---|
//! | [`ancestral`] | `p(x_0)` | D3PM 2107.03006, MDLM 2406.07524 (`ddpm`), UDLM 2412.10193 |
//! | [`ancestral_cached`] | — (when a forward pass can be spared) | MDLM 2406.07524 (`ddpm_cache`) |
//! | [`analytic`] | log-scores | SEDD 2310.16834, section 4.3 (Tweedie tau-leaping) |
//! | [`euler`] | log-scores | SEDD 2310.16834, section 4.3 |
//! | [`first_hitting`] | `p(x_0)` | 2409.02908, BD3-LM 2503.09573 |
//! | [`block`] | `p(x_0)` | BD3-LM 2503.09573 (nucleus, one block) |
//!
//! A step works on the cells of **one sample** at one step. Its noise is the node of (sample, step); cell `i` draws from
//! the child of its position, so a cell's draw depends on nothing but (sample, step, position).

use std::fmt::Debug;

use crate::{DiffusionError, Noise, Result};

pub mod analytic;
pub mod ancestral;
pub mod ancestral_cached;
pub mod block;
pub mod euler;
pub mod first_hitting;

pub use analytic::Analytic;
pub use ancestral::Ancestral;
pub use ancestral_cached::ForwardCache;
pub use block::BlockAncestral;
pub use euler::Euler;
pub use first_hitting::FirstHitting;

/// What the rows that a reverse step is given mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Distributions over `x_0`.
    Probabilities,
    /// Log-scores `ln p_t(y)/p_t(x_t)`; the entry of the present token is ignored (taken as 0).
    LogScores,
}

#[derive(Clone, Copy, Debug)]
enum Data<'a> {
    Single(&'a [f32]),
    Double(&'a [f64]),
}

/// Rows `[cells, V]` of `f32` or `f64`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    data: Data<'a>,
    cells: usize,
    width: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `width` from `f32` data. An error when they do not divide.
    pub fn f32(data: &'a [f32], width: usize) -> Result<Self> {
        Ok(Self {
            cells: cells(data.len(), width)?,
            data: Data::Single(data),
            width,
        })
    }

    /// Rows of `width` from `f64` data. An error when they do not divide.
    pub fn f64(data: &'a [f64], width: usize) -> Result<Self> {
        Ok(Self {
            cells: cells(data.len(), width)?,
            data: Data::Double(data),
            width,
        })
    }

    /// Number of rows.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Copies row `i` into `out`, which is made `width` long. Panics when `i` is outside.
    pub fn read(&self, i: usize, out: &mut Vec<f64>) {
        let range = i * self.width..(i + 1) * self.width;
        out.clear();
        match self.data {
            Data::Single(data) => out.extend(data[range].iter().map(|&x| f64::from(x))),
            Data::Double(data) => out.extend_from_slice(&data[range]),
        }
    }
}

fn cells(len: usize, width: usize) -> Result<usize> {
    if width == 0 || !len.is_multiple_of(width) {
        return Err(DiffusionError::shape(
            "rows",
            format!("a multiple of {width} values"),
            len,
        ));
    }
    Ok(len / width)
}

/// The cells of one sample that a step may change.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    /// The token in each cell now.
    pub ids: &'a [u32],
    /// The position of each cell in its sequence: names its stream.
    pub positions: &'a [u32],
    /// The node of (sample, step).
    pub noise: Noise,
}

impl Cells<'_> {
    /// The node of cell `i`.
    pub fn node(&self, i: usize) -> Noise {
        self.noise.child(u64::from(self.positions[i]))
    }

    /// An error unless there is one row, one id and one position for each cell, and all ids are inside the rows.
    pub fn check(&self, rows: &Rows<'_>) -> Result<()> {
        if self.ids.len() != rows.cells() || self.positions.len() != rows.cells() {
            let found = (self.ids.len(), self.positions.len());
            return Err(DiffusionError::shape(
                "cells",
                (rows.cells(), rows.cells()),
                found,
            ));
        }
        match self.ids.iter().find(|&&id| id as usize >= rows.width()) {
            None => Ok(()),
            Some(&id) => Err(DiffusionError::Token {
                id,
                place: format!("in a cell whose row has {} values", rows.width()),
                reason: "lies outside the row",
            }),
        }
    }
}

/// One step back in time.
pub trait ReverseStep: Debug + Send + Sync {
    /// The name in tables and messages.
    fn name(&self) -> &'static str;

    /// What the rows must be.
    fn reads(&self) -> Reads;

    /// The tokens of the cells at time `s`, from those at `t > s`. `rows` is `[cells, V]`, one row a cell.
    fn step(&self, rows: Rows<'_>, cells: &Cells<'_>, s: f64, t: f64) -> Result<Vec<u32>>;

    /// The last step, from `t` to clean text: no cell is left masked.
    fn last(&self, rows: Rows<'_>, cells: &Cells<'_>, t: f64) -> Result<Vec<u32>>;
}

/// `steps + 1` times from 1 down to `end`, evenly spaced: MDLM's grid has `end = 1e-5`.
pub fn time_grid(steps: usize, end: f64) -> Vec<f64> {
    let steps = steps.max(1);
    (0..=steps)
        .map(|i| 1.0 - (1.0 - end) * i as f64 / steps as f64)
        .collect()
}

/// Log-scores of a masked cell from a distribution over `x_0`: `s_y = p(y)/expm1(sigma)`, 1 on the mask (SEDD,
/// equation 27: the ratio of a masked process). In place.
pub fn absorbing_log_scores(row: &mut [f64], mask: u32, sigma: f64) {
    let offset = sigma.exp_m1().ln();
    for (y, value) in row.iter_mut().enumerate() {
        *value = if y == mask as usize {
            0.0
        } else {
            value.ln() - offset
        };
    }
}

/// A distribution over `x_0` from the log-scores of a masked cell, in place: scores without the mask, scaled to one.
pub fn absorbing_probabilities(row: &mut [f64], mask: u32) {
    if let Some(entry) = row.get_mut(mask as usize) {
        *entry = f64::NEG_INFINITY;
    }
    let probabilities = crate::sampling::softmax(row, 1.0);
    row.copy_from_slice(&probabilities);
}

#[cfg(test)]
mod tests;
