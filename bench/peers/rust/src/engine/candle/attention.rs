//! Every cell attends to every cell.
//!
//! candle has an attention for CPUs that keeps no scores (`candle_nn::attention::flash_attn`). With it, a
//! forward pass of 1,024 cells took three times as long as with two products, so these stand here.

use candle_core::{D, Result, Tensor};
use candle_nn::{ops, rotary_emb};

/// Cosines and sines, each `[length, head / 2]`.
pub type Turn = [Tensor; 2];

/// Two products and a softmax between them, without gradients.
///
/// # Shapes
/// Queries, keys and values `[batch, length, heads, head]`, output `[batch, length, heads * head]`.
pub fn inferred(q: &Tensor, k: &Tensor, v: &Tensor, [cos, sin]: &Turn) -> Result<Tensor> {
    let heads = |x: &Tensor| x.transpose(1, 2)?.contiguous();
    let q = rotary_emb::rope(&heads(q)?, cos, sin)?;
    let k = rotary_emb::rope(&heads(k)?, cos, sin)?;
    products(&q, &k, &heads(v)?, ops::softmax_last_dim)
}

/// The same of operations that have gradients. Shapes as in [`inferred`].
pub fn trained(q: &Tensor, k: &Tensor, v: &Tensor, [cos, sin]: &Turn) -> Result<Tensor> {
    let heads = |x: &Tensor| x.transpose(1, 2)?.contiguous();
    let q = rotary_emb::rope_slow(&heads(q)?, cos, sin)?;
    let k = rotary_emb::rope_slow(&heads(k)?, cos, sin)?;
    products(&q, &k, &heads(v)?, |x| ops::softmax(x, D::Minus1))
}

/// Attention of `[batch, heads, length, head]`, already turned.
fn products(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    softmax: fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (batch, heads, length, head) = q.dims4()?;
    let (k, v) = (repeated(k, heads)?, repeated(v, heads)?);
    let scale = 1.0 / (head as f64).sqrt();
    let scores = (q.matmul(&k.t()?)? * scale)?;
    let y = softmax(&scores)?.matmul(&v)?;
    y.transpose(1, 2)?.reshape((batch, length, heads * head))
}

/// Each key head stands beside the others of its group.
fn repeated(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, kv_heads, length, head) = x.dims4()?;
    if kv_heads == heads {
        return Ok(x.clone());
    }
    let group = heads / kv_heads;
    let x = x
        .unsqueeze(2)?
        .expand((batch, kv_heads, group, length, head))?;
    x.reshape((batch, heads, length, head))
}
