//! Pace: how many cells each step of a block commits.
//!
//! | pace | from |
//! |---|---|
//! | `fixed` | cells divided by steps, the remainder to the first steps (LLaDA, `get_num_transfer_tokens`) |
//! | `expected` | the expected number of a linear noise schedule, truncated (Dream, `diffusion_generate`) |

use serde::{Deserialize, Serialize};

/// A pace as it stands in a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PaceConfig {
    /// Cells divided by steps, the remainder to the first steps (LLaDA): `m div S`, and one more in
    /// the first `m mod S` steps.
    #[default]
    Fixed,
    /// The expected number of a linear noise schedule (Dream): `trunc(n (1 - t_{i+1}/t_i))` of the
    /// `n` cells still open, `t = linspace(1, eps, S+1)`; the last step takes the rest.
    Expected {
        /// The last time, above 0 and below 1.
        #[serde(default = "eps")]
        eps: f64,
    },
}

fn eps() -> f64 {
    1e-3
}

/// The pace of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    config: PaceConfig,
    cells: usize,
    steps: usize,
}

impl Pace {
    /// The pace of a block of `cells` open cells over `steps` steps.
    pub fn new(config: PaceConfig, cells: usize, steps: usize) -> Self {
        Self {
            config,
            cells,
            steps: steps.max(1),
        }
    }

    /// Steps of the block.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// How many of the `open` cells step `index` commits. The last step and any step after it
    /// commit whatever a policy that fell behind has left.
    pub fn quota(&self, index: usize, open: usize) -> usize {
        if index + 1 > self.steps {
            return open;
        }
        let quota = match self.config {
            PaceConfig::Fixed => {
                self.cells / self.steps + usize::from(index < self.cells % self.steps)
            }
            PaceConfig::Expected { .. } if index + 1 == self.steps => open,
            PaceConfig::Expected { eps } => {
                let [t, s] = [index, index + 1].map(|i| linspace(i, self.steps, eps as f32));
                (open as f32 * (1.0 - s / t)) as usize
            }
        };
        quota.min(open)
    }
}

/// Entry `i` of `linspace(1, eps, steps + 1)` in single precision, from the nearer end, as tensor
/// libraries do: the truncation of the expected count depends on its last bits.
fn linspace(i: usize, steps: usize, eps: f32) -> f32 {
    let step = (eps - 1.0) / steps as f32;
    if i < steps.div_ceil(2) {
        1.0 + step * i as f32
    } else {
        eps - step * (steps - i) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counts of a block in which every step commits its quota.
    fn counts(config: PaceConfig, cells: usize, steps: usize) -> Vec<usize> {
        let pace = Pace::new(config, cells, steps);
        let mut open = cells;
        (0..steps)
            .map(|i| {
                let k = pace.quota(i, open);
                open -= k;
                k
            })
            .collect()
    }

    const DREAM: PaceConfig = PaceConfig::Expected { eps: 1e-3 };

    #[test]
    fn the_remainder_goes_first() {
        assert_eq!(counts(PaceConfig::Fixed, 10, 4), [3, 3, 2, 2]);
        assert_eq!(counts(PaceConfig::Fixed, 3, 5), [1, 1, 1, 0, 0]);
        assert_eq!(counts(PaceConfig::Fixed, 0, 2), [0, 0]);
    }

    #[test]
    fn expected_with_a_step_a_cell_starts_empty_and_ends_with_two() {
        for n in [16, 64, 128, 256, 512] {
            let counts = counts(DREAM, n, n);
            assert_eq!((counts[0], counts[n - 1]), (0, 2), "{n}");
            assert!(counts[1..n - 1].iter().all(|&k| k == 1), "{n}: {counts:?}");
        }
    }

    #[test]
    fn expected_with_four_cells_a_step() {
        let counts = counts(DREAM, 256, 64);
        assert_eq!((counts[0], counts[63]), (3, 5));
        assert!(counts[1..63].iter().all(|&k| k == 4), "{counts:?}");
    }

    #[test]
    fn expected_with_two_steps_a_cell_has_129_empty_ones() {
        let counts = counts(DREAM, 128, 256);
        assert_eq!(counts.iter().filter(|&&k| k == 0).count(), 129);
        assert_eq!(counts.iter().sum::<usize>(), 128);
    }

    #[test]
    fn what_fell_behind_is_taken_at_the_end() {
        let pace = Pace::new(PaceConfig::Fixed, 10, 5);
        assert_eq!((pace.quota(4, 9), pace.quota(5, 7)), (2, 7));
    }
}
