//! Forward attention with an online softmax.

use super::{HeadsMut, HeadsRef, InPrecision, KeyRanges, Precision, TILE};
use super::{check, check_lse, dispatch_in, gaps, sees};
use crate::element::Element;
use crate::gemm::Format;
use crate::gemm::format::Layout;
use crate::gemm::micro::{Groups, Inner, Lhs, Tile};
use crate::gemm::pack::{self, Rows, SLACK};
use crate::gemm::tiled::{self as tile, Operands};
use crate::memory::{MutPtr, Scratch};
use crate::simd::amx;
use crate::simd::math::exp;
use crate::simd::{Isa, LANES, Simd};
use crate::threads;

/// Most rows (query × head of one group) of a task.
const ROWS: usize = 256;
/// The same for a tile unit, beside which the packing of keys and values weighs more.
const TILED_ROWS: usize = 1024;
/// Keys that a tile unit takes at a time: the sums are loaded and stored once for all of them.
const TILED_KEYS: usize = 128;
/// Fewest rows worth a task of their own.
const MIN_ROWS: usize = 56;

/// `out = softmax(scale · q kᵀ) v` over the visible keys, and the log-sum-exp of the scaled scores.
///
/// A query that sees no key gets zeros and a log-sum-exp of −∞.
///
/// # Shapes
/// `q`, `out`: `[batch, q_len, heads, head_dim]`; `k`, `v`: `[batch, k_len, kv_heads, head_dim]`, query head h
/// reads key head `h / (heads / kv_heads)`; `lse`: `[batch, heads, q_len]`.
///
/// # Panics
/// When the shapes do not fit together.
#[expect(
    clippy::too_many_arguments,
    reason = "the operation has eight operands"
)]
pub fn attention_forward<Q: Element, K: Element>(
    q: HeadsRef<'_, Q>,
    k: HeadsRef<'_, K>,
    v: HeadsRef<'_, K>,
    ranges: &KeyRanges,
    scale: f32,
    precision: Precision,
    out: HeadsMut<'_>,
    lse: &mut [f32],
) {
    let group = check(&q, &k, &v, ranges);
    let [batch, q_len, heads, dim] = q.dims();
    assert_eq!(
        out.dims(),
        q.dims(),
        "attention: out must have the dims of q"
    );
    check_lse(lse, q.dims());
    if lse.is_empty() {
        return;
    }
    let (kv_heads, rows) = (k.dims()[2], group * q_len);
    let units = batch * kv_heads;
    let work = 4usize
        .saturating_mul(ranges.pairs(batch))
        .saturating_mul(heads * dim);
    let isa = Isa::detect();
    let tiled = isa == Isa::Amx && precision == Precision::Bf16;
    let mut chunks = rows.div_ceil(if tiled { TILED_ROWS } else { ROWS });
    if work >= threads::SMALL && threads::count() > 1 {
        while units * chunks < 4 * threads::count() && rows / chunks >= 2 * MIN_ROWS {
            chunks += 1;
        }
    }
    let lse = MutPtr(lse.as_mut_ptr());
    threads::parallel(units * chunks, work, |task| {
        let (unit, chunk) = (task / chunks, task % chunks);
        let (b, kv) = (unit / kv_heads, unit % kv_heads);
        let chunk = (rows * chunk / chunks, rows * (chunk + 1) / chunks);
        let (q, k, v, out) = (&q, &k, &v, &out);
        let kernel = Chunk {
            q,
            k,
            v,
            ranges,
            scale,
            out,
            lse,
            group,
            b,
            kv,
            chunk,
            tiled,
        };
        dispatch_in(precision, isa, kernel);
    });
}

/// Some rows of one (batch, key head). Row r is query `r % q_len` of the group's head `r / q_len`.
struct Chunk<'a, Q, K> {
    q: &'a HeadsRef<'a, Q>,
    k: &'a HeadsRef<'a, K>,
    v: &'a HeadsRef<'a, K>,
    ranges: &'a KeyRanges,
    scale: f32,
    out: &'a HeadsMut<'a>,
    lse: MutPtr,
    group: usize,
    b: usize,
    kv: usize,
    chunk: (usize, usize),
    /// Products run on the tile unit.
    tiled: bool,
}

/// Most rows of a panel of queries, whatever multiplies it.
const MOST: usize = tile::MR;

