use burn::tensor::{Bool, Tensor, TensorData, activation};
use demask_kernels::Precision;

use super::{cpu, on_cpu};
use crate::RequestMask;

/// Scaled dot-product attention with grouped key heads:
/// `softmax(q kᵀ / √head + mask) v`.
///
/// Keys are the cached cells followed by the queries' own, so `keys - queries` cells are cached.
/// A query that sees no key gives zeros.
///
/// # Shapes
/// - `q`: `[batch, queries, heads, head]`
/// - `k`, `v`: `[batch, keys, kv_heads, head]`, `kv_heads` divides `heads`
/// - output: `[batch, queries, heads, head]`
///
/// The fast path multiplies in `precision`.
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: &RequestMask,
    precision: Precision,
) -> Tensor<4> {
    if on_cpu(&q.device()) {
        cpu::attention(q, k, v, mask, precision)
    } else {
        portable(q, k, v, mask)
    }
}

pub(super) fn portable(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: &RequestMask) -> Tensor<4> {
    let [batch, queries, heads, head] = q.dims();
    let [_, keys, kv_heads, _] = k.dims();
    let repeat = heads / kv_heads;
    // [batch, kv_heads, repeat, queries, head] against [batch, kv_heads, 1, keys, head].
    let group = |x: Tensor<4>, rows: usize| {
        x.swap_dims(1, 2)
            .reshape([batch, kv_heads, 1, rows, head])
            .expand([batch, kv_heads, repeat, rows, head])
            .reshape([batch, heads, rows, head])
    };
    let scores = q.swap_dims(1, 2).matmul(group(k, keys).swap_dims(2, 3));
    let scores = scores * (head as f64).sqrt().recip();
    let weights = if mask.is_full() {
        activation::softmax(scores, 3)
    } else {
        let mut hidden = Vec::with_capacity(batch * queries * keys);
        for b in 0..batch {
            for q in 0..queries {
                hidden.extend((0..keys).map(|k| !mask.sees(b, q, k)));
            }
        }
        let hidden = TensorData::new(hidden, [batch, 1, queries, keys]);
        let hidden = Tensor::<4, Bool>::from_data(hidden, &scores.device())
            .expand([batch, heads, queries, keys]);
        // A finite value keeps rows without any visible key from becoming NaN; the second fill
        // makes those rows zero.
        let weights = activation::softmax(scores.mask_fill(hidden.clone(), -1e30), 3);
        weights.mask_fill(hidden, 0.0)
    };
    weights.matmul(group(v, keys)).swap_dims(1, 2)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random};
    use super::*;
    use crate::{AttentionMask, MaskKind};

    /// The fast path in f32.
    fn exact(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: &RequestMask) -> Tensor<4> {
        cpu::attention(q, k, v, mask, Precision::F32)
    }

    /// The fast path in bf16.
    fn rounded(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: &RequestMask) -> Tensor<4> {
        cpu::attention(q, k, v, mask, Precision::Bf16)
    }

    #[test]
    fn attention_by_hand() {
        let d = device();
        // One head of width 1: scores q·k, two keys.
        let t = |v: [f32; 2]| Tensor::<1>::from_floats(v, &d).reshape([1, 2, 1, 1]);
        let (q, k, v) = (t([0.0, 1.0]), t([0.0, 3f32.ln()]), t([4.0, 8.0]));
        // Query 0: equal weights. Query 1: weights 1/4 and 3/4.
        let run = |mask: AttentionMask| {
            let mask = mask.for_request(1, 2, 0).unwrap();
            attention(q.clone(), k.clone(), v.clone(), &mask, Precision::F32)
        };
        close(run(AttentionMask::full()), t([6.0, 7.0]), 1e-6);
        close(run(AttentionMask::causal()), t([4.0, 7.0]), 1e-6);
    }

    #[test]
    fn a_query_without_keys_gives_zeros() {
        let d = device();
        let x = || random([1, 3, 2, 4], 1, &d);
        let mask = AttentionMask::full().with_key_lengths(vec![0]);
        let mask = mask.for_request(1, 3, 0).unwrap();
        for f in [exact, portable] {
            let y = f(x(), x(), x(), &mask)
                .into_data()
                .try_to_vec::<f32>()
                .unwrap();
            assert!(y.iter().all(|&v| v == 0.0));
        }
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        let cases = [
            (1, 1, 1, 1, 1, 8, AttentionMask::full()),
            (2, 7, 7, 4, 2, 6, AttentionMask::full()),
            (2, 5, 9, 4, 4, 16, AttentionMask::causal()),
            (
                2,
                40,
                40,
                2,
                1,
                24,
                AttentionMask::full().with_key_lengths(vec![40, 13]),
            ),
            (
                1,
                12,
                12,
                2,
                2,
                8,
                AttentionMask::bd3(vec![0, 0, 1, 1, 1, 2]),
            ),
            (
                2,
                33,
                33,
                2,
                1,
                8,
                AttentionMask {
                    kind: MaskKind::Opening {
                        open: 1 << 30,
                        seed: 5,
                    },
                    key_lengths: Some(vec![33, 20]),
                },
            ),
        ];
        for (batch, queries, keys, heads, kv, head, mask) in cases {
            type Op = fn(Tensor<4>, Tensor<4>, Tensor<4>, &RequestMask) -> Tensor<4>;
            let mask = mask.for_request(batch, queries, keys - queries).unwrap();
            let run = |f: Op| {
                let q = random([batch, queries, heads, head], 1, &d).require_grad();
                let k = random([batch, keys, kv, head], 2, &d).require_grad();
                let v = random([batch, keys, kv, head], 3, &d).require_grad();
                let y = f(q.clone(), k.clone(), v.clone(), &mask);
                let g = random([batch, queries, heads, head], 4, &d);
                let grads = (y.clone() * g).sum().backward();
                [
                    y.inner(),
                    q.grad(&grads).unwrap(),
                    k.grad(&grads).unwrap(),
                    v.grad(&grads).unwrap(),
                ]
            };
            let slow = run(portable);
            for (fast, slow) in run(exact).into_iter().zip(slow.clone()) {
                close(fast, slow, 1e-5);
            }
            for (fast, slow) in run(rounded).into_iter().zip(slow) {
                close(fast, slow, 2e-2);
            }
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        type Op = fn(Tensor<4>, Tensor<4>, Tensor<4>, &RequestMask) -> Tensor<4>;
        let kind = |kind| AttentionMask {
            kind,
            key_lengths: None,
        };
        let (open, blocks) = (1 << 30, vec![0, 0, 1, 1, 1, 2, 2]);
        for ([batch, queries, keys, heads, kv, head], mask) in [
            ([2, 5, 5, 3, 3, 7], AttentionMask::full()),
            (
                [2, 5, 5, 6, 2, 3],
                AttentionMask::full().with_key_lengths(vec![5, 2]),
            ),
            ([1, 5, 5, 2, 1, 5], AttentionMask::causal()),
            ([2, 3, 7, 2, 2, 5], AttentionMask::causal()),
            (
                [1, 7, 7, 2, 1, 5],
                kind(MaskKind::Opening { open, seed: 5 }),
            ),
            ([2, 5, 7, 4, 2, 3], kind(MaskKind::BlockCausal { blocks })),
            (
                [1, 10, 10, 2, 2, 3],
                AttentionMask::bd3(vec![0, 0, 1, 1, 2]),
            ),
        ] {
            let mask = mask.for_request(batch, queries, keys - queries).unwrap();
            let run = |t: &mut Leaves, f: Op| {
                let q = t.leaf([batch, queries, heads, head]) * 2.0;
                let [k, v] = [0, 1].map(|_| t.leaf([batch, keys, kv, head]));
                f(q, k, v, &mask)
            };
            gradients(|t| run(t, exact), |t| run(t, portable));
        }
        // Queries, keys and values that are one.
        let mask = AttentionMask::causal();
        let mask = mask.for_request(2, 5, 0).unwrap();
        let thrice = |t: &mut Leaves, f: Op| {
            let x = t.leaf([2, 5, 3, 7]);
            f(x.clone(), x.clone(), x, &mask)
        };
        gradients(|t| thrice(t, exact), |t| thrice(t, portable));
    }
}
