mod formats;
mod hidden;

use super::*;
use crate::simd::with_every_isa;
use crate::testing::{Lcg, relative_error};
use crate::threads::with_threads;
use proptest::prelude::*;

/// `C + A·B + bias` in f64, and the sum of the absolute terms (the scale of the rounding error).
fn reference(
    c: &[f32],
    a: &dyn Fn(usize, usize) -> f32,
    b: &dyn Fn(usize, usize) -> f32,
    bias: Option<&[f32]>,
    (m, n, k): (usize, usize, usize),
) -> Vec<(f64, f64)> {
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let bias = bias.map_or(0.0, |b| f64::from(b[j]));
            let mut sum = f64::from(c[i * n + j]) + bias;
            let mut scale = f64::from(c[i * n + j]).abs() + bias.abs();
            for l in 0..k {
                let x = f64::from(a(i, l)) * f64::from(b(l, j));
                sum += x;
                scale += x.abs();
            }
            out.push((sum, scale));
        }
    }
    out
}

fn check(m: usize, n: usize, k: usize, seed: u64) {
    let mut rng = Lcg(seed);
    let (a, b) = (rng.vec(m * k), rng.vec(k * n));
    let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
    let (old, bias) = (rng.vec(m * n), rng.vec(n));
    let views_a = [MatrixRef::new(&a, m, k), MatrixRef::new(&at, k, m).t()];
    let views_b = [MatrixRef::new(&b, k, n), MatrixRef::new(&bt, n, k).t()];
    let zero = vec![0.0; m * n];
    for (beta, bias) in [
        (Beta::Overwrite, None),
        (Beta::Accumulate, None),
        (Beta::Overwrite, Some(&bias[..])),
        (Beta::Accumulate, Some(&bias[..])),
    ] {
        let start = if beta == Beta::Accumulate {
            &old
        } else {
            &zero
        };
        let want = reference(
            start,
            &|i, l| a[i * k + l],
            &|l, j| b[l * n + j],
            bias,
            (m, n, k),
        );
        with_every_isa(|isa| {
            let mut first: Option<Vec<f32>> = None;
            for va in views_a {
                for vb in views_b {
                    for packed in [false, true] {
                        let mut c = if beta == Beta::Accumulate {
                            old.clone()
                        } else {
                            vec![f32::NAN; m * n]
                        };
                        let out = MatrixMut::new(&mut c, m, n);
                        if packed {
                            gemm(out, beta, va, &PackedB::pack(vb, Format::F32), bias);
                        } else {
                            gemm(out, beta, va, vb, bias);
                        }
                        for (x, &(w, scale)) in c.iter().zip(&want) {
                            let bound = 1e-7 * scale * (k as f64).sqrt().max(4.0);
                            assert!(
                                (f64::from(*x) - w).abs() <= bound,
                                "{m}x{n}x{k} {}: {x} against {w}",
                                isa.name()
                            );
                        }
                        // Layout and packing never change a bit.
                        match &first {
                            Some(f) => assert_eq!(f, &c),
                            None => first = Some(c),
                        }
                    }
                }
            }
        });
    }
}

fn transpose(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for i in 0..rows {
        for j in 0..cols {
            out[j * rows + i] = x[i * cols + j];
        }
    }
    out
}