impl<Q: Element, K: Element> InPrecision for Chunk<'_, Q, K> {
    #[inline(always)]
    fn run<S: Simd, const BF16: bool>(self, s: S) {
        if S::UNIT && BF16 && self.tiled {
            self.run_tiles::<S, BF16, TILED_KEYS>(s)
        } else {
            self.run_tiles::<S, BF16, TILE>(s)
        }
    }
}

impl<Q: Element, K: Element> Chunk<'_, Q, K> {
    /// All of it, `KEYS` keys at a time.
    #[inline(always)]
    fn run_tiles<S: Simd, const BF16: bool, const KEYS: usize>(self, s: S) {
        const { assert!(KEYS.is_multiple_of(4 * LANES) && KEYS.is_multiple_of(S::NR)) };
        let [_, q_len, heads, dim] = self.q.dims();
        let k_len = self.k.dims()[1];
        let (r0, r1) = self.chunk;
        let n = r1 - r0;
        let (b, kv, padded) = (self.b, self.kv, dim.next_multiple_of(S::NR));
        let tiled = S::UNIT && BF16 && self.tiled;
        // SAFETY: the instruction set has the unit; a chunk runs on one thread, and nothing inside it begins another.
        let unit = tiled.then(|| unsafe { amx::Tiles::begin() });
        // Rows there is room for: tiles are whole.
        let (rows, room) = match tiled {
            true => (
                Rows::of_units(n, tile::MR, amx::ROWS),
                n.next_multiple_of(amx::ROWS),
            ),
            false => (Rows::new(n, S::MR), n),
        };
        // (head, query) of a row of this chunk.
        let place = |r: usize| (kv * self.group + (r0 + r) / q_len, (r0 + r) % q_len);
        // The query of each row: divisions would cost as much as a third of the products. (Key ranges have been made for
        // so many queries, so there are fewer than 2³².)
        let queries: Vec<u32> = (0..n).map(|r| place(r).1 as u32).collect();
        let visible = |r: usize| self.ranges.of(b, queries[r] as usize);
        let format = if BF16 { Format::Bf16 } else { Format::F32 };
        let inner = if BF16 { Inner::Bf16 } else { Inner::F32 };
        // The inner dimension of the scores.
        let layout = Layout::new(format, dim);
        let words = layout.words;
        let q_words = match tiled {
            true => pack::tiles_width(&layout),
            false => words,
        };
        let q_place = |t: usize| rows.start(t) * q_words + t * SLACK;

        let mut line = Scratch::take(MOST * padded);
        let mut q_pack = Scratch::take(room * q_words + rows.tiles * SLACK);
        let mut k_pack = Scratch::take(words * KEYS);
        let mut v_pack = Scratch::take(KEYS * padded);
        let mut score = Scratch::take(MOST * KEYS);
        let mut weight = Scratch::take(if BF16 { MOST * KEYS } else { 0 });
        let mut sum = Scratch::take(room * padded);
        let mut state = Scratch::take(2 * n);
        let (line, q_pack) = (line.as_mut_ptr(), q_pack.as_mut_ptr());
        let (k_pack, v_pack) = (k_pack.as_mut_ptr(), v_pack.as_mut_ptr());
        let (score, sum) = (score.as_mut_ptr(), sum.as_mut_ptr());
        // Weights in bf16 are not as wide as scores, so they have a place of their own.
        let weight = if BF16 { weight.as_mut_ptr() } else { score };
        // SAFETY: state holds 2n values.
        let (highest, total) = unsafe {
            let all = std::slice::from_raw_parts_mut(state.as_mut_ptr(), 2 * n);
            all.split_at_mut(n)
        };
        highest.fill(f32::NEG_INFINITY);
        total.fill(0.0);

        // SAFETY: scratch has the sizes above, views reach the rows that their dims name, and the
        // rows of `out` and `lse` belong to this task alone.
        unsafe {
            std::slice::from_raw_parts_mut(sum, room * padded).fill(0.0);
            for t in 0..rows.tiles {
                let (a, z) = (rows.start(t), rows.start(t + 1));
                for r in a..z {
                    let (head, query) = place(r);
                    let src = self.q.row(b, query, head);
                    let (head, query) = place(r + AHEAD);
                    ask(s, self.q.row(b, query, head), dim);
                    copy_scaled(s, src, dim, self.scale, line.add((r - a) * dim));
                }
                let to = q_pack.add(q_place(t));
                match tiled {
                    true => pack::tiles(s, &layout, line, (dim, 1), z - a, to),
                    false => pack::left(s, &layout, line, (dim, 1), z - a, to),
                }
            }
            for k0 in (0..k_len).step_by(KEYS) {
                let width = KEYS.min(k_len - k0);
                let mut packed = false;
                // The inner dimension of the sums: the keys of a tile.
                let keys = Layout::new(format, width);
                let values = self.v.row(b, k0, kv);
                // Whether they are read where they lie.
                let there = !BF16 && dim == padded && K::PRECISION == Precision::F32;
                // (pointer, stride between inner steps, distance of panels)
                let v_tile: (*const f32, _, _) = if there {
                    (values.cast(), self.v.row_stride(), S::NR)
                } else if BF16 {
                    (v_pack, S::NR, keys.words * S::NR)
                } else {
                    (v_pack, padded, S::NR)
                };
                for t in 0..rows.tiles {
                    let (a, z) = (rows.start(t), rows.start(t + 1));
                    if !(a..z).any(|r| sees(visible(r), k0, width)) {
                        continue;
                    }
                    // What comes next: keys of the same head, at the end its first ones for the next chunk of it, or
                    // those of the next head, of which this thread probably is asked next. (Wherever they would lie, if
                    // there are none.)
                    let (next_head, next) = match (k0 + KEYS < k_len, r1 < self.group * q_len) {
                        (true, _) => (kv, k0 + KEYS),
                        (false, true) => (kv, 0),
                        (false, false) => (kv + 1, 0),
                    };
                    let mut later = next..if packed { next } else { k_len.min(next + KEYS) };
                    let each = later.len().div_ceil(z - a);
                    if !packed {
                        pack_keys(s, &layout, self.k, (b, k0, kv), width, k_pack);
                        let ldv = self.v.row_stride();
                        if BF16 {
                            pack_values(s, &keys, values, ldv, dim, v_pack);
                        } else if !there {
                            pad_rows(s, values, ldv, width, dim, v_pack, padded);
                        }
                        packed = true;
                    }
                    multiply(
                        s,
                        unit.as_ref(),
                        (inner(Lhs::Panel), q_pack.add(q_place(t)), z - a),
                        (k_pack, S::NR, words * S::NR, words),
                        (score, KEYS, width),
                        false,
                    );
                    let mut fade = [0.0f32; MOST];
                    for r in a..z {
                        for j in later.by_ref().take(each) {
                            ask(s, self.k.row(b, j, next_head), dim);
                            ask(s, self.v.row(b, j, next_head), dim);
                        }
                        let (row, list) = (score.add((r - a) * KEYS), visible(r));
                        let any = gaps::<KEYS>(list, k0, |from, to| {
                            std::slice::from_raw_parts_mut(row.add(from), to - from)
                                .fill(f32::NEG_INFINITY);
                        });
                        if any {
                            fade[r - a] = soften::<_, KEYS>(s, row, &mut highest[r]);
                        } else {
                            std::slice::from_raw_parts_mut(row, KEYS).fill(0.0);
                        }
                        if BF16 {
                            // Where the pairs from key `v` on go: to rows, or to tiles.
                            let to = |v: usize| match tiled {
                                true => {
                                    let (parts, i) = ((z - a).div_ceil(amx::ROWS), r - a);
                                    let tile = v / 2 / amx::WORDS * parts + i / amx::ROWS;
                                    let row = tile * amx::ROWS + i % amx::ROWS;
                                    row * amx::WORDS + v / 2 % amx::WORDS
                                }
                                false => (r - a) * KEYS + v / 2,
                            };
                            for v in (0..KEYS).step_by(LANES) {
                                s.store_bf16(weight.add(to(v)).cast(), s.load(row.add(v)));
                            }
                        }
                    }
                    rescale::<_, KEYS>(
                        s,
                        &mut fade,
                        sum.add(a * padded),
                        padded,
                        &mut total[a..z],
                        score,
                    );
                    multiply(
                        s,
                        unit.as_ref(),
                        (inner(Lhs::Rows), weight, z - a),
                        (v_tile.0, v_tile.1, v_tile.2, keys.words),
                        (sum.add(a * padded), padded, padded),
                        true,
                    );
                }
            }
            for r in 0..n {
                let (head, query) = place(r + AHEAD);
                ask(s, self.out.row(b, query, head), dim);
                let (head, query) = place(r);
                let inverse = if total[r] == 0.0 { 0.0 } else { 1.0 / total[r] };
                copy_scaled(
                    s,
                    sum.add(r * padded),
                    dim,
                    inverse,
                    self.out.row(b, query, head),
                );
                *self.lse.get().add((b * heads + head) * q_len + query) = if total[r] == 0.0 {
                    f32::NEG_INFINITY
                } else {
                    highest[r] + total[r].ln()
                };
            }
        }
    }
}

