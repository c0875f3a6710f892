//! Times the scores of a head, stored and fused: `cargo run --release --example head -p demask-kernels [rows] [d] [vocab]`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use demask_kernels::gemm::{Format, MatrixRef, PackedB, product, scores};
use demask_kernels::rowwise::{Asked, Noise, RowAsked, score_allowed};

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
            println!(
                "{} at {temperature}: product {:.1} ms, stored {:.1} ms, fused {:.1} ms",
                format.name(),
                least(|| assert_eq!(product(a, &b, None).len(), rows * vocab)),
                least(|| {
                    let mut logits = product(a, &b, None);
                    let found = score_allowed(&mut logits, vocab, &ask, &asked);
                    assert_eq!(found.len(), rows);
                }),
                least(|| assert_eq!(scores(a, &b, None, &ask, &asked).len(), rows)),
            );
        }
    }
}

/// The shortest of some runs, in milliseconds: the machine may have other work.
fn least(mut f: impl FnMut()) -> f64 {
    let times = (0..15).map(|_| {
        let start = Instant::now();
        f();
        1e3 * start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}
