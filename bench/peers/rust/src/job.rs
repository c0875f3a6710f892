//! What is to be done.

use std::fmt;
use std::num::NonZeroUsize;

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::engine::{Failure, skip};
use crate::network::Network;

/// A job: work in a number format.
#[derive(Debug)]
pub struct Job {
    /// The format of the weights.
    pub dtype: Dtype,
    /// The work of one run.
    pub work: Work,
}

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// Numbers of 32 bits.
    F32,
    /// Numbers of 16 bits, with the range of f32.
    Bf16,
    /// Whole numbers of 8 bits and their scales.
    Int8,
    /// Whole numbers of 4 bits and their scales.
    Int4,
}

/// The work of one run.
#[derive(Debug)]
pub enum Work {
    /// A product of matrices.
    Gemm(Gemm),
    /// A forward pass of a network.
    Forward(Forward),
    /// A step of a training.
    Train(Train),
    /// A convolution.
    Conv(Conv),
    /// A group norm.
    GroupNorm(GroupNorm),
}

/// `[rows, inner]` times a weight `[outer, inner]` that was prepared before.
#[derive(Debug, Deserialize)]
pub struct Gemm {
    /// Rows of activations.
    #[serde(deserialize_with = "positive")]
    pub rows: usize,
    /// Inputs of the weight.
    #[serde(deserialize_with = "positive")]
    pub inner: usize,
    /// Outputs of the weight.
    #[serde(deserialize_with = "positive")]
    pub outer: usize,
}

/// A forward pass over `[batch, tokens]`.
#[derive(Debug, Deserialize)]
pub struct Forward {
    /// The network.
    pub network: Network,
    /// Sequences.
    #[serde(deserialize_with = "positive")]
    pub batch: usize,
    /// Cells of each.
    #[serde(deserialize_with = "positive")]
    pub tokens: usize,
    /// Whose logits are computed.
    pub logits: Logits,
}

/// Whose logits a forward pass gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Logits {
    /// Those of every cell.
    All,
    /// None: hidden states only.
    None,
}

/// Forward pass of `[batch, length]` with every second cell masked, the loss of those, backward, AdamW.
#[derive(Debug, Deserialize)]
pub struct Train {
    /// The network.
    pub network: Network,
    /// Sequences.
    #[serde(deserialize_with = "positive")]
    pub batch: usize,
    /// Cells of each.
    #[serde(deserialize_with = "positive")]
    pub length: usize,
}

/// A convolution of pictures `[batch, channels, size, size]`.
#[derive(Debug, Deserialize)]
pub struct Conv {
    /// Which way it is gone through.
    pub pass: Pass,
    /// Pictures.
    #[serde(deserialize_with = "positive")]
    pub batch: usize,
    /// Their channels.
    #[serde(deserialize_with = "positive")]
    pub channels: usize,
    /// Their height and width.
    #[serde(deserialize_with = "positive")]
    pub size: usize,
    /// Channels of the output.
    #[serde(deserialize_with = "positive")]
    pub filters: usize,
    /// Height and width of a filter.
    #[serde(deserialize_with = "positive")]
    pub kernel: usize,
    /// Pixels from one place of a filter to the next.
    #[serde(deserialize_with = "positive")]
    pub step: usize,
    /// Zeros on each side.
    pub padding: usize,
}

/// A group norm of pictures `[batch, channels, size, size]`.
#[derive(Debug, Deserialize)]
pub struct GroupNorm {
    /// Which way it is gone through.
    pub pass: Pass,
    /// Pictures.
    #[serde(deserialize_with = "positive")]
    pub batch: usize,
    /// Their channels.
    #[serde(deserialize_with = "positive")]
    pub channels: usize,
    /// Their height and width.
    #[serde(deserialize_with = "positive")]
    pub size: usize,
    /// Groups of channels.
    #[serde(deserialize_with = "positive")]
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// Which way a layer is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// The output of the layer.
    Forward,
    /// The gradients of its input and its parameters.
    Backward,
}

