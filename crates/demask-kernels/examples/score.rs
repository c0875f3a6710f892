//! Times the scores of rows of logits: `cargo run --release --example score -p demask-kernels [rows] [vocab]`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use demask_kernels::rowwise::{Asked, Noise, score};

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|a| a.parse::<usize>().expect("a number"));
    let (rows, vocab) = (args.next().unwrap_or(256), args.next().unwrap_or(151_936));
    let wave = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 7) % 4096) as f32 / 400.0;
    let logits: Vec<f32> = (0..rows * vocab).map(wave).collect();
    let noise: Vec<Noise<'_>> = (0..rows as u32).map(|i| Noise::Keystream([i; 8])).collect();
    for (name, temperature, tempered, largest, draws) in [
        ("greedy", 0.0, false, 0, false),
        ("greedy, 256 largest", 0.0, false, 256, false),
        ("draw at 1", 1.0, false, 0, true),
        ("draw at 0.7", 0.7, false, 0, true),
        ("draw at 0.7, tempered scores", 0.7, true, 0, true),
    ] {
        let asked = Asked {
            temperature,
            tempered,
            largest,
        };
        let noise = if draws { &noise[..] } else { &[] };
        let mut times: Vec<f64> = (0..25)
            .map(|_| {
                let start = Instant::now();
                let scores = score(&logits, vocab, &asked, noise);
                assert_eq!(scores.len(), rows);
                start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let [least, median] = [times[0], times[times.len() / 2]].map(|t| 1e3 * t);
        println!("{name}: median {median:.2} ms, least {least:.2} ms");
    }
}
