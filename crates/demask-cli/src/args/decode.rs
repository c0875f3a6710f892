//! How a text is written: the flags of the decoder.

use std::path::PathBuf;

use super::value;

/// The flags of the decoder. What is not given comes from `--config`, then from the checkpoint,
/// then from the decoder's own defaults.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodeArgs {
    /// Denoising steps; shared out evenly among the blocks
    #[arg(long, value_name = "N", value_parser = value::count)]
    pub steps: Option<usize>,

    /// Cells of a block that is finished before the next one starts
    #[arg(long, value_name = "N", value_parser = value::count)]
    pub block: Option<usize>,

    /// Which cells are written in a step, as NAME or NAME:key=value,… (see `demask policies`)
    #[arg(long, value_name = "NAME[:key=value,…]")]
    pub policy: Option<String>,

    /// 0 takes the most likely token, 1 samples from the model
    #[arg(short, long, value_name = "T", value_parser = value::non_negative)]
    pub temperature: Option<f64>,

    /// Keep the most likely tokens up to this share of the probability
    #[arg(long, value_name = "P", value_parser = value::share)]
    pub top_p: Option<f64>,

    /// Keep this many of the most likely tokens
    #[arg(long, value_name = "K", value_parser = value::count)]
    pub top_k: Option<usize>,

    /// Classifier-free guidance against the masked prompt; 0 is off
    #[arg(long, value_name = "W", value_parser = value::non_negative)]
    pub cfg: Option<f64>,

    /// Seed of everything random [default: a new one each time; it is printed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// How many texts to write
    #[arg(short = 'n', long, value_name = "N", value_parser = value::count)]
    pub samples: Option<usize>,

    /// Take the configuration from the `config` of an earlier `--json`; flags change it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
