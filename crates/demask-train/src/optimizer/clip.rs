//! The global norm of a gradient (arXiv 1211.5063).

use rayon::prelude::*;

/// Values that are summed together: the sum of a gradient is that of its chunks in order, so that the
/// number of threads changes nothing.
const CHUNK: usize = 16_384;

/// Partial sums of a chunk: value j goes to sum j mod 16, which the processor adds side by side.
const SUMS: usize = 16;

/// The sum of the squares of a chunk, in f64.
fn square(chunk: &[f32]) -> f64 {
    let mut sums = [0.0f64; SUMS];
    for part in chunk.chunks(SUMS) {
        for (sum, g) in sums.iter_mut().zip(part) {
            *sum += f64::from(*g) * f64::from(*g);
        }
    }
    sums.iter().sum()
}

/// The Euclidean norm of all values of all `grads`, summed in f64 in a fixed order.
pub fn global_norm<'a>(grads: impl Iterator<Item = &'a [f32]>) -> f64 {
    grads
        .map(|grad| {
            grad.par_chunks(CHUNK)
                .map(square)
                .collect::<Vec<f64>>()
                .iter()
                .sum::<f64>()
        })
        .sum::<f64>()
        .sqrt()
}

/// The factor that brings a gradient of norm `norm` down to `clip`; 1 when it is short enough or
/// `clip` is 0.
pub(crate) fn clip_factor(norm: f64, clip: f64) -> f64 {
    if clip > 0.0 && norm > clip {
        clip / norm
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_runs_over_all_tensors() {
        let grads: [&[f32]; 2] = [&[3.0, 0.0], &[-4.0]];
        assert_eq!(global_norm(grads.into_iter()), 5.0);
        assert_eq!(clip_factor(5.0, 1.0), 0.2);
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert_eq!(clip_factor(5.0, 0.0), 1.0);
    }

    #[test]
    fn a_value_that_is_no_number_shows() {
        assert!(global_norm([&[1.0, f32::NAN][..]].into_iter()).is_nan());
        assert!(global_norm([&[1.0, f32::INFINITY][..]].into_iter()).is_infinite());
    }
}