#[test]
fn small_literal_product() {
    let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let b = [7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
    let mut c = [0.5, 0.0, 0.0, 1.0];
    gemm(
        MatrixMut::new(&mut c, 2, 2),
        Beta::Accumulate,
        MatrixRef::new(&a, 2, 3),
        MatrixRef::new(&b, 3, 2),
        Some(&[100.0, 0.0]),
    );
    assert_eq!(c, [158.5, 64.0, 239.0, 155.0]);
}

#[test]
fn odd_and_prime_shapes_match_f64() {
    for (i, &(m, n, k)) in [
        (1, 1, 1),
        (1, 33, 7),
        (2, 31, 17),
        (13, 47, 64),
        (14, 32, 16),
        (15, 65, 97),
        (29, 300, 31),
        (61, 19, 401),
        (3, 5, 1201),
    ]
    .iter()
    .enumerate()
    {
        check(m, n, k, i as u64 + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn random_shapes_match_f64(m in 1usize..40, n in 1usize..70, k in 1usize..80, seed in 1u64..1000) {
        check(m, n, k, seed);
    }
}

#[test]
fn empty_dimensions() {
    let mut c = [3.0f32; 4];
    let none = MatrixRef::<f32>::new(&[], 2, 0);
    gemm(
        MatrixMut::new(&mut c, 2, 2),
        Beta::Accumulate,
        none,
        MatrixRef::new(&[], 0, 2),
        None,
    );
    assert_eq!(c, [3.0; 4]);
    let bias = Some(&[1.0, 2.0][..]);
    gemm(
        MatrixMut::new(&mut c, 2, 2),
        Beta::Overwrite,
        none,
        MatrixRef::new(&[], 0, 2),
        bias,
    );
    assert_eq!(c, [1.0, 2.0, 1.0, 2.0]);
    gemm(
        MatrixMut::new(&mut [], 0, 2),
        Beta::Overwrite,
        MatrixRef::<f32>::new(&[], 0, 3),
        MatrixRef::new(&[0.0; 6], 3, 2),
        None,
    );
    // As many rows and steps as a tile unit takes part by part, and no column.
    let (a, b) = (vec![1.0; 300 * 600], MatrixRef::new(&[], 600, 0));
    with_every_isa(|_| {
        let a = MatrixRef::new(&a, 300, 600);
        let packed = PackedB::pack(b, Format::Bf16);
        assert!(product(a, &packed, None).is_empty());
        assert!(product(a, Rhs::Bf16(b), None).is_empty());
    });
}

#[test]
fn views_of_one_row_have_any_stride() {
    let x = [1.0, 2.0, -3.0];
    let row = MatrixRef::with_strides(&x, 1, 3, usize::MAX, 1);
    let column = MatrixRef::new(&x, 3, 1);
    with_every_isa(|_| {
        assert_eq!(product(row, Rhs::Bf16(column), None), [14.0]);
        let all = product(column, Rhs::Bf16(row), None);
        assert_eq!(all, [1.0, 2.0, -3.0, 2.0, 4.0, -6.0, -3.0, -6.0, 9.0]);
    });
}

#[test]
fn shapes_whose_places_cannot_be_counted_are_refused() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let (huge, none, bias) = ((1 << 63) + 1, MatrixRef::new(&[], 0, 2), [1.0, 2.0]);
    let a = MatrixRef::<f32>::new(&[], huge, 0);
    let refused = |f: &dyn Fn() -> usize| {
        let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("refused");
        let text = panic.downcast_ref::<String>().expect("a message");
        assert!(text.contains("too large"), "{text}");
    };
    refused(&|| product(a, none, Some(&bias)).len());
    refused(&|| products(a, [(none.into(), None), (none.into(), None)]).len());
    refused(&|| gated_product::<_, f32>(a, none.into(), none.into()).len());
    refused(&|| product_plus(&[1.0; 2], a, none, Some(&bias)).len());
    // As many rows of nothing as there may be take no time.
    PackedB::pack(MatrixRef::new(&[], usize::MAX, 0), Format::F32);
    PackedB::pack(MatrixRef::new(&[], 0, 1 << 40), Format::F32);
}

#[test]
fn a_stride_of_zero_repeats_a_row() {
    let b = [1.0, 2.0];
    let mut c = [9.0f32; 2];
    let a = MatrixRef::with_strides(&[3.0, 4.0], 2, 2, 0, 1);
    let out = MatrixMut::new(&mut c, 2, 1);
    gemm(out, Beta::Overwrite, a, MatrixRef::new(&b, 2, 1), None);
    assert_eq!(c, [11.0, 11.0]);
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch() {
    let (m, n, k) = (77, 203, 901);
    let mut rng = Lcg(5);
    let (a, b, bias) = (rng.vec(m * k), rng.vec(k * n), rng.vec(n));
    with_every_isa(|isa| {
        let packed = PackedB::pack(MatrixRef::new(&b, k, n), Format::F32);
        let mut batch = vec![0.0; m * n];
        gemm(
            MatrixMut::new(&mut batch, m, n),
            Beta::Overwrite,
            MatrixRef::new(&a, m, k),
            MatrixRef::new(&b, k, n),
            Some(&bias),
        );
        for i in 0..m {
            let mut row = vec![0.0; n];
            gemm(
                MatrixMut::new(&mut row, 1, n),
                Beta::Overwrite,
                MatrixRef::new(&a[i * k..(i + 1) * k], 1, k),
                &packed,
                Some(&bias),
            );
            assert_eq!(row, batch[i * n..(i + 1) * n], "row {i} on {}", isa.name());
        }
        // And for a column alone.
        for j in [0, 31, 202] {
            let column = MatrixRef::with_strides(&b[j..], k, 1, n, 1);
            let mut out = vec![0.0; m];
            let a = MatrixRef::new(&a, m, k);
            let c = MatrixMut::new(&mut out, m, 1);
            gemm(c, Beta::Overwrite, a, column, Some(&bias[j..=j]));
            assert!((0..m).all(|i| out[i] == batch[i * n + j]));
        }
    });
}

#[test]
fn threads_do_not_change_a_bit() {
    let mut rng = Lcg(6);
    for (m, n, k) in [
        (77, 403, 901),
        (600, 70, 300),
        (3, 4100, 130),
        (1100, 33, 65),
    ] {
        let (a, b) = (rng.vec(m * k), rng.vec(k * n));
        let run = |threads| {
            with_threads(threads, || {
                let mut c = vec![0.0; m * n];
                gemm(
                    MatrixMut::new(&mut c, m, n),
                    Beta::Overwrite,
                    MatrixRef::new(&a, m, k),
                    MatrixRef::new(&b, k, n),
                    None,
                );
                c
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }
}

#[test]
fn nan_stays_in_its_row_and_column() {
    let (m, n, k) = (20, 40, 8);
    let mut a = vec![1.0f32; m * k];
    a[3 * k] = f32::NAN;
    let b = vec![1.0f32; k * n];
    let mut c = vec![0.0; m * n];
    gemm(
        MatrixMut::new(&mut c, m, n),
        Beta::Overwrite,
        MatrixRef::new(&a, m, k),
        MatrixRef::new(&b, k, n),
        None,
    );
    assert!(c[3 * n..4 * n].iter().all(|x| x.is_nan()));
    assert_eq!(relative_error(&c[..3 * n], &vec![8.0; 3 * n]), 0.0);
}

#[test]
#[should_panic(expected = "A is 2x3, B is 4x2")]
fn shapes_that_do_not_fit_are_named() {
    gemm(
        MatrixMut::new(&mut [0.0; 4], 2, 2),
        Beta::Overwrite,
        MatrixRef::new(&[0.0; 6], 2, 3),
        MatrixRef::new(&[0.0; 8], 4, 2),
        None,
    );
}

#[test]
#[should_panic(expected = "does not fill")]
fn sizes_that_overflow_are_refused() {
    MatrixRef::<f32>::new(&[], 1 << 32, 1 << 32);
}

#[test]
#[should_panic(expected = "panels of a 576460752303423489x32 matrix")]
fn a_view_that_repeats_its_rows_without_end_is_not_packed() {
    // 32 columns of 2^59 + 1 rows wrap to 32 values.
    PackedB::pack(
        MatrixRef::with_strides(&[1.0; 32], (1 << 59) + 1, 32, 0, 1),
        Format::F32,
    );
}

#[test]
#[should_panic(expected = "too large to be cut into blocks")]
fn an_inner_dimension_without_end_is_refused() {
    let k = 1 << 40;
    gemm(
        MatrixMut::new(&mut [0.0], 1, 1),
        Beta::Overwrite,
        MatrixRef::with_strides(&[1.0], 1, k, 0, 0),
        MatrixRef::with_strides(&[1.0], k, 1, 0, 0),
        None,
    );
}
