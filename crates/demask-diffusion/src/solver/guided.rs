//! Classifier-free guidance of a reverse step (D-CFG: UDLM 2412.10193): a network that knows a condition and
//! one that does not are mixed as `p ∝ p_c^gamma p_u^(1 - gamma)`. `gamma` 0 is the one without the condition, 1 the one
//! with it, and above 1 the condition counts for more than the network itself gives it.
//!
//! What is mixed differs by process, as the authors' sampler has it:
//! - masked: the predictions of `x_0`, and the posterior is taken of the mix. On logits this is
//!   [`classifier_free`](crate::sampling::classifier_free) with `w = gamma - 1`.
//! - uniform: the posteriors of the two predictions.

use crate::process::{Absorbing, Discrete, Uniform};

/// `cond^gamma uncond^(1 - gamma)`, normalised, in the place of `cond`. Both are distributions over the same values.
///
/// With `gamma` 0 or 1 the result is one of the two to the bit. Else a value that either rules out stays ruled out: for
/// `0 < gamma < 1` this is the formula; for the others, whose negative power of zero is infinite, a value would win that
/// one side merely underflowed on. Where no value is left the two contradict each other and `cond` stays as it is.
/// Panics when the lengths differ.
pub fn mix(cond: &mut [f64], uncond: &[f64], gamma: f64) {
    assert_eq!(cond.len(), uncond.len(), "rows must be of one width");
    if gamma == 1.0 {
        return;
    }
    if gamma == 0.0 {
        cond.copy_from_slice(uncond);
        return;
    }
    let log = |c: f64, u: f64| {
        if c > 0.0 && u > 0.0 {
            gamma * c.ln() + (1.0 - gamma) * u.ln()
        } else {
            f64::NEG_INFINITY
        }
    };
    let pairs = cond.iter().zip(uncond);
    let most = pairs.fold(f64::NEG_INFINITY, |most, (&c, &u)| most.max(log(c, u)));
    if most == f64::NEG_INFINITY {
        return;
    }
    let mut total = 0.0;
    for (c, &u) in cond.iter_mut().zip(uncond) {
        *c = (log(*c, u) - most).exp();
        total += *c;
    }
    cond.iter_mut().for_each(|c| *c /= total);
}

/// Two predictions of `x_0` for one cell, each a distribution over the vocabulary, and how strongly the condition counts.
#[derive(Clone, Copy, Debug)]
pub struct Guided<'a> {
    /// With the condition.
    pub cond: &'a [f64],
    /// Without it.
    pub uncond: &'a [f64],
    /// A finite number.
    pub gamma: f64,
}

