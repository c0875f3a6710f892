//! Which row is drawn when: a shuffled order that is computed, not stored.

use demask_diffusion::Noise;

/// A shuffled endless order over the rows of several sources.
///
/// Draw `k` is a function of the seed and `k` alone. In each round of `T = sum_s w_s n_s` draws a
/// source of `n_s` rows and weight `w_s` has `w_s n_s` turns, and over all rounds each of its rows
/// has been drawn equally often, give or take one.
#[derive(Debug, Clone)]
pub struct Order {
    noise: Noise,
    /// Rows and turns a round of each source.
    sources: Vec<(u64, u64)>,
    round: u64,
}

/// A drawn row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Which source.
    pub source: usize,
    /// Which row of it.
    pub row: usize,
    /// How many times all its rows were drawn before.
    pub pass: u64,
}

impl Order {
    /// An order over sources given as `(rows, weight)`; every source needs at least one row.
    pub fn new(noise: Noise, sources: &[(usize, f64)]) -> Self {
        let sources: Vec<(u64, u64)> = sources
            .iter()
            .map(|(rows, weight)| {
                (
                    *rows as u64,
                    ((*rows as f64 * weight).round() as u64).max(1),
                )
            })
            .collect();
        let round = sources.iter().map(|(_, turns)| turns).sum();
        Self {
            noise,
            sources,
            round,
        }
    }

    /// Draws of one round: with all weights 1, the number of rows.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Draw number `k`.
    pub fn draw(&self, k: u64) -> Draw {
        let round = k / self.round;
        let mut place = permute(self.noise.child(0).child(round), self.round, k % self.round);
        let mut source = 0;
        while place >= self.sources[source].1 {
            place -= self.sources[source].1;
            source += 1;
        }
        let (rows, turns) = self.sources[source];
        let turn = round * turns + place;
        let pass = turn / rows;
        let noise = self.noise.child(1).child(source as u64).child(pass);
        Draw {
            source,
            row: permute(noise, rows, turn % rows) as usize,
            pass,
        }
    }
}

/// The image of `x` under a pseudo-random permutation of `0..n`: a four-round Feistel network on
/// the next even number of bits, walked until it lands below `n` (Black and Rogaway 2002).
fn permute(noise: Noise, n: u64, x: u64) -> u64 {
    if n < 2 {
        return 0;
    }
    let half = (64 - (n - 1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half) - 1;
    let keys: Vec<u64> = noise.uniforms(4).iter().map(|u| u.to_bits()).collect();
    let mut x = x;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for key in &keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        x = (left << half) | right;
        if x < n {
            return x;
        }
    }
}

/// Finaliser of SplitMix64.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_hits_everything_once() {
        for n in [1u64, 2, 3, 5, 64, 100, 1000] {
            let mut seen = vec![false; n as usize];
            for x in 0..n {
                let y = permute(Noise::new(3), n, x) as usize;
                assert!(!std::mem::replace(&mut seen[y], true), "{n}: {y} twice");
            }
        }
    }

    #[test]
    fn a_round_draws_each_row_as_often_as_its_weight() {
        let order = Order::new(Noise::new(1), &[(10, 1.0), (4, 2.0)]);
        assert_eq!(order.round(), 18);
        let mut counts = [vec![0; 10], vec![0; 4]];
        for k in 0..18 {
            let draw = order.draw(k);
            counts[draw.source][draw.row] += 1;
        }
        assert_eq!(counts, [vec![1; 10], vec![2; 4]]);
    }

    #[test]
    fn a_broken_weight_evens_out_over_rounds() {
        // 3 rows of weight 0.5 have 2 turns a round: after 3 rounds each row was drawn twice.
        let order = Order::new(Noise::new(1), &[(3, 0.5)]);
        let mut counts = [0; 3];
        for k in 0..6 {
            counts[order.draw(k).row] += 1;
        }
        assert_eq!(counts, [2, 2, 2]);
    }

    #[test]
    fn rounds_and_seeds_have_orders_of_their_own() {
        let rows = |seed: u64, from: u64| -> Vec<usize> {
            let order = Order::new(Noise::new(seed), &[(50, 1.0)]);
            (from..from + 50).map(|k| order.draw(k).row).collect()
        };
        assert_eq!(rows(1, 0), rows(1, 0));
        assert_ne!(rows(1, 0), rows(1, 50));
        assert_ne!(rows(1, 0), rows(2, 0));
    }
}
