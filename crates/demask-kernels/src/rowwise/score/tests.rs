use super::*;
use crate::simd::with_every_isa;
use crate::testing::Lcg;
use crate::threads::with_threads;
use proptest::prelude::*;

const KEY: [u32; 8] = [9, 8, 7, 6, 5, 4, 3, 2];

fn asked(temperature: f64, largest: usize) -> Asked {
    Asked {
        temperature,
        tempered: true,
        largest,
    }
}

/// Logits as of a language model: many small ones, a few that stand out, some forbidden.
fn logits(rng: &mut Lcg, vocab: usize) -> Vec<f32> {
    let mut x: Vec<f32> = rng.vec(vocab).iter().map(|x| 6.0 * x * x * x).collect();
    for _ in 0..3 {
        let at = (rng.next().abs() * vocab as f32) as usize % vocab;
        x[at] += 9.0;
        let at = (rng.next().abs() * vocab as f32) as usize % vocab;
        x[at] = f32::NEG_INFINITY;
    }
    x
}

/// Softmax statistics in `f64`.
struct Exact {
    p: Vec<f64>,
    /// 1 minus the largest probability.
    rest: f64,
    margin: f64,
    entropy: f64,
    lse: f64,
}

fn reference(x: &[f32], temperature: f64) -> Exact {
    let z: Vec<f64> = x.iter().map(|&z| f64::from(z) / temperature).collect();
    let at = (0..z.len()).fold(0, |a, b| if z[b] > z[a] { b } else { a });
    let mut e: Vec<f64> = z.iter().map(|&x| (x - z[at]).exp()).collect();
    e[at] = 0.0;
    let others: f64 = e.iter().sum();
    let second = e.iter().copied().fold(0.0, f64::max);
    e[at] = 1.0;
    let sum = 1.0 + others;
    let pull: f64 = (0..z.len())
        .filter(|&i| e[i] > 0.0)
        .map(|i| e[i] * (z[at] - z[i]))
        .sum();
    Exact {
        p: e.iter().map(|e| e / sum).collect(),
        rest: others / sum,
        margin: (1.0 - second) / sum,
        entropy: others.ln_1p() + pull / sum,
        lse: z[at] + sum.ln(),
    }
}

/// The published form of the draw.
fn gumbel(x: &[f32], temperature: f64, u: impl Fn(usize) -> f64) -> u32 {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, &z) in x.iter().enumerate() {
        let score = f64::from(z) - temperature * (-u(i).ln()).ln();
        if score > best.1 {
            best = (i, score);
        }
    }
    best.0 as u32
}

fn uniform(i: usize) -> f64 {
    ((chacha::bits(&KEY, i) >> 12) as f64 + 0.5) / 2f64.powi(52)
}

/// A term `e^y` is as exact as y in `f32`: the smaller, the less.
fn check(found: &Softmax, x: &[f32], temperature: f64, what: &str) {
    let want = reference(x, temperature);
    let near = |found: f64, want: f64, limit: f64| {
        assert!((found - want).abs() <= limit, "{what}: {found:e} {want:e}");
    };
    let relative = |small: f64| (1e-6 + 2e-7 * small.ln().abs().min(1e3)) * small + 1e-35;
    for (&z, &p) in x.iter().zip(&want.p) {
        near(found.probability(z), p, 2e-6 * p + 1e-300);
    }
    let one = found.probability(found.top());
    near(1.0 - one, want.rest, relative(want.rest) + 2.3e-16);
    near(found.margin(), want.margin, 1e-6);
    near(found.entropy(), want.entropy, relative(want.entropy));
    near(found.log_sum_exp(), want.lse, 1e-6 + 1e-14 * want.lse.abs());
}

#[test]
fn matches_f64_on_every_shape_and_instruction_set() {
    let mut rng = Lcg(5);
    for vocab in [
        1, 2, 15, 16, 17, 31, 97, 1023, 1024, 1025, 8191, 8192, 8193, 50_257,
    ] {
        let x = logits(&mut rng, vocab);
        for temperature in [0.0, 0.2, 1.0, 3.0] {
            with_every_isa(|isa| {
                let what = format!("{vocab} tokens at {temperature} on {}", isa.name());
                let noise = [Noise::Keystream(KEY)];
                let found = score(&x, vocab, &asked(temperature, 5), &noise).remove(0);
                let mut order: Vec<usize> = (0..vocab).collect();
                order.sort_by(|&a, &b| x[b].total_cmp(&x[a]).then(a.cmp(&b)));
                assert_eq!(found.token as usize, order[0], "{what}");
                let possible = order.iter().filter(|&&i| x[i] > f32::NEG_INFINITY);
                let largest = possible.map(|&i| (i as u32, x[i])).take(5);
                assert_eq!(found.largest, largest.collect::<Vec<_>>(), "{what}");
                if found.plain.top() == f32::NEG_INFINITY {
                    return;
                }
                check(&found.plain, &x, 1.0, &what);
                let t = if temperature == 0.0 { 1.0 } else { temperature };
                check(&found.tempered, &x, t, &what);
                let drawn = match temperature {
                    0.0 => found.token,
                    t => gumbel(&x, t, uniform),
                };
                assert_eq!(found.drawn, drawn, "{what}");
                assert_eq!(found.logit, x[drawn as usize], "{what}");
            });
        }
    }
}

