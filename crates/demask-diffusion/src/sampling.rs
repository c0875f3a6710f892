//! Pure functions on one row of logits or probabilities: draws, filters, confidences.
//!
//! Rows are slices of `f32` or `f64`; arithmetic is in `f64`. Low-precision Gumbel noise sharpens the distribution it
//! draws from (2409.02908), which flatters generative perplexity; nothing here draws below `f64`. Of equal values the
//! lower index wins.

use crate::Noise;

/// A number a row may consist of.
pub trait Number: Copy + Into<f64> {}

impl Number for f32 {}
impl Number for f64 {}

/// Upper limit of `-ln(-ln u)` over the uniforms of [`Noise`], whose largest is `1 - 2^-53`.
const GUMBEL_MAX: f64 = 36.75;

/// The index of the largest value; NaN never wins. 0 for an empty row.
pub fn argmax<N: Number>(row: &[N]) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, &x) in row.iter().enumerate() {
        let x: f64 = x.into();
        if x > best.1 {
            best = (i, x);
        }
    }
    best.0
}

/// A draw from `softmax(row / temperature)` by Gumbel-max: `argmax(z - T ln(-ln u))`.
///
/// This is LLaDA's `argmax(exp(z) / (-ln u)^T)` taken to the log domain, where it cannot overflow. Index `i` reads the
/// `i`-th uniform of the node, whatever the other logits are; minus infinity never wins. At temperature 0 (or below) it
/// is [`argmax`] and draws nothing.
pub fn gumbel_argmax<N: Number>(row: &[N], temperature: f64, noise: &Noise) -> usize {
    if temperature <= 0.0 {
        return argmax(row);
    }
    gumbel_argmax_with(row, temperature, noise.uniform_stream())
}

/// [`gumbel_argmax`] with the uniforms given, one for each value.
pub fn gumbel_argmax_with<N: Number>(
    row: &[N],
    temperature: f64,
    uniforms: impl IntoIterator<Item = f64>,
) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, (&z, u)) in row.iter().zip(uniforms).enumerate() {
        let z: f64 = z.into();
        // Even the luckiest draw would not win: spare the two logarithms.
        if z + temperature * GUMBEL_MAX <= best.1 {
            continue;
        }
        let score = z - temperature * (-u.ln()).ln();
        if score > best.1 {
            best = (i, score);
        }
    }
    best.0
}

/// The index at which the running sum of `weights` first exceeds `u` times their total: a draw from weights that need
/// not sum to one. Weights that are not above zero are never drawn. `u` in `[0, 1)`. 0 when no weight is above zero.
pub fn categorical<N: Number>(weights: &[N], u: f64) -> usize {
    let total: f64 = weights.iter().map(|&w| Into::<f64>::into(w).max(0.0)).sum();
    let (mut sum, mut last) = (0.0, 0);
    for (i, &w) in weights.iter().enumerate() {
        let w: f64 = w.into();
        if w > 0.0 {
            sum += w;
            last = i;
            if sum > u * total {
                return i;
            }
        }
    }
    last
}

/// `softmax(row / temperature)`; at temperature 0 or below all mass is on [`argmax`]. All zero where no value is above
/// minus infinity.
pub fn softmax<N: Number>(row: &[N], temperature: f64) -> Vec<f64> {
    if temperature <= 0.0 {
        let mut out = vec![0.0; row.len()];
        if let Some(top) = out.get_mut(argmax(row)) {
            *top = 1.0;
        }
        return out;
    }
    let largest = |row: &[f64]| row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut out: Vec<f64> = row.iter().map(|&z| z.into()).collect();
    let highest = largest(&out);
    if highest == f64::NEG_INFINITY {
        return vec![0.0; row.len()];
    }
    let mut top = highest / temperature;
    if top.is_finite() {
        out.iter_mut().for_each(|z| *z /= temperature);
    } else {
        // The quotient leaves the range of numbers at a tiny temperature, the differences to the largest do not matter
        // once they do. Only then, because they round otherwise and recorded draws are pinned to the bit.
        out.iter_mut()
            .for_each(|z| *z = (*z - highest) / temperature);
        top = 0.0;
    }
    let mut sum = 0.0;
    for x in &mut out {
        *x = (*x - top).exp();
        sum += *x;
    }
    out.iter_mut().for_each(|x| *x /= sum);
    out
}

