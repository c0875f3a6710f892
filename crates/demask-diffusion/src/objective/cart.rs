//! Context-adaptive token weights (CART; Dream 2508.15487, section 3.2, with the formula of its published trainer).
//!
//! A masked cell weighs the more, the nearer its written neighbours are:
//! `w_n = 1/2 sum_{written i != n} p (1-p)^(|n-i|-1)`.

/// The weight of every masked cell of a row, 0 for the written ones. `written` is `[L]`, `0 < p <= 1` how fast a
/// neighbour's help fades with distance.
pub fn weights(written: &[bool], p: f64) -> Vec<f64> {
    // Each side is a geometric filter: side[n] = (1-p) side[n-1] + p written[n-1].
    let mut weights = vec![0.0; written.len()];
    let mut pass = |order: &mut dyn Iterator<Item = usize>| {
        let mut side = 0.0;
        for n in order {
            weights[n] += 0.5 * side;
            side = (1.0 - p) * side + if written[n] { p } else { 0.0 };
        }
    };
    pass(&mut (0..written.len()));
    pass(&mut (0..written.len()).rev());
    for (weight, &written) in weights.iter_mut().zip(written) {
        if written {
            *weight = 0.0;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // p = 1/2, written _ x _ _ x: cell 0 sees distances 1 and 4: 1/2 (1/2 + 1/16); cell 2: 1 and 2: 1/2 (1/2 + 1/4);
        // cell 3: 2 and 1, the same.
        let found = weights(&[false, true, false, false, true], 0.5);
        assert_eq!(found, [0.281_25, 0.0, 0.375, 0.375, 0.0]);
    }

    #[test]
    fn agrees_with_the_double_sum() {
        let written: Vec<bool> = (0..40).map(|i| (i * 7) % 5 < 2).collect();
        let p = 0.1;
        let found = weights(&written, p);
        for n in 0..40i32 {
            let sum: f64 = (0..40i32)
                .filter(|&i| i != n && written[i as usize])
                .map(|i| 0.5 * p * (1.0 - p).powi((n - i).abs() - 1))
                .sum();
            let wanted = if written[n as usize] { 0.0 } else { sum };
            assert!((found[n as usize] - wanted).abs() < 1e-12);
        }
    }

    #[test]
    fn nothing_written_weighs_nothing() {
        assert_eq!(weights(&[false; 3], 0.3), [0.0; 3]);
        assert!(weights(&[], 0.3).is_empty());
    }
}
