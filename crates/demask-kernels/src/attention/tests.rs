use super::*;
use crate::simd::{round_to_bf16, with_every_isa};
use crate::testing::{Lcg, relative_error};
use crate::threads::with_threads;
use proptest::prelude::*;

/// A problem with contiguous operands.
struct Case {
    q_dims: [usize; 4],
    k_dims: [usize; 4],
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
    scale: f32,
    precision: Precision,
}

struct Results {
    out: Vec<f32>,
    lse: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

impl Case {
    fn new(lens: [usize; 3], heads: [usize; 3]) -> Self {
        Self::seeded(7, lens, heads)
    }

    /// Lengths are batch, queries and keys; heads are those of queries and of keys, and values of each.
    fn seeded(
        seed: u64,
        [batch, q_len, k_len]: [usize; 3],
        [heads, kv_heads, dim]: [usize; 3],
    ) -> Self {
        let (q_dims, k_dims) = ([batch, q_len, heads, dim], [batch, k_len, kv_heads, dim]);
        let mut rng = Lcg(seed);
        let (nq, nk) = (q_dims.iter().product(), k_dims.iter().product());
        let mut many = |n| {
            rng.vec(n)
                .into_iter()
                .map(|x| 2.0 * x)
                .collect::<Vec<f32>>()
        };
        let (q, k, v, dout) = (many(nq), many(nk), many(nk), many(nq));
        Self {
            q_dims,
            k_dims,
            q,
            k,
            v,
            dout,
            scale: 1.0 / (dim as f32).sqrt(),
            precision: Precision::F32,
        }
    }

    fn run(&self, ranges: &KeyRanges) -> Results {
        let [batch, q_len, heads, _] = self.q_dims;
        let nan = |n| vec![f32::NAN; n];
        let mut r = Results {
            out: nan(self.q.len()),
            lse: nan(batch * heads * q_len),
            dq: nan(self.q.len()),
            dk: nan(self.k.len()),
            dv: nan(self.k.len()),
        };
        let q = HeadsRef::new(&self.q, self.q_dims);
        let k = HeadsRef::new(&self.k, self.k_dims);
        let v = HeadsRef::new(&self.v, self.k_dims);
        let out = HeadsMut::new(&mut r.out, self.q_dims);
        attention_forward(q, k, v, ranges, self.scale, self.precision, out, &mut r.lse);
        attention_backward(
            q,
            k,
            v,
            ranges,
            self.scale,
            self.precision,
            HeadsRef::new(&r.out, self.q_dims),
            &r.lse,
            HeadsRef::new(&self.dout, self.q_dims),
            HeadsMut::new(&mut r.dq, self.q_dims),
            HeadsMut::new(&mut r.dk, self.k_dims),
            HeadsMut::new(&mut r.dv, self.k_dims),
        );
        r
    }

    /// The textbook formulas in f64: out, dq, dk, dv.
    fn reference(&self, ranges: &KeyRanges) -> [Vec<f64>; 4] {
        self.exact(ranges).0
    }