/// Rows of queries and results that are asked for ahead of their turn: rows of a head lie far apart, where the
/// processor does not guess them.
const AHEAD: usize = 8;

/// Asks for the cache lines of a row of `n` values, which need not exist.
#[inline(always)]
fn ask<S: Simd, T>(s: S, row: *const T, n: usize) {
    for j in (0..n).step_by(LANES * size_of::<f32>() / size_of::<T>()) {
        s.prefetch(row.wrapping_add(j).cast());
    }
}

/// Turns a row of scores into `exp(score − max)`, raises the running maximum, and returns
/// the difference by which the earlier sums must fade.
///
/// # Safety
/// `row` holds `KEYS` values.
#[inline(always)]
unsafe fn soften<S: Simd, const KEYS: usize>(s: S, row: *mut f32, highest: &mut f32) -> f32 {
    let before = *highest;
    // SAFETY: these vectors are the KEYS values of the row.
    unsafe {
        let mut top = s.load(row);
        for v in 1..KEYS / LANES {
            top = s.max(top, s.load(row.add(LANES * v)));
        }
        let top = s.max_lane(top);
        if top > before {
            *highest = top;
        }
        // All scores −∞ (overflow in the input): any shift will do.
        let shift = if *highest == f32::NEG_INFINITY {
            0.0
        } else {
            *highest
        };
        for v in 0..KEYS / LANES {
            let x = s.sub(s.load(row.add(LANES * v)), s.splat(shift));
            s.store(row.add(LANES * v), exp(s, x));
        }
        before - shift
    }
}

