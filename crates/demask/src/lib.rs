//! demask as a library: every part of the engine under one name.
//!
//! | module | what it holds |
//! |---|---|
//! | [`kernels`] | CPU kernels on slices |
//! | [`diffusion`] | processes, schedules, objectives, reverse steps: mathematics only |
//! | [`nn`] | the one transformer, the U-Net of pictures, and their ops |
//! | [`models`] | checkpoints, families, tokenizers, chat templates |
//! | [`text`] | canvas, decoder, policies, length plans |
//! | [`eval`] | likelihoods and quality metrics |
//! | [`train`] | recipes, data, trainer |
//! | [`registry`] | every exchangeable part by name, with its paper |

pub use {
    demask_diffusion as diffusion, demask_eval as eval, demask_kernels as kernels,
    demask_models as models, demask_nn as nn, demask_text as text, demask_train as train,
};

pub mod registry;
