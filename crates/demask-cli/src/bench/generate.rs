//! `demask bench generate`: whole texts, as `demask generate` writes them.

use std::cell::Cell;
use std::time::Instant;

use anyhow::Result;
use demask::models::{ModelKind, ModelSpec};
use demask::nn::Dtype;
use demask::text::{
    CacheConfig, Compat, DecodeConfig, Decoder, DrawKind, Prompt, StepEvent, Then, Written,
};
use serde_json::{Value, json};

use super::dtype;
use super::need::{self, Cells};
use super::networks::{Found, NetworkArgs, in_formats};
use super::report::{Layout, Part, Row, count, ms, number};
use super::subject::Subject;
use super::{Bench, Job, MeasureArgs, PeerArgs};
use crate::args::decode::DecodeArgs;
use crate::args::value;
use crate::error::{Interrupted, usage, with_advice};
use crate::terminal::interrupt;
use crate::writing::explain;

/// Measure whole texts: every step from the masks to the last token, as `demask generate` takes them
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Every text is written to its full length. `forwards` counts the forward passes of a text, `step` is
the time of one with all that belongs to it. Texts of one run (--samples) are written side by side
and share their passes.

Examples:
  demask bench generate --shape llada-0.2b --length 128 --steps 64 --block 32
  demask bench generate --shape dream-0.5b --dtype bf16,int8 --policy threshold:tau=0.9
  demask bench generate --model story --prompt 8 --temperature 0.8 --json
  demask bench generate --shape llada-0.2b --peer 'python bench/peers/torch_peer.py --dtype bf16'")]
pub struct Generate {
    #[command(flatten)]
    networks: NetworkArgs,

    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value = "64", value_parser = value::cells)]
    prompt: usize,

    /// New tokens
    #[arg(short, long, value_name = "N", value_parser = value::count, allow_negative_numbers = true, help_heading = "Decoding")]
    length: Option<usize>,

    #[command(flatten)]
    decode: DecodeArgs,

    #[arg(long, help = dtype::help_of_networks(), value_name = "TYPE,…", value_delimiter = ',', value_parser = str::parse::<Dtype>)]
    dtype: Vec<Dtype>,

    #[command(flatten)]
    peers: PeerArgs,

    #[command(flatten)]
    measure: MeasureArgs,
}

impl Generate {
    /// Measures and prints.
    pub fn run(&self) -> Result<()> {
        let networks = self.networks.find()?;
        let all = in_formats(&self.dtype, &networks);
        let mut names = Vec::new();
        for &(dtype, found) in &all {
            let config = self.check(dtype, found)?;
            names.push(said(&found.shape().name, self.prompt, &config));
        }
        let rows = names.iter().map(|name| (name.as_str(), "tokens/s"));
        let layout = Layout::new(rows).with_parts(&PARTS);
        let mut bench = Bench::start(&self.measure, &self.peers, layout)?;
        for (dtype, found) in all {
            let subject = found.subject(dtype)?;
            self.one(&mut bench, dtype, &subject)?;
        }
        Ok(())
    }

    /// How this network writes. Refuses what it cannot write, or what there is no memory for.
    fn check(&self, dtype: Dtype, found: &Found) -> Result<DecodeConfig> {
        let (spec, name) = (found.model_spec(), &found.shape().name);
        if spec.kind == ModelKind::Autoregressive {
            return Err(with_advice(
                usage(format!(
                    "`{name}` writes from left to right, and this bench is about diffusion"
                )),
                format!(
                    "`demask generate --model {name} --timings` says how long such a text takes"
                ),
            ));
        }
        let config = self.config(&spec)?;
        let (prompt, length) = (self.prompt, config.length);
        let room = config.plan.max_length(spec.network.max_length);
        if prompt as u128 + length as u128 > room as u128 {
            return Err(with_advice(
                usage(format!(
                    "prompt: {prompt} tokens and {length} new ones are more than the {room} cells of a text of `{name}`"
                )),
                "lower --length or --prompt",
            ));
        }
        let run = memory(&spec, &config, prompt + length);
        let advice = match config.samples {
            1 => "lower --length or --prompt, or take a smaller network",
            _ => "lower --samples, --length or --prompt, or take a smaller network",
        };
        found.fits(dtype, run, advice)?;
        need::counted(config.samples, prompt + length)?;
        Ok(config)
    }

    /// The configuration of a text: what the model recommends, then the flags. A text that could end early would be
    /// less work, and one that is drawn again would be more, so neither happens.
    fn config(&self, spec: &ModelSpec) -> Result<DecodeConfig> {
        let base = DecodeConfig::for_model(spec).map_err(explain)?;
        let changes = self.decode.changes(self.length);
        let mut config = base.with(&changes).map_err(explain)?;
        config.eos.early_stop = false;
        config.repetition.then = Then::Keep;
        Ok(config)
    }

