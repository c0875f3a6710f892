//! Uniform noise: a token that is hit becomes any token (D3PM 2107.03006; UDLM 2412.10193, equations 11 to 15).

use super::{Discrete, Process, check, corrupt_state};
use crate::{DiffusionError, Ids, Noise, Result, State, Time};

/// The uniform process: `q(x_t | x_0) = alpha_t [x_0] + (1 - alpha_t)/V` on every token.
///
/// A token that is hit may be drawn as itself. `V` counts the *values* of the noise: every column of the vocabulary but
/// the mask, wherever it lies. The published vocabularies of uniform noise have no mask; begin, end and unknown tokens
/// occur in texts and are values like any other. Objective, prior and posterior all ask this type what the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uniform {
    vocab: usize,
    mask: Option<u32>,
}

impl Uniform {
    /// The process on `vocab >= 2` token values.
    pub fn new(vocab: usize) -> Result<Self> {
        Self::without(vocab, None)
    }

    /// The process on a vocabulary of `vocab` columns, of which `mask` is no value. A mask outside the columns takes
    /// none away. An error when fewer than two values are left.
    pub fn without(vocab: usize, mask: Option<u32>) -> Result<Self> {
        let mask = mask.filter(|&mask| (mask as usize) < vocab);
        let process = Self { vocab, mask };
        if process.values() < 2 {
            return Err(DiffusionError::setting(
                "vocab",
                vocab,
                "uniform noise needs two tokens besides the mask",
            ));
        }
        Ok(process)
    }

    /// `V`: how many tokens the noise may be.
    pub fn values(&self) -> usize {
        self.vocab - usize::from(self.mask.is_some())
    }

    /// The column that is no value.
    pub fn mask(&self) -> Option<u32> {
        self.mask
    }

    /// The token at a uniform number in `[0, 1)`, each as likely.
    pub fn token_at(&self, u: f64) -> u32 {
        let place = ((u * self.values() as f64) as usize).min(self.values() - 1) as u32;
        place + u32::from(self.mask.is_some_and(|mask| place >= mask))
    }

    /// The place of a token among the values: its column once the mask is taken out.
    pub fn place(&self, id: u32) -> u32 {
        id - u32::from(self.mask.is_some_and(|mask| id > mask))
    }

    /// [`Discrete::corrupt_ids`] with the draws given, row-major `[batch * length]`: a free cell becomes `token[i]`
    /// when `u[i]` is below `p`.
    pub fn corrupt_with(
        &self,
        clean: &Ids,
        p: &Time,
        free: &[bool],
        u: &[f64],
        tokens: &[u32],
    ) -> Result<Ids> {
        check(clean, p, free)?;
        let cells = clean.data().len();
        if u.len() != cells || tokens.len() != cells {
            return Err(DiffusionError::shape(
                "draws",
                (cells, cells),
                (u.len(), tokens.len()),
            ));
        }
        let mut noisy = clean.clone();
        for (i, (b, l, _)) in clean.iter().enumerate() {
            if free[i] && u[i] < p.at(b, l) {
                noisy.data_mut()[i] = tokens[i];
            }
        }
        Ok(noisy)
    }
}

impl Process for Uniform {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn corrupt(&self, clean: &State, p: &Time, free: &[bool], noise: &Noise) -> Result<State> {
        corrupt_state(self, clean, p, free, noise)
    }
}

impl Discrete for Uniform {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn corrupt_ids(&self, clean: &Ids, p: &Time, free: &[bool], noise: &Noise) -> Result<Ids> {
        let (mut u, mut tokens) = (Vec::new(), Vec::new());
        for b in 0..clean.batch() {
            // Two uniforms a cell, so that position l reads the same numbers in rows of any length.
            let mut stream = noise.child(b as u64).uniform_stream();
            for _ in 0..clean.length() {
                u.extend(stream.next());
                tokens.extend(stream.next().map(|u| self.token_at(u)));
            }
        }
        self.corrupt_with(clean, p, free, &u, &tokens)
    }

    /// With `a = alpha_t/alpha_s` and `z` the present token,
    ///
    /// `q(x_s=j) = [ V alpha_t x_j 1(j=z) + (a - alpha_t) 1(j=z) + (alpha_s - alpha_t) x_j + (1-a)(1-alpha_s)/V ]
    ///           / [ V alpha_t x_z + 1 - alpha_t ]`
    ///
    /// (UDLM, equation 15). For a soft `x` this is the same ratio with `x` replaced, as UDLM defines its reverse
    /// process, not the average of the posteriors of each `x_0`. A prediction gives the mask nothing, and gets nothing.
    fn posterior(&self, p_x0: &[f64], present: u32, p_s: f64, p_t: f64, out: &mut [f64]) {
        assert!(
            p_x0.len() == self.vocab && out.len() == self.vocab,
            "rows must be vocab wide"
        );
        let (v, z) = (self.values() as f64, present as usize);
        let (alpha_s, alpha_t) = (1.0 - p_s, 1.0 - p_t);
        let a = if alpha_s > 0.0 {
            alpha_t / alpha_s
        } else {
            0.0
        };
        let norm = v * alpha_t * p_x0[z] + p_t;
        if norm <= 0.0 {
            // No noise at t, yet a token that the prediction rules out: it can only stay.
            out.fill(0.0);
            out[z] = 1.0;
            return;
        }
        let floor = (1.0 - a) * p_s / v;
        for (out, &x) in out.iter_mut().zip(p_x0) {
            *out = ((alpha_s - alpha_t) * x + floor) / norm;
        }
        out[z] += (v * alpha_t * p_x0[z] + a - alpha_t) / norm;
        if let Some(mask) = self.mask {
            out[mask as usize] = 0.0;
        }
    }

