//! Operations with two speeds and one meaning.
//!
//! Each file holds one operation: its formula, its portable path over framework tensors (any
//! backend, autodiff comes for free) and a test that holds the CPU fast path to it, forward and
//! backward; another holds the gradients of both to finite differences. The fast paths live in `cpu/`, the only folder that touches the framework's backend
//! extensions.
//!
//! | operation | formula |
//! |---|---|
//! | [`linear`](fn@linear) | `x Wᵀ + b` |
//! | [`attention`](fn@attention) | `softmax(q kᵀ / √h + mask) v`, grouped key heads |
//! | `cached_attention` | the same over keys and values that were kept, and the new ones |
//! | [`rms_norm`] | `x / √(mean x² + ε) · g` |
//! | [`layer_norm`] | `(x - mean x) / √(var x + ε) · g` |
//! | [`swiglu`] | `silu(gate) · up` |
//! | [`gelu_tanh`] | `x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))` |
//! | [`silu`] | `x / (1 + e⁻ˣ)` |
//! | [`rotary`](fn@rotary) | rotation of pairs by position × frequency |
//! | [`embedding`](fn@embedding) | rows of a table |
//! | [`cross_entropy`](fn@cross_entropy) | `-log softmax(x)[target]` |
//! | [`attention_branch`](fn@attention_branch) | `x + O · attention(Q h, K h, V h)`, `h = norm(x)` |
//! | [`mlp_branch`](fn@mlp_branch) | `x + D · swiglu(G h, U h)`, `h = norm(x)` |
//! | [`linear_cross_entropy`](fn@linear_cross_entropy) | `-log softmax(x Wᵀ + b)[target]` |
//! | [`scores`](fn@scores) | token, probability, margin, entropy of each row |
//! | [`dropout`](fn@dropout) | keep with probability `1 - p`, scaled by `1 / (1 - p)` |
//! | [`conv2d`](fn@conv2d), [`conv2d_onto`] | filters over pictures, and the residual they are added to |
//! | [`group_norm`](fn@group_norm) | `(z - mean z) / √(var z + ε) · g + b` with `z = x + shift`, and SiLU after it |
//! | [`upsample2`], [`average_pool2`] | pictures at twice and half the size |
//! | [`join_channels`] | the channels of two pictures |
//!
//! Pictures are `[batch, channels, height, width]` throughout.

mod activation;
mod attention;
mod attention_branch;
mod branch;
mod cached_attention;
mod conv2d;
mod cpu;
mod cross_entropy;
mod dropout;
mod embedding;
mod group_norm;
mod join;
mod linear;
mod linear_cross_entropy;
mod mlp_branch;
mod norm;
mod resample;
mod rotary;
mod scores;

pub use activation::{gelu_tanh, silu, swiglu};
pub use attention::attention;
pub use attention_branch::{AttentionBranch, HeadNorms, attention_branch};
pub use branch::{BranchLinear, BranchNorm};
pub(crate) use cached_attention::cached_attention;
pub use conv2d::{Stride, conv2d, conv2d_onto};
pub(crate) use cpu::WeightPacker;
pub use cpu::{PackedTable, PackedWeight};
pub use cross_entropy::cross_entropy;
pub use dropout::dropout;
pub use embedding::embedding;
pub use group_norm::{Groups, group_norm};
pub use join::join_channels;
pub use linear::linear;
pub use linear_cross_entropy::linear_cross_entropy;
pub use mlp_branch::{MlpBranch, mlp_branch};
pub use norm::{layer_norm, rms_norm};
pub use resample::{average_pool2, upsample2};
pub use rotary::{RotaryTable, rotary};
pub use scores::{Scoring, scores};

use burn::backend::DispatchDevice;
use burn::tensor::Device;

/// Whether tensors of `device` live where the CPU kernels can read them.
pub(crate) fn on_cpu(device: &Device) -> bool {
    matches!(
        device.clone().without_autodiff().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}

#[cfg(test)]
mod testing;
