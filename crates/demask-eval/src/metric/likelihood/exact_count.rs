//! LLaDA's estimator (arXiv 2502.09992, Eq. 6; base-training notes of the authors' code).
//!
//! For an answer of `L` tokens draw `l` uniformly from 1..L, mask exactly `l` of them without
//! replacement, and take `(L / l) · sum over masked of -ln p(token)`. A round of `b` rows
//! stratifies `l`: with `k` uniform in 1..L, row `i` masks `round(k + i L / b)` wrapped into 1..L.

use demask_diffusion::Noise;

use super::MaskedRow;

/// The rows of one round. Each group (the answer, or its part in one block) is masked by its own
/// draw, so that a block model's bound is the sum of its blocks' bounds.
pub(super) fn rows(
    groups: &[Vec<usize>],
    round: usize,
    ties_to_even: bool,
    noise: Noise,
) -> Vec<MaskedRow> {
    let mut rows = vec![MaskedRow::default(); round];
    for (g, cells) in groups.iter().enumerate() {
        let noise = noise.child(g as u64);
        let length = cells.len();
        let counts = counts(
            1 + noise.child(0).below(length),
            round,
            length,
            ties_to_even,
        );
        for (i, (row, &count)) in rows.iter_mut().zip(&counts).enumerate() {
            let mut chosen = choose(cells, count, noise.child(1).child(i as u64));
            chosen.sort_unstable();
            row.weights
                .extend(std::iter::repeat_n(length as f64 / count as f64, count));
            row.cells.extend(chosen);
        }
    }
    rows
}

/// How many tokens each row of a round masks, for the draw `k`. Halves round up, or to even as in
/// the authors' code.
pub(super) fn counts(k: usize, round: usize, length: usize, ties_to_even: bool) -> Vec<usize> {
    let step = length as f64 / round as f64;
    (0..round)
        .map(|i| k as f64 + i as f64 * step)
        .map(|count| {
            if ties_to_even {
                count.round_ties_even()
            } else {
                (count + 0.5).floor()
            }
        })
        .map(|count| (count as usize - 1) % length + 1)
        .collect()
}

/// `count` of `cells` without replacement: those of the smallest uniforms.
fn choose(cells: &[usize], count: usize, noise: Noise) -> Vec<usize> {
    let uniforms = noise.uniforms(cells.len());
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by(|&a, &b| uniforms[a].total_cmp(&uniforms[b]).then(a.cmp(&b)));
    order[..count].iter().map(|&i| cells[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_wrap_and_round() {
        // k = 3, L = 4, b = 4: 3, 4, 5, 6 wrapped.
        assert_eq!(counts(3, 4, 4, true), [3, 4, 1, 2]);
        // k = 1, L = 2, b = 4: 1, 1.5, 2, 2.5.
        assert_eq!(counts(1, 4, 2, true), [1, 2, 2, 2]);
        assert_eq!(counts(1, 4, 2, false), [1, 2, 2, 1]);
        assert_eq!(counts(1, 3, 1, true), [1, 1, 1]);
        // 5, 7.5 → 8 → 3.
        assert_eq!(counts(5, 2, 5, true), [5, 3]);
    }

    #[test]
    fn rounding_up_makes_every_count_equally_likely() {
        let often = |length: usize, round, ties| {
            let mut often = vec![0; length];
            for k in 1..=length {
                counts(k, round, length, ties)
                    .iter()
                    .for_each(|count| often[count - 1] += 1);
            }
            often
        };
        for (length, round) in [(3, 2), (5, 4), (7, 16), (12, 8)] {
            assert!(
                often(length, round, false).iter().all(|n| *n == round),
                "{length} {round}"
            );
        }
        assert_eq!(often(3, 2, true), [3, 2, 1]);
    }

    #[test]
    fn every_row_masks_its_count_with_its_weight() {
        let groups = vec![vec![2, 3, 4], vec![7, 8]];
        for seed in 0..50 {
            let round = rows(&groups, 6, false, Noise::new(seed));
            let mut firsts = Vec::new();
            for row in &round {
                let first = row.cells.iter().filter(|c| **c < 5).count();
                let second = row.cells.len() - first;
                assert!((1..=3).contains(&first) && (1..=2).contains(&second));
                assert!(row.cells.is_sorted_by(|a, b| a < b));
                assert_eq!(row.weights[0], 3.0 / first as f64);
                assert_eq!(row.weights[first], 2.0 / second as f64);
                firsts.push(first);
            }
            // L/b = 1/2: each count twice.
            firsts.sort_unstable();
            assert_eq!(firsts, [1, 1, 2, 2, 3, 3]);
        }
    }

    #[test]
    fn masks_are_uniform() {
        let cells = [0, 1, 2, 3];
        let mut hits = [0usize; 4];
        for seed in 0..4000 {
            for cell in choose(&cells, 2, Noise::new(seed)) {
                hits[cell] += 1;
            }
        }
        // Binomial(4000, 1/2): standard deviation 32.
        assert!(hits.iter().all(|h| h.abs_diff(2000) < 100), "{hits:?}");
    }
}
