//! The exponential moving average of the weights.

use demask_kernels::rowwise::lerp;

/// A moving average whose decay grows at the start: after `n` updates it is
/// `min(decay, (1 + n) / (10 + n))`, counted from `n = 1` (as in the SEDD and MDLM code), so that
/// the random first weights are soon forgotten.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ema {
    /// The final decay, below 1.
    pub decay: f64,
}

impl Ema {
    /// The decay of update number `n`, from 1.
    pub fn effective(&self, n: u64) -> f64 {
        let n = n as f64;
        self.decay.min((1.0 + n) / (10.0 + n))
    }

    /// Moves `average` towards `weights` in update number `n`, from 1.
    pub fn update(&self, n: u64, average: &mut [f32], weights: &[f32]) {
        let share = (1.0 - self.effective(n)) as f32;
        lerp(share, weights, average);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decay_grows_to_its_end() {
        let ema = Ema { decay: 0.9 };
        assert_eq!(ema.effective(1), 2.0 / 11.0);
        assert_eq!(ema.effective(71), 72.0 / 81.0);
        assert_eq!(ema.effective(1000), 0.9);
    }

    #[test]
    fn an_update_moves_by_one_less_the_decay() {
        let mut average = [0.0f32, 2.0];
        Ema { decay: 0.9999 }.update(8, &mut average, &[1.0, 2.0]);
        assert_eq!(average, [0.5, 2.0]);
    }

    /// Numbers of `ExponentialMovingAverage` in the published code (`parity/README.md`).
    #[test]
    fn an_average_moves_as_the_published_one() {
        let ema = Ema { decay: 0.4 };
        let mut average = [0.5f32, -1.0];
        for (n, (weights, wanted)) in (1..).zip([
            ([1.0, 2.0], [0.909_091, 1.454_545]),
            ([-0.25, 0.75], [0.039_773, 0.926_136]),
            ([3.0, -4.0], [2.089_161, -2.484_266]),
            ([0.125, 1.5], [0.826_486, 0.077_048]),
            ([2.0, 0.0], [1.530_594, 0.030_819]),
            ([1.0, 1.0], [1.212_238, 0.612_328]),
        ]) {
            ema.update(n, &mut average, &weights);
            for (found, wanted) in average.iter().zip::<[f32; 2]>(wanted) {
                assert!((found - wanted).abs() < 2e-6, "{n}: {found} for {wanted}");
            }
        }
    }
}
