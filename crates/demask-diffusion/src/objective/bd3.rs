//! Block diffusion (BD3-LM 2503.09573).
//!
//! `-ln p(x) <= sum_b E_t [ w(t_b) sum_{masked l in b} -ln p_theta(x^l | x_t^b, x^{<b}) ]`, all blocks in one pass: the
//! input is `[x_t ; x_0]`, the positions are `0..L` twice, and [`Attention::NoisyAndClean`] says who sees whom. Times are drawn for each
//! block (antithetic over batch times blocks).
//!
//! A clipped schedule draws `t` in `[min, max]` and keeps the weight of the unclipped one: training then is not the
//! bound. Evaluate with the window `(1e-3, 1)`; block size 1 uses `(1, 1)` and is autoregression.
//!
//! Readings: with `resample` a block's mask is drawn anew, at the same time, until its masked share of the *free* cells
//! lies in the window (the published code counts all cells: the same without a prompt and without `ignore_bos`); ends at 1e-3 and 1 are
//! not checked; a block whose few free cells allow no such share is left alone. `ignore_bos` keeps the first cell clean
//! and out of the loss in training as well as in evaluation.

use serde::{Deserialize, Serialize};

use super::masking::{CELLS, Masking, OTHER, TIMES, count, masked_rows};
use super::{Attention, Corrupted, Normalise, Objective, Vocabulary, check_batch};
use crate::process::Discrete;
use crate::schedule::{Reshape, ScheduleConfig, TimeSampling};
use crate::{DiffusionError, Ids, Noise, Result, Time};

/// Redraws of one block before giving up.
const TRIES: usize = 10_000;

/// Settings of [`Bd3`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bd3Config {
    /// Cells of a block; the last block of a row may be shorter.
    pub block: usize,
    /// Noise level as a function of time.
    pub schedule: ScheduleConfig,
    /// How times are drawn; `min` and `max` are the clipped window, `reshape` must be `none`.
    pub time: TimeSampling,
    /// Draws a block's mask anew until its masked share lies in the window.
    pub resample: bool,
    /// Keeps the first cell of a row clean and out of the loss.
    pub ignore_bos: bool,
    /// Compatibility: weight 1 in place of the schedule's where `min > 0.5`, as the published trainer does.
    pub unit_weight_above_half: bool,
    /// What the summed loss is divided by.
    pub normalise: Normalise,
}

impl Default for Bd3Config {
    fn default() -> Self {
        Self {
            block: 16,
            schedule: ScheduleConfig::default(),
            time: TimeSampling::default(),
            resample: false,
            ignore_bos: true,
            unit_weight_above_half: false,
            normalise: Normalise::Tokens,
        }
    }
}

/// Block diffusion.
#[derive(Clone, Debug)]
pub struct Bd3 {
    masking: Masking,
    config: Bd3Config,
}

impl Bd3 {
    /// The objective with blocks of equal size on a vocabulary with a mask.
    pub fn new(config: &Bd3Config, vocabulary: Vocabulary) -> Result<Self> {
        if config.block == 0 {
            return Err(DiffusionError::setting("block", 0, "must be at least 1"));
        }
        let reason = "blocks draw their own times: use reshape = \"none\"";
        if config.time.reshape != Reshape::None {
            return Err(DiffusionError::setting(
                "reshape",
                config.time.reshape,
                reason,
            ));
        }
        let masking = Masking::new(config.schedule.build()?, config.time, vocabulary)?;
        let objective = Self {
            masking,
            config: config.clone(),
        };
        if config.resample && !objective.possible(config.block) {
            let reason = "no number of masked cells of a block has a share inside [min, max]";
            return Err(DiffusionError::setting("block", config.block, reason));
        }
        Ok(objective)
    }

    /// The window of the masked share that [`Bd3Config::resample`] enforces: published ends of 1e-3 and 1 are open.
    fn share(&self) -> (f64, f64) {
        let TimeSampling { min, max, .. } = self.config.time;
        (if min <= 1e-3 { 0.0 } else { min }, max)
    }

    /// Whether some number of masked cells out of `free` has a share in the window.
    fn possible(&self, free: usize) -> bool {
        (0..=free).any(|masked| self.inside(masked, free))
    }

    fn inside(&self, masked: usize, free: usize) -> bool {
        let (low, high) = self.share();
        let share = masked as f64 / free.max(1) as f64;
        (low..=high).contains(&share)
    }

