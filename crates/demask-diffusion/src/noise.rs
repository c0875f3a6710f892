//! The only source of randomness: a tree of streams.
//!
//! A [`Noise`] is a node of an infinite tree. A child is found by hashing the path, so the stream of
//! (sample 3, step 17, position 5) is the same whether sample 3 is decoded alone, in a batch, or on another thread,
//! and nothing has to be stored or advanced.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A node in the tree of random streams.
///
/// Drawing does not change a node: two calls of [`Noise::uniform`] on one node give the same number. Take another
/// [`child`](Noise::child), or one [`rng`](Noise::rng), for each thing that must be independent.
///
/// ```
/// use demask_diffusion::Noise;
/// let sample = Noise::new(7).child(3);
/// assert_eq!(sample.child(1).uniform(), Noise::new(7).child(3).child(1).uniform());
/// assert_ne!(sample.child(1).uniform(), sample.child(2).uniform());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Noise {
    path: [u64; 2],
}

/// Finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64 bits in which every input bit reaches every
/// output bit.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const SILVER: u64 = 0x6a09_e667_f3bc_c909;

/// The open interval (0, 1): the 2^52 midpoints of equal cells, so that `ln u` and `ln(-ln u)` are finite.
fn open(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

impl Noise {
    /// The root of the tree of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self {
            path: [mix(seed.wrapping_add(GOLDEN)), mix(seed ^ SILVER)],
        }
    }

    /// The child named `label`. Children of one node with different labels are different nodes, and the order of
    /// labels matters: `child(1).child(2)` is not `child(2).child(1)`. Costs a few multiplications.
    #[must_use]
    pub const fn child(&self, label: u64) -> Self {
        let [a, b] = self.path;
        let name = mix(label.wrapping_add(GOLDEN));
        // For a fixed parent both halves are bijections of the label.
        let first = mix(a ^ name);
        let second = mix(b.wrapping_add(name).rotate_left(23) ^ SILVER);
        Self {
            path: [first, mix(second ^ a.rotate_left(32))],
        }
    }

    /// The stream of this node, from its beginning: the keystream of ChaCha8 under [`key`](Self::key).
    pub fn rng(&self) -> ChaCha8Rng {
        let mut seed = [0u8; 32];
        for (bytes, word) in seed.chunks_exact_mut(4).zip(self.key()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(seed)
    }

    /// The key of this node's stream, for whoever computes its numbers at any place at once.
    pub fn key(&self) -> [u32; 8] {
        let words = [self.path[0], self.path[1], GOLDEN, SILVER];
        let mut key = [0; 8];
        for (pair, word) in key.chunks_exact_mut(2).zip(words) {
            pair.copy_from_slice(&[word as u32, (word >> 32) as u32]);
        }
        key
    }

    /// One uniform in the open interval (0, 1), with 52 random bits.
    pub fn uniform(&self) -> f64 {
        open(self.rng().next_u64())
    }

    /// The first `n` uniforms in (0, 1) of this node's stream. A longer call has the shorter one as its beginning, so a
    /// row of `n` cells may read its uniforms by position.
    pub fn uniforms(&self, n: usize) -> Vec<f64> {
        self.uniform_stream().take(n).collect()
    }

    /// The uniforms of this node's stream, without end.
    pub fn uniform_stream(&self) -> impl Iterator<Item = f64> + use<> {
        let mut rng = self.rng();
        std::iter::repeat_with(move || open(rng.next_u64()))
    }

    /// A whole number in `0..n`, each equally likely; 0 when `n` is 0.
    pub fn below(&self, n: usize) -> usize {
        if n == 0 {
            0
        } else {
            self.rng().random_range(0..n as u64) as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_is_open() {
        assert!(open(0) > 0.0);
        assert!(open(u64::MAX) < 1.0);
        assert_eq!(open(u64::MAX), 1.0 - f64::EPSILON / 2.0);
    }

    #[test]
    fn children_are_indexed_by_their_path() {
        let root = Noise::new(1);
        assert_eq!(root.child(4).child(9), Noise::new(1).child(4).child(9));
        assert_ne!(root.child(4).child(9), root.child(9).child(4));
        assert_ne!(root.child(0), root);
        assert_ne!(Noise::new(0).child(1), Noise::new(1).child(0));
        let mut seen = std::collections::HashSet::new();
        for i in 0..100 {
            for j in 0..100 {
                assert!(seen.insert(root.child(i).child(j)));
            }
        }
    }

    #[test]
    fn uniforms_are_a_prefix() {
        let node = Noise::new(3).child(8);
        assert_eq!(node.uniforms(10)[..4], node.uniforms(4));
        assert_eq!(node.uniforms(1)[0], node.uniform());
    }

    #[test]
    fn moments_over_children() {
        // One draw from each of many siblings: mean 1/2, variance 1/12, and no correlation between neighbours.
        let n = 20_000;
        let draws: Vec<f64> = (0..n).map(|i| Noise::new(5).child(i).uniform()).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / n as f64;
        let lag = draws
            .windows(2)
            .map(|w| (w[0] - 0.5) * (w[1] - 0.5))
            .sum::<f64>()
            / n as f64;
        assert!(
            (mean - 0.5).abs() < 3.0 * (1.0f64 / 12.0 / n as f64).sqrt(),
            "{mean}"
        );
        assert!((variance - 1.0 / 12.0).abs() < 2e-3, "{variance}");
        assert!(lag.abs() < 3.0 / 12.0 / (n as f64).sqrt(), "{lag}");
    }

    #[test]
    fn below_covers_the_range() {
        let mut counts = [0usize; 5];
        for i in 0..5000 {
            counts[Noise::new(2).child(i).below(5)] += 1;
        }
        assert!(
            counts.iter().all(|&c| (900..1100).contains(&c)),
            "{counts:?}"
        );
        assert_eq!(Noise::new(2).below(0), 0);
    }

    #[test]
    fn the_stream_is_pinned() {
        // The bits of a seed are part of the contract: a saved configuration must give the same text for ever.
        assert_eq!(Noise::new(0).rng().next_u64(), PINNED);
    }

    const PINNED: u64 = 6_654_951_012_456_754_742;
}