    /// [`reference`](Self::reference), the sums of the absolute terms of each (a gradient of scores nearly cancels where
    /// one key has all the weight), and the log-sum-exp.
    fn exact(&self, ranges: &KeyRanges) -> ([Vec<f64>; 4], [Vec<f64>; 4], Vec<f64>) {
        let [batch, q_len, heads, dim] = self.q_dims;
        let [_, k_len, kv_heads, _] = self.k_dims;
        let mut res =
            [self.q.len(), self.q.len(), self.k.len(), self.k.len()].map(|n| vec![0.0f64; n]);
        let mut terms = res.clone();
        let mut lse = Vec::new();
        let row = |x: &[f32], at: usize| -> Vec<f64> {
            x[at..at + dim].iter().map(|&x| f64::from(x)).collect()
        };
        let dot = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
        let size =
            |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| (x * y).abs()).sum() };
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..q_len {
                    let q_at = ((b * q_len + i) * heads + h) * dim;
                    let k_at = |j: usize| ((b * k_len + j) * kv_heads + h * kv_heads / heads) * dim;
                    let (q, g) = (row(&self.q, q_at), row(&self.dout, q_at));
                    let seen: Vec<usize> = ranges
                        .of(b, i)
                        .iter()
                        .flat_map(|&(a, z)| a as usize..z as usize)
                        .collect();
                    let e: Vec<f64> = seen
                        .iter()
                        .map(|&j| (f64::from(self.scale) * dot(&q, &row(&self.k, k_at(j)))).exp())
                        .collect();
                    let total: f64 = e.iter().sum();
                    lse.push(total.ln());
                    for (&j, e) in seen.iter().zip(&e) {
                        for (x, v) in row(&self.v, k_at(j)).iter().enumerate() {
                            res[0][q_at + x] += e / total * v;
                            terms[0][q_at + x] += e / total * v.abs();
                        }
                    }
                    let d = dot(&g, &res[0][q_at..q_at + dim]);
                    let d_size = size(&g, &terms[0][q_at..q_at + dim]);
                    for (&j, e) in seen.iter().zip(&e) {
                        let (p, at) = (e / total, k_at(j));
                        let (k, v) = (row(&self.k, at), row(&self.v, at));
                        let ds = p * (dot(&g, &v) - d) * f64::from(self.scale);
                        let ds_size = p * (size(&g, &v) + d_size) * f64::from(self.scale);
                        for x in 0..dim {
                            res[1][q_at + x] += ds * k[x];
                            res[2][at + x] += ds * q[x];
                            res[3][at + x] += p * g[x];
                            terms[1][q_at + x] += ds_size * k[x].abs();
                            terms[2][at + x] += ds_size * q[x].abs();
                            terms[3][at + x] += p * g[x].abs();
                        }
                    }
                }
            }
        }
        (res, terms, lse)
    }

    /// Holds every result against the terms of its own sum.
    fn check_terms(&self, ranges: &KeyRanges, most: f64) {
        let (want, terms, lse) = self.exact(ranges);
        with_every_isa(|isa| {
            let got = self.run(ranges);
            let near = |what: &str, got: f32, want: f64, size: f64| {
                assert!(
                    f64::from(got) == want || (f64::from(got) - want).abs() <= most * size,
                    "{what} of {:?} and {:?} on {}: {got} against {want} ± {size}",
                    self.q_dims,
                    self.k_dims,
                    isa.name()
                );
            };
            for (i, (what, got)) in [
                ("out", &got.out),
                ("dq", &got.dq),
                ("dk", &got.dk),
                ("dv", &got.dv),
            ]
            .into_iter()
            .enumerate()
            {
                for ((&got, &want), &terms) in got.iter().zip(&want[i]).zip(&terms[i]) {
                    near(what, got, want, terms);
                }
            }
            for (&got, &want) in got.lse.iter().zip(&lse) {
                near("lse", got, want, want.abs().max(1.0));
            }
        });
    }

    fn check(&self, ranges: &KeyRanges) {
        let want = self.reference(ranges);
        with_every_isa(|isa| {
            let got = self.run(ranges);
            for (name, got, want) in [
                ("out", &got.out, &want[0]),
                ("dq", &got.dq, &want[1]),
                ("dk", &got.dk, &want[2]),
                ("dv", &got.dv, &want[3]),
            ] {
                let error = relative_error(got, want);
                assert!(
                    error < 2e-6,
                    "{name} of {:?} on {}: {error:e}",
                    self.q_dims,
                    isa.name()
                );
            }
        });
    }
}

