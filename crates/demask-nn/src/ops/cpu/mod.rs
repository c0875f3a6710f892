//! CPU fast paths: our kernels, registered with the framework as backend extensions.
//!
//! This folder is the only place that knows how the framework's CPU tensor is laid out and how an
//! operation with a hand-written backward joins its autodiff graph. Each file has the forward on
//! plain tensors, a `Gradient` that holds what the backward needs, and the public wrapper.

mod activation;
mod attention;
mod cross_entropy;
mod embedding;
mod gradient;
mod linear;
mod norm;
mod packed;
mod packed_table;
mod rotary;
mod storage;

pub use activation::{gelu_tanh, swiglu};
pub use attention::{attention, cached_attention};
pub use cross_entropy::cross_entropy;
pub use embedding::embedding;
pub use linear::linear;
pub use norm::{layer_norm, rms_norm};
pub use packed::{PackedWeight, WeightPacker};
pub use packed_table::PackedTable;
pub use rotary::rotary;
