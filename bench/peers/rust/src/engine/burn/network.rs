//! The transformer, of burn's modules and operations.

use burn::module::{Module, Param};
use burn::nn::{Linear, RmsNorm};
use burn::tensor::activation::silu;
use burn::tensor::module::{attention, embedding};
use burn::tensor::{Int, Tensor};

use super::params::Params;
use crate::network::Network;

/// A network with random weights.
#[derive(Module, Debug)]
pub struct Transformer {
    embedding: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: RmsNorm,
    /// None where it is the embedding.
    head: Option<Linear>,
    cos: Tensor<4>,
    sin: Tensor<4>,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
}

#[derive(Module, Debug)]
struct Block {
    attention_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Transformer {
    /// A network of this shape, for sequences of `length` cells.
    pub fn new(config: &Network, length: usize, params: &Params) -> Self {
        let (d, vocabulary) = (config.d_model, config.vocab_size);
        let blocks = 0..config.n_layers;
        let blocks = blocks.map(|i| Block::new(config, params, &format!("layers.{i}")));
        let head = || params.linear("head", d, vocabulary, false);
        let [cos, sin] = config.turns(length);
        let shape = [1, length, 1, config.head_dim / 2];
        Self {
            embedding: params.random("embedding", [vocabulary, d]),
            blocks: blocks.collect(),
            norm: params.norm(d, config.norm_eps),
            head: (!config.tied_head).then(head),
            cos: params.constant(cos, shape),
            sin: params.constant(sin, shape),
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
        }
    }

    /// Hidden states after the last norm, `[batch * length, d_model]`, for ids `[batch, length]`.
    pub fn hidden(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let mut x = embedding(self.embedding.val(), ids);
        for block in &self.blocks {
            x = x.clone() + self.attention(block, block.attention_norm.forward(x));
            let y = block.mlp_norm.forward(x.clone());
            let gated = silu(block.gate.forward(y.clone())) * block.up.forward(y);
            x = x + block.down.forward(gated);
        }
        self.norm.forward(x).flatten(0, 1)
    }

    /// Logits `[cells, vocabulary]` of hidden states `[cells, d_model]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some(head) => head.forward(hidden),
            None => hidden.matmul(self.embedding.val().transpose()),
        }
    }

    fn attention(&self, block: &Block, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let heads = |linear: &Linear, n: usize| {
            let y = linear.forward(x.clone());
            y.reshape([batch, length, n, self.head_dim])
        };
        let q = self.turned(heads(&block.q, self.n_heads)).swap_dims(1, 2);
        let k = self
            .turned(heads(&block.k, self.n_kv_heads))
            .swap_dims(1, 2);
        let v = heads(&block.v, self.n_kv_heads).swap_dims(1, 2);
        let (k, v) = (self.repeated(k), self.repeated(v));
        let y = attention(q, k, v, None, None, Default::default());
        let y = y.swap_dims(1, 2);
        block
            .o
            .forward(y.reshape([batch, length, self.n_heads * self.head_dim]))
    }

    /// Rotates the heads of `[batch, length, heads, head]` by their positions.
    fn turned(&self, x: Tensor<4>) -> Tensor<4> {
        let half = self.head_dim / 2;
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        Tensor::cat(vec![first, b * cos + a * sin], 3)
    }

    /// `[batch, kv_heads, length, head]` with each key head beside the others of its group.
    fn repeated(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, kv_heads, length, head] = x.dims();
        if kv_heads == self.n_heads {
            return x;
        }
        let group = self.n_heads / kv_heads;
        let x = x.unsqueeze_dim::<5>(2);
        let x = x.expand([batch, kv_heads, group, length, head]);
        x.reshape([batch, self.n_heads, length, head])
    }
}

impl Block {
    fn new(c: &Network, params: &Params, name: &str) -> Self {
        let (d, ffn) = (c.d_model, c.d_ff);
        let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let linear = |part: &str, inner, outer, biased| {
            params.linear(&format!("{name}.{part}"), inner, outer, biased)
        };
        Self {
            attention_norm: params.norm(d, c.norm_eps),
            q: linear("q", d, q, c.qkv_bias),
            k: linear("k", d, kv, c.qkv_bias),
            v: linear("v", d, kv, c.qkv_bias),
            o: linear("o", q, d, c.out_bias),
            mlp_norm: params.norm(d, c.norm_eps),
            gate: linear("gate", d, ffn, c.mlp_bias),
            up: linear("up", d, ffn, c.mlp_bias),
            down: linear("down", ffn, d, c.mlp_bias),
        }
    }
}
