//! Cross-entropy of logits against a target class.

use super::{get, get_or, put, row_count, same_len};
use crate::memory::MutPtr;
use crate::simd::math::exp;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// `loss = log Σ exp(logits) − logits[target]` of each row, and that log-sum-exp for the backward pass.
///
/// A negative target is ignored: its loss is 0.
///
/// # Shapes
/// `logits`: `[rows, n]`; `targets`, `loss`, `lse`: `[rows]`.
///
/// # Panics
/// When the shapes do not fit together or a target is `n` or more.
pub fn cross_entropy(logits: &[f32], n: usize, targets: &[i64], loss: &mut [f32], lse: &mut [f32]) {
    let rows = row_count("cross_entropy", logits.len(), n);
    same_len(
        "cross_entropy",
        rows,
        &[targets.len(), loss.len(), lse.len()],
    );
    check_targets(targets, n);
    let isa = Isa::detect();
    let (loss, lse) = (MutPtr(loss.as_mut_ptr()), MutPtr(lse.as_mut_ptr()));
    threads::over_rows(rows, logits.len() * 10, |a, b| {
        // SAFETY: parts do not overlap.
        let (loss, lse) = unsafe { (loss.slice(a, b - a), lse.slice(a, b - a)) };
        let (logits, targets) = (&logits[a * n..b * n], &targets[a..b]);
        dispatch(
            isa,
            Forward {
                logits,
                n,
                targets,
                loss,
                lse,
            },
        );
    });
}

/// Gradient of [`cross_entropy`], in the place of the logits: `(softmax(logits) − onehot(target)) · dloss`; 0 in
/// rows whose target is negative.
///
/// # Shapes
/// As in [`cross_entropy`]; `lse` from the forward pass, `dloss`: `[rows]`.
///
/// # Panics
/// When the shapes do not fit together or a target is `n` or more.
pub fn cross_entropy_backward(
    logits: &mut [f32],
    n: usize,
    targets: &[i64],
    lse: &[f32],
    dloss: &[f32],
) {
    let rows = row_count("cross_entropy_backward", logits.len(), n);
    same_len(
        "cross_entropy_backward",
        rows,
        &[targets.len(), lse.len(), dloss.len()],
    );
    check_targets(targets, n);
    let (isa, work, logits) = (
        Isa::detect(),
        logits.len() * 10,
        MutPtr(logits.as_mut_ptr()),
    );
    threads::over_rows(rows, work, |a, b| {
        // SAFETY: parts do not overlap.
        let x = unsafe { logits.slice(a * n, (b - a) * n) };
        let (targets, lse, dloss) = (&targets[a..b], &lse[a..b], &dloss[a..b]);
        dispatch(
            isa,
            Backward {
                x,
                n,
                targets,
                lse,
                dloss,
            },
        );
    });
}

/// Largest value of a row and the sum of `exp(x − largest)`; the shift is 0 when all are −∞.
#[inline(always)]
fn shift_and_sum<S: Simd>(s: S, x: &[f32]) -> (f32, f32) {
    let low = f32::NEG_INFINITY;
    let mut top = s.splat(low);
    for j in (0..x.len()).step_by(LANES) {
        top = s.max(top, get_or(s, x, j, low));
    }
    let top = s.max_lane(top);
    let shift = if top == low { 0.0 } else { top };
    let mut sum = s.splat(0.0);
    for j in (0..x.len()).step_by(LANES) {
        sum = s.add(sum, exp(s, s.sub(get_or(s, x, j, low), s.splat(shift))));
    }
    (shift, s.sum(sum))
}

fn check_targets(targets: &[i64], n: usize) {
    if let Some(t) = targets.iter().find(|&&t| t >= n as i64) {
        panic!("cross_entropy: target {t} is not one of the {n} classes");
    }
}

struct Forward<'a> {
    logits: &'a [f32],
    n: usize,
    targets: &'a [i64],
    loss: &'a mut [f32],
    lse: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, x) in self.logits.chunks_exact(self.n).enumerate() {
            let (shift, sum) = shift_and_sum(s, x);
            self.lse[i] = shift + sum.ln();
            self.loss[i] = match usize::try_from(self.targets[i]) {
                // The difference to the shift first: exact where the target is the largest.
                Ok(t) => (shift - x[t]) + sum.ln(),
                Err(_) => 0.0,
            };
        }
    }
}

struct Backward<'a> {
    x: &'a mut [f32],
    n: usize,
    targets: &'a [i64],
    lse: &'a [f32],
    dloss: &'a [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, x) in self.x.chunks_exact_mut(self.n).enumerate() {
            let Ok(target) = usize::try_from(self.targets[i]) else {
                x.fill(0.0);
                continue;
            };
            let (lse, g) = (s.splat(self.lse[i]), s.splat(self.dloss[i]));
            for j in (0..x.len()).step_by(LANES) {
                let p = exp(s, s.sub(get(s, x, j), lse));
                put(s, x, j, s.mul(p, g));
            }
            x[target] -= self.dloss[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::{Lcg, scaled_error};
    use proptest::prelude::*;

    /// Logits up to `high` on either side.
    fn check(n: usize, targets: &[i64], high: f32, seed: u64) {
        let (rows, mut rng) = (targets.len(), Lcg(seed));
        let x: Vec<f32> = rng.vec(rows * n).into_iter().map(|x| high * x).collect();
        let g = rng.vec(rows);
        let (mut loss64, mut grad64) = (vec![], vec![]);
        for i in 0..rows {
            let row = &x[i * n..(i + 1) * n];
            let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let t = usize::try_from(targets[i]).ok();
            loss64.push(t.map_or(0.0, |t| total.ln() - f64::from(row[t])));
            for (j, &x) in row.iter().enumerate() {
                let hit = if t == Some(j) { 1.0 } else { 0.0 };
                let d = (f64::from(x).exp() / total - hit) * f64::from(g[i]);
                grad64.push(if t.is_some() { d } else { 0.0 });
            }
        }
        // A log-sum-exp and a difference to it are rounded by as much as they are large.
        let most = 4e-7 * f64::from(high + 4.0);
        with_every_isa(|isa| {
            let (mut loss, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
            cross_entropy(&x, n, targets, &mut loss, &mut lse);
            let mut grad = x.clone();
            cross_entropy_backward(&mut grad, n, targets, &lse, &g);
            let ones = vec![1.0; grad.len()];
            for (got, want) in [(&loss, &loss64), (&grad, &grad64)] {
                let error = scaled_error(got, want, &ones[..got.len()]);
                assert!(error < most, "{rows} x {n} on {}: {error:e}", isa.name());
            }
        });
    }

    #[test]
    fn matches_f64_and_ignores_negative_targets() {
        check(301, &[0, 300, -1, 17, 16], 8.0, 11);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn random_classes_match_f64(
            n in 1usize..400,
            targets in proptest::collection::vec(-80i64..400, 1..20),
            high in 0.1f32..80.0,
            seed in 1u64..1000,
        ) {
            let targets: Vec<i64> = targets.into_iter().map(|t| t.min(n as i64 - 1)).collect();
            check(n, &targets, high, seed);
        }
    }

    #[test]
    #[should_panic(expected = "target 3 is not one of the 3 classes")]
    fn targets_beyond_the_classes_are_named() {
        cross_entropy(&[0.0; 3], 3, &[3], &mut [0.0], &mut [0.0]);
    }
}
