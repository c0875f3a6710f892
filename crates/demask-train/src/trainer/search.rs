//! The variance search while training.

use std::sync::Arc;

use demask_diffusion::objective::bd3::Bd3Config;
use demask_diffusion::objective::variance::{VarianceSearch, Window};
use demask_diffusion::{Noise, Objective, ObjectiveConfig, Vocabulary};
use demask_nn::Transformer;

use super::batch_loss;
use crate::data::Row;
use crate::recipe::SearchConfig;
use crate::{Recipe, TrainError};

/// The objective in every candidate window.
pub(super) struct Search {
    pub config: SearchConfig,
    candidates: Vec<(Window, Arc<dyn Objective>)>,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub window: Window,
    /// Variance of the batch means in it.
    pub variance: f64,
}

impl Search {
    /// The search of a recipe that has one, ready to run on `rows` validation rows.
    pub fn new(
        recipe: &Recipe,
        vocabulary: Vocabulary,
        rows: usize,
    ) -> Result<Option<Self>, TrainError> {
        let Some(config) = &recipe.search else {
            return Ok(None);
        };
        let bd3 = config.validate(&recipe.objective)?;
        if rows == 0 {
            return Err(TrainError::recipe(
                "[search] measures on validation rows, and there are none: raise data.valid_share",
            ));
        }
        let mut candidates = Vec::new();
        for window in config.candidates() {
            let objective = within(bd3, window, vocabulary).map_err(|e| {
                let Window { min, max } = window;
                TrainError::recipe(format!("search.windows [{min}, {max}]: {e}"))
            })?;
            candidates.push((window, objective));
        }
        Ok(Some(Self {
            config: config.clone(),
            candidates,
        }))
    }

    /// The candidate that an earlier turn found; a window from a file may be off in its last bit.
    pub fn candidate(&self, window: Window) -> Option<(Window, Arc<dyn Objective>)> {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let same = |w: &Window| near(w.min, window.min) && near(w.max, window.max);
        let found = self.candidates.iter().find(|(w, _)| same(w));
        found.map(|(w, objective)| (*w, objective.clone()))
    }

    /// Measures all candidates on `rows`, `batch` at a time, under the same noise for each.
    pub fn turn(
        &self,
        network: &Transformer,
        rows: &[Row],
        batch: usize,
        noise: &Noise,
    ) -> Result<Option<Found>, TrainError> {
        let windows = self.candidates.iter().map(|(window, _)| *window).collect();
        let mut search = VarianceSearch::new(windows);
        for number in 0..self.config.batches {
            let row = |i: usize| rows[(number * batch + i) % rows.len()].clone();
            let rows: Vec<Row> = (0..batch).map(row).collect();
            let node = noise.child(number as u64);
            for (index, (_, objective)) in self.candidates.iter().enumerate() {
                let mean = batch_loss(network, objective.as_ref(), &rows, &node)?;
                search.observe(index, mean);
            }
        }
        let Some(window) = search.best() else {
            return Ok(None);
        };
        let index = search.windows().iter().position(|w| *w == window);
        let variance = index.and_then(|index| search.variance(index));
        Ok(variance.map(|variance| Found { window, variance }))
    }
}

fn within(
    bd3: &Bd3Config,
    window: Window,
    vocabulary: Vocabulary,
) -> Result<Arc<dyn Objective>, demask_diffusion::DiffusionError> {
    let mut bd3 = bd3.clone();
    (bd3.time.min, bd3.time.max) = (window.min, window.max);
    ObjectiveConfig::Bd3(bd3).build(vocabulary)
}
