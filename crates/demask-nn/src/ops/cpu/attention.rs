use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexTensor;
use demask_kernels::attention::{
    HeadsMut, HeadsRef, KeptHeads, KeyRanges, Sequence, attention_backward, attention_forward,
    attention_sequences,
};
use demask_kernels::{Element, Precision};

use tracing::span::EnteredSpan;

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::cache::{CachedLayer, CachedRows};
use crate::{RequestMask, span};

#[backend_extension(Flex, Autodiff)]
trait AttentionBackend: Backend {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        ranges: Arc<KeyRanges>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// Tiled attention; shapes as in [`attention`](fn@crate::ops::attention).
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: &RequestMask,
    precision: Precision,
) -> Tensor<4> {
    let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
    let y = <Dispatch as AttentionBackend>::attention(q, k, v, mask.ranges(), precision);
    Tensor::from_dispatch(y)
}

/// Attention over cached and new keys; as in `ops::cached_attention`.
pub fn cached_attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    layers: &mut [&mut CachedLayer],
    masks: &[RequestMask],
    precision: Precision,
) -> Tensor<4> {
    let (q_dims, [_, queries, kv_heads, head], device) = (q.dims(), k.dims(), q.device());
    let [q, k, v] = [q, k, v].map(Tensor::into_data);
    let [q, k, v] = [&q, &k, &v].map(|x| x.as_slice::<f32>().expect("activations are f32"));
    let (heads, new) = ([kv_heads, head], queries * kv_heads * head);
    for (b, layer) in layers.iter_mut().enumerate() {
        let CachedLayer { keys, values } = &mut **layer;
        keys.append_values(&k[b * new..][..new], heads, precision);
        values.append_values(&v[b * new..][..new], heads, precision);
    }
    let ranges: Vec<Arc<KeyRanges>> = masks.iter().map(RequestMask::ranges).collect();
    let pairs = ranges.iter().map(|ranges| ranges.pairs(1)).sum();
    let _span = attended(pairs, q_dims, precision);
    let out = match precision {
        Precision::F32 => over_cached(q, q_dims, layers, &ranges, precision, |rows| match rows {
            CachedRows::Host(rows) => Some(rows),
            _ => None,
        }),
        Precision::Bf16 => over_cached(q, q_dims, layers, &ranges, precision, |rows| match rows {
            CachedRows::HostBf16(rows) => Some(rows),
            _ => None,
        }),
    };
    Tensor::from_data(TensorData::new(out, q_dims), &device)
}

/// Attention of each sequence over all keys of its layer, as `read` finds them in memory: `append_values` left them
/// so that it does.
fn over_cached<K: Element>(
    q: &[f32],
    q_dims: [usize; 4],
    layers: &[&mut CachedLayer],
    ranges: &[Arc<KeyRanges>],
    precision: Precision,
    read: impl Fn(&CachedRows) -> Option<&KeptHeads<K>>,
) -> Vec<f32> {
    let [_, queries, heads, head] = q_dims;
    let row = queries * heads * head;
    let read = |rows| read(rows).expect("rows of this precision");
    let mut out = vec![0.0; q.len()];
    let sequences = out.chunks_exact_mut(row).enumerate().map(|(b, out)| {
        let own = [1, queries, heads, head];
        Sequence {
            q: HeadsRef::new(&q[b * row..][..row], own),
            k: read(&layers[b].keys).view(),
            v: read(&layers[b].values).view(),
            ranges: &ranges[b],
            out: HeadsMut::new(out, own),
        }
    });
    attention_sequences(sequences.collect(), scale(q_dims), precision);
    out
}

impl AttentionBackend for Flex {
    fn attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        ranges: Arc<KeyRanges>,
        precision: Precision,
    ) -> FlexTensor {
        forward(&q, &k, &v, &ranges, precision).0
    }
}

impl<C: CheckpointStrategy> AttentionBackend for Autodiff<Flex, C> {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        ranges: Arc<KeyRanges>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        register::<C, _, 3>([q, k, v], |[q, k, v]| {
            let (out, lse) = forward(&q, &k, &v, &ranges, precision);
            let saved = Saved {
                q,
                k,
                v,
                out: out.clone(),
                lse: lse.into(),
                ranges,
                precision,
            };
            (out, saved)
        })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    out: FlexTensor,
    lse: Arc<[f32]>,
    ranges: Arc<KeyRanges>,
    precision: Precision,
}

impl Gradient<3> for Saved {
    fn inputs(self, output: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let (q_dims, k_dims) = (dims::<4>(&self.q), dims::<4>(&self.k));
        let [q, k, v, out, dout] =
            [&self.q, &self.k, &self.v, &self.out, &output].map(Contiguous::new);
        let _span = attended_back(self.ranges.pairs(q_dims[0]), q_dims, self.precision);
        let mut dq = vec![0.0; q.values().len()];
        let mut dk = vec![0.0; k.values().len()];
        let mut dv = vec![0.0; v.values().len()];
        attention_backward(
            HeadsRef::new(q.values(), q_dims),
            HeadsRef::new(k.values(), k_dims),
            HeadsRef::new(v.values(), k_dims),
            &self.ranges,
            scale(q_dims),
            self.precision,
            HeadsRef::new(out.values(), q_dims),
            &self.lse,
            HeadsRef::new(dout.values(), q_dims),
            HeadsMut::new(&mut dq, q_dims),
            HeadsMut::new(&mut dk, k_dims),
            HeadsMut::new(&mut dv, k_dims),
        );
        [
            Some(tensor(dq, q_dims)),
            Some(tensor(dk, k_dims)),
            Some(tensor(dv, k_dims)),
        ]
    }
}

/// The span of `pairs` queries and keys a head.
pub(super) fn attended(
    pairs: usize,
    [.., heads, head]: [usize; 4],
    precision: Precision,
) -> EnteredSpan {
    span::product("attention", precision.name(), 4 * pairs * heads * head)
}

/// The same of the way back, which has five products for the two there.
pub(super) fn attended_back(
    pairs: usize,
    [.., heads, head]: [usize; 4],
    precision: Precision,
) -> EnteredSpan {
    let work = 10 * pairs * heads * head;
    span::product("attention backward", precision.name(), work)
}

pub(super) fn scale([.., head]: [usize; 4]) -> f32 {
    (head as f32).sqrt().recip()
}

/// The output and the log-sum-exp of each query.
fn forward(
    q: &FlexTensor,
    k: &FlexTensor,
    v: &FlexTensor,
    ranges: &KeyRanges,
    precision: Precision,
) -> (FlexTensor, Vec<f32>) {
    let (q_dims, k_dims) = (dims::<4>(q), dims::<4>(k));
    let [batch, queries, heads, _] = q_dims;
    let _span = attended(ranges.pairs(batch), q_dims, precision);
    let [q, k, v] = [q, k, v].map(Contiguous::new);
    let mut out = vec![0.0; q.values().len()];
    let mut lse = vec![0.0; batch * heads * queries];
    attention_forward(
        HeadsRef::new(q.values(), q_dims),
        HeadsRef::new(k.values(), k_dims),
        HeadsRef::new(v.values(), k_dims),
        ranges,
        scale(q_dims),
        precision,
        HeadsMut::new(&mut out, q_dims),
        &mut lse,
    );
    (tensor(out, q_dims), lse)
}