#[test]
fn one_query_two_keys_by_hand() {
    // Scores 0 and ln 3: weights 1/4 and 3/4.
    let (q, k, v) = ([1.0f32], [0.0, 3f32.ln()], [4.0, 8.0]);
    let (mut out, mut lse) = ([0.0f32], [0.0f32]);
    attention_forward(
        HeadsRef::new(&q, [1, 1, 1, 1]),
        HeadsRef::new(&k, [1, 2, 1, 1]),
        HeadsRef::new(&v, [1, 2, 1, 1]),
        &KeyRanges::full(1, 2),
        1.0,
        Precision::F32,
        HeadsMut::new(&mut out, [1, 1, 1, 1]),
        &mut lse,
    );
    assert!((out[0] - 7.0).abs() < 1e-6 && (lse[0] - 4f32.ln()).abs() < 1e-6);
}

#[test]
fn matches_f64_on_odd_shapes() {
    for (lens, heads) in [
        ([1, 1, 1], [1, 1, 1]),
        ([2, 5, 7], [2, 1, 8]),
        ([1, 65, 130], [3, 3, 33]),
        ([2, 19, 64], [4, 2, 64]),
        ([1, 3, 200], [7, 1, 80]),
        ([1, 130, 67], [1, 1, 256]),
    ] {
        let case = Case::new(lens, heads);
        let [batch, q_len, k_len] = lens;
        case.check(&KeyRanges::full(q_len, k_len));
        if q_len <= k_len {
            case.check(&KeyRanges::causal(q_len, k_len));
        }
        let holes = |b: usize, q: usize, k: usize| (b + 3 * q + 5 * k) % 7 < 3 && k % 90 < 50;
        case.check(&KeyRanges::from_fn(batch, q_len, k_len, holes));
    }
}

#[test]
fn bf16_is_near_f64_on_odd_shapes() {
    for (lens, heads) in [
        ([1, 1, 1], [1, 1, 1]),
        ([2, 5, 7], [2, 1, 8]),
        ([1, 65, 131], [3, 3, 33]),
        ([2, 19, 64], [4, 2, 64]),
        ([1, 3, 203], [7, 1, 80]),
    ] {
        let case = Case {
            precision: Precision::Bf16,
            ..Case::new(lens, heads)
        };
        let [batch, q_len, k_len] = lens;
        let holes = |b: usize, q: usize, k: usize| (b + 3 * q + 5 * k) % 7 < 3 && k % 90 < 50;
        for ranges in [
            KeyRanges::full(q_len, k_len),
            KeyRanges::from_fn(batch, q_len, k_len, holes),
        ] {
            let want = case.reference(&ranges);
            with_every_isa(|isa| {
                let got = case.run(&ranges);
                for (name, got, want, most) in [
                    ("out", &got.out, &want[0], 8e-3),
                    ("dq", &got.dq, &want[1], 2e-2),
                    ("dk", &got.dk, &want[2], 2e-2),
                    ("dv", &got.dv, &want[3], 8e-3),
                ] {
                    let error = relative_error(got, want);
                    let isa = isa.name();
                    assert!(error < most, "{name} of {lens:?} on {isa}: {error:e}");
                }
            });
        }
    }
}

