//! Which model, and how it runs.

use demask::nn::Dtype;

use super::value;

/// The flag that chooses a model.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A checkpoint folder, a built-in model (`demask models`), or a model of the Hugging Face hub,
    /// which is downloaded once; ORG/NAME@REVISION is a branch, tag or commit of it [default: story]
    #[arg(short, long, value_name = "DIR|NAME|ORG/NAME")]
    pub model: Option<String>,

    /// How it runs.
    #[command(flatten)]
    pub compute: ComputeArgs,
}

/// The flags that say how a network computes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ComputeArgs {
    /// Number format of the weights: f32, bf16, int8 or int4 [default: bf16 from 200 million parameters
    /// on, f32 below]
    #[arg(long, value_name = "FORMAT")]
    pub dtype: Option<Dtype>,

    /// Threads [default: all cores]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = value::threads, allow_negative_numbers = true)]
    pub threads: Option<usize>,
}
