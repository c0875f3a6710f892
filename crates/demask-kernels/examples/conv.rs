//! Speed of the image-side kernels on layers of a small U-Net:
//! `cargo run --release -p demask-kernels --example conv [-- BATCH [THREADS]]` (16, all).
#![allow(clippy::print_stdout)]

use demask_kernels::Isa;
use demask_kernels::conv::*;
use demask_kernels::rowwise::*;
use std::time::Instant;

/// Least and median milliseconds of several runs.
fn time<T>(mut f: impl FnMut() -> T) -> (f64, f64) {
    f();
    let mut all = Vec::new();
    let begin = Instant::now();
    while all.len() < 5 || (begin.elapsed().as_secs_f64() < 0.4 && all.len() < 500) {
        let t = Instant::now();
        f();
        all.push(1e3 * t.elapsed().as_secs_f64());
    }
    all.sort_by(f64::total_cmp);
    (all[0], all[all.len() / 2])
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7 % 19) as f32 * 0.1 - 0.9).collect()
}

fn main() {
    let mut args = std::env::args()
        .skip(1)
        .map(|a| a.parse().expect("a number"));
    let (batch, threads) = (args.next().unwrap_or(16), args.next().unwrap_or(0));
    demask_kernels::threads::with_threads(threads, || {
        convolutions(batch);
        norms(batch);
    });
}

/// Group norm with SiLU, which is bound by memory: GB/s of what must be read and written once.
fn norms(batch: usize) {
    println!("group norm (8 groups) and SiLU, batch x channels x size: forward | backward");
    for (channels, size) in [(64, 32), (128, 16), (256, 8)] {
        let shape = GroupNorm {
            batch,
            channels,
            pixels: size * size,
            groups: 8,
            eps: 1e-5,
            silu: true,
        };
        let n = batch * channels * shape.pixels;
        let (x, dy, w, b) = (values(n), values(n), values(channels), values(channels));
        let (mut dw, mut db) = (w.clone(), w.clone());
        let mut stats = vec![0.0; 2 * batch * shape.groups];
        let params = ChannelParams {
            shift: None,
            weight: &w,
            bias: &b,
        };
        let forward = time(|| group_norm(&shape, &x, params, &mut stats));
        let backward = time(|| {
            let gradients = ChannelGradients {
                shift: None,
                weight: &mut dw,
                bias: &mut db,
            };
            group_norm_backward(&shape, &x, params, &stats, &dy, gradients)
        });
        let rate = |t: (f64, f64), arrays: usize| {
            let gbytes = 4e-6 * (arrays * n) as f64 / t.0;
            format!("{:7.3} /{:7.3} ({gbytes:4.0})", t.0, t.1)
        };
        println!(
            "{batch:3} {channels:4} {size:3} | {} | {}",
            rate(forward, 2),
            rate(backward, 3)
        );
    }
}

fn convolutions(batch: usize) {
    let threads = demask_kernels::threads::count();
    println!(
        "{} on {threads} threads; least / median ms (GFLOP/s of the least)",
        Isa::detect().name()
    );
    println!(
        "batch x channels x size -> filters, kernel, stride: forward | d input | d weight | d bias"
    );
    for (batch, channels, size, filters, k, s) in [
        (batch, 3, 32, 64, 3, 1),
        (batch, 64, 32, 64, 3, 1),
        (batch, 128, 32, 64, 3, 1),
        (batch, 64, 32, 64, 3, 2),
        (batch, 64, 16, 128, 3, 1),
        (batch, 128, 16, 128, 3, 1),
        (batch, 256, 16, 128, 3, 1),
        (batch, 128, 16, 128, 3, 2),
        (batch, 128, 8, 256, 3, 1),
        (batch, 256, 8, 256, 3, 1),
        (batch, 512, 8, 256, 3, 1),
        (batch, 64, 32, 3, 3, 1),
        (batch, 64, 32, 64, 1, 1),
        (batch, 128, 32, 64, 1, 1),
        (batch, 128, 16, 128, 1, 1),
        (batch, 256, 8, 256, 1, 1),
        (1, 64, 64, 64, 3, 1),
        (1, 128, 32, 128, 3, 1),
    ] {
        let shape = ConvShape {
            batch,
            channels,
            height: size,
            width: size,
            filters,
            kernel: [k, k],
            stride: [s, s],
            padding: [k / 2, k / 2],
        };
        let pixels: usize = shape.output().iter().product();
        let x = values(batch * channels * size * size);
        let (w, bias) = (values(filters * channels * k * k), values(filters));
        let (mut y, mut dx, mut dw) = (values(batch * filters * pixels), x.clone(), w.clone());
        let mut db = bias.clone();
        let dy = y.clone();
        let rate = |t: (f64, f64)| {
            let gflops = 1e-6 * shape.flops() as f64 / t.0;
            format!("{:7.3} /{:7.3} ({gflops:4.0})", t.0, t.1)
        };
        let forward = time(|| conv2d(&shape, &x, &w, Some(&bias), &mut y));
        let input = time(|| conv2d_backward_input(&shape, &w, &dy, &mut dx));
        let weight = time(|| conv2d_backward_weight(&shape, &x, &dy, &mut dw));
        let sum = time(|| conv2d_backward_bias(&shape, &dy, &mut db));
        println!(
            "{batch:3} {channels:4} {size:3} {filters:4} {k} {s} | {} | {} | {} | {:7.3}",
            rate(forward),
            rate(input),
            rate(weight),
            sum.0
        );
    }
}