/// Classifier-free guidance (2207.12598, as LLaDA writes it): `u + (w + 1)(c - u)`, in place of the conditional `c`.
///
/// Equal values stay what they are, minus infinities among them.
pub fn classifier_free(conditional: &mut [f32], unconditional: &[f32], w: f64) {
    let factor = w as f32 + 1.0;
    for (c, &u) in conditional.iter_mut().zip(unconditional) {
        if *c != u {
            *c = u + factor * (*c - u);
        }
    }
}

/// The log-softmax of a row, in place.
pub fn log_softmax(row: &mut [f64]) {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (x - top).exp()).sum();
    let norm = top + sum.ln();
    row.iter_mut().for_each(|x| *x -= norm);
}

/// What a nucleus does with the token whose mass crosses the threshold.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Crossing {
    /// Kept: a token goes when the mass *before* it exceeds `p` (Dream, and most samplers).
    #[default]
    Keep,
    /// Dropped: a token stays when the mass *up to* it is at most `p` (BD3-LM).
    Drop,
}

/// The indices of a row from its largest value down, the lower index first among equals.
fn descending<N: Number>(row: &[N]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| {
        let (x, y): (f64, f64) = (row[a].into(), row[b].into());
        y.total_cmp(&x).then(a.cmp(&b))
    });
    order
}

/// Which tokens stay in the nucleus of mass `p` of a distribution. The most likely one always stays; `p >= 1` keeps all.
pub fn top_p<N: Number>(probabilities: &[N], p: f64, crossing: Crossing) -> Vec<bool> {
    if p >= 1.0 {
        return vec![true; probabilities.len()];
    }
    let mut keep = vec![false; probabilities.len()];
    let mut before = 0.0;
    for (rank, i) in descending(probabilities).into_iter().enumerate() {
        let through = before + probabilities[i].into();
        let inside = match crossing {
            Crossing::Keep => before <= p,
            Crossing::Drop => through <= p,
        };
        if rank > 0 && !inside {
            break;
        }
        keep[i] = true;
        before = through;
    }
    keep
}

