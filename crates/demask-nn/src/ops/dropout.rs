use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Keeps each value with probability `1 - p`, scaled by `1 / (1 - p)`; the others become zero.
///
/// The mask depends on `seed` and on the position only: the same call gives the same bits.
pub fn dropout<const D: usize>(x: Tensor<D>, p: f64, seed: u64) -> Tensor<D> {
    if p == 0.0 {
        return x;
    }
    let shape = x.dims();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let threshold = (p * f64::from(u32::MAX)) as u32;
    let keep = (1.0 / (1.0 - p)) as f32;
    let n = shape.iter().product();
    let mask: Vec<f32> = (0..n)
        .map(|_| {
            if rng.next_u32() < threshold {
                0.0
            } else {
                keep
            }
        })
        .collect();
    let device = x.device();
    x * Tensor::from_data(TensorData::new(mask, shape), &device)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{device, slopes};
    use super::*;

    #[test]
    fn keeps_the_mean_and_repeats_itself() {
        let d = device();
        let run = |seed| {
            let x = Tensor::<2>::ones([200, 100], &d);
            dropout(x, 0.25, seed)
                .into_data()
                .try_to_vec::<f32>()
                .unwrap()
        };
        let (a, b) = (run(7), run(7));
        assert_eq!(a, b);
        assert_ne!(a, run(8));
        assert!(a.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6));
        let mean = a.iter().sum::<f32>() / a.len() as f32;
        // Standard error of the mean: (4/3) √(0.25 · 0.75 / 20000) = 0.0041.
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        slopes(|t| dropout(t.leaf([3, 5, 7]), 0.25, 7));
    }
}
