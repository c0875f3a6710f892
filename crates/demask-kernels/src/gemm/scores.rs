//! The scores of the rows of a product, of which no more than a chunk of columns is ever stored.
//!
//! A head maps a hidden state to as many logits as there are tokens, and a sampler reduces them to a few numbers
//! again. Here a task multiplies some rows by a segment of the vocabulary chunk by chunk and folds every chunk into the
//! [`State`]s of its rows while it lies in the second-level cache; the states of the segments are merged in their
//! order. The logits are those of [`gemm`](super::gemm) and the sums those of [`score`](crate::rowwise::score), in the
//! same order: so are the bits.

use super::driver::pointer;
use super::driver::{self, PackedLeft, parts_of_left};
use super::strip::{Destination, Left, Source};
use super::{MatrixRef, PackedB, Rhs};
use crate::memory::{Ptr, Scratch};
use crate::rowwise::score::{self, CHUNK, SEGMENT, State};
use crate::rowwise::{Asked, RowAsked, Scored};
use crate::simd::{Kernel, Simd, dispatch, tile_shape};
use crate::threads;

/// Most rows of a task: their chunks of logits take half a MiB.
const ROWS: usize = 128;
/// Tasks of a thread, if there are as many rows, so that all threads end at about the same time.
const TASKS: usize = 16;
/// Fewest rows worth a task of their own: it reads its segment of B again.
const MIN_ROWS: usize = 32;

/// Scores of each row of `A · B + bias`, without the tokens that are forbidden in it. The same bits as
/// [`score_allowed`](crate::rowwise::score_allowed) of the stored product, whatever the number of rows and threads.
///
/// # Shapes
/// `a`: `[rows, d]`, `b`: `[d, vocab]`, `bias`: `[vocab]`; `rows`: `[rows]`.
///
/// # Panics
/// When the shapes do not fit together, d or vocab is 0, vocab is 2³² or more, or a table of noise is shorter than it.
pub fn scores(
    a: MatrixRef<'_>,
    b: &PackedB,
    bias: Option<&[f32]>,
    asked: &Asked,
    rows: &[RowAsked<'_>],
) -> Vec<Scored> {
    super::products::check(a, Rhs::Packed(b), bias);
    let (m, d, vocab) = (a.rows(), a.cols(), b.cols());
    assert!(
        rows.len() == m && d > 0 && vocab > 0,
        "scores: {m}x{d} by {d}x{vocab}, and {} rows are asked for",
        rows.len()
    );
    score::check(vocab, rows.iter().filter_map(|row| row.noise.as_ref()));
    let (isa, layout) = (b.isa(), b.layout());
    let (_, nr) = tile_shape(isa);
    let head = Head {
        b: driver::source(&Rhs::Packed(b), None, nr),
        bias: pointer(bias),
        vocab,
        asked,
    };
    let segments = vocab.div_ceil(SEGMENT);
    let mut all = Vec::with_capacity(m);
    for (m0, m1) in parts_of_left(m, (isa, layout)) {
        let left = PackedLeft::pack((isa, layout), a, (m0, m1));
        let rows = &rows[m0..m1];
        let parts = row_parts(m1 - m0, segments).min(left.rows.tiles);
        let work = (2 * (m1 - m0)).saturating_mul(vocab * d);
        // Neighbouring tasks share a segment, which then is in a cache already.
        let found = threads::map(segments * parts, work, |task| {
            let part = Segment {
                head: &head,
                segment: task / parts,
                left: left.tiles(task % parts, parts),
                rows,
            };
            dispatch(isa, part)
        });
        let mut found = found.into_iter();
        let mut first: Vec<Partial> = found.by_ref().take(parts).flatten().collect();
        let mut later = found.flatten();
        for _ in 1..segments {
            for whole in &mut first {
                let next = later.next().expect("a state for each row and segment");
                whole.state.merge(&next.state);
                whole.forbade |= next.forbade;
            }
        }
        all.extend(first.into_iter().map(|row| Scored {
            score: row.state.finish(),
            forbade: row.forbade,
        }));
    }
    all
}

/// Parts of `m` rows.
fn row_parts(m: usize, segments: usize) -> usize {
    let least = m.div_ceil(ROWS);
    if threads::count() == 1 {
        return least;
    }
    let wanted = (TASKS * threads::count()).div_ceil(segments);
    least.max(wanted.min(m / MIN_ROWS))
}

/// What all tasks share.
struct Head<'a> {
    b: Source,
    bias: Ptr,
    vocab: usize,
    asked: &'a Asked,
}