/// Multiplies the earlier sums of a panel by `exp(fade)` and adds the rows of weights to the totals.
///
/// # Safety
/// `sum` holds `total.len()` rows of `padded` values, `score` as many of `KEYS`.
#[inline(always)]
unsafe fn rescale<S: Simd, const KEYS: usize>(
    s: S,
    fade: &mut [f32; MOST],
    sum: *mut f32,
    padded: usize,
    total: &mut [f32],
    score: *const f32,
) {
    // SAFETY: the caller's promises; `fade` has whole vectors, and total.len() of them are in use.
    unsafe {
        for some in fade[..total.len().next_multiple_of(LANES)].chunks_exact_mut(LANES) {
            let factor = exp(s, s.load(some.as_ptr()));
            s.store(some.as_mut_ptr(), factor);
        }
        for (i, total) in total.iter_mut().enumerate() {
            let row = score.add(i * KEYS);
            let mut all = s.splat(0.0);
            for v in (0..KEYS).step_by(4 * LANES) {
                let row = row.add(v);
                let low = s.add(s.load(row), s.load(row.add(LANES)));
                let high = s.add(s.load(row.add(2 * LANES)), s.load(row.add(3 * LANES)));
                all = s.add(all, s.add(low, high));
            }
            let factor = fade[i];
            *total = *total * factor + s.sum(all);
            if factor != 1.0 {
                for j in (0..padded).step_by(LANES) {
                    let p = sum.add(i * padded + j);
                    s.store(p, s.mul(s.load(p), s.splat(factor)));
                }
            }
        }
    }
}

/// `dst = src · factor + 0` (the zero turns −0 into +0, so that skipping a masked tile, which
/// leaves out an addition of 0, can't be seen in the result).
///
/// # Safety
/// Both hold `n` values.
#[inline(always)]
pub(super) unsafe fn copy_scaled<S: Simd, T: Element, U: Element>(
    s: S,
    src: *const T,
    n: usize,
    factor: f32,
    dst: *mut U,
) {
    let (factor, zero) = (s.splat(factor), s.splat(0.0));
    for j in (0..n).step_by(LANES) {
        // SAFETY: n − j values are left.
        unsafe {
            let x = T::load_part(s, src.add(j), n - j);
            U::store_part(s, dst.add(j), n - j, s.add(s.mul(x, factor), zero));
        }
    }
}

