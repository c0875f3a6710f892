//! Backward attention: the weights are computed again from the log-sum-exp.

use super::forward::{copy_scaled, multiply, pack_keys, pack_values, pad_rows};
use super::{HeadsMut, HeadsRef, InPrecision, KeyRanges, Precision, TILE};
use super::{check, check_lse, dispatch_in, gaps, sees};
use crate::element::{Bf16, Element, Lanes};
use crate::gemm::Format;
use crate::gemm::format::Layout;
use crate::gemm::micro::{Inner, Lhs};
use crate::gemm::pack::{self, Rows, SLACK};
use crate::gemm::tiled as tile;
use crate::memory::Scratch;
use crate::simd::amx;
use crate::simd::math::exp;
use crate::simd::{Isa, LANES, Simd};
use crate::threads;

/// Gradients of [`super::attention_forward`] with respect to q, k and v.
///
/// With `P = exp(scale·q kᵀ − lse)`, `D = rowsum(dout ∘ out)`: `dv = Pᵀ dout`,
/// `dS = P ∘ (dout vᵀ − D)`, `dq = scale · dS k`, `dk = scale · dSᵀ q` (Dao, 2023, algorithm 2). The gradients are
/// overwritten; a key that nobody sees and a query that sees nothing get zeros.
///
/// In bf16 the operands of the five products are rounded; the softmax, `D` and all sums are `f32`. `out` is `f32` as well:
/// of a rounded one `D` would not be what the gradients of a row's weights add up to, and what cancels exactly, as the
/// gradient of a bias of the keys does, would be noise. `precision` must be
/// that of the forward pass, whose scores are computed again.
///
/// # Shapes
/// `out`, `dout`, `dq` as `q`; `dk`, `dv` as `k`; `lse`: `[batch, heads, q_len]`, from the forward pass.
///
/// # Panics
/// When the shapes do not fit together.
#[expect(
    clippy::too_many_arguments,
    reason = "the operation has twelve operands"
)]
pub fn attention_backward<T: Element, D: Element>(
    q: HeadsRef<'_, T>,
    k: HeadsRef<'_, T>,
    v: HeadsRef<'_, T>,
    ranges: &KeyRanges,
    scale: f32,
    precision: Precision,
    out: HeadsRef<'_>,
    lse: &[f32],
    dout: HeadsRef<'_, T>,
    dq: HeadsMut<'_, D>,
    dk: HeadsMut<'_, D>,
    dv: HeadsMut<'_, D>,
) {
    let group = check(&q, &k, &v, ranges);
    let [batch, _, heads, dim] = q.dims();
    assert!(
        out.dims() == q.dims() && dout.dims() == q.dims() && dq.dims() == q.dims(),
        "attention: out, dout and dq must have the dims of q, {:?}",
        q.dims()
    );
    assert!(
        dk.dims() == k.dims() && dv.dims() == k.dims(),
        "attention: dk and dv must have the dims of k, {:?}",
        k.dims()
    );
    check_lse(lse, q.dims());
    let kv_heads = k.dims()[2];
    if q.dims().contains(&0) && k.dims().contains(&0) {
        return;
    }
    let work = 10usize
        .saturating_mul(ranges.pairs(batch))
        .saturating_mul(heads)
        .saturating_mul(dim);
    let isa = Isa::detect();
    threads::parallel(batch * kv_heads, work, |unit| {
        let (b, kv) = (unit / kv_heads, unit % kv_heads);
        let (q, k, v, out, dout) = (&q, &k, &v, &out, &dout);
        let (dq, dk, dv) = (&dq, &dk, &dv);
        let unit = Unit {
            q,
            k,
            v,
            ranges,
            scale,
            out,
            lse,
            dout,
            dq,
            dk,
            dv,
            group,
            b,
            kv,
            tiled: isa == Isa::Amx && precision == Precision::Bf16,
        };
        dispatch_in(precision, isa, unit);
    });
}

