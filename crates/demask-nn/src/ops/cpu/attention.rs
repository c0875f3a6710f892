use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::attention::{
    HeadsMut, HeadsRef, KeyRanges, attention_backward, attention_forward,
};

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::RequestMask;

#[backend_extension(Flex, Autodiff)]
trait AttentionBackend: Backend {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        ranges: Arc<KeyRanges>,
    ) -> FloatTensor<Self>;
}

/// Tiled attention; shapes as in [`attention`](fn@crate::ops::attention).
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: &RequestMask) -> Tensor<4> {
    let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
    let y = <Dispatch as AttentionBackend>::attention(q, k, v, mask.ranges());
    Tensor::from_dispatch(y)
}

impl AttentionBackend for Flex {
    fn attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        ranges: Arc<KeyRanges>,
    ) -> FlexTensor {
        forward(&q, &k, &v, &ranges).0
    }
}

impl<C: CheckpointStrategy> AttentionBackend for Autodiff<Flex, C> {
    fn attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        ranges: Arc<KeyRanges>,
    ) -> FloatTensor<Self> {
        register::<C, _, 3>([q, k, v], |[q, k, v]| {
            let (out, lse) = forward(&q, &k, &v, &ranges);
            let saved = Saved {
                q,
                k,
                v,
                out: out.clone(),
                lse: lse.into(),
                ranges,
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
}

impl Gradient<3> for Saved {
    fn inputs(self, output: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let (q_dims, k_dims) = (dims::<4>(&self.q), dims::<4>(&self.k));
        let [q, k, v, out, dout] =
            [&self.q, &self.k, &self.v, &self.out, &output].map(Contiguous::new);
        let mut dq = vec![0.0; q.values().len()];
        let mut dk = vec![0.0; k.values().len()];
        let mut dv = vec![0.0; v.values().len()];
        attention_backward(
            HeadsRef::new(q.values(), q_dims),
            HeadsRef::new(k.values(), k_dims),
            HeadsRef::new(v.values(), k_dims),
            &self.ranges,
            scale(q_dims),
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

fn scale([.., head]: [usize; 4]) -> f32 {
    (head as f32).sqrt().recip()
}

/// The output and the log-sum-exp of each query.
fn forward(
    q: &FlexTensor,
    k: &FlexTensor,
    v: &FlexTensor,
    ranges: &KeyRanges,
) -> (FlexTensor, Vec<f32>) {
    let (q_dims, k_dims) = (dims::<4>(q), dims::<4>(k));
    let [batch, queries, heads, _] = q_dims;
    let [q, k, v] = [q, k, v].map(Contiguous::new);
    let mut out = vec![0.0; q.values().len()];
    let mut lse = vec![0.0; batch * heads * queries];
    attention_forward(
        HeadsRef::new(q.values(), q_dims),
        HeadsRef::new(k.values(), k_dims),
        HeadsRef::new(v.values(), k_dims),
        ranges,
        scale(q_dims),
        HeadsMut::new(&mut out, q_dims),
        &mut lse,
    );
    (tensor(out, q_dims), lse)
}
