//! Forward attention with an online softmax.

use super::{HeadsMut, HeadsRef, KeyRanges, TILE, check, gaps};
use crate::gemm::micro::{Lhs, Tile};
use crate::gemm::pack::{self, Rows, SLACK};
use crate::mem::{MutPtr, Scratch};
use crate::simd::math::exp;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// Most rows (query × head of one group) of a task.
const ROWS: usize = 256;
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
pub fn attention_forward(
    q: HeadsRef<'_>,
    k: HeadsRef<'_>,
    v: HeadsRef<'_>,
    ranges: &KeyRanges,
    scale: f32,
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
    assert_eq!(
        lse.len(),
        batch * heads * q_len,
        "attention: lse is [batch, heads, q_len]"
    );
    let (kv_heads, rows) = (k.dims()[2], group * q_len);
    let units = batch * kv_heads;
    if units == 0 || rows == 0 || dim == 0 {
        return;
    }
    let work = 4usize
        .saturating_mul(ranges.pairs(batch))
        .saturating_mul(heads * dim);
    let mut chunks = rows.div_ceil(ROWS);
    if work >= threads::SMALL && threads::count() > 1 {
        while units * chunks < 4 * threads::count() && rows / chunks >= 2 * MIN_ROWS {
            chunks += 1;
        }
    }
    let isa = Isa::detect();
    let lse = MutPtr(lse.as_mut_ptr());
    threads::parallel(units * chunks, work, |task| {
        let (unit, chunk) = (task / chunks, task % chunks);
        let (b, kv) = (unit / kv_heads, unit % kv_heads);
        let chunk = (rows * chunk / chunks, rows * (chunk + 1) / chunks);
        let (q, k, v, out) = (&q, &k, &v, &out);
        dispatch(
            isa,
            Chunk {
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
            },
        );
    });
}

/// Some rows of one (batch, key head). Row r is query `r % q_len` of the group's head `r / q_len`.
struct Chunk<'a> {
    q: &'a HeadsRef<'a>,
    k: &'a HeadsRef<'a>,
    v: &'a HeadsRef<'a>,
    ranges: &'a KeyRanges,
    scale: f32,
    out: &'a HeadsMut<'a>,
    lse: MutPtr,
    group: usize,
    b: usize,
    kv: usize,
    chunk: (usize, usize),
}

