//! The transformer, of candle's operations.

use candle_core::{Result, Tensor};
use candle_nn::ops;

use super::attention::{self, Turn};
use super::linear::Linear;
use super::params::Params;
use crate::network::Network;

/// Which operations the network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The fastest.
    Inference,
    /// Those that have gradients.
    Training,
}

/// A network with random weights.
#[derive(Debug)]
pub struct Transformer {
    config: Network,
    flow: Flow,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    head: Linear,
    turn: Turn,
}

#[derive(Debug)]
struct Block {
    attention_norm: Tensor,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    mlp_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Transformer {
    /// A network of this shape, for sequences of at most `length` cells.
    pub fn new(config: &Network, length: usize, params: &mut Params, flow: Flow) -> Result<Self> {
        let (d, vocabulary) = (config.d_model, config.vocab_size);
        let embedding = params.random("embedding", &[vocabulary, d])?;
        let blocks = 0..config.n_layers;
        let blocks = blocks.map(|i| Block::new(config, params, &format!("layers.{i}")));
        let blocks = blocks.collect::<Result<_>>()?;
        let norm = params.ones(&[d])?;
        let head = match config.tied_head {
            true => Linear::from_parts(params, embedding.clone(), None)?,
            false => Linear::new(params, "head", d, vocabulary, false)?,
        };
        let [cos, sin] = config.turns(length);
        let shape = [length, config.head_dim / 2];
        Ok(Self {
            turn: [params.constant(cos, &shape)?, params.constant(sin, &shape)?],
            config: config.clone(),
            flow,
            embedding,
            blocks,
            norm,
            head,
        })
    }

    /// Hidden states after the last norm, `[batch * length, d_model]`, for ids `[batch, length]`.
    pub fn hidden(&self, ids: &Tensor) -> Result<Tensor> {
        let (batch, length) = ids.dims2()?;
        let d = self.config.d_model;
        let x = self.embedding.index_select(&ids.flatten_all()?, 0)?;
        let mut x = x.reshape((batch, length, d))?;
        for block in &self.blocks {
            x = self.block(block, &x)?;
        }
        self.normed(&x, &self.norm)?.reshape((batch * length, d))
    }

    /// Logits `[cells, vocabulary]` of hidden states `[cells, d_model]`.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.forward(hidden)
    }

    fn block(&self, block: &Block, x: &Tensor) -> Result<Tensor> {
        let y = self.normed(x, &block.attention_norm)?;
        let x = (x + self.attention(block, &y)?)?;
        let y = self.normed(&x, &block.mlp_norm)?;
        let gated = (ops::silu(&block.gate.forward(&y)?)? * block.up.forward(&y)?)?;
        x + block.down.forward(&gated)?
    }

    fn attention(&self, block: &Block, x: &Tensor) -> Result<Tensor> {
        let (batch, length, _) = x.dims3()?;
        let heads = |linear: &Linear, n: usize| {
            let y = linear.forward(x)?;
            y.reshape((batch, length, n, self.config.head_dim))
        };
        let q = heads(&block.q, self.config.n_heads)?;
        let k = heads(&block.k, self.config.n_kv_heads)?;
        let v = heads(&block.v, self.config.n_kv_heads)?;
        let attend = match self.flow {
            Flow::Inference => attention::inferred,
            Flow::Training => attention::trained,
        };
        block.o.forward(&attend(&q, &k, &v, &self.turn)?)
    }

    fn normed(&self, x: &Tensor, scale: &Tensor) -> Result<Tensor> {
        let eps = self.config.norm_eps as f32;
        match self.flow {
            Flow::Inference => ops::rms_norm(x, scale, eps),
            Flow::Training => ops::rms_norm_slow(x, scale, eps),
        }
    }
}

impl Block {
    fn new(c: &Network, params: &mut Params, name: &str) -> Result<Self> {
        let (d, ffn) = (c.d_model, c.d_ff);
        let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let attention_norm = params.ones(&[d])?;
        let mlp_norm = params.ones(&[d])?;
        let mut linear = |part: &str, inner, outer, biased| {
            Linear::new(params, &format!("{name}.{part}"), inner, outer, biased)
        };
        Ok(Self {
            attention_norm,
            q: linear("q", d, q, c.qkv_bias)?,
            k: linear("k", d, kv, c.qkv_bias)?,
            v: linear("v", d, kv, c.qkv_bias)?,
            o: linear("o", q, d, c.out_bias)?,
            mlp_norm,
            gate: linear("gate", d, ffn, c.mlp_bias)?,
            up: linear("up", d, ffn, c.mlp_bias)?,
            down: linear("down", ffn, d, c.mlp_bias)?,
        })
    }
}