/// The scores of a row over a segment.
struct Partial {
    state: State,
    forbade: bool,
}

/// Some rows by one segment of the vocabulary.
struct Segment<'a> {
    head: &'a Head<'a>,
    segment: usize,
    left: Left<'a>,
    /// All rows of the packed A.
    rows: &'a [RowAsked<'a>],
}

impl Kernel for Segment<'_> {
    type Output = Vec<Partial>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<Partial> {
        let Head {
            b,
            bias,
            vocab,
            asked,
        } = self.head;
        let begin = self.segment * SEGMENT;
        let unit = self.left.unit(s);
        let (r0, r1) = self.left.rows();
        // Whole strips fill a chunk.
        let panels = self.left.strip_panels(S::NR, b, 1);
        let strip = (S::NR << panels.ilog2()).min(CHUNK);
        let mut chunk = Scratch::take((r1 - r0) * CHUNK);
        let chunk = chunk.as_mut_ptr();
        let mut room = Scratch::take(self.left.room(b, strip));
        let room = room.as_mut_ptr();
        let rows = &self.rows[r0..r1];
        let mut partial: Vec<Partial> = rows
            .iter()
            .map(|_| Partial {
                state: State::new(asked, begin),
                forbade: false,
            })
            .collect();
        for c0 in (begin..(begin + SEGMENT).min(*vocab)).step_by(CHUNK) {
            let c1 = (c0 + CHUNK).min(*vocab);
            for j0 in (c0..c1).step_by(strip) {
                let to = Destination {
                    // Row r0 of the part is the first of the scratch.
                    c: chunk.wrapping_add(j0 - c0).wrapping_sub(r0 * CHUNK),
                    ldc: CHUNK,
                    bias: match bias.get().is_null() {
                        true => bias.get(),
                        false => bias.get().wrapping_add(j0),
                    },
                    load_c: false,
                    far: false,
                };
                let cols = (j0, (j0 + strip).min(c1));
                self.left.strip(s, unit.as_ref(), b, cols, room, &to);
            }
            for (i, (row, partial)) in rows.iter().zip(&mut partial).enumerate() {
                // SAFETY: the strips have written these logits of row i, and the scratch is ours alone.
                let logits =
                    unsafe { std::slice::from_raw_parts_mut(chunk.add(i * CHUNK), c1 - c0) };
                partial.forbade |= score::forbid(row, logits, c0);
                partial.state.fold(s, logits, row.noise.as_ref());
            }
        }
        partial
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::{Format, product};
    use crate::rowwise::{Noise, TokenSet, score_allowed};
    use crate::simd::with_every_isa;
    use crate::testing::Lcg;
    use crate::threads::with_threads;

    const FORMATS: [Format; 4] = [
        Format::F32,
        Format::Bf16,
        Format::Int8 {
            group: Format::WHOLE,
        },
        Format::Int4 { group: 64 },
    ];

    /// Both ways of the same scores.
    fn both(
        a: MatrixRef<'_>,
        b: &PackedB,
        bias: Option<&[f32]>,
        asked: &Asked,
        rows: &[RowAsked<'_>],
    ) -> [Vec<Scored>; 2] {
        let mut logits = product(a, b, bias);
        let stored = score_allowed(&mut logits, b.cols(), asked, rows);
        [scores(a, b, bias, asked, rows), stored]
    }

    #[test]
    fn scores_by_hand() {
        // Rows (1, 2) and (0, -1) by columns (1, 0), (0, 1), (1, 1), plus a bias: logits (2, 2, 3) and (1, -1, -1).
        let weight = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let b = PackedB::pack(MatrixRef::new(&weight, 3, 2).t(), Format::F32);
        let a = MatrixRef::new(&[1.0, 2.0, 0.0, -1.0], 2, 2);
        let last = [TokenSet::new(vec![2])];
        let rows = [
            RowAsked {
                forbidden: &last,
                ..RowAsked::default()
            },
            RowAsked::default(),
        ];
        let bias = Some(&[1.0, 0.0, 0.0][..]);
        let found = scores(a, &b, bias, &Asked::default(), &rows);
        let [first, second] = &found[..] else {
            panic!("two rows")
        };
        assert_eq!(
            (first.score.token, first.score.logit, first.forbade),
            (0, 2.0, true)
        );
        // Two equal logits are left: a half each.
        assert_eq!(first.score.plain.probability(2.0), 0.5);
        assert_eq!(
            (second.score.token, second.score.logit, second.forbade),
            (0, 1.0, false)
        );
        let one = 1.0 / (1.0 + 2.0 * (-2f64).exp());
        assert!((second.score.plain.probability(1.0) - one).abs() < 1e-7);
    }

    #[test]
    fn the_bits_of_the_stored_product() {
        let mut rng = Lcg(3);
        // Below and above a chunk, a segment and a block of the inner dimension; odd everywhere.
        for (m, d, vocab) in [
            (1, 1, 1),
            (3, 70, 33),
            (17, 64, 1025),
            (5, 600, 8192),
            (75, 48, 2 * SEGMENT + 1031),
            // Enough of both for the parts of a tile unit.
            (130, 600, SEGMENT + 33),
        ] {
            let (x, weight) = (rng.vec(m * d), rng.vec(vocab * d));
            let bias = rng.vec(vocab);
            let table: Vec<f64> = (0..vocab)
                .map(|i| (i as f64 + 0.5) / vocab as f64)
                .collect();
            let sets = [
                TokenSet::new(vec![0, 7, vocab as u32 - 1, vocab as u32 + 5]),
                TokenSet::new((0..vocab as u32).step_by(5).collect()),
            ];
            let rows: Vec<RowAsked<'_>> = (0..m)
                .map(|i| RowAsked {
                    noise: match i % 4 {
                        0 => Some(Noise::Table(&table)),
                        3 => None,
                        _ => Some(Noise::Keystream([i as u32; 8])),
                    },
                    forbidden: &sets[..i % 3],
                })
                .collect();
            for format in FORMATS {
                let b = PackedB::pack(MatrixRef::new(&weight, vocab, d).t(), format);
                for (temperature, bias) in [(0.0, None), (0.7, Some(&bias[..]))] {
                    let asked = Asked {
                        temperature,
                        tempered: true,
                        largest: 3,
                    };
                    let a = MatrixRef::new(&x, m, d);
                    for threads in [1, 2, 3] {
                        let both = || both(a, &b, bias, &asked, &rows);
                        let [fused, stored] = with_threads(threads, both);
                        assert_eq!(fused, stored, "{m}x{d}x{vocab} {format:?} {threads}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_finds_the_same_tokens() {
        let mut rng = Lcg(9);
        let (m, d, vocab) = (6, 40, SEGMENT + 77);
        let (x, weight) = (rng.vec(m * d), rng.vec(vocab * d));
        let rows: Vec<RowAsked<'_>> = (0..m as u32)
            .map(|i| RowAsked {
                noise: Some(Noise::Keystream([i; 8])),
                forbidden: &[],
            })
            .collect();
        let asked = Asked {
            temperature: 0.5,
            ..Asked::default()
        };
        let mut all = Vec::new();
        with_every_isa(|_| {
            let b = PackedB::pack(MatrixRef::new(&weight, vocab, d).t(), Format::F32);
            let [fused, stored] = both(MatrixRef::new(&x, m, d), &b, None, &asked, &rows);
            assert_eq!(fused, stored);
            all.push(fused.iter().map(|row| row.score.token).collect::<Vec<_>>());
        });
        assert!(all.iter().all(|tokens| *tokens == all[0]));
    }

    #[test]
    fn rows_without_hope_are_told_apart() {
        let b = PackedB::pack(MatrixRef::new(&[1.0; 40], 40, 1).t(), Format::F32);
        let everything = [TokenSet::new((0..40).collect())];
        let rows = [RowAsked {
            forbidden: &everything,
            ..RowAsked::default()
        }; 3];
        let a = MatrixRef::new(&[1.0, f32::NEG_INFINITY, f32::NAN], 3, 1);
        let found = scores(a, &b, None, &Asked::default(), &rows);
        let tops: Vec<f32> = found.iter().map(|row| row.score.plain.top()).collect();
        assert_eq!(tops, [f32::NEG_INFINITY; 3]);
        let forbade: Vec<bool> = found.iter().map(|row| row.forbade).collect();
        // What is not a number was not impossible.
        assert_eq!(forbade, [true, false, true]);
    }

    #[test]
    #[should_panic(expected = "2 rows are asked for")]
    fn as_many_rows_are_asked_as_there_are() {
        let b = PackedB::pack(MatrixRef::new(&[1.0; 4], 4, 1).t(), Format::F32);
        let rows = [RowAsked::default(); 2];
        scores(
            MatrixRef::new(&[1.0], 1, 1),
            &b,
            None,
            &Asked::default(),
            &rows,
        );
    }
}