impl Kernel for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [_, q_len, heads, dim] = self.q.dims();
        let k_len = self.k.dims()[1];
        let (r0, r1) = self.chunk;
        let n = r1 - r0;
        let (b, kv, padded) = (self.b, self.kv, dim.next_multiple_of(S::NR));
        let rows = Rows::new(n, S::MR);
        // (head, query) of a row of this chunk.
        let place = |r: usize| (kv * self.group + (r0 + r) / q_len, (r0 + r) % q_len);

        let mut line = Scratch::take(S::MR * padded);
        let mut q_pack = Scratch::take(n * dim + SLACK);
        let mut k_pack = Scratch::take(dim * TILE);
        let mut v_pack = Scratch::take(TILE * padded);
        let mut score = Scratch::take(S::MR * TILE);
        let mut sum = Scratch::take(n * padded);
        let mut state = Scratch::take(2 * n);
        let (line, q_pack) = (line.as_mut_ptr(), q_pack.as_mut_ptr());
        let (k_pack, v_pack) = (k_pack.as_mut_ptr(), v_pack.as_mut_ptr());
        let (score, sum) = (score.as_mut_ptr(), sum.as_mut_ptr());
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
            std::slice::from_raw_parts_mut(sum, n * padded).fill(0.0);
            for t in 0..rows.tiles {
                let (a, z) = (rows.start(t), rows.start(t + 1));
                for r in a..z {
                    let (head, query) = place(r);
                    let src = self.q.row(b, query, head);
                    copy_scaled(s, src, dim, self.scale, line.add((r - a) * dim));
                }
                pack::lhs_panel(s, line, (dim, 1), z - a, dim, q_pack.add(a * dim));
            }
            for k0 in (0..k_len).step_by(TILE) {
                let width = TILE.min(k_len - k0);
                let mut packed = false;
                let (mut v_tile, mut ldv) = (self.v.row(b, k0, kv), self.v.row_stride());
                for t in 0..rows.tiles {
                    let (a, z) = (rows.start(t), rows.start(t + 1));
                    let sees = |r: usize| {
                        let list = self.ranges.of(b, place(r).1);
                        let first = list.partition_point(|&(_, end)| end as usize <= k0);
                        list.get(first)
                            .is_some_and(|&(start, _)| (start as usize) < k0 + width)
                    };
                    if !(a..z).any(sees) {
                        continue;
                    }
                    if !packed {
                        pack_keys(s, self.k, (b, k0, kv), width, k_pack);
                        if dim != padded {
                            pad_rows(s, v_tile, ldv, width, dim, v_pack, padded);
                            (v_tile, ldv) = (v_pack, padded);
                        }
                        packed = true;
                    }
                    multiply(
                        s,
                        (Lhs::Panel, q_pack.add(a * dim), z - a),
                        (k_pack, S::NR, dim * S::NR, dim),
                        (score, TILE, width),
                        false,
                    );
                    let mut fade = [0.0f32; LANES];
                    for r in a..z {
                        let (row, list) =
                            (score.add((r - a) * TILE), self.ranges.of(b, place(r).1));
                        let any = gaps(list, k0, |from, to| {
                            std::slice::from_raw_parts_mut(row.add(from), to - from)
                                .fill(f32::NEG_INFINITY);
                        });
                        if any {
                            fade[r - a] = soften(s, row, &mut highest[r]);
                        } else {
                            std::slice::from_raw_parts_mut(row, TILE).fill(0.0);
                        }
                    }
                    rescale(
                        s,
                        fade,
                        sum.add(a * padded),
                        padded,
                        &mut total[a..z],
                        score,
                    );
                    multiply(
                        s,
                        (Lhs::Rows, score, z - a),
                        (v_tile, ldv, S::NR, width),
                        (sum.add(a * padded), padded, padded),
                        true,
                    );
                }
            }
            for r in 0..n {
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

/// Turns a row of scores into `exp(score − max)`, raises the running maximum, and returns
/// the difference by which the earlier sums must fade.
///
/// # Safety
/// `row` holds `TILE` values.
#[inline(always)]
unsafe fn soften<S: Simd>(s: S, row: *mut f32, highest: &mut f32) -> f32 {
    let before = *highest;
    // SAFETY: four vectors are the TILE values of the row.
    unsafe {
        let mut top = s.load(row);
        for v in 1..TILE / LANES {
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
        for v in 0..TILE / LANES {
            let x = s.sub(s.load(row.add(LANES * v)), s.splat(shift));
            s.store(row.add(LANES * v), exp(s, x));
        }
        before - shift
    }
}

/// Multiplies the earlier sums of a panel by `exp(fade)` and adds the rows of weights to the totals.
///
/// # Safety
/// `sum` holds `total.len()` rows of `padded` values, `score` as many of `TILE`.
#[inline(always)]
unsafe fn rescale<S: Simd>(
    s: S,
    mut fade: [f32; LANES],
    sum: *mut f32,
    padded: usize,
    total: &mut [f32],
    score: *const f32,
) {
    // SAFETY: the caller's promises; `fade` holds 16 values and total.len() ≤ MR ≤ 16.
    unsafe {
        let factor = exp(s, s.load(fade.as_ptr()));
        s.store(fade.as_mut_ptr(), factor);
        for (i, total) in total.iter_mut().enumerate() {
            let row = score.add(i * TILE);
            let low = s.add(s.load(row), s.load(row.add(LANES)));
            let high = s.add(s.load(row.add(2 * LANES)), s.load(row.add(3 * LANES)));
            let factor = fade[i];
            *total = *total * factor + s.sum(s.add(low, high));
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
pub(super) unsafe fn copy_scaled<S: Simd>(
    s: S,
    src: *const f32,
    n: usize,
    factor: f32,
    dst: *mut f32,
) {
    let (factor, zero) = (s.splat(factor), s.splat(0.0));
    for j in (0..n).step_by(LANES) {
        // SAFETY: n − j values are left.
        unsafe {
            let x = s.load_part(src.add(j), n - j, 0.0);
            s.store_part(dst.add(j), n - j, s.add(s.mul(x, factor), zero));
        }
    }
}

/// Packs the transposed keys (or values) of a tile as panels `[head_dim][NR]`.
///
/// # Safety
/// The rows exist; `dst` holds `head_dim · TILE` values.
#[inline(always)]
pub(super) unsafe fn pack_keys<S: Simd>(
    s: S,
    keys: &HeadsRef<'_>,
    (b, k0, kv): (usize, usize, usize),
    width: usize,
    dst: *mut f32,
) {
    let dim = keys.dims()[3];
    for j in (0..width).step_by(S::NR) {
        // SAFETY: columns j.. of the panel are rows k0 + j.. of the keys, of `dim` values each.
        unsafe {
            let (src, cols) = (keys.row(b, k0 + j, kv), S::NR.min(width - j));
            pack::rhs_panel(s, src, (1, keys.row_stride()), dim, cols, dst.add(j * dim));
        }
    }
}

/// Copies rows of `dim` values into rows of `padded`, filled up with 0.
///
/// # Safety
/// `src` holds `rows` rows at stride `ld`, `dst` `rows · padded` values.
#[inline(always)]
pub(super) unsafe fn pad_rows<S: Simd>(
    s: S,
    src: *const f32,
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
            unsafe { s.store(dst.add(i * padded + j), s.load_part(p, left, 0.0)) }
        }
    }
}

/// `c (+)= a · b` for one panel of rows: `a` is (layout, pointer, rows), `b` is (pointer, stride between
/// inner steps, distance of column panels, inner steps), `c` is (pointer, stride, columns). Columns are
/// rounded up to whole panels.
///
/// # Safety
/// As for the register tile, for every panel of columns.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(
    s: S,
    (lhs, a, rows): (Lhs, *const f32, usize),
    (b, ldb, panel, kc): (*const f32, usize, usize, usize),
    (c, ldc, cols): (*mut f32, usize, usize),
    load_c: bool,
) {
    for p in 0..cols.div_ceil(S::NR) {
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
        };
        // SAFETY: the caller's promises.
        unsafe { s.micro(lhs, rows, &tile) }
    }
}
