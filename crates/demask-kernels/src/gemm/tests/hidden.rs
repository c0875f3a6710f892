//! Operands and results in bf16, and what is done with sums while they are near: the same bits as the operations one
//! after the other.

use super::*;
use crate::element::Element;
use crate::rowwise::{gelu, gelu_backward, swiglu, swiglu_backward};
use crate::testing::{floats, rounded};
use crate::{Precision, Reused};

/// Asserts that all values are equal; names the first one that is not.
#[track_caller]
fn same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let differ = |(got, want): (&f32, &f32)| got != want;
    if let Some(i) = got.iter().zip(want).position(differ) {
        panic!("{what}: value {i} is {}, not {}", got[i], want[i]);
    }
}

/// Gate and up side by side.
fn beside(gate: &[f32], up: &[f32], n: usize) -> Vec<f32> {
    let rows = gate.chunks_exact(n).zip(up.chunks_exact(n));
    rows.flat_map(|(gate, up)| [gate, up].concat()).collect()
}

#[test]
fn operands_rounded_before_are_those_rounded_in_the_call() {
    for (m, n, k) in [
        (1, 1, 1),
        (3, 5, 7),
        (17, 33, 40),
        (70, 65, 129),
        (300, 70, 33),
        // Packed by all tasks together, and multiplied part by part.
        (300, 70, 1030),
    ] {
        let mut rng = Lcg(7);
        let (a, b) = (rng.vec(m * k), rng.vec(k * n));
        let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
        let [ra, rb, rat, rbt]: [Vec<Bf16>; 4] = [&a, &b, &at, &bt].map(|x| rounded(x));
        let pairs_a = [
            (MatrixRef::new(&a, m, k), MatrixRef::new(&ra, m, k)),
            (
                MatrixRef::new(&at, k, m).t(),
                MatrixRef::new(&rat, k, m).t(),
            ),
        ];
        let pairs_b = [
            (MatrixRef::new(&b, k, n), MatrixRef::new(&rb, k, n)),
            (
                MatrixRef::new(&bt, n, k).t(),
                MatrixRef::new(&rbt, n, k).t(),
            ),
        ];
        with_every_isa(|isa| {
            let want = product(pairs_a[0].0, Rhs::Bf16(pairs_b[0].0), None);
            for (plain_a, rounded_a) in pairs_a {
                for (plain_b, rounded_b) in pairs_b {
                    let got = [
                        product(rounded_a, Rhs::Bf16(plain_b), None),
                        product(plain_a, Rhs::Rounded(rounded_b), None),
                        product(rounded_a, Rhs::Rounded(rounded_b), None),
                    ];
                    assert!(
                        got.iter().all(|got| *got == want),
                        "{m}x{n}x{k} {}",
                        isa.name()
                    );
                }
            }
            let narrow: Reused<Bf16> = product_in(pairs_a[0].1, Rhs::Bf16(pairs_b[0].0), None);
            same(
                &floats(&narrow),
                &floats::<Bf16>(&rounded(&want)),
                "stored as bf16",
            );
            let wide: Reused<f32> = product_in(pairs_a[0].1, Rhs::Bf16(pairs_b[0].0), None);
            same(&wide, &want, "stored as f32");
        });
    }
}

#[test]
fn a_row_has_the_same_bits_alone_where_tasks_pack_rows_themselves() {
    for (m, n, k) in [(70, 40, 1100), (600, 33, 517), (300, 530, 601)] {
        let mut rng = Lcg(8);
        let (a, b) = (rng.vec(m * k), rng.vec(k * n));
        let (narrow, x) = (rounded::<Bf16>(&a), rng.vec(m * n));
        let (at, narrow_at) = (transpose(&a, m, k), rounded(&transpose(&a, m, k)));
        let b = PackedB::pack(MatrixRef::new(&b, k, n), Format::Bf16);
        with_every_isa(|isa| {
            // Only there; elsewhere one shape of them says as much.
            if isa != crate::Isa::Amx && m > 100 {
                return;
            }
            let alone = |i: usize| product(MatrixRef::new(&a[i * k..][..k], 1, k), &b, None);
            let want: Vec<f32> = (0..m).flat_map(alone).collect();
            let sum: Vec<f32> = x.iter().zip(&want).map(|(x, y)| x + y).collect();
            for threads in [1, 2, 3] {
                with_threads(threads, || {
                    let rows = MatrixRef::new(&a, m, k);
                    same(&product(rows, &b, None), &want, "rows");
                    let columns = MatrixRef::new(&at, k, m).t();
                    same(&product(columns, &b, None), &want, "columns");
                    let rounded = MatrixRef::new(&narrow, m, k);
                    same(&product(rounded, &b, None), &want, "rounded rows");
                    let rounded = MatrixRef::<Bf16>::new(&narrow_at, k, m).t();
                    same(&product(rounded, &b, None), &want, "rounded columns");
                    same(&product_plus(&x, rows, &b, None), &sum, "a sum");
                });
            }
        });
    }
}