impl Job {
    /// The job that `value` describes.
    ///
    /// # Errors
    /// A skip for a kind of work that is not written here; otherwise what is wrong with the job.
    pub fn parse(value: Value) -> Result<Self, Failure> {
        /// What every job says.
        #[derive(Deserialize)]
        struct Head {
            kind: String,
            dtype: Dtype,
        }
        let Head { kind, dtype } = read(&value, "the job")?;
        let what = format!("the job `{kind}`");
        let work = match kind.as_str() {
            "gemm" => Work::Gemm(read(&value, &what)?),
            "forward" => Work::Forward(read(&value, &what)?),
            "train" => Work::Train(read(&value, &what)?),
            "conv" => Work::Conv(read(&value, &what)?),
            "group_norm" => Work::GroupNorm(read(&value, &what)?),
            _ => return Err(skip(format!("no job of the kind {kind} is written here"))),
        };
        let job = Self { dtype, work };
        job.check()?;
        Ok(job)
    }

    /// What no engine checks for itself, or only by a panic.
    fn check(&self) -> Result<(), Failure> {
        match &self.work {
            Work::Forward(forward) => forward.network.check(),
            Work::Train(train) => {
                train.network.check()?;
                at_least(
                    train.batch * train.length,
                    2,
                    "a batch of one cell has none to mask",
                )
            }
            Work::Conv(conv) => at_least(
                conv.size + 2 * conv.padding,
                conv.kernel,
                "the filter is larger than the picture",
            ),
            Work::GroupNorm(norm) if !norm.channels.is_multiple_of(norm.groups) => {
                let (channels, groups) = (norm.channels, norm.groups);
                Err(Failure::Error(anyhow::anyhow!(
                    "{channels} channels do not fall into {groups} groups"
                )))
            }
            Work::GroupNorm(_) | Work::Gemm(_) => Ok(()),
        }
    }
}

impl Dtype {
    /// What `demask bench` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn read<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, Failure> {
    let read = T::deserialize(value).with_context(|| format!("{what} cannot be read"));
    read.map_err(Failure::Error)
}

fn at_least(n: usize, least: usize, otherwise: &str) -> Result<(), Failure> {
    match n >= least {
        true => Ok(()),
        false => Err(Failure::Error(anyhow::anyhow!("{otherwise}"))),
    }
}

/// A whole number, 1 or larger.
pub fn positive<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    NonZeroUsize::deserialize(from).map(NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(job: Value) -> String {
        match Job::parse(job) {
            Ok(job) => panic!("{job:?}"),
            Err(Failure::Skip(why)) => format!("skip: {why}"),
            Err(Failure::Error(error)) => format!("{error:#}"),
        }
    }

    #[test]
    fn a_job_is_read() {
        let job = json!({
            "kind": "gemm", "dtype": "bf16", "threads": 2, "rows": 1, "inner": 2, "outer": 3,
        });
        let job = Job::parse(job).unwrap();
        assert_eq!(job.dtype, Dtype::Bf16);
        assert!(matches!(
            job.work,
            Work::Gemm(Gemm {
                rows: 1,
                inner: 2,
                outer: 3
            })
        ));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let gemm = |key: &str, value: Value| {
            let mut job =
                json!({"kind": "gemm", "dtype": "f32", "rows": 1, "inner": 2, "outer": 3});
            job[key] = value;
            said(job)
        };
        assert!(gemm("rows", json!(0)).contains("the job `gemm`"));
        assert!(gemm("dtype", json!("f8")).contains("f8"));
        let why = gemm("kind", json!("dance"));
        assert_eq!(why, "skip: no job of the kind dance is written here");
        assert!(said(json!([])).contains("the job cannot be read"));
    }

    #[test]
    fn layers_that_cannot_be_are_refused() {
        let conv = json!({
            "kind": "conv", "dtype": "f32", "pass": "forward", "batch": 1, "channels": 1, "size": 2,
            "filters": 1, "kernel": 5, "step": 1, "padding": 1,
        });
        assert!(said(conv).contains("larger than the picture"));
        let norm = json!({
            "kind": "group_norm", "dtype": "f32", "pass": "forward", "batch": 1, "channels": 6,
            "size": 2, "groups": 4, "eps": 1e-5, "silu": true,
        });
        assert!(said(norm).contains("6 channels"));
    }
}