impl Guided<'_> {
    /// The guided `q(x_s | x_t)` of masking: the [posterior](Discrete::posterior) of the mixed prediction. Arguments and
    /// panics are those of the posterior.
    pub fn masked(&self, process: &Absorbing, present: u32, p_s: f64, p_t: f64, out: &mut [f64]) {
        let mut prediction = self.cond.to_vec();
        mix(&mut prediction, self.uncond, self.gamma);
        process.posterior(&prediction, present, p_s, p_t, out);
    }

    /// The guided `q(x_s | x_t)` of uniform noise: the mix of the [posteriors](Discrete::posterior) of both predictions.
    /// Arguments and panics are those of the posterior.
    pub fn uniform(&self, process: &Uniform, present: u32, p_s: f64, p_t: f64, out: &mut [f64]) {
        process.posterior(self.cond, present, p_s, p_t, out);
        let mut uncond = vec![0.0; out.len()];
        process.posterior(self.uncond, present, p_s, p_t, &mut uncond);
        mix(out, &uncond, self.gamma);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::classifier_free;

    fn close(found: &[f64], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        for (a, b) in found.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-12, "{found:?} is not {wanted:?}");
        }
    }

    fn mixed(cond: &[f64], uncond: &[f64], gamma: f64) -> Vec<f64> {
        let mut out = cond.to_vec();
        mix(&mut out, uncond, gamma);
        out
    }

    #[test]
    fn the_mix_by_hand() {
        // 0.5²/0.8 = 0.3125 and 0.5²/0.2 = 1.25, of 1.5625.
        close(&mixed(&[0.5, 0.5], &[0.8, 0.2], 2.0), &[0.2, 0.8]);
        // Geometric means: √0.4 : √0.1 = 2 : 1.
        close(
            &mixed(&[0.5, 0.5], &[0.8, 0.2], 0.5),
            &[2.0 / 3.0, 1.0 / 3.0],
        );
        // Away from the condition: 0.8²/0.5 = 1.28 and 0.2²/0.5 = 0.08.
        close(
            &mixed(&[0.5, 0.5], &[0.8, 0.2], -1.0),
            &[16.0 / 17.0, 1.0 / 17.0],
        );
    }

    #[test]
    fn zero_and_one_are_the_one_or_the_other_to_the_bit() {
        let (cond, uncond) = ([0.1, 0.7, 0.2, 0.0], [0.3, 0.3, 0.0, 0.4]);
        assert_eq!(mixed(&cond, &uncond, 1.0), cond);
        assert_eq!(mixed(&cond, &uncond, 0.0), uncond);
        let process = Uniform::new(4).unwrap();
        let masks = Absorbing::new(4, 3).unwrap();
        for (gamma, one) in [(1.0, &cond), (0.0, &uncond)] {
            let guided = Guided {
                cond: &cond,
                uncond: &uncond,
                gamma,
            };
            let (mut found, mut wanted) = ([0.0; 4], [0.0; 4]);
            guided.uniform(&process, 1, 0.2, 0.6, &mut found);
            process.posterior(one, 1, 0.2, 0.6, &mut wanted);
            assert_eq!(found, wanted);
            guided.masked(&masks, 3, 0.2, 0.6, &mut found);
            masks.posterior(one, 3, 0.2, 0.6, &mut wanted);
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn what_one_side_rules_out_stays_out() {
        // The last value is in neither, the middle ones in one each.
        let (cond, uncond) = ([0.5, 0.5, 0.0, 0.0], [0.6, 0.0, 0.4, 0.0]);
        for gamma in [-1.0, 0.5, 3.0] {
            assert_eq!(mixed(&cond, &uncond, gamma), [1.0, 0.0, 0.0, 0.0]);
        }
        assert_eq!(mixed(&[1.0, 0.0], &[0.0, 1.0], 2.0), [1.0, 0.0]);
        // Powers of tiny numbers do not underflow together.
        close(
            &mixed(&[1e-200, 1e-201], &[1e-300, 1e-300], 3.0),
            &[1000.0 / 1001.0, 1.0 / 1001.0],
        );
    }

    #[test]
    fn the_masked_step_by_hand() {
        // The mix for gamma 2 is (0.2, 0.8); a quarter stays masked.
        let guided = Guided {
            cond: &[0.5, 0.5, 0.0],
            uncond: &[0.8, 0.2, 0.0],
            gamma: 2.0,
        };
        let process = Absorbing::new(3, 2).unwrap();
        let mut out = [0.0; 3];
        guided.masked(&process, 2, 0.2, 0.8, &mut out);
        close(&out, &[0.15, 0.6, 0.25]);
        guided.masked(&process, 0, 0.2, 0.8, &mut out);
        assert_eq!(out, [1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_uniform_step_by_hand() {
        // V = 2, alpha_s = 0.8, alpha_t = 0.4, z = 0. For x = (0.75, 0.25) the posterior is (0.875, 0.125), see
        // `process::Uniform`; for (0.25, 0.75): 0.8*0.25 + 0.1 + 0.4*0.25 + 0.05 = 0.45 and 0.4*0.75 + 0.05 = 0.35 of 0.8.
        let guided = Guided {
            cond: &[0.75, 0.25],
            uncond: &[0.25, 0.75],
            gamma: 2.0,
        };
        let mut out = [0.0; 2];
        guided.uniform(&Uniform::new(2).unwrap(), 0, 0.2, 0.6, &mut out);
        // 0.875²/0.5625 = 49/36 and 0.125²/0.4375 = 1/28: 343 to 9 over 252.
        close(&out, &[343.0 / 352.0, 9.0 / 352.0]);
    }

    #[test]
    fn on_logits_the_mix_is_the_known_guidance() {
        let (c, u) = ([1.0_f32, -0.5, 2.0], [0.5_f32, 0.0, -1.0]);
        let softmax = |z: &[f32]| {
            let weights = z.iter().map(|z| f64::from(*z).exp());
            let total: f64 = weights.clone().sum();
            weights.map(|w| w / total).collect::<Vec<_>>()
        };
        let mut logits = c;
        classifier_free(&mut logits, &u, 1.5);
        // Exact in f32: the numbers are short in base two.
        close(&mixed(&softmax(&c), &softmax(&u), 2.5), &softmax(&logits));
    }
}
