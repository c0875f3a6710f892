//! Times the scores of a head, stored and fused: `cargo run --release --example head -p demask-kernels [rows] [d] [vocab]`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use demask_kernels::gemm::{Format, MatrixRef, PackedB, product, scores};
use demask_kernels::rowwise::{Asked, Noise, RowAsked, Scored, score_allowed};

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|a| a.parse::<usize>().expect("a number"));
    let mut next = |usual| args.next().unwrap_or(usual);
    let (rows, d, vocab) = (next(256), next(896), next(151_936));
    let wave = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 7) % 4096) as f32 / 8192.0 - 0.25;
    let x: Vec<f32> = (0..rows * d).map(wave).collect();
    let weight: Vec<f32> = (0..vocab * d).map(wave).collect();
    let a = MatrixRef::new(&x, rows, d);
    let asked: Vec<RowAsked<'_>> = (0..rows as u32)
        .map(|i| RowAsked {
            noise: Some(Noise::Keystream([i; 8])),
            forbidden: &[],
        })
        .collect();
    for format in [
        Format::Bf16,
        Format::Int8 {
            group: Format::WHOLE,
        },
    ] {
        let b = PackedB::pack(MatrixRef::new(&weight, vocab, d).t(), format);
        for temperature in [0.0, 0.7] {
            let ask = Asked {
                temperature,
                ..Asked::default()
            };
            let stored = || {
                let mut logits = product(a, &b, None);
                score_allowed(&mut logits, vocab, &ask, &asked)
            };
            let fused = || scores(a, &b, None, &ask, &asked);
            let least = |f: &dyn Fn() -> Vec<Scored>| {
                let times = (0..15).map(|_| {
                    let start = Instant::now();
                    assert_eq!(f().len(), rows);
                    1e3 * start.elapsed().as_secs_f64()
                });
                times.fold(f64::INFINITY, f64::min)
            };
            let only = least(&|| {
                let _ = product(a, &b, None);
                asked.iter().map(|_| fused_nothing()).collect()
            });
            println!(
                "{} at {temperature}: product {only:.1} ms, stored {:.1} ms, fused {:.1} ms",
                format.name(),
                least(&stored),
                least(&fused)
            );
        }
    }
}

/// A score of nothing, to count the rows of a product alone.
fn fused_nothing() -> Scored {
    score_allowed(&mut [0.0], 1, &Asked::default(), &[RowAsked::default()]).remove(0)
}