#[test]
fn a_large_vocabulary_and_a_very_sure_row() {
    let mut rng = Lcg(6);
    let vocab = 151_936;
    let mut x = logits(&mut rng, vocab);
    x[77_777] = 40.0;
    let noise = [Noise::Keystream(KEY)];
    let found = score(&x, vocab, &asked(0.7, 0), &noise).remove(0);
    assert_eq!(
        (found.token, found.drawn),
        (77_777, gumbel(&x, 0.7, uniform))
    );
    check(&found.plain, &x, 1.0, "sure");
    check(&found.tempered, &x, 0.7, "sure");
}

#[test]
fn draws_do_not_depend_on_the_shortcut() {
    // Flat, steep and shifted rows at all temperatures, and both kinds of noise.
    let vocab = 700;
    for case in 0..60u64 {
        let mut rng = Lcg(case);
        let spread = [0.0, 1e-3, 1.0, 50.0, 1e4][case as usize % 5];
        let shift = [0.0, -300.0, 1e6][case as usize % 3];
        let x: Vec<f32> = rng.vec(vocab).iter().map(|x| shift + spread * x).collect();
        let u: Vec<f64> = (0..vocab)
            .map(|i| uniform(i + 1000 * case as usize))
            .collect();
        for temperature in [1e-320, 1e-30, 1e-6, 0.1, 1.0, 40.0, 1e25, f64::MAX] {
            let ask = asked(temperature, 0);
            with_every_isa(|_| {
                let found = score(&x, vocab, &ask, &[Noise::Table(&u)]).remove(0);
                let want = gumbel(&x, temperature, |i| u[i]);
                assert_eq!(found.drawn, want, "{spread} {shift} {temperature}");
                let found = score(&x, vocab, &ask, &[Noise::Keystream(KEY)]).remove(0);
                let want = gumbel(&x, temperature, uniform);
                assert_eq!(found.drawn, want, "{spread} {shift} {temperature}");
                assert!(found.tempered.entropy() >= 0.0);
            });
        }
    }
}

#[test]
fn draws_follow_the_softmax() {
    let x = [0.3f32, -1.2, 2.0, 0.0, 1.1, -0.4, 0.9, 1.7];
    let p = reference(&x, 0.7).p;
    let (rows, mut counts) = (40_000, [0.0; 8]);
    let noise: Vec<Noise<'_>> = (0..rows)
        .map(|i| Noise::Keystream([i, 0, 0, 1, 0, 0, 0, 2]))
        .collect();
    for row in score(&x.repeat(rows as usize), 8, &asked(0.7, 0), &noise) {
        counts[row.drawn as usize] += 1.0 / f64::from(rows);
    }
    for (count, p) in counts.iter().zip(p) {
        assert!((count - p).abs() < 0.01, "{counts:?} {p}");
    }
}

#[test]
fn rows_without_hope_are_defined() {
    let low = f32::NEG_INFINITY;
    with_every_isa(|_| {
        for vocab in [1, 20, 3000] {
            let noise = [Noise::Keystream(KEY)];
            let of = |x: &[f32]| score(x, vocab, &asked(0.5, 3), &noise).remove(0);
            let none = of(&vec![low; vocab]);
            assert_eq!((none.token, none.drawn, none.largest.len()), (0, 0, 0));
            let p = none.tempered;
            assert_eq!(
                (p.probability(low), p.margin(), p.entropy()),
                (0.0, 0.0, 0.0)
            );
            assert_eq!((p.log_sum_exp(), p.top()), (f64::NEG_INFINITY, low));
            for broken in [vec![low; vocab], vec![0.5; vocab]] {
                let mut x = broken;
                x[vocab - 1] = f32::NAN;
                let row = of(&x);
                assert!(row.plain.log_sum_exp().is_nan() && row.tempered.entropy().is_nan());
                x[vocab - 1] = f32::INFINITY;
                assert!(!of(&x).plain.log_sum_exp().is_finite());
            }
            let mut one = vec![low; vocab];
            one[vocab / 2] = -70.0;
            let row = of(&one);
            assert_eq!((row.token, row.drawn), (vocab as u32 / 2, vocab as u32 / 2));
            assert_eq!((row.plain.margin(), row.tempered.entropy()), (1.0, 0.0));
        }
    });
}

