//! The k largest logits of a row.

use crate::rowwise::get_or;
use crate::simd::{LANES, Simd};

/// The largest logits so far with their tokens, falling; of equals the lower token first. Neither NaN nor −∞.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Largest {
    k: usize,
    list: Vec<(u32, f32)>,
}

impl Largest {
    pub fn new(k: usize) -> Self {
        Self {
            k,
            list: Vec::new(),
        }
    }

    pub fn into_list(self) -> Vec<(u32, f32)> {
        self.list
    }

    /// What a value must exceed.
    fn limit(&self) -> f32 {
        match self.list.get(self.k.wrapping_sub(1)) {
            Some(last) => last.1,
            None => f32::NEG_INFINITY,
        }
    }

    /// Takes in the tokens from `first` on, the largest of which is `top`.
    #[inline(always)]
    pub fn fold<S: Simd>(&mut self, s: S, x: &[f32], first: usize, top: f32) {
        if self.k == 0 || top <= self.limit() {
            return;
        }
        for j in (0..x.len()).step_by(LANES) {
            let z = get_or(s, x, j, f32::NEG_INFINITY);
            let mut mask = s.lt_mask(s.splat(self.limit()), z);
            while mask != 0 {
                let at = j + mask.trailing_zeros() as usize;
                self.insert((first + at) as u32, x[at]);
                mask &= mask - 1;
            }
        }
    }

    /// This and what comes after it.
    pub fn add(&mut self, later: &Self) {
        for &(token, z) in &later.list {
            self.insert(token, z);
        }
    }

    fn insert(&mut self, token: u32, z: f32) {
        if z > self.limit() {
            let place = self.list.partition_point(|(_, other)| *other >= z);
            self.list.truncate(self.k - 1);
            self.list.insert(place, (token, z));
        }
    }
}
