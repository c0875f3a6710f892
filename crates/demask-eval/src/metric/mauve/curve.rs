//! The divergence curve between two histograms and the area under it.

/// Kullback-Leibler divergence `KL(p | r)` of two histograms in nats; infinite when `p` has mass
/// where `r` has none.
pub fn kl(p: &[f64], r: &[f64]) -> f64 {
    p.iter()
        .zip(r)
        .map(|(&p, &r)| {
            if p == 0.0 {
                0.0
            } else if r == 0.0 {
                f64::INFINITY
            } else {
                p * (p / r).ln()
            }
        })
        .sum()
}

/// The divergence curve (Pillutla et al., arXiv 2102.01454, Eq. 1): the points
/// `(exp(-c KL(q|r)), exp(-c KL(p|r)))` for the mixtures `r = w p + (1 - w) q`, with `points`
/// weights evenly spaced in `[1e-6, 1 - 1e-6]`, between the two end points (1, 0) and (0, 1).
pub fn divergence_curve(p: &[f64], q: &[f64], scale: f64, points: usize) -> Vec<(f64, f64)> {
    let (first, last) = (1e-6, 1.0 - 1e-6);
    let step = if points > 1 {
        (last - first) / (points - 1) as f64
    } else {
        0.0
    };
    let mut curve = Vec::with_capacity(points + 2);
    curve.push((1.0, 0.0));
    for i in 0..points {
        let w = if i + 1 == points && points > 1 {
            last
        } else {
            first + i as f64 * step
        };
        let r: Vec<f64> = p
            .iter()
            .zip(q)
            .map(|(p, q)| w * p + (1.0 - w) * q)
            .collect();
        curve.push(((-scale * kl(q, &r)).exp(), (-scale * kl(p, &r)).exp()));
    }
    curve.push((0.0, 1.0));
    curve
}

/// Area under the curve by the trapezoid rule: the mean of the area over the first axis and that
/// over the second, so that the score is symmetric in the two distributions.
pub fn area(curve: &[(f64, f64)]) -> f64 {
    let over_x = trapezoid(curve.to_vec());
    let over_y = trapezoid(curve.iter().map(|&(x, y)| (y, x)).collect());
    0.5 * (over_x + over_y)
}

fn trapezoid(mut points: Vec<(f64, f64)>) -> f64 {
    // Stable: points of equal abscissa keep their order and span no area.
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
        .windows(2)
        .map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kl_of_two_points_by_hand() {
        // 0.5 ln(0.5/0.25) + 0.5 ln(0.5/0.75)
        let expected = 0.5 * 2f64.ln() + 0.5 * (2.0 / 3.0f64).ln();
        assert!((kl(&[0.5, 0.5], &[0.25, 0.75]) - expected).abs() < 1e-15);
        assert_eq!(kl(&[1.0, 0.0], &[0.5, 0.5]), 2f64.ln());
        assert_eq!(kl(&[0.5, 0.5], &[1.0, 0.0]), f64::INFINITY);
    }

    /// p = (1, 0) and q = (1/2, 1/2): r = ((1 + w)/2, (1 - w)/2), hence
    /// KL(p|r) = -ln((1+w)/2) and KL(q|r) = -ln(1 - w²)/2, so the curve is
    /// ((1 - w²)^(c/2), ((1+w)/2)^c).
    #[test]
    fn curve_of_two_points_has_its_closed_form() {
        let curve = divergence_curve(&[1.0, 0.0], &[0.5, 0.5], 5.0, 25);
        assert_eq!(curve.len(), 27);
        for (i, &(x, y)) in curve[1..26].iter().enumerate() {
            let w = 1e-6 + i as f64 * (1.0 - 2e-6) / 24.0;
            assert!((x - (1.0 - w * w).powf(2.5)).abs() < 1e-12, "{i}");
            assert!((y - ((1.0 + w) / 2.0).powf(5.0)).abs() < 1e-12, "{i}");
        }
    }

    #[test]
    fn area_is_one_for_equal_and_small_for_disjoint_histograms() {
        let equal = divergence_curve(&[0.3, 0.7], &[0.3, 0.7], 5.0, 25);
        assert!((area(&equal) - 1.0).abs() < 1e-12);
        // Disjoint: the curve is ((1-w)^5, w^5). Exact integral of y dx with w = 1 - x^{1/5}:
        // B(6, 5)·5 = 5·5!·4!/10! = 1/252; 25 trapezoids stay within 10 % of it.
        let apart = area(&divergence_curve(&[1.0, 0.0], &[0.0, 1.0], 5.0, 25));
        assert!((apart - 1.0 / 252.0).abs() < 0.1 / 252.0, "{apart}");
    }

    #[test]
    fn area_is_symmetric_in_the_two_histograms() {
        let (p, q) = ([0.1, 0.2, 0.7], [0.5, 0.25, 0.25]);
        let one = area(&divergence_curve(&p, &q, 5.0, 25));
        let two = area(&divergence_curve(&q, &p, 5.0, 25));
        assert!((one - two).abs() < 1e-12);
        assert!(one > 0.0 && one < 1.0);
    }
}
