//! How much memory a run takes, before it takes it.
//!
//! The system ends a program that takes more than there is, or another one. Sizes are numbers of f32 that a pass of
//! `demask-nn` holds at its fullest; all of it is counted in f64, in which no size overflows.

use anyhow::{Result, anyhow};
use demask::nn::TransformerConfig;
use demask::nn::transformer::MlpKind;

use crate::error::with_advice;
use crate::memory;

/// Bytes of an f32.
const F32: f64 = 4.0;
/// What a cell of a text takes beside its pass: its token, its state, what it is scored with and its readings.
const TEXT: f64 = 256.0;
/// Room for what the allocator cannot use again at once.
const SLACK: f64 = 1.1;
/// The same for the rows of a pass, between which products keep their buffers: the most that was measured.
const HELD: f64 = 2.0;
/// Vectors that grow are copied, one at a time.
const GROWING: f64 = 1.5;
/// Most cells of a pass: their numbers are 32-bit.
const MOST_CELLS: f64 = u32::MAX as f64;

/// The cells of a pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cells {
    /// Cells that are forwarded, in all sequences.
    pub forwarded: f64,
    /// Cells whose keys and values are kept.
    pub kept: f64,
    /// Cells whose logits are stored.
    pub logits: f64,
}

/// Values of a cell, by where a network holds them.
struct Widths {
    model: f64,
    queries: f64,
    keys: f64,
    inner: f64,
    /// The first matrices of an MLP side by side.
    gate_up: f64,
    vocabulary: f64,
    layers: f64,
    heads: f64,
    head: f64,
}

impl Widths {
    fn of(c: &TransformerConfig) -> Self {
        let inner = c.d_ff as f64;
        Self {
            model: c.d_model as f64,
            queries: c.n_heads as f64 * c.head_dim as f64,
            keys: c.n_kv_heads as f64 * c.head_dim as f64,
            inner,
            gate_up: match c.mlp {
                MlpKind::SwiGlu => 2.0 * inner,
                _ => inner,
            },
            vocabulary: c.vocab_size as f64,
            layers: c.n_layers as f64,
            heads: c.n_heads as f64,
            head: c.head_dim as f64,
        }
    }
}

/// Bytes of a forward pass of a packed network and of its keys and values, beside its weights.
pub fn forward(config: &TransformerConfig, cells: Cells) -> f64 {
    let w = Widths::of(config);
    // The sum so far and its norm; queries, keys and values; what attention gives, turned queries before.
    let attention = 2.0 * w.model + 2.0 * w.queries + 2.0 * w.keys + w.queries.max(w.keys);
    // The same two, the rows inside, and both as the product rounds them.
    let mlp = 2.0 * w.model + 2.0 * w.inner;
    // Angles are f32 beside positions in f64.
    let row = attention.max(mlp) + w.head + 4.0;
    let kept = GROWING * (2.0 * w.layers * w.keys + w.model) * cells.kept;
    let head = SLACK * (2.0 * w.model + w.vocabulary) * cells.logits;
    // A matrix is whole in f32 before it is packed; the head is the largest.
    let packing = w.vocabulary.max(w.inner) * w.model;
    F32 * (packing + HELD * row * cells.forwarded + kept + head)
}

/// Bytes of a training step over so many cells, every second of which is asked, with its weights.
pub fn training(config: &TransformerConfig, cells: f64) -> f64 {
    let w = Widths::of(config);
    // What each block keeps for the backward pass: the inputs of both branches, queries, keys and values, what
    // attention gave, the rows inside the MLP.
    let block = 2.0 * w.model + 2.0 * w.queries + 2.0 * w.keys + w.heads + w.gate_up;
    // What the backward pass of one block adds: the gradient of its output and of what it kept, and its inputs again.
    let attention = 3.0 * w.model + 2.0 * w.queries + 2.0 * w.keys;
    let mlp = 3.0 * w.model + w.gate_up + 2.0 * w.inner;
    let rows = w.layers * block + attention.max(mlp) + 2.0 * w.model + w.head;
    let head = 0.5 * (w.vocabulary + 2.0 * w.model);
    // Weights, gradients, their sum and two moments.
    let state = 5.0 * config.parameters() as f64;
    F32 * (state + SLACK * (rows + head) * cells)
}

