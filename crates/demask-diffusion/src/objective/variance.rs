//! The search for a clipped schedule (BD3-LM 2503.09573, section 5.2).
//!
//! At every validation each candidate window trains nothing but has its bound measured on the same batches; the window
//! whose batch means vary least is used until the next validation.
//!
//! Reading of the spec: the variance of the estimator that training uses, over batches. The published trainer sums over
//! batches the variance of the means of a batch's *blocks*, which also counts how blocks differ from each other.

use serde::{Deserialize, Serialize};

/// A window `[min, max]` of times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Smallest time.
    pub min: f64,
    /// Largest time.
    pub max: f64,
}

/// The published candidates: widths 0.5, 0.6, 0.7, 0.8, 0.9 at offsets in steps of 0.05, ends held at or above 1e-3,
/// and the unclipped `(1e-3, 1)`.
pub fn candidates() -> Vec<Window> {
    let mut windows = vec![Window {
        min: 1e-3,
        max: 1.0,
    }];
    for width in [10u32, 12, 14, 16, 18] {
        for offset in 0..=20 - width {
            // Twentieths, so that 0.05 steps do not pile up rounding.
            let min = (f64::from(offset) / 20.0).max(1e-3);
            windows.push(Window {
                min,
                max: f64::from(offset + width) / 20.0,
            });
        }
    }
    windows
}

/// At most this many batches are measured for each window.
pub const BATCHES: usize = 100;

/// Running mean and variance of the batch means of each window (Welford's recurrence).
#[derive(Clone, Debug)]
pub struct VarianceSearch {
    windows: Vec<Window>,
    moments: Vec<(usize, f64, f64)>,
}

impl VarianceSearch {
    /// A search over `windows`.
    pub fn new(windows: Vec<Window>) -> Self {
        let moments = vec![(0, 0.0, 0.0); windows.len()];
        Self { windows, moments }
    }

    /// The windows, in the order of their indices.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Adds the batch-mean bound that window `index` gave on one batch. Values beyond [`BATCHES`] and indices outside
    /// are ignored.
    pub fn observe(&mut self, index: usize, batch_mean: f64) {
        let Some((count, mean, spread)) = self.moments.get_mut(index) else {
            return;
        };
        if *count >= BATCHES {
            return;
        }
        *count += 1;
        let off = batch_mean - *mean;
        *mean += off / *count as f64;
        *spread += off * (batch_mean - *mean);
    }

    /// The sample variance of window `index`; `None` before two observations.
    pub fn variance(&self, index: usize) -> Option<f64> {
        let &(count, _, spread) = self.moments.get(index)?;
        (count >= 2).then(|| spread / (count - 1) as f64)
    }

    /// The window of least variance, the earlier of two equal ones; `None` before any window has two observations.
    pub fn best(&self) -> Option<Window> {
        let mut best: Option<(f64, Window)> = None;
        for (index, &window) in self.windows.iter().enumerate() {
            if let Some(variance) = self.variance(index)
                && best.is_none_or(|(least, _)| variance < least)
            {
                best = Some((variance, window));
            }
        }
        best.map(|(_, window)| window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_candidates() {
        let all = candidates();
        // 11 + 9 + 7 + 5 + 3 windows and the unclipped one.
        assert_eq!(all.len(), 36);
        assert!(all.contains(&Window {
            min: 0.45,
            max: 0.95
        }));
        assert!(all.contains(&Window { min: 0.3, max: 0.8 }));
        assert!(all.contains(&Window {
            min: 1e-3,
            max: 0.5
        }));
        assert!(all.iter().all(|w| w.min >= 1e-3 && w.max <= 1.0));
    }

    #[test]
    fn least_variance_wins() {
        let mut search = VarianceSearch::new(candidates()[..3].to_vec());
        assert_eq!(search.best(), None);
        for (index, values) in [[1.0, 3.0], [1.0, 2.0], [0.0, 9.0]].iter().enumerate() {
            values
                .iter()
                .for_each(|&value| search.observe(index, value));
        }
        assert_eq!(search.variance(0), Some(2.0));
        assert_eq!(search.variance(1), Some(0.5));
        assert_eq!(search.best(), Some(search.windows()[1]));
        search.observe(99, 1.0);
        (0..200).for_each(|_| search.observe(2, 0.0));
        assert_eq!(search.moments[2].0, BATCHES);
    }
}