    /// Draws the masks of blocks whose share is outside the window again.
    fn redraw(
        &self,
        x0: &Ids,
        noisy: &mut Ids,
        free: &[bool],
        p: &Time,
        members: &[&[usize]],
        noise: &Noise,
    ) -> Result<()> {
        let mask = self.masking.mask();
        for b in 0..x0.batch() {
            for (index, cells) in members.iter().enumerate() {
                let cells: Vec<usize> = cells
                    .iter()
                    .copied()
                    .filter(|&l| free[b * x0.length() + l])
                    .collect();
                if !self.possible(cells.len()) {
                    continue;
                }
                let node = noise.child(b as u64).child(index as u64);
                let mut tries = 0;
                while !self.inside(hidden(noisy, b, &cells, mask), cells.len()) {
                    if tries == TRIES {
                        let (low, high) = self.share();
                        let cells = cells.len();
                        return Err(DiffusionError::Resample {
                            low,
                            high,
                            cells,
                            tries,
                        });
                    }
                    let u = node.child(tries as u64).uniforms(cells.len());
                    for (&l, u) in cells.iter().zip(u) {
                        let id = if u < p.at(b, l) { mask } else { x0.get(b, l) };
                        noisy.set(b, l, id);
                    }
                    tries += 1;
                }
            }
        }
        Ok(())
    }
}

/// Masked cells among `cells` of row `b`.
fn hidden(ids: &Ids, b: usize, cells: &[usize], mask: u32) -> usize {
    cells.iter().filter(|&&l| ids.get(b, l) == mask).count()
}

