//! Speed of the parts of one transformer layer's training step:
//! `cargo run --release -p demask-kernels --example training_step`.
#![allow(clippy::print_stdout)]

use demask_kernels::attention::{
    HeadsMut, HeadsRef, KeyRanges, Precision, attention_backward, attention_forward,
};
use demask_kernels::gemm::{Beta, MatrixMut, MatrixRef, gemm};
use demask_kernels::rowwise::*;
use std::time::Instant;

/// Prints the median milliseconds and, for `flops` above 0, GFLOP/s.
fn time(name: &str, flops: usize, mut f: impl FnMut()) {
    f();
    let mut all: Vec<f64> = (0..15)
        .map(|_| {
            let t = Instant::now();
            f();
            t.elapsed().as_secs_f64()
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let t = all[all.len() / 2];
    let rate = if flops > 0 {
        format!("{:8.1}", 1e-9 * flops as f64 / t)
    } else {
        String::new()
    };
    println!("{name:<28} {:9.3} ms {rate}", 1e3 * t);
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7 % 19) as f32 * 0.1 - 0.9).collect()
}

fn main() {
    let ([batch, len], [heads, dim]) = ([32, 128], [6, 64]);
    let (rows, d, ffn) = (batch * len, heads * dim, 1536);
    println!(
        "{rows} rows, width {d}, {heads} heads of {dim}, {} threads",
        demask_kernels::threads::count()
    );

    let (x, w, mut y) = (values(rows * ffn), values(d * ffn), vec![0.0; rows * ffn]);
    let mut product = |name: &str, m: usize, k: usize, n: usize| {
        time(name, 2 * m * k * n, || {
            let (a, b) = (
                MatrixRef::new(&x[..m * k], m, k),
                MatrixRef::new(&w[..k * n], k, n),
            );
            gemm(
                MatrixMut::new(&mut y[..m * n], m, n),
                Beta::Overwrite,
                a,
                b,
                None,
            );
        });
    };
    product("gemm qkv", rows, d, 3 * d);
    product("gemm out", rows, d, d);
    product("gemm up", rows, d, ffn);
    product("gemm down", rows, ffn, d);

    let dims = [batch, len, heads, dim];
    let qkv = values(rows * 3 * d);
    let part = |i: usize| HeadsRef::new(&qkv[i * rows * d..], dims);
    let (q, k, v) = (part(0), part(1), part(2));
    let (mut out, mut lse) = (vec![0.0; rows * d], vec![0.0; rows * heads]);
    let ranges = KeyRanges::full(len, len);
    let flops = 4 * batch * heads * len * len * dim;
    time("attention forward", flops, || {
        let out = HeadsMut::new(&mut out, dims);
        attention_forward(q, k, v, &ranges, 0.125, Precision::F32, out, &mut lse);
    });
    let dout = values(rows * d);
    let [mut dq, mut dk, mut dv] = [0; 3].map(|_| vec![0.0; rows * d]);
    time("attention backward", flops / 2 * 5, || {
        let [dq, dk, dv] = [&mut dq, &mut dk, &mut dv].map(|part| HeadsMut::new(part, dims));
        let (out, dout) = (HeadsRef::new(&out, dims), HeadsRef::new(&dout, dims));
        attention_backward(q, k, v, &ranges, 0.125, out, &lse, dout, dq, dk, dv);
    });

    let (n, dy) = (rows * d, values(rows * d));
    let (mut small, mut dx, mut inverse) = (vec![0.0; n], vec![0.0; n], vec![0.0; rows]);
    time("rms norm", 0, || {
        rms_norm(&x[..n], d, Some(&w[..d]), 1e-5, &mut small, &mut inverse)
    });
    let mut dw = vec![0.0; d];
    time("rms norm backward", 0, || {
        rms_norm_backward(
            &x[..n],
            d,
            Some(&w[..d]),
            &inverse,
            &dy,
            &mut dx,
            Some(&mut dw),
        );
    });
    let (up, mut act) = (values(rows * ffn), vec![0.0; rows * ffn]);
    time("swiglu", 0, || swiglu(&x, &up, &mut act));
    let (mut dgate, mut dup) = (vec![0.0; rows * ffn], vec![0.0; rows * ffn]);
    time("swiglu backward", 0, || {
        swiglu_backward(&x, &up, &act, &mut dgate, &mut dup)
    });
    time("gelu", 0, || gelu(&x, &mut act));
    let positions: Vec<f64> = (0..rows).map(|r| (r % len) as f64).collect();
    let table = RotaryTable::new(&positions, dim, 10_000.0);
    time("rotary", 0, || {
        rotary(&mut small, d, heads, dim, &table, RotaryLayout::HalfSplit)
    });
    let (targets, classes) = (vec![3i64; rows], 512);
    let (mut loss, mut sums) = (vec![0.0; rows], vec![0.0; rows]);
    let logits = values(rows * classes);
    time("cross-entropy (512)", 0, || {
        cross_entropy(&logits, classes, &targets, &mut loss, &mut sums)
    });
    let (mut p, g) = (values(10_900_000), values(10_900_000));
    let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
    let set = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 5,
        grad_scale: 1.0,
    };
    time("adamw (10.9M)", 0, || {
        adamw_step(&set, &mut p, &g, &mut m, &mut v)
    });
}