#[test]
fn rounded_rows_enter_products_of_every_format() {
    let (m, n, k) = (33, 40, 64);
    let mut rng = Lcg(9);
    let (a, b): (Vec<Bf16>, _) = (rounded(&rng.vec(m * k)), rng.vec(n * k));
    let (wide, b) = (floats(&a), MatrixRef::new(&b, n, k).t());
    let formats = [
        Format::F32,
        Format::Bf16,
        Format::Int8 { group: 32 },
        Format::Int4 { group: 32 },
    ];
    with_every_isa(|_| {
        for packed in formats.map(|format| PackedB::pack(b, format)) {
            let want = product(MatrixRef::new(&wide, m, k), &packed, None);
            assert_eq!(product(MatrixRef::new(&a, m, k), &packed, None), want);
            let mut sum = vec![0.5; m * n];
            let c = MatrixMut::new(&mut sum, m, n);
            gemm(c, Beta::Add, MatrixRef::new(&a, m, k), &packed, None);
            let added: Vec<f32> = want.iter().map(|x| 0.5 + x).collect();
            assert_eq!(sum, added);
        }
        // And a right operand in a product of f32.
        let right = MatrixRef::new(&a, m, k).t();
        let left = MatrixRef::new(&wide[..k], 1, k);
        let want = product(left, Rhs::Bf16(MatrixRef::new(&wide, m, k).t()), None);
        assert_eq!(product(left, Precision::F32.rhs(right), None), want);
    });
}

#[test]
fn gate_and_up_need_not_both_be_packed() {
    // As many rows, and so long, that a tile unit takes packed operands part by part.
    let (m, n, k) = (128, 70, 600);
    let mut rng = Lcg(12);
    let (a, gate, up) = (rng.vec(m * k), rng.vec(k * n), rng.vec(k * n));
    let [a, gate, up] = [(&a, m, k), (&gate, k, n), (&up, k, n)]
        .map(|(x, rows, cols)| MatrixRef::new(x, rows, cols));
    with_every_isa(|isa| {
        let packed = PackedB::pack(gate, Format::Bf16);
        let products = [product(a, &packed, None), product(a, Rhs::Bf16(up), None)];
        let mut want = vec![0.0; m * n];
        swiglu(&products[0], &products[1], &mut want);
        let found: Reused = gated_product(a, (&packed).into(), Rhs::Bf16(up));
        assert!(*found == want, "{}", isa.name());
    });
}

/// [`hidden_rows`] and its gradient against products and activations of their own.
fn check_hidden<T: Element>(m: usize, n: usize, k: usize, out: usize, gated: bool) {
    let mut rng = Lcg(11);
    let (x, g): (Vec<T>, _) = (rounded(&rng.vec(m * k)), rng.vec(m * out));
    // Small sums: what the slope of an activation makes of large ones is too small for a normal bf16.
    let mut small = |len| -> Vec<f32> { rng.vec(len).iter().map(|x| x / 16.0).collect() };
    let (gate, up, down) = (small(n * k), small(n * k), small(out * n));
    let (gate_bias, up_bias) = (rng.vec(n), rng.vec(n));
    let rhs = |w, rows, cols| T::PRECISION.rhs(MatrixRef::<f32>::new(w, rows, cols));
    let weight = |w| T::PRECISION.rhs(MatrixRef::<f32>::new(w, n, k).t());
    let (x, down) = (MatrixRef::new(&x, m, k), rhs(&down, out, n));
    let stored = |x: Vec<f32>| floats::<T>(&rounded(&x));
    with_every_isa(|isa| {
        let what = format!("{m}x{n}x{k} to {out}, gated {gated}, {}", isa.name());
        let up_rows = stored(product(x, weight(&up), Some(&up_bias)));
        let gate_rows = stored(product(x, weight(&gate), Some(&gate_bias)));
        let dy = product(MatrixRef::new(&g, m, out), down, None);
        let (mut active, mut first, mut second) =
            (vec![0.0; m * n], vec![0.0; m * n], vec![0.0; m * n]);
        let (want_hidden, want_dhidden) = if gated {
            swiglu(&gate_rows, &up_rows, &mut active);
            swiglu_backward(&gate_rows, &up_rows, &dy, &mut first, &mut second);
            let hidden = beside(&gate_rows, &up_rows, n);
            (hidden, beside(&stored(first), &stored(second), n))
        } else {
            gelu(&up_rows, &mut active);
            gelu_backward(&up_rows, &dy, &mut first);
            (up_rows, stored(first))
        };
        let want_active = stored(active);
        for threads in [1, 2] {
            with_threads(threads, || {
                let gate = gated.then(|| (weight(&gate), Some(&gate_bias[..])));
                let (mut hidden, active) = hidden_rows(x, gate, (weight(&up), Some(&up_bias[..])));
                same(&floats(&hidden), &want_hidden, &what);
                same(&floats(&active), &want_active, &what);
                let g = MatrixRef::new(&g, m, out);
                let again = hidden_rows_backward(g, down, gated, &mut hidden);
                same(&floats(&hidden), &want_dhidden, &what);
                same(&floats(&again), &want_active, &what);
            });
        }
    });
}

#[test]
fn hidden_rows_and_their_gradient_are_those_of_single_operations() {
    // More rows than stay in scratch, more columns than a strip, no inner dimension, odd ones.
    for (m, n, k, out) in [
        (1, 1, 1, 1),
        (5, 37, 3, 2),
        (4, 20, 0, 0),
        (65, 48, 64, 31),
        (600, 33, 20, 17),
        (40, 1100, 24, 18),
        // An inner dimension that a tile unit takes in parts.
        (600, 40, 1100, 700),
        // The same, in several strips of two operands.
        (300, 700, 530, 20),
    ] {
        for gated in [false, true] {
            check_hidden::<f32>(m, n, k, out, gated);
            check_hidden::<Bf16>(m, n, k, out, gated);
        }
    }
}

#[test]
#[should_panic(expected = "the hidden rows must be 2 rows of 6 values")]
fn hidden_rows_of_another_width_are_refused() {
    let (g, down) = ([0.0; 4], [0.0; 6]);
    let down = Rhs::Plain(MatrixRef::new(&down, 2, 3));
    hidden_rows_backward(MatrixRef::new(&g, 2, 2), down, true, &mut [0.0; 6]);
}
