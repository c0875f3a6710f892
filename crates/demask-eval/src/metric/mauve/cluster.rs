//! k-means with k-means++ seeding (Arthur and Vassilvitskii 2007), deterministic for a seed.

use demask_diffusion::Noise;

use crate::observer::tell;
use crate::{EvalError, EvalObserver};

/// How the clusters are found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KMeans {
    /// Number of clusters.
    pub clusters: usize,
    /// Most Lloyd iterations of a run; a run stops earlier when no label changes.
    pub iterations: usize,
    /// Independent runs; the one of least within-cluster squared distance is kept.
    pub restarts: usize,
}

impl KMeans {
    /// The cluster of each row of `points` (`[rows][width]`, row-major). Fewer different points
    /// than clusters leave clusters empty. A point as near to two centres takes the first. `observer`
    /// is told after every iteration how many runs are done.
    ///
    /// # Errors
    /// [`EvalError::Stopped`].
    pub fn labels(
        &self,
        points: &[f64],
        width: usize,
        noise: Noise,
        observer: &mut dyn EvalObserver,
    ) -> Result<Vec<usize>, EvalError> {
        let mut best: Option<(f64, Vec<usize>)> = None;
        let restarts = self.restarts.max(1);
        for restart in 0..restarts {
            let mut after_iteration = || tell(observer, "clustering", restart, restarts);
            let noise = noise.child(restart as u64);
            let (cost, labels) = self.run(points, width, noise, &mut after_iteration)?;
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, labels));
            }
        }
        Ok(best.map(|(_, labels)| labels).unwrap_or_default())
    }

    fn run(
        &self,
        points: &[f64],
        width: usize,
        noise: Noise,
        after_iteration: &mut dyn FnMut() -> Result<(), EvalError>,
    ) -> Result<(f64, Vec<usize>), EvalError> {
        let mut centres = self.seed(points, width, noise);
        let mut labels = Vec::new();
        let mut cost = f64::INFINITY;
        for _ in 0..self.iterations.max(1) {
            let (next_cost, next) = assign(points, &centres, width);
            let settled = next == labels;
            (cost, labels) = (next_cost, next);
            if settled {
                break;
            }
            update(points, &labels, &mut centres, width);
            after_iteration()?;
        }
        Ok((cost, labels))
    }

    /// Each new centre is a point drawn with a chance proportional to its squared distance to the
    /// centres already there.
    fn seed(&self, points: &[f64], width: usize, noise: Noise) -> Vec<f64> {
        let rows = points.len() / width;
        let first = noise.child(0).below(rows);
        let mut centres = points[first * width..(first + 1) * width].to_vec();
        let mut nearest: Vec<f64> = points
            .chunks_exact(width)
            .map(|point| distance(point, &centres))
            .collect();
        for k in 1..self.clusters.min(rows) {
            let total: f64 = nearest.iter().sum();
            if total <= 0.0 {
                break; // every different point is a centre already
            }
            let target = noise.child(k as u64).uniform() * total;
            let mut sum = 0.0;
            let chosen = nearest
                .iter()
                .position(|d| {
                    sum += d;
                    sum > target
                })
                .unwrap_or(rows - 1);
            let centre = points[chosen * width..(chosen + 1) * width].to_vec();
            for (near, point) in nearest.iter_mut().zip(points.chunks_exact(width)) {
                *near = near.min(distance(point, &centre));
            }
            centres.extend(centre);
        }
        centres
    }
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn assign(points: &[f64], centres: &[f64], width: usize) -> (f64, Vec<usize>) {
    let mut cost = 0.0;
    let labels = points
        .chunks_exact(width)
        .map(|point| {
            let mut best = (0, f64::INFINITY);
            for (k, centre) in centres.chunks_exact(width).enumerate() {
                let d = distance(point, centre);
                if d < best.1 {
                    best = (k, d);
                }
            }
            cost += best.1;
            best.0
        })
        .collect();
    (cost, labels)
}

/// Moves each centre to the mean of its points; a centre without points stays.
fn update(points: &[f64], labels: &[usize], centres: &mut [f64], width: usize) {
    let clusters = centres.len() / width;
    let mut sums = vec![0.0; centres.len()];
    let mut counts = vec![0usize; clusters];
    for (point, &label) in points.chunks_exact(width).zip(labels) {
        counts[label] += 1;
        for (sum, value) in sums[label * width..].iter_mut().zip(point) {
            *sum += value;
        }
    }
    for (k, &count) in counts.iter().enumerate() {
        if count > 0 {
            for j in k * width..(k + 1) * width {
                centres[j] = sums[j] / count as f64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;

    #[test]
    fn separated_groups_are_found_for_every_seed() {
        // Three groups of three on a line.
        let points = [0.0, 0.1, 0.2, 10.0, 10.1, 10.2, 50.0, 50.1, 50.2];
        let means = KMeans {
            clusters: 3,
            iterations: 50,
            restarts: 5,
        };
        for seed in 0..20 {
            let labels = means
                .labels(&points, 1, Noise::new(seed), &mut Silent)
                .unwrap();
            for group in labels.chunks(3) {
                assert!(group.iter().all(|l| *l == group[0]), "{labels:?}");
            }
            assert!(labels[0] != labels[3] && labels[3] != labels[6] && labels[0] != labels[6]);
            assert_eq!(
                labels,
                means
                    .labels(&points, 1, Noise::new(seed), &mut Silent)
                    .unwrap()
            );
        }
    }

    #[test]
    fn one_lloyd_step_by_hand() {
        let points = [0.0, 0.0, 1.0, 0.0, 9.0, 3.0];
        let mut centres = vec![0.0, 0.0, 9.0, 3.0];
        let (cost, labels) = assign(&points, &centres, 2);
        assert_eq!((cost, labels.as_slice()), (1.0, [0, 0, 1].as_slice()));
        update(&points, &labels, &mut centres, 2);
        assert_eq!(centres, [0.5, 0.0, 9.0, 3.0]);
    }

    #[test]
    fn more_clusters_than_different_points() {
        let labels = KMeans {
            clusters: 4,
            iterations: 9,
            restarts: 2,
        }
        .labels(&[1.0, 1.0, 2.0], 1, Noise::new(1), &mut Silent)
        .unwrap();
        assert_eq!(labels[0], labels[1]);
        assert_ne!(labels[0], labels[2]);
    }
}