/// One (batch, key head) with all query heads of its group. Row r is query `r % q_len` of head `r / q_len`.
struct Unit<'a, T, D> {
    q: &'a HeadsRef<'a, T>,
    k: &'a HeadsRef<'a, T>,
    v: &'a HeadsRef<'a, T>,
    ranges: &'a KeyRanges,
    scale: f32,
    out: &'a HeadsRef<'a>,
    lse: &'a [f32],
    dout: &'a HeadsRef<'a, T>,
    dq: &'a HeadsMut<'a, D>,
    dk: &'a HeadsMut<'a, D>,
    dv: &'a HeadsMut<'a, D>,
    group: usize,
    b: usize,
    kv: usize,
    /// Products run on the tile unit.
    tiled: bool,
}

impl<T: Element, D: Element> InPrecision for Unit<'_, T, D> {
    #[inline(always)]
    fn run<S: Simd, const BF16: bool>(self, s: S) {
        let [_, q_len, heads, dim] = self.q.dims();
        let k_len = self.k.dims()[1];
        let (b, kv, padded) = (self.b, self.kv, dim.next_multiple_of(S::NR));
        let format = if BF16 { Format::Bf16 } else { Format::F32 };
        let inner = if BF16 { Inner::Bf16 } else { Inner::F32 };
        // Steps of an inner dimension in a word.
        let values = if BF16 { 2 } else { 1 };
        let layout = Layout::new(format, dim);
        let words = layout.words;
        let tiled = S::UNIT && BF16 && self.tiled;
        // SAFETY: the instruction set has the unit; a call runs on one thread, and nothing inside it begins another.
        let unit = tiled.then(|| unsafe { amx::Tiles::begin() });
        let unit = unit.as_ref();
        let n = self.group * q_len;
        // Rows there is room for, words of a packed one, and how rows are cut into panels: tiles are whole.
        let (room, packed_words) = match tiled {
            true => (n.next_multiple_of(amx::ROWS), pack::tiles_width(&layout)),
            false => (n, words),
        };
        let panels = |m: usize| match tiled {
            true => Rows::of_units(m, tile::MR, amx::ROWS),
            false => Rows::new(m, S::MR),
        };
        let place = |r: usize| (kv * self.group + r / q_len, r % q_len);

        let scratch = Scratch::take;
        // Rows of scale·q and dout: plain (padded) and packed, sums of dq, and D and lse of each row.
        let (mut q_rows, mut g_rows) = (scratch(n * padded), scratch(n * padded));
        let (mut q_pack, mut g_pack) = (
            scratch(room * packed_words + SLACK),
            scratch(room * packed_words + SLACK),
        );
        let (mut dq_sum, mut per_row) = (scratch(room * padded), scratch(2 * n));
        // One tile of keys: packed transposed, plain, and sums of dk and dv.
        let (mut k_pack, mut v_pack) = (scratch(TILE * words), scratch(TILE * words));
        let mut k_rows = scratch(TILE * padded);
        let (mut dk_sum, mut dv_sum) = (scratch(TILE * padded), scratch(TILE * padded));
        // One tile of weights P and of their gradient dS.
        let (mut weight, mut dscore) = (scratch(TILE * TILE), scratch(TILE * TILE));
        // What bf16 has beside them: pairs of rows of q, dout, P and dS, and rows of dS.
        let spare = |len: usize| scratch(if BF16 { len } else { 0 });
        let pairs = n.div_ceil(2);
        let (mut q_pairs, mut g_pairs) = (spare(pairs * padded), spare(pairs * padded));
        let joined = |len: usize| spare(if tiled { 0 } else { len });
        let (mut p_pairs, mut ds_pairs) = (joined(TILE / 2 * TILE), joined(TILE / 2 * TILE));
        let mut ds_rows = joined(TILE * TILE);
        // A panel of P or dS, or of their columns, as tiles.
        let mut of_tiles = scratch(if tiled { tile::MR * TILE / 2 } else { 0 });
        let of_tiles = of_tiles.as_mut_ptr();
        let (q_rows, g_rows) = (q_rows.as_mut_ptr(), g_rows.as_mut_ptr());
        let (q_pack, g_pack) = (q_pack.as_mut_ptr(), g_pack.as_mut_ptr());
        let (dq_sum, per_row) = (dq_sum.as_mut_ptr(), per_row.as_mut_ptr());
        let (k_pack, v_pack, k_rows) = (
            k_pack.as_mut_ptr(),
            v_pack.as_mut_ptr(),
            k_rows.as_mut_ptr(),
        );
        let (dk_sum, dv_sum) = (dk_sum.as_mut_ptr(), dv_sum.as_mut_ptr());
        let (weight, dscore) = (weight.as_mut_ptr(), dscore.as_mut_ptr());
        let (q_pairs, g_pairs) = (q_pairs.as_mut_ptr(), g_pairs.as_mut_ptr());
        let (p_pairs, ds_pairs) = (p_pairs.as_mut_ptr(), ds_pairs.as_mut_ptr());
        let ds_rows = ds_rows.as_mut_ptr();
        // What the products over rows and over keys read.
        let (q_over, g_over) = if BF16 {
            (q_pairs, g_pairs)
        } else {
            (q_rows, g_rows)
        };
        let (p_over, ds_over) = if BF16 {
            (p_pairs, ds_pairs)
        } else {
            (weight, dscore)
        };
        let ds_left = if BF16 { ds_rows } else { dscore };

        // SAFETY: scratch has the sizes above, views reach the rows that their dims name, and the
        // rows of dq, dk, dv of this (batch, key head) belong to this task alone.
        unsafe {
            std::slice::from_raw_parts_mut(dq_sum, room * padded).fill(0.0);
            for r in 0..n {
                let (head, query) = place(r);
                let (q_row, g_row) = (q_rows.add(r * padded), g_rows.add(r * padded));
                pad_rows(s, self.q.row(b, query, head), 0, 1, dim, q_row, padded);
                copy_scaled(s, q_row, padded, self.scale, q_row);
                let g = self.dout.row(b, query, head);
                pad_rows(s, g, 0, 1, dim, g_row, padded);
                if BF16 {
                    // D is a sum of what the product with v gives, so it must see the same dout: where one key has
                    // all the weight, the difference is then 0.
                    for j in (0..padded).step_by(LANES) {
                        let x = Bf16::rounded(s, s.load(g_row.add(j)));
                        s.store(g_row.add(j), x);
                    }
                }
                *per_row.add(2 * r) = dot(s, g_row, self.out.row(b, query, head), dim);
                let lse = self.lse[(b * heads + head) * q_len + query];
                *per_row.add(2 * r + 1) = if lse == f32::NEG_INFINITY { 0.0 } else { lse };
            }
            for r0 in (0..n).step_by(TILE) {
                let rows = panels(TILE.min(n - r0));
                for t in 0..rows.tiles {
                    let (a, h) = (r0 + rows.start(t), rows.start(t + 1) - rows.start(t));
                    for (rows, packed) in [(q_rows, q_pack), (g_rows, g_pack)] {
                        let from = rows.add(a * padded);
                        let to = packed.add(a * packed_words);
                        match tiled {
                            true => pack::tiles(s, &layout, from, (padded, 1), h, to),
                            false => pack::left(s, &layout, from, (padded, 1), h, to),
                        }
                    }
                }
            }
            if BF16 {
                join_rows(s, q_rows, n, padded, q_pairs);
                join_rows(s, g_rows, n, padded, g_pairs);
            }
            for k0 in (0..k_len).step_by(TILE) {
                let width = TILE.min(k_len - k0);
                pack_keys(s, &layout, self.k, (b, k0, kv), width, k_pack);
                pack_keys(s, &layout, self.v, (b, k0, kv), width, v_pack);
                let (keys, ld) = (self.k.row(b, k0, kv), self.k.row_stride());
                // (pointer, stride between inner steps, distance of panels, inner steps)
                let over_keys = Layout::new(format, width);
                let k_over = if BF16 {
                    pack_values(s, &over_keys, keys, ld, dim, k_rows);
                    (k_rows, S::NR, over_keys.words * S::NR, over_keys.words)
                } else {
                    pad_rows(s, keys, ld, width, dim, k_rows, padded);
                    (k_rows, padded, S::NR, width)
                };
                let k_over = (k_over.0.cast_const(), k_over.1, k_over.2, k_over.3);
                std::slice::from_raw_parts_mut(dk_sum, TILE * padded).fill(0.0);
                std::slice::from_raw_parts_mut(dv_sum, TILE * padded).fill(0.0);
                for r0 in (0..n).step_by(TILE) {
                    let m = TILE.min(n - r0);
                    let visible = |r: usize| self.ranges.of(b, place(r).1);
                    if !(r0..r0 + m).any(|r| sees(visible(r), k0, width)) {
                        continue;
                    }
                    let rows = panels(m);
                    for t in 0..rows.tiles {
                        let (a, h) = (rows.start(t), rows.start(t + 1) - rows.start(t));
                        let at = (r0 + a) * packed_words;
                        let panel = words * S::NR;
                        let left = (inner(Lhs::Panel), q_pack.add(at).cast_const(), h);
                        let to = (weight.add(a * TILE), TILE, width);
                        multiply(s, unit, left, (k_pack, S::NR, panel, words), to, false);
                        let left = (inner(Lhs::Panel), g_pack.add(at).cast_const(), h);
                        let to = (dscore.add(a * TILE), TILE, width);
                        multiply(s, unit, left, (v_pack, S::NR, panel, words), to, false);
                    }
                    for r in 0..m {
                        let (p, ds) = (weight.add(r * TILE), dscore.add(r * TILE));
                        let of_row = per_row.add(2 * (r0 + r));
                        differentiate(s, p, ds, *of_row, *of_row.add(1));
                        gaps::<TILE>(visible(r0 + r), k0, |from, to| {
                            std::slice::from_raw_parts_mut(p.add(from), to - from).fill(0.0);
                            std::slice::from_raw_parts_mut(ds.add(from), to - from).fill(0.0);
                        });
                        if BF16 && !tiled {
                            let to = ds_rows.add(r * TILE).cast::<u16>();
                            for v in (0..TILE).step_by(LANES) {
                                s.store_bf16(to.add(v), s.load(ds.add(v)));
                            }
                        }
                    }
                    if BF16 && !tiled {
                        join_rows(s, weight, m, TILE, p_pairs);
                        join_rows(s, dscore, m, TILE, ds_pairs);
                    }
                    let cols = panels(width);
                    let steps = m.div_ceil(values);
                    let over_rows = Layout::new(format, m);
                    for t in 0..cols.tiles {
                        let (j, h) = (cols.start(t), cols.start(t + 1) - cols.start(t));
                        let at = r0 / values * padded;
                        // Columns of P and dS as they lie or, for the unit, packed.
                        let mut left = (inner(Lhs::Cols), p_over.add(j).cast_const(), h);
                        if tiled {
                            pack::tiles(s, &over_rows, weight.add(j), (1, TILE), h, of_tiles);
                            left = (inner(Lhs::Panel), of_tiles.cast_const(), h);
                        }
                        let to = (dv_sum.add(j * padded), padded, padded);
                        multiply(
                            s,
                            unit,
                            left,
                            (g_over.add(at), padded, S::NR, steps),
                            to,
                            true,
                        );
                        let mut left = (inner(Lhs::Cols), ds_over.add(j).cast_const(), h);
                        if tiled {
                            pack::tiles(s, &over_rows, dscore.add(j), (1, TILE), h, of_tiles);
                            left = (inner(Lhs::Panel), of_tiles.cast_const(), h);
                        }
                        let to = (dk_sum.add(j * padded), padded, padded);
                        multiply(
                            s,
                            unit,
                            left,
                            (q_over.add(at), padded, S::NR, steps),
                            to,
                            true,
                        );
                    }
                    for t in 0..rows.tiles {
                        let (a, h) = (rows.start(t), rows.start(t + 1) - rows.start(t));
                        let left = if tiled {
                            let from = dscore.add(a * TILE);
                            pack::tiles(s, &over_keys, from, (TILE, 1), h, of_tiles);
                            (inner(Lhs::Panel), of_tiles.cast_const(), h)
                        } else {
                            (inner(Lhs::Rows), ds_left.add(a * TILE).cast_const(), h)
                        };
                        let to = (dq_sum.add((r0 + a) * padded), padded, padded);
                        multiply(s, unit, left, k_over, to, true);
                    }
                }
                for j in 0..width {
                    copy_scaled(
                        s,
                        dk_sum.add(j * padded),
                        dim,
                        1.0,
                        self.dk.row(b, k0 + j, kv),
                    );
                    copy_scaled(
                        s,
                        dv_sum.add(j * padded),
                        dim,
                        1.0,
                        self.dv.row(b, k0 + j, kv),
                    );
                }
            }
            for r in 0..n {
                let (head, query) = place(r);
                let to = self.dq.row(b, query, head);
                copy_scaled(s, dq_sum.add(r * padded), dim, self.scale, to);
            }
        }
    }
}

