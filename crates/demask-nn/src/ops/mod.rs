//! Operations with two speeds and one meaning.
//!
//! Each file holds one operation: its formula, its portable path over framework tensors (any
//! backend, autodiff comes for free) and a test that holds the CPU fast path to it, forward and
//! backward. The fast paths live in `cpu/`, the only folder that touches the framework's backend
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
//! | [`rotary`](fn@rotary) | rotation of pairs by position × frequency |
//! | [`embedding`](fn@embedding) | rows of a table |
//! | [`cross_entropy`](fn@cross_entropy) | `-log softmax(x)[target]` |
//! | [`scores`](fn@scores) | token, probability, margin, entropy of each row |
//! | [`dropout`](fn@dropout) | keep with probability `1 - p`, scaled by `1 / (1 - p)` |

mod activation;
mod attention;
mod cached_attention;
mod cpu;
mod cross_entropy;
mod dropout;
mod embedding;
mod linear;
mod norm;
mod rotary;
mod scores;

pub use activation::{gelu_tanh, swiglu};
pub use attention::attention;
pub(crate) use cached_attention::cached_attention;
pub(crate) use cpu::WeightPacker;
pub use cpu::{PackedTable, PackedWeight};
pub use cross_entropy::cross_entropy;
pub use dropout::dropout;
pub use embedding::embedding;
pub use linear::linear;
pub use norm::{layer_norm, rms_norm};
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
