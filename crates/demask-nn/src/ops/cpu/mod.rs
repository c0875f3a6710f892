//! CPU fast paths: our kernels, registered with the framework as backend extensions.
//!
//! This folder is the only place that knows how the framework's CPU tensor is laid out and how an
//! operation with a hand-written backward joins its autodiff graph. Each file has the forward on
//! plain tensors, a `Gradient` that holds what the backward needs, and the public wrapper.

mod activation;
mod attention;
mod branch;
mod conv2d;
mod cross_entropy;
mod dense;
mod embedding;
mod gradient;
mod group_norm;
mod join;
mod linear;
mod linear_cross_entropy;
mod norm;
mod norm_kind;
mod packed;
mod packed_table;
mod resample;
mod rotary;
mod storage;

pub use activation::{gelu_tanh, silu, swiglu};
pub use attention::{attention, cached_attention};
pub use branch::{attention_branch, mlp_branch};
pub use conv2d::conv2d;
pub use cross_entropy::cross_entropy;
pub use embedding::embedding;
pub use group_norm::group_norm;
pub use join::join_channels;
pub use linear::linear;
pub use linear_cross_entropy::linear_cross_entropy;
pub use norm::{layer_norm, rms_norm};
pub use packed::{PackedWeight, WeightPacker};
pub use packed_table::PackedTable;
pub use resample::{average_pool2, upsample2};
pub use rotary::rotary;