/// Packs the transposed keys (or values) of a tile as panels `[words of head_dim][NR]`.
///
/// # Safety
/// The rows exist; `dst` holds `words` words for each of `width` keys, rounded up to whole panels.
#[inline(always)]
pub(super) unsafe fn pack_keys<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    keys: &HeadsRef<'_, T>,
    (b, k0, kv): (usize, usize, usize),
    width: usize,
    dst: *mut f32,
) {
    for j in (0..width).step_by(S::NR) {
        // SAFETY: columns j.. of the panel are rows k0 + j.. of the keys, of `dim` values each.
        unsafe {
            let (src, cols) = (keys.row(b, k0 + j, kv), S::NR.min(width - j));
            let (strides, dst) = ((1, keys.row_stride()), dst.add(j * layout.words));
            pack::right(s, layout, src, strides, cols, dst, std::ptr::null_mut());
        }
    }
}

/// Packs the values of a tile, `layout.k` rows at stride `ld`, as panels `[words of keys][NR]`.
///
/// # Safety
/// The rows exist; `dst` holds `words` words for each of `dim` columns, rounded up to whole panels.
#[inline(always)]
pub(super) unsafe fn pack_values<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    ld: usize,
    dim: usize,
    dst: *mut f32,
) {
    for j in (0..dim).step_by(S::NR) {
        // SAFETY: columns j.. of the rows exist up to `dim`.
        unsafe {
            let (src, cols) = (src.add(j), S::NR.min(dim - j));
            let dst = dst.add(j * layout.words);
            pack::right(s, layout, src, (ld, 1), cols, dst, std::ptr::null_mut());
        }
    }
}

/// Copies rows of `dim` values into rows of `padded`, filled up with 0.
///
/// # Safety
/// `src` holds `rows` rows at stride `ld`, `dst` `rows · padded` values.
#[inline(always)]
pub(super) unsafe fn pad_rows<S: Simd, T: Element>(
    s: S,
    src: *const T,
    ld: usize,
    rows: usize,
    dim: usize,
    dst: *mut f32,
    padded: usize,
) {
    for i in 0..rows {
        for j in (0..padded).step_by(LANES) {
            let left = dim.saturating_sub(j);
            let p = src.wrapping_add(i * ld + j);
            // SAFETY: `left` values of row i are left; the store stays inside the padded row.
            unsafe { s.store(dst.add(i * padded + j), T::load_part(s, p, left)) }
        }
    }
}

/// `c (+)= a · b` for one panel of rows: `a` is (words and layout, pointer, rows), `b` is (pointer, stride between
/// inner steps, distance of column panels, inner steps), `c` is (pointer, stride, columns). Columns are
/// rounded up to whole panels. With a tile unit `a` is packed as tiles of bf16, and `c` has whole tiles of rows.
///
/// # Safety
/// As for the register tile, for every panel of columns.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(
    s: S,
    unit: Option<&amx::Tiles>,
    (inner, a, rows): (Inner, *const f32, usize),
    (b, ldb, panel, kc): (*const f32, usize, usize, usize),
    (c, ldc, cols): (*mut f32, usize, usize),
    load_c: bool,
) {
    for p in 0..cols.div_ceil(S::NR) {
        if let (true, Some(unit)) = (S::UNIT, unit) {
            let b = b.wrapping_add(p * panel);
            let operands = Operands {
                a,
                b,
                ldb,
                words: kc,
                ask: amx::Ask::Nothing,
            };
            let c = (c.wrapping_add(p * S::NR), ldc);
            // SAFETY: the caller's promises.
            unsafe { tile::sums(unit, amx::Words::Bf16, rows, operands, c, load_c) };
            continue;
        }
        let tile = Tile {
            kc,
            a,
            b: b.wrapping_add(p * panel),
            ldb,
            c: c.wrapping_add(p * S::NR),
            ldc,
            cols: S::NR,
            load_c,
            bias: std::ptr::null(),
            groups: Groups::NONE,
        };
        // SAFETY: the caller's promises.
        unsafe { s.micro(inner, rows, &tile) }
    }
}