    fn prior(&self, noise: &Noise) -> u32 {
        self.token_at(noise.uniform())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `q(x_t | x_s)` of uniform noise between two levels.
    fn kernel(v: usize, alpha: f64, from: usize, to: usize) -> f64 {
        alpha * f64::from(u8::from(from == to)) + (1.0 - alpha) / v as f64
    }

    #[test]
    fn posterior_is_bayes_by_enumeration() {
        let v = 5;
        let process = Uniform::new(v).unwrap();
        for (p_s, p_t) in [(0.1, 0.4), (0.0, 0.3), (0.5, 0.99), (0.7, 1.0), (0.2, 0.2)] {
            let (alpha_s, alpha_t) = (1.0 - p_s, 1.0 - p_t);
            for x0 in 0..v {
                for z in 0..v {
                    let joint: Vec<f64> = (0..v)
                        .map(|j| kernel(v, alpha_s, x0, j) * kernel(v, alpha_t / alpha_s, j, z))
                        .collect();
                    let total: f64 = joint.iter().sum();
                    let mut one_hot = vec![0.0; v];
                    one_hot[x0] = 1.0;
                    let mut out = vec![0.0; v];
                    process.posterior(&one_hot, z as u32, p_s, p_t, &mut out);
                    for (found, joint) in out.iter().zip(joint) {
                        assert!(
                            (found - joint / total).abs() < 1e-12,
                            "{p_s} {p_t} {x0} {z}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn posterior_by_hand() {
        // V = 2, alpha_s = 0.8, alpha_t = 0.4, a = 0.5, x = (0.75, 0.25), z = 0:
        // numerators 2*0.4*0.75 + 0.1 + 0.4*0.75 + 0.5*0.2/2 = 1.05 and 0.4*0.25 + 0.05 = 0.15, denominator 1.2.
        let mut out = [0.0; 2];
        Uniform::new(2)
            .unwrap()
            .posterior(&[0.75, 0.25], 0, 0.2, 0.6, &mut out);
        assert!(
            (out[0] - 0.875).abs() < 1e-15 && (out[1] - 0.125).abs() < 1e-15,
            "{out:?}"
        );
    }

    proptest! {
        #[test]
        fn posterior_rows_sum_to_one(
            raw in prop::collection::vec(0.0f64..1.0, 6),
            z in 0u32..6, p_t in 0.01f64..=1.0, share in 0.0f64..=1.0,
        ) {
            let total: f64 = raw.iter().sum::<f64>() + 1e-9;
            let mut x: Vec<f64> = raw.iter().map(|r| r / total).collect();
            x[0] += 1.0 - x.iter().sum::<f64>();
            let mut out = vec![0.0; 6];
            Uniform::new(6).unwrap().posterior(&x, z, share * p_t, p_t, &mut out);
            prop_assert!((out.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(out.iter().all(|&q| q >= -1e-12));
        }
    }

    #[test]
    fn the_mask_is_no_value_wherever_it_lies() {
        for (mask, wanted) in [(0, [1, 2, 3]), (1, [0, 2, 3]), (3, [0, 1, 2])] {
            let process = Uniform::without(4, Some(mask)).unwrap();
            assert_eq!((process.values(), process.vocab()), (3, 4));
            assert_eq!([0.0, 0.5, 0.999].map(|u| process.token_at(u)), wanted);
            assert_eq!(wanted.map(|id| process.place(id)), [0, 1, 2]);
            // The posterior of the three values, with a zero in the place of the mask.
            let (mut plain, mut out) = ([0.0; 3], [9.0; 4]);
            let x = [0.5, 0.3, 0.2];
            Uniform::new(3)
                .unwrap()
                .posterior(&x, 1, 0.2, 0.6, &mut plain);
            let mut wide = x.to_vec();
            wide.insert(mask as usize, 0.0);
            process.posterior(&wide, wanted[1], 0.2, 0.6, &mut out);
            assert_eq!(out[mask as usize], 0.0);
            assert_eq!(wanted.map(|id| out[id as usize]), plain);
            let p = Time::per_sequence(vec![1.0]);
            let clean = Ids::filled(1, 500, wanted[0]);
            let noisy = process
                .corrupt_ids(&clean, &p, &[true; 500], &Noise::new(1))
                .unwrap();
            assert!(noisy.data().iter().all(|&id| id != mask && id < 4));
        }
        assert_eq!(Uniform::without(4, Some(4)).unwrap().values(), 4);
        assert!(Uniform::without(2, Some(0)).is_err());
    }

    #[test]
    fn hits_the_share_p() {
        let process = Uniform::new(8).unwrap();
        let p = Time::per_sequence(vec![0.5; 100]);
        let noisy = process
            .corrupt_ids(
                &Ids::filled(100, 100, 3),
                &p,
                &[true; 10_000],
                &Noise::new(2),
            )
            .unwrap();
        let mut counts = [0usize; 8];
        noisy.data().iter().for_each(|&id| counts[id as usize] += 1);
        // Every other token with chance 1/16 (625 ± 73), the old one with 9/16.
        assert!(
            counts
                .iter()
                .enumerate()
                .all(|(i, &c)| i == 3 || (552..698).contains(&c)),
            "{counts:?}"
        );
    }
}
