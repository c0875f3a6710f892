//! Attention of sequences with keys of their own.

use rayon::prelude::*;

use super::{HeadsMut, HeadsRef, KeyRanges, Precision, attention_forward, check};
use crate::element::Element;
use crate::threads;

/// One sequence: its queries, and all keys and values that it has, new and old. A batch of 1 each.
#[derive(Debug)]
pub struct Sequence<'a, K = f32> {
    /// `[1, q_len, heads, head_dim]`.
    pub q: HeadsRef<'a>,
    /// `[1, k_len, kv_heads, head_dim]`.
    pub k: HeadsRef<'a, K>,
    /// As `k`.
    pub v: HeadsRef<'a, K>,
    /// Which keys a query sees.
    pub ranges: &'a KeyRanges,
    /// The result, as `q`.
    pub out: HeadsMut<'a>,
}

/// [`attention_forward`] of several sequences at once, which need not have equally many keys: the same
/// bits as one after the other, but small ones share the threads among them.
///
/// # Panics
/// When the shapes of a sequence do not fit together.
pub fn attention_sequences<K: Element>(
    sequences: Vec<Sequence<'_, K>>,
    scale: f32,
    precision: Precision,
) {
    let work = |s: &Sequence<'_, K>| {
        let [batch, _, heads, dim] = s.q.dims();
        let pairs = 4usize.saturating_mul(s.ranges.pairs(batch));
        pairs.saturating_mul(heads.saturating_mul(dim))
    };
    let total = sequences.iter().map(work).fold(0, usize::saturating_add);
    if sequences.len() == 1 || total < threads::SMALL || threads::count() == 1 {
        sequences
            .into_iter()
            .for_each(|s| forward(s, scale, precision));
    } else {
        let each = sequences.into_par_iter().with_max_len(1);
        each.for_each(|s| forward(s, scale, precision));
    }
}

fn forward<K: Element>(s: Sequence<'_, K>, scale: f32, precision: Precision) {
    let [batch, queries, heads, _] = s.q.dims();
    // Before memory is asked for.
    check(&s.q, &s.k, &s.v, s.ranges);
    let rows = batch.saturating_mul(queries);
    let mut lse = vec![0.0; rows.saturating_mul(heads)];
    attention_forward(s.q, s.k, s.v, s.ranges, scale, precision, s.out, &mut lse);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Lcg;
    use crate::threads::with_threads;

    #[test]
    fn the_bits_are_those_of_each_alone() {
        let (heads, kv, dim, queries) = (4, 2, 16, 3);
        let keys = [3, 100, 900];
        let q = Lcg(1).vec(3 * queries * heads * dim);
        let k = Lcg(2).vec(900 * kv * dim);
        let v = Lcg(3).vec(900 * kv * dim);
        let row = queries * heads * dim;
        let own = [1, queries, heads, dim];
        let ranges = keys.map(|n| KeyRanges::causal(queries, n));
        let result = |run: &(dyn Fn(Vec<Sequence<'_>>) + Sync)| {
            let mut out = vec![0.0; 3 * row];
            let parts = out.chunks_exact_mut(row).enumerate();
            let sequence = |(b, out): (usize, _)| {
                let all = [1, keys[b], kv, dim];
                Sequence {
                    q: HeadsRef::new(&q[b * row..][..row], own),
                    k: HeadsRef::new(&k, all),
                    v: HeadsRef::new(&v, all),
                    ranges: &ranges[b],
                    out: HeadsMut::new(out, own),
                }
            };
            run(parts.map(sequence).collect());
            out
        };
        let alone = result(&|all| {
            all.into_iter()
                .for_each(|s| forward(s, 0.25, Precision::F32))
        });
        for threads in [1, 2] {
            let together = result(&|all| {
                with_threads(threads, || attention_sequences(all, 0.25, Precision::F32))
            });
            assert_eq!(together, alone);
        }
    }
}
