//! The optimiser: AdamW, clipping by the global norm, and the moving average of the weights.
//!
//! | part | source | file |
//! |---|---|---|
//! | [`AdamW`] | Loshchilov and Hutter 2019, arXiv 1711.05101 | `adamw.rs` |
//! | [`global_norm`] | Pascanu et al. 2013, arXiv 1211.5063 | `clip.rs` |
//! | [`Ema`] | Polyak averaging with the warm-up of the SEDD and MDLM code | `ema.rs` |
//! | [`Communicator`] | sums over processes | `communicator.rs` |
//!
//! Why not the optimiser of burn (burn-optim 0.22.1): its record names every moment by a random
//! parameter id, which another process does not have, so a state could not be resumed by name; it
//! clips each tensor on its own where every recipe of the field clips the global norm; and its
//! update is some fifteen passes over each tensor, where the kernel of `demask-kernels` is a single
//! pass over the host slices that the CPU backend hands out without a copy.

mod adamw;
mod clip;
mod communicator;
mod ema;

pub use adamw::{AdamW, AdamWStep};
pub(crate) use clip::clip_factor;
pub use clip::global_norm;
pub use communicator::{Communicator, Single};
pub use ema::Ema;