impl Objective for Bd3 {
    fn name(&self) -> &'static str {
        "bd3"
    }

    fn attention(&self) -> Attention {
        Attention::NoisyAndClean
    }

    fn is_bound(&self) -> bool {
        // A block of one cell has one noise level that matters: masked.
        if self.config.block == 1 && self.config.time.min >= 1.0 {
            return self.config.normalise != Normalise::Sequence;
        }
        self.masking.bounds(self.config.normalise)
    }

    fn corrupt(&self, x0: &Ids, loss_cells: &[bool], noise: &Noise) -> Result<Corrupted> {
        let (batch, length) = (x0.batch(), x0.length());
        let mut free = loss_cells.to_vec();
        if self.config.ignore_bos && loss_cells.len() == batch * length {
            free.iter_mut()
                .step_by(length.max(1))
                .for_each(|cell| *cell = false);
        }
        check_batch(
            x0,
            &free,
            self.masking.process.vocab(),
            Some(self.masking.mask()),
        )?;
        let cells: Vec<usize> = (0..length).collect();
        let blocks: Vec<u32> = cells
            .iter()
            .map(|l| (l / self.config.block) as u32)
            .collect();
        let members: Vec<&[usize]> = cells.chunks(self.config.block).collect();

        let schedule = &*self.masking.schedule;
        let count_of = batch * members.len();
        let moments = self
            .masking
            .time
            .sample(schedule, count_of, &noise.child(TIMES));
        let (mut p, mut t, mut weight) = (
            vec![0.0; batch * length],
            vec![0.0; batch * length],
            vec![0.0; batch * length],
        );
        let unit = self.config.unit_weight_above_half && self.config.time.min > 0.5;
        for b in 0..batch {
            for (index, cells) in members.iter().enumerate() {
                let moment = moments[b * members.len() + index];
                for &l in *cells {
                    p[b * length + l] = moment.p;
                    t[b * length + l] = moment.t;
                    weight[b * length + l] = if unit { 1.0 } else { moment.weight };
                }
            }
        }
        let p = Time::per_token(batch, length, p)?;
        let mut noisy = self
            .masking
            .process
            .corrupt_ids(x0, &p, &free, &noise.child(CELLS))?;
        if self.config.resample {
            self.redraw(x0, &mut noisy, &free, &p, &members, &noise.child(OTHER))?;
        }
        let mut input = Ids::filled(batch, 2 * length, 0);
        for b in 0..batch {
            input.row_mut(b)[..length].copy_from_slice(noisy.row(b));
            input.row_mut(b)[length..].copy_from_slice(x0.row(b));
        }
        let at = |b: usize, l: usize| (t[b * length + l], weight[b * length + l]);
        let mut rows = masked_rows(x0, &noisy, &free, self.masking.mask(), at);
        for (asked, &cell) in rows.asked.iter_mut().zip(&rows.cell) {
            let (b, l) = (cell as usize / length, cell as usize % length);
            *asked = (b * 2 * length + l) as u32;
        }
        let time = Time::per_token(batch, length, t.clone())?;
        let mut corrupted = rows.finish(input, time, count(&free));
        corrupted.blocks = Some(blocks);
        corrupted.forbidden = Some(self.masking.mask());
        Ok(corrupted.normalised(self.config.normalise, &free, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(block: usize) -> Bd3Config {
        Bd3Config {
            block,
            ..Bd3Config::default()
        }
    }

    fn build(config: &Bd3Config) -> Bd3 {
        Bd3::new(config, Vocabulary::masked(9, 8)).unwrap()
    }

    #[test]
    fn input_is_noisy_then_clean_and_the_first_cell_stays() {
        let x0 = Ids::new(2, 6, (0..12).map(|i| i % 8).collect()).unwrap();
        let config = Bd3Config {
            time: TimeSampling::window(0.0, 1.0),
            ..config(2)
        };
        let c = build(&config)
            .corrupt(&x0, &[true; 12], &Noise::new(5))
            .unwrap();
        assert_eq!(c.blocks.as_deref(), Some(&[0, 0, 1, 1, 2, 2][..]));
        assert_eq!((c.input.length(), c.scored, c.normaliser), (12, 10, 10.0));
        for b in 0..2 {
            assert_eq!(&c.input.row(b)[6..], x0.row(b));
            assert_eq!(c.input.get(b, 0), x0.get(b, 0));
            assert_eq!(c.time.at(b, 2), c.time.at(b, 3));
            assert_ne!(c.time.at(b, 1), c.time.at(b, 2));
        }
        for i in 0..c.asked.len() {
            let (b, l) = (c.asked[i] as usize / 12, c.asked[i] as usize % 12);
            assert!(l < 6);
            assert_eq!(c.input.get(b, l), 8);
            assert_eq!(c.target[i], x0.get(b, l));
            assert!((c.weight[i] - 1.0 / c.time.at(b, l)).abs() < 1e-12);
        }
        let strata: Vec<usize> = [0, 2, 4]
            .iter()
            .flat_map(|&l| [(0, l), (1, l)])
            .map(|(b, l)| (c.time.at(b, l) * 6.0) as usize)
            .collect();
        let mut sorted = strata.clone();
        sorted.sort_unstable();
        assert_eq!(
            sorted,
            [0, 1, 2, 3, 4, 5],
            "antithetic over batch and blocks"
        );
    }

    #[test]
    fn resampling_keeps_the_share_in_the_window() {
        let time = TimeSampling::window(0.45, 0.95);
        let config = Bd3Config {
            time,
            resample: true,
            ignore_bos: false,
            ..config(4)
        };
        let x0 = Ids::filled(50, 16, 1);
        let c = build(&config)
            .corrupt(&x0, &[true; 800], &Noise::new(1))
            .unwrap();
        for b in 0..50 {
            for block in c.input.row(b)[..16].chunks(4) {
                let masked = block.iter().filter(|&&id| id == 8).count();
                assert!((2..=3).contains(&masked), "{masked} of 4");
            }
        }
        assert!(!build(&config).is_bound());
        assert!(build(&self::config(4)).is_bound());
    }

    #[test]
    fn block_one_at_time_one_is_autoregression() {
        let config = Bd3Config {
            time: TimeSampling::window(1.0, 1.0),
            ..config(1)
        };
        let c = build(&config)
            .corrupt(&Ids::filled(2, 5, 3), &[true; 10], &Noise::new(1))
            .unwrap();
        assert_eq!(c.asked.len(), 8);
        assert!(c.weight.iter().all(|&w| w == 1.0));
        assert!(build(&config).is_bound());
    }

    #[test]
    fn unit_weight_is_a_named_option() {
        let time = TimeSampling::window(0.6, 0.9);
        let config = Bd3Config {
            time,
            unit_weight_above_half: true,
            ..config(4)
        };
        let c = build(&config)
            .corrupt(&Ids::filled(1, 8, 3), &[true; 8], &Noise::new(1))
            .unwrap();
        assert!(!c.weight.is_empty() && c.weight.iter().all(|&w| w == 1.0));
    }

    #[test]
    fn settings_that_cannot_work_are_errors() {
        let vocabulary = Vocabulary::masked(9, 8);
        assert!(Bd3::new(&config(0), vocabulary).is_err());
        let time = TimeSampling::window(0.45, 0.95);
        let impossible = Bd3Config {
            time,
            resample: true,
            ..config(1)
        };
        assert!(Bd3::new(&impossible, vocabulary).is_err());
    }
}
