//! Which model, and how it runs.

use super::value;

/// The flags that choose a model.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A checkpoint folder, a built-in model (`demask models`), or a model of the Hugging Face hub,
    /// which is downloaded once; ORG/NAME@REVISION is a branch, tag or commit of it [default: story]
    #[arg(short, long, value_name = "DIR|NAME|ORG/NAME")]
    pub model: Option<String>,

    /// Threads [default: all cores]; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = value::threads, allow_negative_numbers = true)]
    pub threads: Option<usize>,
}
