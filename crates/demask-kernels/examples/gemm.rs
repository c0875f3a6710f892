//! Speed of the matrix product: `cargo run --release -p demask-kernels --example gemm`.
#![allow(clippy::print_stdout)]

use demask_kernels::Isa;
use demask_kernels::gemm::{Beta, Format, MatrixMut, MatrixRef, PackedB, gemm};
use std::time::Instant;

/// Median seconds of several runs.
fn time(mut f: impl FnMut()) -> f64 {
    f();
    let mut all = Vec::new();
    let begin = Instant::now();
    while all.len() < 5 || (begin.elapsed().as_secs_f64() < 0.4 && all.len() < 200) {
        let t = Instant::now();
        f();
        all.push(t.elapsed().as_secs_f64());
    }
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect()
}

fn main() {
    let threads = demask_kernels::threads::count();
    println!("{} on {threads} threads; GFLOP/s", Isa::detect().name());
    println!(
        "{:>6} {:>6} {:>6} {:>9} {:>9} {:>9} {:>9}",
        "m", "k", "n", "packed", "A·B", "A·Bᵀ", "Aᵀ·B"
    );
    for (m, k, n) in [
        (1, 4096, 4096),
        (2, 4096, 4096),
        (4, 4096, 4096),
        (8, 4096, 4096),
        (16, 4096, 4096),
        (24, 4096, 4096),
        (32, 4096, 4096),
        (256, 4096, 4096),
        (1024, 4096, 4096),
        (4096, 384, 384),
        (4096, 384, 1152),
        (4096, 384, 1536),
        (4096, 1536, 384),
        (4096, 384, 512),
        (384, 4096, 1536),
        (384, 4096, 384),
        (32, 384, 1536),
        (1, 384, 1536),
    ] {
        let (a, b, mut c) = (values(m * k), values(k * n), vec![0.0; m * n]);
        let packed = PackedB::pack(MatrixRef::new(&b, k, n), Format::F32);
        let flops = 2e-9 * (m * k * n) as f64;
        let mut rate = |a: MatrixRef<'_>, b: Option<MatrixRef<'_>>| {
            flops
                / time(|| {
                    let c = MatrixMut::new(&mut c, m, n);
                    match b {
                        Some(b) => gemm(c, Beta::Overwrite, a, b, None),
                        None => gemm(c, Beta::Overwrite, a, &packed, None),
                    }
                })
        };
        let (am, bm) = (MatrixRef::new(&a, m, k), MatrixRef::new(&b, k, n));
        println!(
            "{m:>6} {k:>6} {n:>6} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            rate(am, None),
            rate(am, Some(bm)),
            rate(am, Some(MatrixRef::new(&b, n, k).t())),
            rate(MatrixRef::new(&a, k, m).t(), Some(bm)),
        );
    }
}
