//! The sections of a recipe that have no room of their own.

use std::path::PathBuf;

use demask_kernels::Precision;
use demask_kernels::threads::MAX as MAX_THREADS;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Rows of a step that are believed to be meant.
const MAX_ROWS: usize = 1 << 24;

/// `[run]`: name, seed and length of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run and of its folder in `runs/`: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Seed of everything random: weights, order of the rows, noise, dropout.
    #[serde(default)]
    pub seed: u64,
    /// Number of optimiser steps.
    pub steps: u64,
    /// Threads; all cores when left out. The result does not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// What the products of a step are computed in. In `bf16` the operands of each product are rounded, forward and
    /// backward; weights, gradients, moments and the residual stream stay f32, and so do the small products
    /// of the time embedding and of AdaLN. Validation is always in f32.
    #[serde(default)]
    pub dtype: TrainDtype,
    /// Steps between two validations; 0 validates at the end only.
    #[serde(default = "default_eval_every")]
    pub eval_every: u64,
    /// Rows of a validation, at most.
    #[serde(default = "default_eval_rows")]
    pub eval_rows: usize,
    /// Steps between two saved states.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// Type of the weights in the checkpoint (states are always f32).
    #[serde(default)]
    pub checkpoint_dtype: CheckpointDtype,
}

/// What the products of a training are computed in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TrainDtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit brain floats, summed in f32: faster where the processor multiplies them.
    Bf16,
}

impl TrainDtype {
    /// The same for the network.
    pub(crate) fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        }
    }
}

/// Type of the weights in a checkpoint.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointDtype {
    /// 32-bit floats: exactly the trained weights.
    F32,
    /// 16-bit brain floats: half the size, three significant digits.
    #[default]
    Bf16,
}

/// `[optimizer]`: AdamW (arXiv 1711.05101), gradient clipping, batch and weight averaging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Peak learning rate, above 0.
    pub lr: f64,
    /// Decay of the first and the second moment, in [0, 1).
    #[serde(default = "default_betas")]
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled weight decay, on matrices only: norms and biases are left alone.
    #[serde(default)]
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 turns clipping off.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// Rows of one forward pass.
    pub batch: usize,
    /// Forward passes of one step; a step sees `batch * accumulation` rows.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// Decay of the exponential moving average of the weights, in [0, 1); 0 turns it off. The effective decay
    /// after `n` steps is `min(ema, (1 + n) / (10 + n))`.
    #[serde(default = "default_ema")]
    pub ema: f64,
}

/// `[init]`: where the weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum InitConfig {
    /// Random weights from the seed of the run.
    #[default]
    Random,
    /// The weights of a checkpoint with the same shapes.
    Checkpoint {
        /// Its folder.
        path: PathBuf,
        /// Steps over which the causal mask of a left-to-right checkpoint is opened to a full one
        /// (DiffuLLaMA, arXiv 2410.17891): in step `s` of `n`, counted from 1, a share `s / n` of
        /// the cells after its own is seen by each cell, drawn anew in every pass. 0 opens it at
        /// once. For objective `shifted`; validation is always with the full mask.
        #[serde(default, skip_serializing_if = "is_zero")]
        anneal: u64,
    },
}

/// `[card]`: what the model card in the checkpoint folder says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CardConfig {
    /// What the model is, in a sentence or two.
    #[serde(default)]
    pub about: String,
    /// What it can't do.
    #[serde(default)]
    pub limits: String,
    /// Licence of the weights.
    #[serde(default)]
    pub licence: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn default_eval_every() -> u64 {
    200
}

fn default_eval_rows() -> usize {
    128
}

fn default_checkpoint_every() -> u64 {
    200
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_eps() -> f64 {
    1e-8
}

fn default_clip() -> f64 {
    1.0
}

fn default_ema() -> f64 {
    0.9999
}

fn one() -> usize {
    1
}

/// Refuses `value` unless `ok`.
pub(super) fn check(
    ok: bool,
    key: &str,
    value: impl std::fmt::Display,
    wanted: &str,
) -> Result<(), TrainError> {
    if ok {
        Ok(())
    } else {
        Err(TrainError::recipe(format!("{key} = {value}: {wanted}")))
    }
}

impl InitConfig {
    /// The share of the cells after its own that each cell sees in the step after `step` steps;
    /// `None` once the mask is full.
    pub fn opening(&self, step: u64) -> Option<f64> {
        match self {
            Self::Checkpoint { anneal, .. } if step + 1 < *anneal => {
                Some((step + 1) as f64 / *anneal as f64)
            }
            _ => None,
        }
    }
}

impl RunConfig {
    pub(crate) fn validate(&self) -> Result<(), TrainError> {
        let plain = !self.name.is_empty()
            && !self.name.starts_with('.')
            && self
                .name
                .chars()
                .all(|c| c.is_alphanumeric() || "-_.".contains(c));
        check(
            plain,
            "run.name",
            &self.name,
            "use letters, digits, `-`, `_` and `.` only",
        )?;
        check(
            self.steps >= 1,
            "run.steps",
            self.steps,
            "must be at least 1",
        )?;
        check(
            (1..=MAX_THREADS).contains(&self.threads.unwrap_or(1)),
            "run.threads",
            self.threads.unwrap_or(1),
            &format!("must be 1 to {MAX_THREADS}, or left out"),
        )?;
        check(
            self.eval_rows >= 1,
            "run.eval_rows",
            self.eval_rows,
            "must be at least 1",
        )?;
        check(
            self.checkpoint_every >= 1,
            "run.checkpoint_every",
            self.checkpoint_every,
            "must be at least 1",
        )
    }
}

impl OptimizerConfig {
    pub(crate) fn validate(&self) -> Result<(), TrainError> {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        check(
            positive(self.lr),
            "optimizer.lr",
            self.lr,
            "must be a finite number above 0",
        )?;
        for beta in self.betas {
            check(
                (0.0..1.0).contains(&beta),
                "optimizer.betas",
                beta,
                "must be in [0, 1)",
            )?;
        }
        check(
            positive(self.eps),
            "optimizer.eps",
            self.eps,
            "must be a finite number above 0",
        )?;
        let decay = self.weight_decay;
        check(
            decay.is_finite() && decay >= 0.0,
            "optimizer.weight_decay",
            decay,
            "must be 0 or more",
        )?;
        check(
            self.clip.is_finite() && self.clip >= 0.0,
            "optimizer.clip",
            self.clip,
            "must be 0 or more",
        )?;
        check(
            self.batch >= 1,
            "optimizer.batch",
            self.batch,
            "must be at least 1",
        )?;
        check(
            self.accumulation >= 1,
            "optimizer.accumulation",
            self.accumulation,
            "must be at least 1",
        )?;
        let rows = self.batch.checked_mul(self.accumulation);
        check(
            rows.is_some_and(|rows| rows <= MAX_ROWS),
            "optimizer.batch",
            self.batch,
            &format!(
                "must make at most {MAX_ROWS} rows a step together with optimizer.accumulation"
            ),
        )?;
        check(
            (0.0..1.0).contains(&self.ema),
            "optimizer.ema",
            self.ema,
            "must be in [0, 1)",
        )
    }

    /// Rows of one step.
    pub fn rows_per_step(&self) -> usize {
        self.batch * self.accumulation
    }
}