/// Rounds rows of `width` values (whole vectors) to bf16 and joins each two of them, the last one with 0 where their
/// number is odd.
///
/// # Safety
/// `src` holds `rows · width` values, `dst` half as many words, rounded up to whole rows.
#[inline(always)]
unsafe fn join_rows<S: Simd>(s: S, src: *const f32, rows: usize, width: usize, dst: *mut f32) {
    for w in 0..rows.div_ceil(2) {
        for j in (0..width).step_by(LANES) {
            // SAFETY: row 2w exists, the next one is read only if it does.
            unsafe {
                let low = s.load(src.add(2 * w * width + j));
                let high = if 2 * w + 1 < rows {
                    s.load(src.add((2 * w + 1) * width + j))
                } else {
                    s.splat(0.0)
                };
                s.store(dst.add(w * width + j), s.join_bf16(low, high));
            }
        }
    }
}

/// Sum of `x ∘ y`: 16 partial sums, folded in a fixed order.
///
/// # Safety
/// Both hold `n` values.
#[inline(always)]
unsafe fn dot<S: Simd>(s: S, x: *const f32, y: *const f32, n: usize) -> f32 {
    let mut sum = s.splat(0.0);
    for j in (0..n).step_by(LANES) {
        // SAFETY: n − j values are left.
        unsafe {
            let (x, y) = (
                s.load_part(x.add(j), n - j, 0.0),
                s.load_part(y.add(j), n - j, 0.0),
            );
            sum = s.fma(x, y, sum);
        }
    }
    s.sum(sum)
}

/// A row of scores becomes weights `P = exp(score − lse)`, a row of `dout vᵀ` becomes `P ∘ (· − D)`.
///
/// # Safety
/// Both rows hold `TILE` values.
#[inline(always)]
unsafe fn differentiate<S: Simd>(s: S, p: *mut f32, ds: *mut f32, d: f32, lse: f32) {
    for v in (0..TILE).step_by(LANES) {
        // SAFETY: four vectors are the TILE values of a row.
        unsafe {
            let weight = exp(s, s.sub(s.load(p.add(v)), s.splat(lse)));
            s.store(p.add(v), weight);
            s.store(
                ds.add(v),
                s.mul(weight, s.sub(s.load(ds.add(v)), s.splat(d))),
            );
        }
    }
}
