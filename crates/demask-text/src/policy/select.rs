//! Selectors: which of the scored cells are committed.
//!
//! Each takes the scores of the candidates in the order of their cells and gives indices into them,
//! rising. Of equal scores the lower cell wins.

/// The order of falling score; the lower index wins a tie.
fn falling(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order
}

fn rising(mut chosen: Vec<usize>) -> Vec<usize> {
    chosen.sort_unstable();
    chosen
}

/// The `k` largest.
pub fn top(scores: &[f64], k: usize) -> Vec<usize> {
    let mut order = falling(scores);
    order.truncate(k);
    rising(order)
}

/// `k` drawn without replacement with chances `softmax(score / temperature)` (Dream's `alg_temp`),
/// by the Gumbel top-k rule (arXiv 1903.06059) with one uniform for each candidate. Chances too small
/// for a float still have their order, so there are always `k` where the published code runs out.
pub fn noisy(scores: &[f64], k: usize, temperature: f64, u: &[f64]) -> Vec<usize> {
    if temperature <= 0.0 {
        return top(scores, k);
    }
    let perturb = |score: f64, u: f64| {
        let noise = -(-u.ln()).ln();
        (score / temperature + noise, score + temperature * noise)
    };
    let (perturbed, small): (Vec<f64>, Vec<f64>) =
        scores.iter().zip(u).map(|(&s, &u)| perturb(s, u)).unzip();
    // At a tiny temperature the quotient leaves the range of numbers. The other form has the same
    // order, but rounds otherwise, and recorded choices are pinned to the bit.
    let lost = scores.iter().zip(&perturbed);
    if lost
        .into_iter()
        .any(|(s, p)| s.is_finite() && !p.is_finite())
    {
        return top(&small, k);
    }
    top(&perturbed, k)
}

/// All that reach `tau`, but at least the largest.
pub fn threshold(scores: &[f64], tau: f64) -> Vec<usize> {
    let reached: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] >= tau).collect();
    if reached.is_empty() {
        top(scores, 1)
    } else {
        reached
    }
}

/// The `n` largest for the largest `n` with `(n + 1)(1 - p_(n)) < factor`, but at least one.
pub fn factor(scores: &[f64], factor: f64) -> Vec<usize> {
    let order = falling(scores);
    // The left side rises with n, so the first failure ends the search.
    let within = |&(n, &i): &(usize, &usize)| (n + 2) as f64 * (1.0 - scores[i]) < factor;
    let n = order.iter().enumerate().take_while(within).count();
    top(scores, n.max(1))
}

/// The first `n` by rising entropy for the largest `n` whose entropies without the largest sum to
/// at most `gamma`; at least one, because one entropy without itself is 0.
pub fn entropy_bound(entropies: &[f64], gamma: f64) -> Vec<usize> {
    let surest: Vec<f64> = entropies.iter().map(|h| -h).collect();
    let mut before = 0.0;
    let within = |&&i: &&usize| {
        let keep = before <= gamma;
        before += entropies[i];
        keep
    };
    let order = falling(&surest);
    rising(order.iter().take_while(within).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f64; 5] = [0.3, 0.95, 0.9, 0.5, 0.9];

    #[test]
    fn the_lower_cell_wins_a_tie() {
        assert_eq!(top(&P, 2), [1, 2]);
        assert_eq!(top(&P, 3), [1, 2, 4]);
        assert_eq!(top(&P, 9), [0, 1, 2, 3, 4]);
        assert!(top(&P, 0).is_empty());
    }

    #[test]
    fn threshold_takes_at_least_one() {
        assert_eq!(threshold(&P, 0.9), [1, 2, 4]);
        assert_eq!(threshold(&P, 0.99), [1]);
    }

    #[test]
    fn factor_by_hand() {
        // Sorted .95 .9 .9 .5 .3: (n+1)(1-p) = .1, .3, .4, 2.5, 4.2.
        assert_eq!(factor(&P, 0.35), [1, 2]);
        assert_eq!(factor(&P, 0.45), [1, 2, 4]);
        assert_eq!(factor(&P, 3.0), [1, 2, 3, 4]);
        assert_eq!(factor(&P, 0.05), [1]);
    }

    #[test]
    fn entropy_bound_by_hand() {
        let h = [0.5, 0.02, 0.3, 0.07];
        // Rising .02 .07 .3 .5; sums before each: 0, .02, .09, .39.
        assert_eq!(entropy_bound(&h, 0.0), [1]);
        assert_eq!(entropy_bound(&h, 0.05), [1, 3]);
        assert_eq!(entropy_bound(&h, 0.1), [1, 2, 3]);
        assert_eq!(entropy_bound(&h, 1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn noise_of_temperature_zero_is_none() {
        assert_eq!(noisy(&P, 1, 0.0, &[0.999, 0.5, 0.5, 0.5, 0.5]), [1]);
        // .3 - ln(-ln .999) = 7.2 beats .95 + .37.
        assert_eq!(noisy(&P, 1, 1.0, &[0.999, 0.5, 0.5, 0.5, 0.5]), [0]);
        // Cold: the noise no longer matters, though .95/T is no number.
        assert_eq!(noisy(&P, 1, 1e-320, &[0.999, 0.5, 0.5, 0.5, 0.5]), [1]);
        assert_eq!(noisy(&P.map(|p| p - 1.0), 2, 1e-320, &[0.5; 5]), [1, 2]);
        assert_eq!(noisy(&P, 1, 1e-3, &[0.999, 0.5, 0.5, 0.5, 0.5]), [1]);
    }

    #[test]
    fn held_back_cells_are_taken_last() {
        let scores = [f64::NEG_INFINITY, 0.2, 0.1];
        assert_eq!(top(&scores, 2), [1, 2]);
        assert_eq!(noisy(&scores, 2, 0.5, &[0.999, 0.1, 0.1]), [1, 2]);
        assert_eq!(threshold(&scores, 0.9), [1]);
    }
}
