//! How a text is written: the flags of the decoder.

use demask::text::{DecodeChanges, PolicyConfig};

use super::value;

/// The flags of the decoder. What is not given comes from `--config`, then from the checkpoint,
/// then from the decoder's own defaults.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodeArgs {
    /// Denoising steps over the whole text, shared out among its blocks
    #[arg(long, value_name = "N", value_parser = value::count, allow_negative_numbers = true)]
    pub steps: Option<usize>,

    /// Cells of a block that is finished before the next one starts
    #[arg(long, value_name = "N", value_parser = value::count, allow_negative_numbers = true)]
    pub block: Option<usize>,

    /// Which cells are written in a step (see `demask policies`)
    #[arg(long, value_name = "NAME[:key=value,…]", value_parser = policy)]
    pub policy: Option<String>,

    /// 0 takes the most likely token, 1 samples from the model
    #[arg(short, long, value_name = "T", value_parser = value::non_negative, allow_negative_numbers = true)]
    pub temperature: Option<f64>,

    /// Keep the most likely tokens up to this share of the probability
    #[arg(long, value_name = "P", value_parser = value::share, allow_negative_numbers = true)]
    pub top_p: Option<f64>,

    /// Keep this many of the most likely tokens
    #[arg(long, value_name = "K", value_parser = value::count, allow_negative_numbers = true)]
    pub top_k: Option<usize>,

    /// The class of the text, of a model trained with labels (`demask inspect` lists them)
    #[arg(long, value_name = "NAME")]
    pub label: Option<String>,

    /// Classifier-free guidance against no label, or without one against the masked prompt; 0 is off
    #[arg(long, value_name = "W", value_parser = value::finite, allow_negative_numbers = true)]
    pub cfg: Option<f64>,

    /// Seed of everything random [default: a new one each time; the summary names it]
    #[arg(long, value_name = "N", value_parser = value::seed, allow_negative_numbers = true)]
    pub seed: Option<u64>,

    /// How many texts to write
    #[arg(short = 'n', long, value_name = "N", value_parser = value::count, allow_negative_numbers = true)]
    pub samples: Option<usize>,
}

impl DecodeArgs {
    /// The flags as changes to a configuration.
    pub fn changes(&self, length: Option<usize>) -> DecodeChanges {
        DecodeChanges {
            length,
            steps: self.steps,
            block: self.block,
            policy: self.policy.clone(),
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            label: self.label.clone(),
            cfg: self.cfg,
            seed: self.seed,
            samples: self.samples,
        }
    }
}

/// Refuses a policy before a model is loaded; the message names the nearest one.
fn policy(text: &str) -> Result<String, String> {
    PolicyConfig::parse(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}