/// Which tokens stay when only the `k` largest may; all that equal the `k`-th stay too, as in the usual
/// `logits < topk(logits, k)[-1]`. `k = 0` or more than the row keeps all.
pub fn top_k<N: Number>(row: &[N], k: usize) -> Vec<bool> {
    if k == 0 || k >= row.len() {
        return vec![true; row.len()];
    }
    let mut values: Vec<f64> = row.iter().map(|&x| x.into()).collect();
    let (_, &mut least, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    row.iter().map(|&x| x.into() >= least).collect()
}

/// Sets the logits of the tokens that do not stay to minus infinity.
pub fn keep_logits(logits: &mut [f64], keep: &[bool]) {
    for (logit, &keep) in logits.iter_mut().zip(keep) {
        if !keep {
            *logit = f64::NEG_INFINITY;
        }
    }
}

/// Sets the probabilities of the tokens that do not stay to zero and scales the rest to sum to one.
pub fn keep_probabilities(probabilities: &mut [f64], keep: &[bool]) {
    let mut sum = 0.0;
    for (p, &keep) in probabilities.iter_mut().zip(keep) {
        if !keep {
            *p = 0.0;
        }
        sum += *p;
    }
    if sum > 0.0 {
        probabilities.iter_mut().for_each(|p| *p /= sum);
    }
}

/// Confidence of a token: its probability. 0 outside the row.
pub fn confidence_probability(probabilities: &[f64], token: usize) -> f64 {
    probabilities.get(token).copied().unwrap_or(0.0)
}

/// Confidence as the gap between the two most likely tokens (Dream's `topk_margin`); the whole mass when there is one.
pub fn confidence_margin(probabilities: &[f64]) -> f64 {
    let (mut first, mut second) = (0.0f64, 0.0f64);
    for &p in probabilities {
        if p > first {
            (first, second) = (p, first);
        } else if p > second {
            second = p;
        }
    }
    first - second
}

/// Confidence as negative entropy in nats, `sum p ln(p + 1e-10)`, with Dream's guard inside the logarithm.
pub fn confidence_neg_entropy(probabilities: &[f64]) -> f64 {
    probabilities.iter().map(|p| p * (p + 1e-10).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gumbel_frequencies_are_the_softmax() {
        // 1e5 draws from a fixed row of 8 at T = 0.7: every frequency within 1 % (absolute) of softmax(z/T).
        let row = [0.3f64, -1.2, 2.1, 0.0, 1.4, -0.4, 0.9, 1.9];
        let wanted = softmax(&row, 0.7);
        let mut counts = [0usize; 8];
        let root = Noise::new(11);
        for i in 0..100_000 {
            counts[gumbel_argmax(&row, 0.7, &root.child(i))] += 1;
        }
        for (count, p) in counts.iter().zip(wanted) {
            assert!((*count as f64 / 1e5 - p).abs() < 0.01, "{counts:?} {p}");
        }
    }

    #[test]
    fn gumbel_in_the_log_domain_is_the_published_form() {
        let row = [0.3f32, -1.2, 2.1, 0.0];
        for seed in 0..200 {
            let u = Noise::new(seed).uniforms(4);
            let published: Vec<f64> = row
                .iter()
                .zip(&u)
                .map(|(&z, u)| f64::from(z).exp() / (-u.ln()).powf(0.6))
                .collect();
            assert_eq!(gumbel_argmax_with(&row, 0.6, u), argmax(&published));
        }
    }

    #[test]
    fn shortcut_never_changes_a_draw() {
        let mut row = vec![0.0f64; 50];
        row[0] = 40.0;
        row[20] = 38.0;
        row[30] = f64::NEG_INFINITY;
        for seed in 0..500 {
            let noise = Noise::new(seed);
            let plain: Vec<f64> = row
                .iter()
                .zip(noise.uniforms(50))
                .map(|(z, u)| z - (-u.ln()).ln())
                .collect();
            assert_eq!(gumbel_argmax(&row, 1.0, &noise), argmax(&plain));
        }
        assert!(-(-(1.0f64 - f64::EPSILON / 2.0).ln()).ln() < GUMBEL_MAX);
    }

    #[test]
    fn zero_temperature_is_argmax_and_ties_go_low() {
        assert_eq!(gumbel_argmax(&[1.0f32, 3.0, 3.0], 0.0, &Noise::new(0)), 1);
        assert_eq!(argmax(&[f64::NAN, -1.0, f64::NAN]), 1);
        assert_eq!(softmax(&[0.0f32, 2.0], 0.0), [0.0, 1.0]);
    }

    #[test]
    fn a_tiny_temperature_is_nearly_zero() {
        // z/T overflows; both of the largest share, whatever their sign.
        for row in [[-3.0f32, 2.0, 2.0, 1.0], [-9.0, -2.0, -2.0, -4.0]] {
            assert_eq!(softmax(&row, 1e-320), [0.0, 0.5, 0.5, 0.0]);
        }
        let impossible = f32::NEG_INFINITY;
        assert_eq!(
            softmax(&[impossible, -1.0], f64::MIN_POSITIVE / 8.0),
            [0.0, 1.0]
        );
        assert_eq!(softmax(&[impossible; 2], 1.0), [0.0; 2]);
    }

    #[test]
    fn guidance_by_hand() {
        let mut row = [1.0, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
        classifier_free(&mut row, &[0.5, 2.0, f32::NEG_INFINITY, 1.0], 1.5);
        // 0.5 + 2.5 * 0.5
        assert_eq!(row, [1.75, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn categorical_inverts_the_sum() {
        let weights = [1.0f64, 0.0, 3.0];
        assert_eq!(
            [0.0, 0.24, 0.26, 0.999].map(|u| categorical(&weights, u)),
            [0, 0, 2, 2]
        );
        assert_eq!(categorical(&[0.0f64, 0.0], 0.5), 0);
        assert_eq!(categorical(&[0.0f64, 1.0, -1e-17], 1.0), 1);
    }

    #[test]
    fn nucleus_conventions_by_hand() {
        let row = [0.1f64, 0.5, 0.3, 0.1];
        // p = 0.6: 0.5 stays; 0.3 crosses 0.6; the mass before the first 0.1 is 0.8.
        assert_eq!(top_p(&row, 0.6, Crossing::Keep), [false, true, true, false]);
        assert_eq!(
            top_p(&row, 0.6, Crossing::Drop),
            [false, true, false, false]
        );
        assert_eq!(
            top_p(&row, 0.0, Crossing::Drop),
            [false, true, false, false]
        );
        assert_eq!(top_p(&row, 1.0, Crossing::Drop), [true; 4]);
        assert_eq!(
            top_p(&[0.25f64; 4], 0.5, Crossing::Drop),
            [true, true, false, false]
        );
    }

    #[test]
    fn top_k_keeps_ties() {
        assert_eq!(
            top_k(&[1.0f32, 3.0, 2.0, 2.0], 2),
            [false, true, true, true]
        );
        assert_eq!(top_k(&[1.0f32, 3.0, 2.0], 1), [false, true, false]);
        assert_eq!(top_k(&[1.0f32, 3.0], 0), [true, true]);
        assert_eq!(top_k(&[1.0f32, 3.0], 9), [true, true]);
    }

    #[test]
    fn confidences_by_hand() {
        let row = [0.5, 0.3, 0.2];
        assert_eq!(confidence_probability(&row, 1), 0.3);
        assert_eq!(confidence_probability(&row, 3), 0.0);
        assert!((confidence_margin(&row) - 0.2).abs() < 1e-15);
        assert!((confidence_neg_entropy(&row) + 1.029_653_014).abs() < 1e-8);
        assert!((confidence_neg_entropy(&[1.0, 0.0]) - 1e-10).abs() < 1e-12);
        assert_eq!(confidence_margin(&[1.0]), 1.0);
    }

    #[test]
    fn filters_apply() {
        let mut p = vec![0.5, 0.3, 0.2];
        keep_probabilities(&mut p, &[true, true, false]);
        assert!((p[0] - 0.625).abs() < 1e-15 && (p[1] - 0.375).abs() < 1e-15 && p[2] == 0.0);
        let mut z = vec![1.0, 2.0];
        keep_logits(&mut z, &[false, true]);
        assert_eq!(z, [f64::NEG_INFINITY, 2.0]);
    }

    proptest! {
        #[test]
        fn softmax_sums_to_one(row in prop::collection::vec(-50.0f64..50.0, 1..30), t in 0.05f64..3.0) {
            prop_assert!((softmax(&row, t).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }

        #[test]
        fn a_nucleus_that_keeps_holds_the_one_that_drops(
            row in prop::collection::vec(0.001f64..1.0, 1..30), p in 0.0f64..1.0,
        ) {
            let total: f64 = row.iter().sum();
            let row: Vec<f64> = row.iter().map(|x| x / total).collect();
            let keep = top_p(&row, p, Crossing::Keep);
            let drop = top_p(&row, p, Crossing::Drop);
            prop_assert!(keep.iter().zip(&drop).all(|(k, d)| *k || !d));
            prop_assert!(drop[argmax(&row)]);
            let mass: f64 = row.iter().zip(&keep).filter(|(_, k)| **k).map(|(x, _)| x).sum();
            prop_assert!(mass >= p - 1e-9);
        }
    }
}
