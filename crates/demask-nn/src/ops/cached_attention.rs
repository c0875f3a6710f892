use burn::tensor::Tensor;
use demask_kernels::Precision;

use super::attention::portable;
use super::{cpu, on_cpu};
use crate::RequestMask;
use crate::cache::CachedLayer;

/// [`attention`](fn@super::attention) of sequences that each have keys and values cached. The new
/// ones are appended, then every sequence attends to all of its own.
///
/// `masks` holds the mask of each sequence, over its cached keys and the new ones.
///
/// # Shapes
/// - `q`, output: `[batch, queries, heads, head]`
/// - `k`, `v`: `[batch, queries, kv_heads, head]`
pub(crate) fn cached_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    layers: &mut [&mut CachedLayer],
    masks: &[RequestMask],
    precision: Precision,
) -> Tensor<4> {
    if on_cpu(&q.device()) {
        cpu::cached_attention(q, k, v, layers, masks, precision)
    } else {
        one_by_one(q, k, v, layers, masks)
    }
}

fn one_by_one(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    layers: &mut [&mut CachedLayer],
    masks: &[RequestMask],
) -> Tensor<4> {
    let device = q.device();
    let [_, queries, kv_heads, head] = k.dims();
    let sequence = |b: usize| {
        let layer = &mut *layers[b];
        let new = |x: &Tensor<4>| x.clone().narrow(0, b, 1);
        let rows = |x: Tensor<4>| x.reshape([queries, kv_heads, head]);
        layer.keys.append(rows(new(&k)));
        layer.values.append(rows(new(&v)));
        let k = layer.keys.tensor(0, &device).unsqueeze();
        let v = layer.values.tensor(0, &device).unsqueeze();
        portable(new(&q), k, v, &masks[b])
    };
    Tensor::cat((0..masks.len()).map(sequence).collect(), 0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, device, random};
    use super::*;
    use crate::AttentionMask;
    use crate::cache::CachedRows;

    /// The fast path in f32.
    fn exact(
        q: Tensor<4>,
        k: Tensor<4>,
        v: Tensor<4>,
        layers: &mut [&mut CachedLayer],
        masks: &[RequestMask],
    ) -> Tensor<4> {
        cpu::cached_attention(q, k, v, layers, masks, Precision::F32)
    }

    #[test]
    fn both_paths_are_attention_over_all_keys() {
        let d = device();
        let (heads, kv, head) = (4, 2, 8);
        let mask = AttentionMask::causal();
        // Three sequences with 0, 3 and 70 cached cells, five new ones each.
        let cached = [0usize, 3, 70];
        let q = random([3, 5, heads, head], 1, &d);
        let (k, v) = (
            random([3, 5, kv, head], 2, &d),
            random([3, 5, kv, head], 3, &d),
        );
        type Op = fn(
            Tensor<4>,
            Tensor<4>,
            Tensor<4>,
            &mut [&mut CachedLayer],
            &[RequestMask],
        ) -> Tensor<4>;
        for (op, host) in [(exact as Op, true), (one_by_one as Op, false)] {
            let mut layers: Vec<CachedLayer> = Vec::new();
            let mut expected = Vec::new();
            for (b, &n) in cached.iter().enumerate() {
                let mut layer = CachedLayer::default();
                let new = |x: &Tensor<4>| x.clone().narrow(0, b, 1);
                let (mut keys, mut values) = (new(&k), new(&v));
                if n > 0 {
                    let old = |seed| random([1, n, kv, head], seed, &d);
                    let rows = |seed| old(seed).reshape([n, kv, head]);
                    if host {
                        layer.keys.append(rows(10 + n as u64));
                        layer.values.append(rows(90 + n as u64));
                    } else {
                        layer.keys = CachedRows::Device(rows(10 + n as u64));
                        layer.values = CachedRows::Device(rows(90 + n as u64));
                    }
                    keys = Tensor::cat(vec![old(10 + n as u64), keys], 1);
                    values = Tensor::cat(vec![old(90 + n as u64), values], 1);
                }
                let mask = mask.for_request(1, 5, n).unwrap();
                expected.push(portable(new(&q), keys, values, &mask));
                layers.push(layer);
            }
            let masks: Vec<RequestMask> = cached
                .iter()
                .map(|&n| mask.for_request(1, 5, n).unwrap())
                .collect();
            let mut layers: Vec<&mut CachedLayer> = layers.iter_mut().collect();
            let found = op(q.clone(), k.clone(), v.clone(), &mut layers, &masks);
            close(found, Tensor::cat(expected, 0), 1e-5);
            assert_eq!(layers[2].keys.tensor(0, &d).dims(), [75, kv, head]);
        }
    }
}
