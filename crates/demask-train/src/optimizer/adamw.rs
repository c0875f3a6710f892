//! AdamW (arXiv 1711.05101, algorithm 2): the settings of a training, and its steps.

use demask_kernels::rowwise;

/// Settings of AdamW that hold for a whole training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// One step of all parameters: the settings with the number, the rate and the scale of this step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep(rowwise::AdamW);

impl AdamW {
    /// The step number `step` (from 1) at learning rate `lr`, with gradients times `grad_scale`.
    pub fn at(&self, step: u64, lr: f64, grad_scale: f64) -> AdamWStep {
        let [beta1, beta2] = self.betas;
        AdamWStep(rowwise::AdamW {
            lr,
            beta1,
            beta2,
            eps: self.eps,
            weight_decay: self.weight_decay,
            step,
            grad_scale,
        })
    }
}

impl AdamWStep {
    /// Updates `weights` and both moments in place; `decayed` applies the weight decay.
    ///
    /// All four slices hold one parameter and have the same length. The result does not depend on
    /// the number of threads: no value depends on another one.
    pub fn apply(
        &self,
        weights: &mut [f32],
        grad: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        decayed: bool,
    ) {
        let mut step = self.0;
        if !decayed {
            step.weight_decay = 0.0;
        }
        rowwise::adamw_step(&step, weights, grad, m, v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The algorithm of the paper, one value, all in f64.
    fn paper(adamw: &AdamW, lr: f64, grads: &[f64], mut w: f64) -> f64 {
        let [b1, b2] = adamw.betas;
        let (mut m, mut v) = (0.0, 0.0);
        for (i, g) in grads.iter().enumerate() {
            let t = (i + 1) as i32;
            w -= lr * adamw.weight_decay * w;
            m = b1 * m + (1.0 - b1) * g;
            v = b2 * v + (1.0 - b2) * g * g;
            let (m_hat, v_hat) = (m / (1.0 - b1.powi(t)), v / (1.0 - b2.powi(t)));
            w -= lr * m_hat / (v_hat.sqrt() + adamw.eps);
        }
        w
    }

    #[test]
    fn the_first_step_moves_by_the_rate() {
        let adamw = AdamW {
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
        };
        let (mut w, mut m, mut v) = ([1.0f32, 1.0], [0.0f32; 2], [0.0f32; 2]);
        adamw
            .at(1, 0.1, 1.0)
            .apply(&mut w, &[0.3, -7.0], &mut m, &mut v, true);
        assert!(
            (w[0] - 0.9).abs() < 1e-6 && (w[1] - 1.1).abs() < 1e-6,
            "{w:?}"
        );
        assert!(
            (m[0] - 0.03).abs() < 1e-8 && (v[0] - 9e-5).abs() < 1e-9,
            "{m:?} {v:?}"
        );
    }

    #[test]
    fn five_steps_follow_the_paper() {
        let adamw = AdamW {
            betas: [0.8, 0.95],
            eps: 1e-3,
            weight_decay: 0.2,
        };
        let grads = [0.5, -0.25, 0.125, 1.0, -2.0];
        let (mut w, mut m, mut v) = ([0.7f32], [0.0f32], [0.0f32]);
        for (i, g) in grads.iter().enumerate() {
            // A gradient of twice the size with a scale of a half is the same gradient.
            adamw.at(i as u64 + 1, 0.05, 0.5).apply(
                &mut w,
                &[2.0 * *g as f32],
                &mut m,
                &mut v,
                true,
            );
        }
        let want = paper(&adamw, 0.05, &grads, 0.7);
        assert!((f64::from(w[0]) - want).abs() < 1e-6, "{} {want}", w[0]);
    }

    #[test]
    fn decay_is_left_out_where_asked() {
        let adamw = AdamW {
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.5,
        };
        for (decayed, want) in [(true, 0.95f32), (false, 1.0)] {
            let (mut w, mut m, mut v) = ([1.0f32], [0.0f32], [0.0f32]);
            adamw
                .at(1, 0.1, 1.0)
                .apply(&mut w, &[0.0], &mut m, &mut v, decayed);
            assert_eq!(w[0], want);
        }
    }
}
