//! One training step of a masked transformer, timed: `cargo run --release -p demask-nn --example step`.
//!
//! The shape of the comparison in the field: 10.9M parameters, 32 sequences of 128 tokens, half of
//! them masked. Prints the median of several steps, forward and backward apart.

#![expect(clippy::print_stdout, reason = "printing is its job")]

use std::time::Instant;

use burn::tensor::Device;
use demask_nn::transformer::{MlpKind, NormKind, RotaryConfig};
use demask_nn::{Asked, Input, Transformer, TransformerConfig, ops};

fn main() {
    let config = TransformerConfig {
        vocab_size: 512,
        d_model: 384,
        n_layers: 6,
        n_heads: 6,
        n_kv_heads: 6,
        head_dim: 64,
        d_ff: 1024,
        max_length: 128,
        attention: Default::default(),
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        qk_norm: false,
        qkv_bias: false,
        out_bias: false,
        mlp_bias: false,
        head_bias: false,
        rotary: Some(RotaryConfig::new(10_000.0)),
        mlp: MlpKind::SwiGlu,
        time: None,
        labels: None,
        tied_head: false,
        logit_shift: false,
        dropout: 0.0,
    };
    let (batch, length) = (32, 128);
    let network = Transformer::init(&config, 1, &Device::flex().autodiff()).expect("valid");
    let ids: Vec<u32> = (0..batch * length).map(|i| (i * 7 % 512) as u32).collect();
    let asked: Vec<u32> = (0..ids.len() as u32).step_by(2).collect();
    let targets: Vec<u32> = asked.iter().map(|&i| ids[i as usize]).collect();
    let (mut forward, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let start = Instant::now();
        let input = Input {
            asked: Asked::Rows(asked.clone()),
            ..Input::ids(ids.clone(), batch, length)
        };
        let logits = network.forward(input).expect("fits").logits.expect("asked");
        let loss = ops::cross_entropy(logits, &targets, None).mean();
        forward.push(start.elapsed().as_secs_f64());
        let gradients = loss.backward();
        whole.push(start.elapsed().as_secs_f64());
        drop(gradients);
    }
    let median = |v: &mut Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    let (forward, whole) = (median(&mut forward), median(&mut whole));
    println!("parameters {}", config.parameters());
    println!(
        "forward {forward:.3} s, step {whole:.3} s, {:.0} tokens/s",
        (batch * length) as f64 / whole
    );
}
