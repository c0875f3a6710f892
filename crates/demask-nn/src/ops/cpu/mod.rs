//! CPU fast paths: our kernels, registered with the framework as backend extensions.
//!
//! This folder is the only place that knows how the framework's CPU tensor is laid out and how an
//! operation with a hand-written backward joins its autodiff graph. Each file has the forward on
//! plain tensors, a `Gradient` that holds what the backward needs, and the public wrapper.

mod gradient;
mod linear;
mod storage;

pub use linear::{PackedWeight, linear};

pub use super::activation::{portable_gelu as gelu_tanh, portable_swiglu as swiglu};
pub use super::attention::portable as attention;
pub use super::cross_entropy::portable as cross_entropy;
pub use super::embedding::portable as embedding;
pub use super::norm::{portable_layer as layer_norm, portable_rms as rms_norm};
pub use super::rotary::portable as rotary;
