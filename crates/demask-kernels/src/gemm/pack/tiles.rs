//! A tile of rows of A for a unit that multiplies tiles.

use super::left::{RowQuantiser, step};
use crate::element::Element;
use crate::gemm::format::{Format, Layout};
use crate::memory::Scratch;
use crate::simd::amx::{ROWS, WORDS};
use crate::simd::{LANES, Simd};

/// Rows that are asked for ahead of their turn where their values are neighbours: a part of a row is too short for the
/// processor to guess the next one.
const AHEAD: usize = 4;
/// Values that are asked for ahead where rows are neighbours: those of the next tiles.
const AHEAD_ROWS: usize = 2 * ROWS;

/// Words of a tile.
const TILE: usize = ROWS * WORDS;

/// Words of a row, filled up to whole tiles.
pub(crate) fn width(layout: &Layout) -> usize {
    (layout.words * layout.lhs).next_multiple_of(WORDS)
}

/// Packs `rows` whole rows at `src[i·rs + k·cs]` as tiles `[steps][16-row parts][16][16]`, filled up with zeros, and
/// after them the scales and beginnings of the integer formats, as [`left`](super::left::left) does: beginnings of 0 for
/// int4, whose halves become signed bytes.
///
/// # Safety
/// The source is readable at those places; `dst` is writable for [`width`] words of each row, their number rounded up
/// to 16, and `2 · groups · rows` more.
#[inline(always)]
pub(crate) unsafe fn tiles<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    (rs, cs): (usize, usize),
    rows: usize,
    dst: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe { some_tiles(s, layout, src, (rs, cs), (rows, (0, rows)), dst) }
}

/// The same for rows `first..end` of the `rows`: `first` is a multiple of 16, and so is `end`, if it is not `rows`.
///
/// Nothing else is written, but for zeros in place of rows that do not exist up to a multiple of 16.
///
/// # Safety
/// As for [`tiles`]; nobody else touches these rows and their scales.
#[inline(always)]
pub(crate) unsafe fn some_tiles<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    (rs, cs): (usize, usize),
    (rows, (first, end)): (usize, (usize, usize)),
    dst: *mut f32,
) {
    debug_assert!(first.is_multiple_of(ROWS) && (end.is_multiple_of(ROWS) || end == rows));
    let (parts, width) = (rows.div_ceil(ROWS), width(layout));
    // The first word of row i.
    let place = |i: usize| dst.wrapping_add(i / ROWS * TILE + i % ROWS * WORDS);
    // SAFETY: the caller's promises.
    unsafe {
        match layout.format {
            Format::Bf16 if cs == 1 => {
                for i in first..end {
                    let (row, to) = (src.add(i * rs), place(i));
                    for k in (0..2 * width).step_by(LANES) {
                        let left = layout.k.saturating_sub(k);
                        s.prefetch(
                            row.wrapping_add(AHEAD.wrapping_mul(rs))
                                .wrapping_add(k)
                                .cast(),
                        );
                        let v = if left > 0 {
                            T::load_part(s, row.add(k), left)
                        } else {
                            s.splat(0.0)
                        };
                        let step = k / (2 * WORDS) * parts * TILE;
                        s.store_bf16(to.add(step).cast::<u16>().add(k % (2 * WORDS)), v);
                    }
                }
            }
            Format::Bf16 => {
                for step in 0..width / WORDS {
                    for part in first / ROWS..end.div_ceil(ROWS) {
                        let src = src.add(part * ROWS * rs);
                        let to = dst.add((step * parts + part) * TILE);
                        let rows = (rows - part * ROWS).min(ROWS);
                        joined(s, layout, src, (rs, cs), rows, 2 * WORDS * step, to);
                    }
                }
                return;
            }
            _ => {
                let mut line = Scratch::take(width);
                let line = line.as_mut_ptr();
                std::slice::from_raw_parts_mut(line, width).fill(0.0);
                let scales = dst.add(parts * ROWS * width);
                // Bytes of B have the zero at 128; half bytes become signed ones.
                let zero = match layout.format {
                    Format::Int4 { .. } => 0,
                    _ => 128,
                };
                let mut quantiser = RowQuantiser::new(layout, zero);
                for i in first..end {
                    quantiser.row(s, src.add(i * rs), cs, line.cast(), scales.add(i), rows);
                    for step in 0..width / WORDS {
                        let v = s.load(line.add(step * WORDS));
                        s.store(place(i).add(step * parts * TILE), v);
                    }
                }
            }
        }
        for i in end..end.next_multiple_of(ROWS) {
            for step in 0..width / WORDS {
                s.store(place(i).add(step * parts * TILE), s.splat(0.0));
            }
        }
    }
}

/// One tile of pairs whose steps are not neighbours, from step `k0` on.
///
/// # Safety
/// As for [`tiles`], for at most 16 rows; `to` is writable for a tile.
#[inline(always)]
unsafe fn joined<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    (rs, cs): (usize, usize),
    rows: usize,
    k0: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let from = (src, (rs, cs), rows);
        let mut words = [s.splat(0.0); LANES];
        for (w, word) in words.iter_mut().enumerate() {
            let (low, high) = (k0 + 2 * w, k0 + 2 * w + 1);
            for k in [low, high] {
                s.prefetch(
                    src.wrapping_add(k.wrapping_mul(cs))
                        .wrapping_add(AHEAD_ROWS.wrapping_mul(rs))
                        .cast(),
                );
            }
            *word = s.join_bf16(step(s, layout.k, from, low), step(s, layout.k, from, high));
        }
        for (i, row) in s.transpose(words).into_iter().enumerate() {
            s.store(to.add(i * WORDS), row);
        }
    }
    const { assert!(LANES == ROWS && LANES == WORDS) };
}