#[test]
fn the_lowest_of_equals_wins() {
    let mut x = vec![0.0; 5000];
    for at in [4100, 2500, 2600] {
        x[at] = 3.0;
    }
    let u = vec![0.5; 5000];
    let found = score(&x, 5000, &asked(1.0, 4), &[Noise::Table(&u)]).remove(0);
    assert_eq!(
        (found.token, found.drawn, found.plain.margin()),
        (2500, 2500, 0.0)
    );
    let largest = found.largest;
    // At this temperature the noise swallows the logits: equal draws, the larger logit at the higher token.
    let (z, u) = ([0.0f32, 1.0, 0.0], [0.5; 3]);
    let found = score(&z, 3, &asked(1e20, 0), &[Noise::Table(&u)]).remove(0);
    assert_eq!((found.token, found.drawn), (1, 0));
    let tokens: Vec<u32> = largest.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, [2500, 2600, 4100, 0]);
}

/// A row cut into runs of segments, each folded by itself.
struct Cut<'a>(&'a [f32], &'a Asked);
impl Kernel for Cut<'_> {
    type Output = RowScore;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> RowScore {
        let noise = Noise::Keystream(KEY);
        let mut states = self.0.chunks(SEGMENT).enumerate().map(|(i, segment)| {
            let mut state = State::new(self.1, i * SEGMENT);
            for chunk in segment.chunks(CHUNK) {
                state.fold(s, chunk, Some(&noise));
            }
            state
        });
        let mut state = states.next().unwrap();
        states.for_each(|later| state.merge(&later));
        state.finish()
    }
}

#[test]
fn threads_rows_and_cuts_change_no_bit() {
    let (mut rng, vocab, rows) = (Lcg(8), 40_009, 9);
    let x: Vec<f32> = (0..rows).flat_map(|_| logits(&mut rng, vocab)).collect();
    let ask = asked(0.8, 7);
    let noise = vec![Noise::Keystream(KEY); rows];
    with_every_isa(|isa| {
        let all = score(&x, vocab, &ask, &noise);
        for threads in [1, 2, 3] {
            let again = with_threads(threads, || {
                // The choice of the instruction set is of this thread.
                threads::map(rows, usize::MAX, |r| {
                    let logits = &x[r * vocab..][..vocab];
                    let (asked, noise) = (&ask, noise.get(r));
                    dispatch(
                        isa,
                        Row {
                            logits,
                            asked,
                            noise,
                        },
                    )
                })
            });
            assert_eq!(all, again);
        }
        for (row, x) in all.iter().zip(x.chunks(vocab)) {
            assert_eq!(*row, score(x, vocab, &ask, &noise[..1])[0]);
            assert_eq!(*row, dispatch(isa, Cut(x, &ask)));
        }
    });
}

proptest! {
    #[test]
    fn any_row_agrees_with_f64(
        x in prop::collection::vec(
            prop_oneof![4 => -20.0f32..20.0, 1 => Just(f32::NEG_INFINITY), 1 => (-3i32..3).prop_map(|i| i as f32)],
            1..2100,
        ),
        temperature in 0.05f64..4.0,
        k in 0usize..40,
    ) {
        let found = score(&x, x.len(), &asked(temperature, k), &[Noise::Keystream(KEY)]).remove(0);
        prop_assume!(found.plain.top() > f32::NEG_INFINITY);
        check(&found.plain, &x, 1.0, "any");
        check(&found.tempered, &x, temperature, "any");
        prop_assert_eq!(found.drawn, gumbel(&x, temperature, uniform));
        prop_assert!(found.largest.len() <= k && found.largest.is_sorted_by(|a, b| a.1 >= b.1));
    }

    #[test]
    fn adding_a_constant_changes_nothing_much(
        x in prop::collection::vec(-8.0f32..8.0, 1..1500), shift in -100i32..100,
    ) {
        let of = |x: &[f32]| score(x, x.len(), &asked(1.0, 0), &[]).remove(0);
        let shifted: Vec<f32> = x.iter().map(|x| x + shift as f32).collect();
        let (a, b) = (of(&x), of(&shifted));
        prop_assert!((a.plain.entropy() - b.plain.entropy()).abs() < 1e-4);
        prop_assert!((a.plain.margin() - b.plain.margin()).abs() < 1e-4);
    }
}
