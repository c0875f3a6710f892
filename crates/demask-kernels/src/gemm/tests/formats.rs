//! Products in bf16, int8 and int4 against their definitions in f64.

use super::*;
use crate::simd::Isa;
use crate::testing::{floats, rounded};
use crate::{Bf16, Reused};

fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// The values of a group as whole numbers, and their scale: `most` 127 or −8 as [`Format`] says.
fn quantise(x: &[f32], int4: bool) -> (Vec<f64>, f32) {
    let top = x
        .iter()
        .fold(0.0f32, |t, &x| if x.abs() > t.abs() { x } else { t });
    if top == 0.0 {
        return (vec![0.0; x.len()], 0.0);
    }
    if int4 {
        let scale = top / -8.0;
        let q = |x: &f32| (x / scale).round_ties_even().clamp(-8.0, 7.0);
        (x.iter().map(|x| f64::from(q(x))).collect(), scale)
    } else {
        let inverse = 127.0 / top.abs();
        let q = |x: &f32| (x * inverse).round_ties_even();
        (
            x.iter().map(|x| f64::from(q(x))).collect(),
            top.abs() / 127.0,
        )
    }
}

/// The product as [`Format`] defines it, and the sum of absolute terms.
fn define(
    format: Format,
    a: &[f32],
    b: &[f32],
    (m, n, k): (usize, usize, usize),
) -> Vec<(f64, f64)> {
    let column = |j: usize| -> Vec<f32> { (0..k).map(|l| b[l * n + j]).collect() };
    let mut out = Vec::new();
    for i in 0..m {
        let row = &a[i * k..(i + 1) * k];
        for j in 0..n {
            let column = column(j);
            let (mut sum, mut scale) = (0.0, 0.0);
            let mut add = |x: f64| {
                sum += x;
                scale += x.abs();
            };
            let mut grouped = |group: usize, int4: bool| {
                for (a, b) in row.chunks(group.min(k)).zip(column.chunks(group.min(k))) {
                    let ((qa, sa), (qb, sb)) = (quantise(a, false), quantise(b, int4));
                    let whole: f64 = qa.iter().zip(&qb).map(|(a, b)| a * b).sum();
                    add(whole * f64::from(sa) * f64::from(sb));
                }
            };
            match format {
                Format::Int8 { group } => grouped(group, false),
                Format::Int4 { group } => grouped(group, true),
                Format::Bf16 => {
                    for (a, b) in row.iter().zip(&column) {
                        add(f64::from(bf16(*a)) * f64::from(bf16(*b)));
                    }
                }
                Format::F32 => unreachable!("has a test of its own"),
            }
            out.push((sum, scale));
        }
    }
    out
}

const FORMATS: [Format; 9] = [
    Format::Bf16,
    Format::Int8 {
        group: Format::WHOLE,
    },
    // Whole steps of a tile unit.
    Format::Int8 { group: 64 },
    Format::Int8 { group: 32 },
    Format::Int8 { group: 8 },
    Format::Int4 {
        group: Format::WHOLE,
    },
    Format::Int4 { group: 32 },
    Format::Int4 { group: 64 },
    Format::Int4 { group: 128 },
];