    fn one(&self, bench: &mut Bench, dtype: Dtype, subject: &Subject) -> Result<()> {
        let config = self.config(subject.spec())?;
        let shape = subject.shape();
        let row = Row::new(
            "generate",
            dtype,
            said(&shape.name, self.prompt, &config),
            "tokens/s",
        );
        let prompt = Prompt::new(subject.prompt(self.prompt));
        let decoder = Decoder::new(subject, config.clone()).map_err(explain)?;
        let decoder = decoder.with_batch(config.samples);
        let job = Job {
            for_peers: job(&row, &shape.name, subject, self.prompt, &config)?,
            row,
            work: (config.length * config.samples) as f64,
            // How many cells are predicted differs from step to step.
            operations: None,
        };
        let forwards = Cell::new(0);
        let ours = || {
            let begin = Instant::now();
            let written = write(&decoder, &prompt)?;
            let seconds = begin.elapsed().as_secs_f64();
            let passes = written.iter().map(|text| text.forwards).max();
            forwards.set(passes.unwrap_or(0));
            Ok(seconds)
        };
        bench.row(job, ours, |row, _| {
            let forwards = forwards.get() as f64;
            row.part("forwards", forwards);
            if let Some(median) = row.median_s {
                row.part("step_s", median / forwards.max(1.0));
            }
            row.memory(subject.network());
        })
    }
}

/// What the table shows of our runs beside their times; the rest is in the lines of JSON.
const PARTS: [Part; 3] = [
    Part {
        name: "forwards",
        title: "forwards",
        show: count,
    },
    Part {
        name: "step_s",
        title: "step ms",
        show: ms,
    },
    Part {
        name: "peak_mib",
        title: "peak MiB",
        show: number,
    },
];

/// Writes the texts once, unless the user asks to stop.
fn write(decoder: &Decoder<'_>, prompt: &Prompt) -> Result<Vec<Written>> {
    let mut observer = |_: &StepEvent| interrupt::flow();
    let written = decoder
        .run(std::slice::from_ref(prompt), &mut observer)
        .map_err(explain)?;
    match interrupt::pressed() {
        true => Err(Interrupted.into()),
        false => Ok(written),
    }
}

/// Bytes that the texts of a run take beside the weights; `cells` are those of a text.
fn memory(spec: &ModelSpec, config: &DecodeConfig, cells: usize) -> f64 {
    let (samples, cells) = (config.samples as f64, cells as f64);
    // A guide compares with a pass over another version of the text.
    let rows = samples * (1.0 + config.guides.len() as f64);
    // Whatever reads logits twice has them stored; for the rest the head scores them as it multiplies.
    let draw = config.token_draw();
    let twice = draw.temperature > 0.0 && draw.kind != DrawKind::Gumbel;
    let stored = twice
        || draw.top_p.is_some()
        || draw.top_k.is_some()
        || !config.guides.is_empty()
        || config.compat != Compat::None
        || spec.kind == ModelKind::Uniform;
    let open = config.plan.block().unwrap_or(config.length);
    // A canvas that slides shows the network no more than its context.
    let seen = rows * cells.min(spec.network.max_length as f64);
    let pass = Cells {
        forwarded: seen,
        kept: match config.cache {
            CacheConfig::None => 0.0,
            CacheConfig::Block => seen,
        },
        logits: if stored {
            rows * open.min(config.length) as f64
        } else {
            0.0
        },
    };
    need::forward(&spec.network, pass) + need::texts(samples, cells)
}

/// What a row is called.
fn said(name: &str, prompt: usize, config: &DecodeConfig) -> String {
    let (length, steps) = (config.length, config.steps);
    let mut said = format!("{name} {prompt}+{length}, {steps} steps");
    if let Some(block) = config.plan.block() {
        said += &format!(", block {block}");
    }
    if config.samples > 1 {
        said += &format!(", {} texts", config.samples);
    }
    format!("{said}, {}", config.policy)
}

/// What a peer is told.
fn job(
    row: &Row,
    name: &str,
    subject: &Subject,
    prompt: usize,
    config: &DecodeConfig,
) -> Result<Value> {
    Ok(json!({
        "kind": "generate", "dtype": row.dtype, "threads": row.threads,
        "shape": name, "network": subject.shape().config, "mask": subject.spec().ids.mask,
        "prompt": prompt, "length": config.length, "steps": config.steps, "samples": config.samples,
        "block": config.plan.block(), "decode": serde_json::to_value(config)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_take_the_memory_of_their_passes() {
        let shape = super::super::shapes::parse("train-11m").unwrap();
        let spec = Found::random(shape).model_spec();
        let mut config = DecodeConfig::default();
        let mut of = |samples| {
            config.samples = samples;
            memory(&spec, &config, 192)
        };
        let eight = of(8);
        assert!((of(15) - eight - (eight - of(1))).abs() < 1.0);
        // Logits that a filter reads twice are stored, 512 of each open cell.
        config.samples = 8;
        config.top_k = Some(5);
        let more = memory(&spec, &config, 192) - eight;
        assert!(more > 8.0 * 128.0 * 512.0 * 4.0, "{more}");
    }

    #[test]
    fn a_row_says_what_is_written() {
        let mut config = DecodeConfig {
            length: 32,
            steps: 8,
            ..DecodeConfig::default()
        };
        assert_eq!(said("x", 4, &config), "x 4+32, 8 steps, low_confidence");
        config.plan = config.plan.with_block(16);
        config.samples = 2;
        let wanted = "x 4+32, 8 steps, block 16, 2 texts, low_confidence";
        assert_eq!(said("x", 4, &config), wanted);
    }
}