/// Bytes of texts that are written side by side, beside their passes.
pub fn texts(texts: f64, cells: f64) -> f64 {
    texts * (4096.0 + TEXT * cells)
}

/// Refuses a pass with more cells than it can number.
pub fn counted(sequences: usize, cells: usize) -> Result<()> {
    match sequences as f64 * cells as f64 <= MOST_CELLS {
        true => Ok(()),
        false => Err(anyhow!(
            "{sequences} x {cells} cells are more than a pass can number, {MOST_CELLS}"
        )),
    }
}

/// Refuses what this machine has no memory for; `advice` is what to do.
pub fn fits(bytes: f64, advice: &str) -> Result<()> {
    match memory::available() {
        Some(there) => within(bytes, there, advice),
        None => Ok(()),
    }
}

fn within(bytes: f64, there: f64, advice: &str) -> Result<()> {
    if bytes <= there {
        return Ok(());
    }
    let error = anyhow!(
        "this takes {} of memory, and {} are free",
        gib(bytes),
        gib(there)
    );
    Err(with_advice(error, advice))
}

/// Bytes for people. What no machine has is not worth its digits.
pub fn gib(bytes: f64) -> String {
    match bytes / f64::from(1 << 30) {
        gib if gib > 1e6 => "more than a million GiB".to_owned(),
        gib => format!("{gib:.1} GiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shapes;
    use super::*;

    fn cells(forwarded: f64, kept: f64, logits: f64) -> Cells {
        Cells {
            forwarded,
            kept,
            logits,
        }
    }

    #[test]
    fn a_pass_takes_the_values_of_its_cells() {
        let config = shapes::parse("train-11m").unwrap().config;
        // Rows inside the MLP: 2 · 384 + 2 · 1024, attention 7 · 384; angles of 64, a position and a token.
        let row = 2816.0 + 64.0 + 4.0;
        let kept = 1.5 * (2.0 * 6.0 * 384.0 + 384.0);
        let head = 1.1 * (2.0 * 384.0 + 512.0);
        let wanted = 4.0 * (1024.0 * 384.0 + 10.0 * 2.0 * row + 5.0 * kept + 3.0 * head);
        assert!((forward(&config, cells(10.0, 5.0, 3.0)) - wanted).abs() < 1e-6);
    }

    #[test]
    fn a_training_keeps_what_its_backward_pass_reads() {
        let config = shapes::parse("train-11m").unwrap().config;
        let state = 20.0 * 11_015_040.0;
        assert_eq!(training(&config, 0.0), state);
        // 6 blocks of 2 · 384 + 4 · 384 + 6 + 2 · 1024; the MLP's backward pass; the head of half the cells.
        let block = 6.0 * 384.0 + 6.0 + 2048.0;
        let rows = 6.0 * block + 3.0 * 384.0 + 4096.0 + 2.0 * 384.0 + 64.0;
        let wanted = state + 4.4 * (rows + 256.0 + 384.0);
        assert!((training(&config, 1.0) - wanted).abs() < 1.0);
    }

    #[test]
    fn no_size_is_too_large_to_be_counted() {
        let config = shapes::parse("8b").unwrap().config;
        let most = (u64::MAX as f64).powi(2);
        assert!(forward(&config, cells(most, most, most)).is_finite());
        assert!(training(&config, most).is_finite());
        assert!(counted(usize::MAX, usize::MAX).is_err());
        assert!(counted(1 << 16, 1 << 16).is_err());
        assert!(counted(65_535, 65_537).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_do() {
        assert!(within(1e9, 1e9, "").is_ok());
        let said = within(
            3.0 * f64::from(1 << 30),
            2.0 * f64::from(1 << 30),
            "lower it",
        );
        let said = said.unwrap_err().to_string();
        assert_eq!(said, "this takes 3.0 GiB of memory, and 2.0 GiB are free");
        assert_eq!(gib(1e300), "more than a million GiB");
        assert_eq!(fits(1e18, "").is_err(), memory::available().is_some());
    }
}
