//! The networks of demask and the ops under them.
//!
//! One [`Transformer`] serves every family of text checkpoint, in training and in inference, on
//! every backend. Everything a caller may want of it passes through one entry: an [`Input`] in, an
//! [`Output`] out. The [`UNet`] does the same for pictures.
//!
//! - `ops/`: operations with a portable path (framework tensors, any backend, autodiff) and a CPU
//!   fast path on `demask-kernels`, forward and backward.
//! - `transformer/`: the network, its configuration and the names of its parameters.
//! - `unet/`: the network of pictures, likewise.
//! - [`AttentionMask`]: who sees whom, as a descriptor.
//! - [`span`]: where the time goes, for whoever listens.
//! - [`KvCache`]: keys and values of cells already forwarded.

mod cache;
mod dtype;
mod error;
mod input;
mod mask;
pub mod ops;
pub mod span;
pub mod transformer;
pub mod unet;

pub use cache::KvCache;
pub use dtype::Dtype;
pub use error::NnError;
pub use input::{Asked, Input, NoiseLevel, Output, Positions, Rows, Tap, Targets};
pub use mask::{AttentionMask, MaskKind, RequestMask};
pub use ops::Scoring;
pub use transformer::{LoraConfig, ParamSource, Transformer, TransformerConfig};
pub use unet::{UNet, UNetConfig};
