//! Masking: a token that is hit becomes the mask and stays it (D3PM 2107.03006; MDLM 2406.07524, equations 3 and 7).

use super::{Discrete, Process, check, corrupt_state};
use crate::{DiffusionError, Ids, Noise, Result, State, Time};

/// The absorbing process: `q(x_t | x_0) = alpha_t [x_0] + (1 - alpha_t) [mask]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absorbing {
    vocab: usize,
    mask: u32,
}

impl Absorbing {
    /// The process on `vocab` token values of which `mask` is one. An error when it is not.
    pub fn new(vocab: usize, mask: u32) -> Result<Self> {
        if mask as usize >= vocab {
            return Err(DiffusionError::Token {
                id: mask,
                place: format!("given as the mask of a vocabulary of {vocab}"),
                reason: "the mask must be one of the vocabulary's ids",
            });
        }
        Ok(Self { vocab, mask })
    }

    /// The chance that a masked cell is revealed on the way from noise level `p_t` to `p_s <= p_t`: `1 - p_s/p_t` (MDLM,
    /// equation 7). It does not look at the prediction, so a step may draw first which cells it reveals and ask the
    /// network about no others: the samples are those of [`Discrete::posterior`], and a step that reveals nothing needs
    /// no forward pass. (MDLM's `ddpm_cache` spares those passes by keeping the last prediction.)
    pub fn reveal_chance(p_s: f64, p_t: f64) -> f64 {
        1.0 - stay_chance(p_s, p_t)
    }

    /// The mask id.
    pub fn mask(&self) -> u32 {
        self.mask
    }

    /// [`Discrete::corrupt_ids`] with the uniforms given, row-major `[batch * length]`: a free cell is masked when its
    /// uniform is below `p`.
    pub fn corrupt_with(&self, clean: &Ids, p: &Time, free: &[bool], u: &[f64]) -> Result<Ids> {
        check(clean, p, free)?;
        if u.len() != clean.data().len() {
            return Err(DiffusionError::shape(
                "uniforms",
                clean.data().len(),
                u.len(),
            ));
        }
        let mut noisy = clean.clone();
        for (i, (b, l, _)) in clean.iter().enumerate() {
            if free[i] && u[i] < p.at(b, l) {
                noisy.data_mut()[i] = self.mask;
            }
        }
        Ok(noisy)
    }
}

/// The chance that a masked cell stays masked.
fn stay_chance(p_s: f64, p_t: f64) -> f64 {
    if p_t > 0.0 { p_s / p_t } else { 0.0 }
}

impl Process for Absorbing {
    fn name(&self) -> &'static str {
        "absorbing"
    }

    fn corrupt(&self, clean: &State, p: &Time, free: &[bool], noise: &Noise) -> Result<State> {
        corrupt_state(self, clean, p, free, noise)
    }
}

impl Discrete for Absorbing {
    fn vocab(&self) -> usize {
        self.vocab
    }

    fn corrupt_ids(&self, clean: &Ids, p: &Time, free: &[bool], noise: &Noise) -> Result<Ids> {
        let u: Vec<f64> = (0..clean.batch())
            .flat_map(|b| noise.child(b as u64).uniform_stream().take(clean.length()))
            .collect();
        self.corrupt_with(clean, p, free, &u)
    }

    /// A written token stays. A masked one stays masked with chance `p_s/p_t`, else it is drawn from `p_x0`. What
    /// `p_x0` puts on the mask counts as staying masked.
    fn posterior(&self, p_x0: &[f64], present: u32, p_s: f64, p_t: f64, out: &mut [f64]) {
        assert!(
            p_x0.len() == self.vocab && out.len() == self.vocab,
            "rows must be vocab wide"
        );
        if present != self.mask {
            out.fill(0.0);
            out[present as usize] = 1.0;
            return;
        }
        let stay = stay_chance(p_s, p_t);
        for (out, &p) in out.iter_mut().zip(p_x0) {
            *out = (1.0 - stay) * p;
        }
        out[self.mask as usize] += stay;
    }

    fn prior(&self, _noise: &Noise) -> u32 {
        self.mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posterior_by_hand() {
        let process = Absorbing::new(4, 3).unwrap();
        let mut out = [0.0; 4];
        // p_s/p_t = 0.2/0.8 = 1/4 stays; 3/4 is shared as 0.5, 0.3, 0.2.
        process.posterior(&[0.5, 0.3, 0.2, 0.0], 3, 0.2, 0.8, &mut out);
        for (found, wanted) in out.iter().zip([0.375, 0.225, 0.15, 0.25]) {
            assert!((found - wanted).abs() < 1e-15);
        }
        process.posterior(&[0.5, 0.3, 0.2, 0.0], 1, 0.2, 0.8, &mut out);
        assert_eq!(out, [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn masks_the_share_p_of_the_free_cells() {
        let process = Absorbing::new(10, 9).unwrap();
        let clean = Ids::filled(50, 200, 1);
        let free: Vec<bool> = (0..10_000).map(|i| i % 200 != 0).collect();
        let p = Time::per_sequence(vec![0.3; 50]);
        let noisy = process
            .corrupt_ids(&clean, &p, &free, &Noise::new(4))
            .unwrap();
        let masked = noisy.data().iter().filter(|&&id| id == 9).count();
        // 9950 free cells, 3 standard errors of a binomial: 2985 ± 137
        assert!((2848..3122).contains(&masked), "{masked}");
        assert!(noisy.rows().all(|row| row[0] == 1));
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours_or_its_length() {
        let process = Absorbing::new(10, 9).unwrap();
        let p = |b| Time::per_sequence(vec![0.5; b]);
        let noise = Noise::new(8);
        let two = process
            .corrupt_ids(&Ids::filled(2, 6, 1), &p(2), &[true; 12], &noise)
            .unwrap();
        let one = process
            .corrupt_ids(&Ids::filled(1, 4, 1), &p(1), &[true; 4], &noise)
            .unwrap();
        assert_eq!(two.row(0)[..4], *one.row(0));
    }

    #[test]
    fn wrong_shapes_and_masks_are_errors() {
        assert!(Absorbing::new(4, 4).is_err());
        let process = Absorbing::new(4, 3).unwrap();
        let (ids, p) = (Ids::filled(1, 2, 0), Time::per_sequence(vec![0.5]));
        assert!(
            process
                .corrupt_ids(&ids, &p, &[true], &Noise::new(0))
                .is_err()
        );
        assert!(process.corrupt_with(&ids, &p, &[true; 2], &[0.1]).is_err());
    }
}