fn check(m: usize, n: usize, k: usize, seed: u64) {
    let mut rng = Lcg(seed);
    let (a, b) = (rng.vec(m * k), rng.vec(k * n));
    let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
    let (old, bias) = (rng.vec(m * n), rng.vec(n));
    let views_a = [MatrixRef::new(&a, m, k), MatrixRef::new(&at, k, m).t()];
    let views_b = [MatrixRef::new(&b, k, n), MatrixRef::new(&bt, n, k).t()];
    for format in FORMATS {
        let want = define(format, &a, &b, (m, n, k));
        let mut on_every: Option<Vec<f32>> = None;
        with_every_isa(|isa| {
            let mut first: Option<Vec<f32>> = None;
            let mut product = |beta: Beta, a: MatrixRef<'_>, b: Rhs<'_>| {
                let mut c = old.clone();
                gemm(MatrixMut::new(&mut c, m, n), beta, a, b, Some(&bias));
                if beta == Beta::Accumulate {
                    for ((x, &(w, scale)), (old, bias)) in
                        c.iter().zip(&want).zip(old.iter().zip(bias.iter().cycle()))
                    {
                        let w = w + f64::from(*old) + f64::from(*bias);
                        let bound = 1e-7 * (scale + 2.0) * (k as f64).sqrt().max(4.0);
                        assert!(
                            (f64::from(*x) - w).abs() <= bound,
                            "{format:?} {m}x{n}x{k} {}: {x} against {w}",
                            isa.name()
                        );
                    }
                } else {
                    match &first {
                        Some(f) => assert_eq!(f, &c, "{format:?} {m}x{n}x{k} {}", isa.name()),
                        None => first = Some(c),
                    }
                }
            };
            for va in views_a {
                for vb in views_b {
                    let packed = PackedB::pack(vb, format);
                    assert_eq!(
                        (packed.rows(), packed.cols(), packed.format()),
                        (k, n, format)
                    );
                    product(Beta::Accumulate, va, (&packed).into());
                    product(Beta::Overwrite, va, (&packed).into());
                    if format == Format::Bf16 {
                        product(Beta::Overwrite, va, Rhs::Bf16(vb));
                    }
                }
            }
            // Whole numbers are the same on every instruction set; one group has one rounding.
            if format
                == (Format::Int8 {
                    group: Format::WHOLE,
                })
                && isa != Isa::Portable
            {
                let c = first.expect("products were made");
                match &on_every {
                    Some(f) => assert_eq!(f, &c, "{}", isa.name()),
                    None => on_every = Some(c),
                }
            }
        });
    }
}