/// Blocks of keys, some of which each query sees, and some queries that see none.
fn blocks([batch, q_len, k_len]: [usize; 3], width: usize, seed: u64) -> KeyRanges {
    let coin = |b: usize, q: usize, block: usize| {
        let mut rng = Lcg(seed ^ (b << 40 | q << 20 | block) as u64);
        (rng.next(), rng.next()).1
    };
    KeyRanges::from_fn(batch, q_len, k_len, |b, q, k| {
        coin(b, q, 1 << 19) > -0.6 && coin(b, q, k / width) > 0.0
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn random_problems_match_f64(
        lens in [1usize..4, 1usize..90, 1usize..200],
        (kv_heads, group, dim) in (1usize..4, 1usize..4, 1usize..72),
        width in 1usize..100,
        seed in 1u64..1000,
    ) {
        let case = Case::seeded(seed, lens, [kv_heads * group, kv_heads, dim]);
        case.check_terms(&blocks(lens, width, seed), 4e-6);
    }

    /// Operands that bf16 holds, and a scale that keeps them so: what is left is the rounding of the weights and of
    /// their gradients.
    #[test]
    fn random_problems_in_bf16_are_near_f64(
        lens in [1usize..4, 1usize..90, 1usize..200],
        (kv_heads, group, dim) in (1usize..4, 1usize..4, 1usize..72),
        width in 1usize..100,
        seed in 1u64..1000,
    ) {
        let mut case = Case::seeded(seed, lens, [kv_heads * group, kv_heads, dim]);
        case.precision = Precision::Bf16;
        case.scale = case.scale.log2().round().exp2();
        for x in [&mut case.q, &mut case.k, &mut case.v, &mut case.dout] {
            for x in x.iter_mut() {
                *x = f32::from_bits(u32::from(round_to_bf16(*x)) << 16);
            }
        }
        case.check_terms(&blocks(lens, width, seed), 2f64.powi(-7));
    }
}

#[test]
fn nothing_is_attended_by_any_number_of_heads() {
    for precision in [Precision::F32, Precision::Bf16] {
        let case = Case {
            precision,
            ..Case::new([2, 0, 5], [2, 1, 3])
        };
        let r = case.run(&KeyRanges::full(0, 5));
        assert!(r.dk.iter().chain(&r.dv).all(|&x| x == 0.0));
        let case = Case {
            precision,
            ..Case::new([2, 5, 0], [2, 1, 3])
        };
        let r = case.run(&KeyRanges::full(5, 0));
        assert!(r.out.iter().chain(&r.dq).all(|&x| x == 0.0));
        assert!(r.lse.iter().all(|&x| x == f32::NEG_INFINITY));
        let case = Case {
            q_dims: [1, 0, 1 << 62, 8],
            k_dims: [1, 0, 1 << 62, 8],
            ..Case::new([0, 0, 0], [1, 1, 8])
        };
        case.run(&KeyRanges::full(0, 0));
    }
}

#[test]
#[should_panic(expected = "lse is [batch, heads, q_len], [4611686018427387904, 4, 0], but holds")]
fn heads_beyond_the_address_space_are_refused() {
    let dims = [1 << 62, 0, 4, 8];
    let none = HeadsRef::<f32>::new(&[], dims);
    let out = HeadsMut::<f32>::new(&mut [], dims);
    let ranges = KeyRanges::full(0, 0);
    attention_forward(none, none, none, &ranges, 1.0, Precision::F32, out, &mut []);
}

#[test]
#[should_panic(expected = "attention: heads of no values")]
fn heads_of_no_values_are_refused() {
    let ranges = KeyRanges::full(1, 1);
    let sequence = Sequence {
        q: HeadsRef::new(&[], [1, 1 << 40, 1, 0]),
        k: HeadsRef::<f32>::new(&[], [1, 1, 1, 0]),
        v: HeadsRef::new(&[], [1, 1, 1, 0]),
        ranges: &ranges,
        out: HeadsMut::new(&mut [], [1, 1 << 40, 1, 0]),
    };
    attention_sequences(vec![sequence], 1.0, Precision::F32);
}

#[test]
fn views_of_nothing_may_have_any_dims() {
    HeadsMut::<f32>::new(&mut [], [0, 1 << 40, 1 << 40, 8]);
    HeadsRef::<f32>::parts(&[], [0, 1 << 40], [usize::MAX, 2], 8);
}

#[test]
#[should_panic(expected = "does not fit in a slice of 2 values")]
fn parts_beyond_the_address_space_are_refused() {
    HeadsMut::parts(&mut [0.0; 4], [1, 1], [2, usize::MAX], 1);
}

#[test]
fn a_query_that_sees_nothing_gets_zeros() {
    let case = Case::new([2, 3, 70], [2, 1, 16]);
    let ranges = KeyRanges::key_lengths(3, 70, &[0, 66]);
    case.check(&ranges);
    let r = case.run(&ranges);
    assert!(r.out[..96].iter().all(|x| x.to_bits() == 0));
    assert!(r.lse[..6].iter().all(|&x| x == f32::NEG_INFINITY));
    assert!(r.dq[..96].iter().chain(&r.dk[..1120]).all(|&x| x == 0.0));
}

#[test]
fn masked_keys_other_rows_and_threads_do_not_change_a_bit() {
    for precision in [Precision::F32, Precision::Bf16] {
        bits_of_a_query(precision);
    }
}

fn bits_of_a_query(precision: Precision) {
    let (q_len, k_len, heads, dim) = (75, 150, 4, 40);
    let case = Case {
        precision,
        ..Case::new([2, q_len, k_len], [heads, 2, dim])
    };
    let ranges = KeyRanges::from_fn(2, q_len, k_len, |b, q, k| k < 70 + q - 40 * b && k != 13);
    with_every_isa(|isa| {
        let whole = with_threads(1, || case.run(&ranges));
        let spread = with_threads(3, || case.run(&ranges));
        for (x, y) in [
            (&whole.out, &spread.out),
            (&whole.lse, &spread.lse),
            (&whole.dq, &spread.dq),
            (&whole.dk, &spread.dk),
            (&whole.dv, &spread.dv),
        ] {
            assert_eq!(x, y, "threads on {}", isa.name());
        }
    });
    let whole = case.run(&ranges);
    for (b, query) in [(0, 0), (0, 74), (1, 33), (1, 74)] {
        // The same query alone, with only the keys up to its last visible one.
        let keys = 70 + query - 40 * b;
        let q_at = (b * q_len + query) * heads * dim;
        let k_at = b * k_len * 2 * dim;
        let cut = |x: &[f32], n: usize, at: usize| x[at..at + n].to_vec();
        let alone = Case {
            q_dims: [1, 1, heads, dim],
            k_dims: [1, keys, 2, dim],
            q: cut(&case.q, heads * dim, q_at),
            k: cut(&case.k, keys * 2 * dim, k_at),
            v: cut(&case.v, keys * 2 * dim, k_at),
            dout: cut(&case.dout, heads * dim, q_at),
            scale: case.scale,
            precision: case.precision,
        };
        let r = alone.run(&KeyRanges::shared_from_fn(1, keys, |_, k| k != 13));
        assert_eq!(r.out, whole.out[q_at..q_at + heads * dim]);
        assert_eq!(r.dq, whole.dq[q_at..q_at + heads * dim]);
        for h in 0..heads {
            assert_eq!(r.lse[h], whole.lse[(b * heads + h) * q_len + query]);
        }
    }
}

#[test]
fn strided_views_read_the_same_bits() {
    let ([batch, len], [heads, kv_heads, dim]) = ([2, 37], [4, 2, 24]);
    let case = Case::new([batch, len, len], [heads, kv_heads, dim]);
    let ranges = KeyRanges::causal(len, len);
    let want = case.run(&ranges);
    // One fused buffer.
    let width = (heads + 2 * kv_heads) * dim;
    let mut fused = vec![0.0; batch * len * width];
    for row in 0..batch * len {
        let (nq, nk) = (heads * dim, kv_heads * dim);
        let to = &mut fused[row * width..(row + 1) * width];
        to[..nq].copy_from_slice(&case.q[row * nq..(row + 1) * nq]);
        to[nq..nq + nk].copy_from_slice(&case.k[row * nk..(row + 1) * nk]);
        to[nq + nk..].copy_from_slice(&case.v[row * nk..(row + 1) * nk]);
    }
    let part = |skip: usize, n: usize| {
        let strides = [len * width, width, dim];
        HeadsRef::with_strides(&fused[skip * dim..], [batch, len, n, dim], strides)
    };
    let (q, k, v) = (
        part(0, heads),
        part(heads, kv_heads),
        part(heads + kv_heads, kv_heads),
    );
    let parts = [heads, kv_heads, kv_heads];
    for (part, of_parts) in [q, k, v]
        .iter()
        .zip(HeadsRef::parts(&fused, [batch, len], parts, dim))
    {
        assert_eq!(part.dims(), of_parts.dims());
        assert_eq!(part.row(1, 2, 1), of_parts.row(1, 2, 1));
    }
    // The result in [batch, heads, length, head_dim] memory.
    let mut out = vec![f32::NAN; case.q.len()];
    let mut lse = vec![f32::NAN; batch * heads * len];
    let strides = [heads * len * dim, dim, len * dim];
    let view = HeadsMut::with_strides(&mut out, case.q_dims, strides);
    attention_forward(q, k, v, &ranges, case.scale, case.precision, view, &mut lse);
    let by_head = |n: usize| [n * len * dim, dim, len * dim];
    let [mut dq, mut dk, mut dv] =
        [heads, kv_heads, kv_heads].map(|n| vec![f32::NAN; batch * n * len * dim]);
    let out_view = HeadsRef::with_strides(&out, case.q_dims, strides);
    let dout = HeadsRef::new(&case.dout, case.q_dims);
    attention_backward(
        q,
        k,
        v,
        &ranges,
        case.scale,
        case.precision,
        out_view,
        &lse,
        dout,
        HeadsMut::with_strides(&mut dq, case.q_dims, by_head(heads)),
        HeadsMut::with_strides(&mut dk, case.k_dims, by_head(kv_heads)),
        HeadsMut::with_strides(&mut dv, case.k_dims, by_head(kv_heads)),
    );
    let same = |got: &[f32], want: &[f32], n: usize| {
        for (row, want) in want.chunks_exact(n * dim).enumerate() {
            let (b, i) = (row / len, row % len);
            for (h, want) in want.chunks_exact(dim).enumerate() {
                assert_eq!(got[((b * n + h) * len + i) * dim..][..dim], *want);
            }
        }
    };
    same(&out, &want.out, heads);
    same(&dq, &want.dq, heads);
    same(&dk, &want.dk, kv_heads);
    same(&dv, &want.dv, kv_heads);
    // Gradients side by side in one buffer.
    let mut fused = vec![f32::NAN; batch * len * width];
    let [dq, dk, dv] = HeadsMut::parts(&mut fused, [batch, len], parts, dim);
    attention_backward(
        q,
        k,
        v,
        &ranges,
        case.scale,
        case.precision,
        out_view,
        &lse,
        dout,
        dq,
        dk,
        dv,
    );
    for (row, got) in fused.chunks_exact(width).enumerate() {
        let of = |x: &[f32], n: usize| x[row * n * dim..][..n * dim].to_vec();
        let each = [
            of(&want.dq, heads),
            of(&want.dk, kv_heads),
            of(&want.dv, kv_heads),
        ];
        assert_eq!(got, each.concat());
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let mut case = Case::new([1, 4, 100], [1, 1, 8]);
    case.q.iter_mut().for_each(|x| *x *= 100.0);
    case.scale = 1.0;
    let r = case.run(&KeyRanges::full(4, 100));
    assert!(
        r.out
            .iter()
            .chain(&r.dq)
            .chain(&r.dk)
            .all(|x| x.is_finite())
    );
}

#[test]
#[should_panic(expected = "writes some places twice")]
fn overlapping_results_are_refused() {
    HeadsMut::with_strides(&mut [0.0; 64], [1, 4, 2, 8], [64, 8, 8]);
}

#[test]
#[should_panic(expected = "3 query heads can't share 2 key heads")]
fn uneven_groups_are_refused() {
    let (x, mut y, mut lse) = ([0.0; 24], [0.0; 24], [0.0; 3]);
    attention_forward(
        HeadsRef::new(&x, [1, 1, 3, 8]),
        HeadsRef::new(&x, [1, 1, 2, 8]),
        HeadsRef::new(&x, [1, 1, 2, 8]),
        &KeyRanges::full(1, 1),
        1.0,
        Precision::F32,
        HeadsMut::new(&mut y, [1, 1, 3, 8]),
        &mut lse,
    );
}
