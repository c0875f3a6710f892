//! One step of AdamW.

use super::{get, over_values, put, same_len};
use crate::memory::MutPtr;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// The numbers of an AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate η.
    pub lr: f64,
    /// Decay β₁ of the mean of gradients.
    pub beta1: f64,
    /// Decay β₂ of the mean of squared gradients.
    pub beta2: f64,
    /// ε, added to the root.
    pub eps: f64,
    /// Decoupled weight decay λ.
    pub weight_decay: f64,
    /// Number t of this step, from 1.
    pub step: u64,
    /// Factor c on the gradient (clipping, accumulation, loss scale).
    pub grad_scale: f64,
}

/// One step of AdamW with bias correction and decoupled weight decay (Loshchilov & Hutter, 2017, algorithm 2):
///
/// ```text
/// g ← c·g
/// m ← β₁·m + (1 − β₁)·g           v ← β₂·v + (1 − β₂)·g²
/// θ ← θ − η·λ·θ − η · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
/// ```
///
/// All factors are computed in f64 and rounded once: near the first step 1 − βᵗ would lose most of its digits in f32.
///
/// # Panics
/// When the slices differ in length or `step` is 0.
pub fn adamw_step(set: &AdamW, param: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32]) {
    same_len("adamw_step", param.len(), &[grad.len(), m.len(), v.len()]);
    assert!(set.step > 0, "adamw_step: steps are counted from 1");
    let correction = |beta: f64| 1.0 - beta.powf(set.step as f64);
    let rates = Rates {
        grad_scale: set.grad_scale as f32,
        betas: [set.beta1 as f32, set.beta2 as f32],
        fresh: [(1.0 - set.beta1) as f32, (1.0 - set.beta2) as f32],
        step_size: (set.lr / correction(set.beta1)) as f32,
        root_scale: (1.0 / correction(set.beta2).sqrt()) as f32,
        eps: set.eps as f32,
        keep: (1.0 - set.lr * set.weight_decay) as f32,
    };
    let isa = Isa::detect();
    let [p, m, v] = [param, m, v].map(|x| MutPtr(x.as_mut_ptr()));
    over_values(grad.len(), 20, |a, b| {
        // SAFETY: parts do not overlap.
        let [param, m, v] = [p, m, v].map(|x| unsafe { x.slice(a, b - a) });
        dispatch(
            isa,
            Step {
                rates,
                param,
                grad: &grad[a..b],
                m,
                v,
            },
        );
    });
}

#[derive(Clone, Copy)]
struct Rates {
    grad_scale: f32,
    betas: [f32; 2],
    fresh: [f32; 2],
    step_size: f32,
    root_scale: f32,
    eps: f32,
    keep: f32,
}

struct Step<'a> {
    rates: Rates,
    param: &'a mut [f32],
    grad: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Rates {
            grad_scale,
            betas,
            fresh,
            step_size,
            root_scale,
            eps,
            keep,
        } = self.rates;
        for j in (0..self.grad.len()).step_by(LANES) {
            let g = s.mul(get(s, self.grad, j), s.splat(grad_scale));
            let new = s.mul(g, s.splat(fresh[0]));
            let m = s.fma(get(s, self.m, j), s.splat(betas[0]), new);
            let new = s.mul(s.mul(g, g), s.splat(fresh[1]));
            let v = s.fma(get(s, self.v, j), s.splat(betas[1]), new);
            let root = s.fma(s.sqrt(v), s.splat(root_scale), s.splat(eps));
            let update = s.div(s.mul(m, s.splat(step_size)), root);
            let p = s.sub(s.mul(get(s, self.param, j), s.splat(keep)), update);
            put(s, self.m, j, m);
            put(s, self.v, j, v);
            put(s, self.param, j, p);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;

    #[test]
    fn three_steps_match_f64() {
        let mut rng = Lcg(14);
        let start = rng.vec(133);
        let grads: Vec<Vec<f32>> = (0..3).map(|_| rng.vec(133)).collect();
        let mut set = AdamW {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            step: 0,
            grad_scale: 0.5,
        };
        with_every_isa(|_| {
            let (mut p, mut m, mut v) = (start.clone(), vec![0.0; 133], vec![0.0; 133]);
            for (t, g) in grads.iter().enumerate() {
                set.step = t as u64 + 1;
                adamw_step(&set, &mut p, g, &mut m, &mut v);
            }
            for i in 0..133 {
                let (mut p64, mut m64, mut v64) = (f64::from(start[i]), 0.0, 0.0);
                for (t, g) in (1..).zip(&grads) {
                    let g = 0.5 * f64::from(g[i]);
                    m64 = 0.9 * m64 + 0.1 * g;
                    v64 = 0.999 * v64 + 0.001 * g * g;
                    let (mh, vh) = (m64 / (1.0 - 0.9f64.powi(t)), v64 / (1.0 - 0.999f64.powi(t)));
                    p64 -= 0.01 * 0.1 * p64 + 0.01 * mh / (vh.sqrt() + 1e-8);
                }
                assert!(
                    (f64::from(p[i]) - p64).abs() < 1e-6,
                    "{} against {p64}",
                    p[i]
                );
            }
        });
    }

    #[test]
    fn the_first_step_has_the_size_of_the_rate() {
        let set = AdamW {
            lr: 0.5,
            beta1: 0.9,
            beta2: 0.95,
            eps: 0.0,
            weight_decay: 0.0,
            step: 1,
            grad_scale: 1.0,
        };
        let (mut p, mut m, mut v) = ([1.0f32, 1.0], [0.0; 2], [0.0; 2]);
        adamw_step(&set, &mut p, &[3.0, -0.01], &mut m, &mut v);
        assert!((p[0] - 0.5).abs() < 1e-5 && (p[1] - 1.5).abs() < 1e-5);
    }
}