#[test]
fn odd_and_prime_shapes_match_the_definition() {
    for (i, &(m, n, k)) in [
        (1, 1, 1),
        (1, 33, 7),
        (2, 31, 17),
        (13, 47, 64),
        (14, 32, 16),
        (15, 65, 97),
        (29, 300, 31),
        (5, 19, 1601),
        // More than one panel of rows, part and strip on every instruction set.
        (49, 70, 4201),
        // Groups of 64 in whole steps of a tile unit, more of them than have a place: few rows, two panels of them, and so
        // many that unpacked panels are kept.
        (5, 40, 640),
        (33, 70, 448),
        (131, 100, 634),
        // Enough rows for the parts of a tile unit, and more than one of them in every format.
        (131, 70, 1101),
    ]
    .iter()
    .enumerate()
    {
        check(m, n, k, i as u64 + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn random_shapes_match_the_definition(
        m in 1usize..34, n in 1usize..70, k in 1usize..140, seed in 1u64..1000,
    ) {
        check(m, n, k, seed);
    }
}

/// Bits and their order, in a number (FNV-1a).
fn fingerprint(x: &[f32]) -> u64 {
    x.iter()
        .flat_map(|x| x.to_bits().to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
}

/// Signed and unsigned bytes, dot products and tiles: sums of whole numbers have the same bits on every machine.
#[test]
fn whole_numbers_give_the_same_bits_on_every_machine() {
    let (m, n, k) = (29, 70, 201);
    let mut rng = Lcg(12);
    let (a, b) = (rng.vec(m * k), rng.vec(k * n));
    let (whole, groups) = (Format::WHOLE, 64);
    let formats = [
        Format::Int8 { group: whole },
        Format::Int4 { group: whole },
        Format::Int8 { group: groups },
        Format::Int4 { group: groups },
    ];
    with_every_isa(|isa| {
        let found = formats.map(|format| {
            let packed = PackedB::pack(MatrixRef::new(&b, k, n), format);
            fingerprint(&product(MatrixRef::new(&a, m, k), &packed, None))
        });
        // Groups are added with fused steps, which the portable path has on aarch64 only.
        let fused = isa != Isa::Portable || cfg!(target_arch = "aarch64");
        let known = if fused { 4 } else { 2 };
        assert_eq!(found[..known], WHOLE_NUMBERS[..known], "{}", isa.name());
    });
}

/// As first found with AMX, AVX-512 and AVX2.
const WHOLE_NUMBERS: [u64; 4] = [
    0x5b18_159e_4d22_3fd3,
    0x5350_a142_2152_a4d9,
    0xa79a_6172_9bdf_1596,
    0xe5c1_f792_f3a9_2e44,
];

#[test]
fn int8_by_hand() {
    // Scales 1/127·127 = 1 and 2: everything is exact.
    let a = [127.0, -3.0, 5.0];
    let b = [254.0, 2.0, -4.0];
    let packed = PackedB::pack(
        MatrixRef::new(&b, 3, 1),
        Format::Int8 {
            group: Format::WHOLE,
        },
    );
    let mut c = [0.0];
    gemm(
        MatrixMut::new(&mut c, 1, 1),
        Beta::Overwrite,
        MatrixRef::new(&a, 1, 3),
        &packed,
        None,
    );
    assert_eq!(c, [127.0 * 254.0 - 6.0 - 20.0]);
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch_on_any_threads() {
    // On a tile unit more than one part of the inner dimension, in pairs and in bytes, more panels of rows than are
    // multiplied at a time, and more than one strip.
    let (m, n, k) = (601, 300, 1101);
    let mut rng = Lcg(9);
    let (a, b) = (rng.vec(m * k), rng.vec(k * n));
    for format in FORMATS {
        let packed = PackedB::pack(MatrixRef::new(&b, k, n), format);
        let product = |threads: usize, rows: std::ops::Range<usize>| {
            with_threads(threads, || {
                let mut c = vec![0.0; rows.len() * n];
                gemm(
                    MatrixMut::new(&mut c, rows.len(), n),
                    Beta::Overwrite,
                    MatrixRef::new(&a[rows.start * k..rows.end * k], rows.len(), k),
                    &packed,
                    None,
                );
                c
            })
        };
        let all = product(1, 0..m);
        assert_eq!(all, product(2, 0..m));
        assert_eq!(all, product(5, 0..m));
        for i in [0, 13, 200, 511, 512, 600] {
            assert_eq!(
                product(1, i..i + 1),
                all[i * n..(i + 1) * n],
                "{format:?} row {i}"
            );
        }
    }
}

#[test]
fn nan_stays_in_its_row_and_column() {
    let (m, n, k) = (20, 40, 24);
    let mut a = vec![1.0f32; m * k];
    a[3 * k + 17] = f32::NAN;
    for format in FORMATS {
        let mut b = vec![1.0f32; k * n];
        b[5 * n + 7] = f32::NAN;
        let packed = PackedB::pack(MatrixRef::new(&b, k, n), format);
        let mut c = vec![0.0; m * n];
        gemm(
            MatrixMut::new(&mut c, m, n),
            Beta::Overwrite,
            MatrixRef::new(&a, m, k),
            &packed,
            None,
        );
        for (i, x) in c.iter().enumerate() {
            if i / n == 3 || i % n == 7 {
                assert!(x.is_nan(), "{format:?} at {i}");
            } else {
                assert!((x - 24.0).abs() < 1e-4, "{format:?} at {i}: {x}");
            }
        }
    }
}

#[test]
fn packed_weights_are_as_small_as_their_format() {
    let (k, n) = (1024, 64);
    let b = vec![0.5; k * n];
    let bytes = |format| PackedB::pack(MatrixRef::new(&b, k, n), format).bytes();
    assert_eq!(bytes(Format::F32), 4 * k * n);
    assert_eq!(bytes(Format::Bf16), 2 * k * n);
    assert_eq!(
        bytes(Format::Int8 {
            group: Format::WHOLE
        }),
        k * n + 4 * n
    );
    assert_eq!(
        bytes(Format::Int4 { group: 64 }),
        k * n / 2 + 4 * n * k / 64
    );
}

#[test]
fn products_of_one_call_have_the_bits_of_each_alone() {
    for format in FORMATS.into_iter().chain([Format::F32]) {
        products_are_those_of_each_alone(format, (67, 201));
    }
    // Several groups of rows whose sums wait for another pass, in parts on a tile unit.
    let group = Format::WHOLE;
    for format in [Format::Bf16, Format::Int8 { group }] {
        products_are_those_of_each_alone(format, (300, 1101));
    }
}

fn products_are_those_of_each_alone(format: Format, (m, k): (usize, usize)) {
    let mut rng = Lcg(10);
    let a = rng.vec(m * k);
    let a = MatrixRef::new(&a, m, k);
    with_every_isa(|isa| {
        let [wide, narrow, up] = [130, 33, 130].map(|n| {
            let b = rng.vec(k * n);
            PackedB::pack(MatrixRef::new(&b, k, n), format)
        });
        let bias = rng.vec(33);
        let want = [
            product(a, &wide, None),
            product(a, &narrow, Some(&bias)),
            product(a, &up, None),
        ];
        // Added at the end: the bits of a sum of two matrices.
        let old = rng.vec(m * 33);
        let mut found = old.clone();
        let c = MatrixMut::new(&mut found, m, 33);
        gemm(c, Beta::Add, a, &narrow, Some(&bias));
        let sum: Vec<f32> = old.iter().zip(&want[1]).map(|(x, y)| x + y).collect();
        assert!(found == sum, "{format:?} on {}", isa.name());
        let found = product_plus(&old, a, &narrow, Some(&bias));
        assert!(found == sum, "{format:?} on {}", isa.name());
        let mut gated = vec![0.0; m * 130];
        crate::rowwise::swiglu(&want[0], &want[2], &mut gated);
        for threads in [1, 3] {
            with_threads(threads, || {
                let found = products(
                    a,
                    [
                        ((&wide).into(), None),
                        ((&narrow).into(), Some(&bias[..])),
                        ((&up).into(), None),
                    ],
                );
                assert!(found == want, "{format:?} on {}", isa.name());
                let found: Reused = gated_product(a, (&wide).into(), (&up).into());
                assert!(*found == gated, "{format:?} on {}", isa.name());
                let found: Reused<Bf16> = gated_product(a, (&wide).into(), (&up).into());
                assert!(
                    floats(&found) == floats(&rounded::<Bf16>(&gated)),
                    "{format:?} on {}",
                    isa.name()
                );
            });
        }
    });
}

#[test]
#[should_panic(expected = "packed alike")]
fn right_operands_that_differ_are_refused() {
    let b = [1.0; 6];
    let [x, y] =
        [Format::F32, Format::Bf16].map(|format| PackedB::pack(MatrixRef::new(&b, 3, 2), format));
    let a = MatrixRef::new(&[1.0; 3], 1, 3);
    products(a, [((&x).into(), None), ((&y).into(), None)]);
}

#[test]
fn parts_are_packed_as_the_whole() {
    let (k, n) = (77, 3 * Packer::STEP + 5);
    let weight = Lcg(31).vec(n * k);
    let formats = [
        Format::F32,
        Format::Bf16,
        Format::Int8 {
            group: Format::WHOLE,
        },
        Format::Int4 { group: 16 },
    ];
    for format in formats {
        let whole = PackedB::pack(MatrixRef::new(&weight, n, k).t(), format);
        let mut packer = Packer::new(k, n, format);
        for rows in weight.chunks(2 * Packer::STEP * k) {
            packer.add(MatrixRef::new(rows, rows.len() / k, k).t());
        }
        let parts = packer.finish();
        let words = |packed: &PackedB| -> Vec<u32> {
            let len = packed.bytes() / 4;
            // SAFETY: a packed matrix holds so many words.
            let words = unsafe { std::slice::from_raw_parts(packed.ptr(), len) };
            words.iter().map(|word| word.to_bits()).collect()
        };
        assert_eq!(words(&parts), words(&whole), "{format:?}");
    }
}

#[test]
#[should_panic(expected = "a part of 3x65 at column 0 of 3x128")]
fn parts_that_end_within_a_panel_are_refused() {
    Packer::new(3, 128, Format::F32).add(MatrixRef::new(&[0.0; 195], 3, 65));
}

#[test]
#[should_panic(expected = "64 of 128 columns")]
fn a_matrix_with_columns_missing_is_refused() {
    let mut packer = Packer::new(3, 128, Format::F32);
    packer.add(MatrixRef::new(&[0.0; 192], 3, 64));
    packer.finish();
}

#[test]
fn sums_of_whole_numbers_that_are_too_long_are_cut() {
    // 127 · 127 · 140,000 does not fit in 32 bits.
    let k = 140_000;
    let ones = vec![1.0; k];
    let format = Format::Int8 {
        group: Format::WHOLE,
    };
    with_every_isa(|isa| {
        let b = PackedB::pack(MatrixRef::new(&ones, k, 1), format);
        let y = product(MatrixRef::new(&ones, 1, k), &b, None);
        assert!(
            (y[0] / k as f32 - 1.0).abs() < 1e-6,
            "{}: {y:?}",
            isa.name()
        );
    });
}
