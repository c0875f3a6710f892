//! Backward attention: the weights are computed again from the log-sum-exp.

use super::forward::{copy_scaled, multiply, pack_keys, pad_rows};
use super::{HeadsMut, HeadsRef, KeyRanges, TILE, check, gaps};
use crate::gemm::Format;
use crate::gemm::format::Layout;
use crate::gemm::micro::{Inner, Lhs};
use crate::gemm::pack::{self, Rows, SLACK};
use crate::mem::Scratch;
use crate::simd::math::exp;
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// Gradients of [`super::attention_forward`] with respect to q, k and v.
///
/// With `P = exp(scale·q kᵀ − lse)`, `D = rowsum(dout ∘ out)`: `dv = Pᵀ dout`,
/// `dS = P ∘ (dout vᵀ − D)`, `dq = scale · dS k`, `dk = scale · dSᵀ q` (Dao, 2023, algorithm 2). The gradients are
/// overwritten; a key that nobody sees and a query that sees nothing get zeros.
///
/// # Shapes
/// `out`, `dout`, `dq` as `q`; `dk`, `dv` as `k`; `lse`: `[batch, heads, q_len]`, from the forward pass.
///
/// # Panics
/// When the shapes do not fit together.
#[expect(
    clippy::too_many_arguments,
    reason = "the operation has eleven operands"
)]
pub fn attention_backward(
    q: HeadsRef<'_>,
    k: HeadsRef<'_>,
    v: HeadsRef<'_>,
    ranges: &KeyRanges,
    scale: f32,
    out: HeadsRef<'_>,
    lse: &[f32],
    dout: HeadsRef<'_>,
    dq: HeadsMut<'_>,
    dk: HeadsMut<'_>,
    dv: HeadsMut<'_>,
) {
    let group = check(&q, &k, &v, ranges);
    let [batch, q_len, heads, dim] = q.dims();
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
    assert_eq!(
        lse.len(),
        batch * heads * q_len,
        "attention: lse is [batch, heads, q_len]"
    );
    let kv_heads = k.dims()[2];
    if dim == 0 {
        return;
    }
    let work = 10usize
        .saturating_mul(ranges.pairs(batch))
        .saturating_mul(heads * dim);
    let isa = Isa::detect();
    threads::parallel(batch * kv_heads, work, |unit| {
        let (b, kv) = (unit / kv_heads, unit % kv_heads);
        let (q, k, v, out, dout) = (&q, &k, &v, &out, &dout);
        let (dq, dk, dv) = (&dq, &dk, &dv);
        dispatch(
            isa,
            Unit {
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
            },
        );
    });
}

/// One (batch, key head) with all query heads of its group. Row r is query `r % q_len` of head `r / q_len`.
struct Unit<'a> {
    q: &'a HeadsRef<'a>,
    k: &'a HeadsRef<'a>,
    v: &'a HeadsRef<'a>,
    ranges: &'a KeyRanges,
    scale: f32,
    out: &'a HeadsRef<'a>,
    lse: &'a [f32],
    dout: &'a HeadsRef<'a>,
    dq: &'a HeadsMut<'a>,
    dk: &'a HeadsMut<'a>,
    dv: &'a HeadsMut<'a>,
    group: usize,
    b: usize,
    kv: usize,
}

impl Kernel for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [_, q_len, heads, dim] = self.q.dims();
        let k_len = self.k.dims()[1];
        let (b, kv, padded) = (self.b, self.kv, dim.next_multiple_of(S::NR));
        let layout = Layout::new(Format::F32, dim);
        let n = self.group * q_len;
        let place = |r: usize| (kv * self.group + r / q_len, r % q_len);

        let scratch = Scratch::take;
        // Rows of scale·q and dout: plain (padded) and packed, sums of dq, and D and lse of each row.
        let (mut q_rows, mut g_rows) = (scratch(n * padded), scratch(n * padded));
        let (mut q_pack, mut g_pack) = (scratch(n * dim + SLACK), scratch(n * dim + SLACK));
        let (mut dq_sum, mut per_row) = (scratch(n * padded), scratch(2 * n));
        // One tile of keys: packed transposed, plain, and sums of dk and dv.
        let (mut k_pack, mut v_pack) = (scratch(TILE * dim), scratch(TILE * dim));
        let mut k_rows = scratch(TILE * padded);
        let (mut dk_sum, mut dv_sum) = (scratch(TILE * padded), scratch(TILE * padded));
        // One tile of weights P and of their gradient dS.
        let (mut weight, mut dscore) = (scratch(TILE * TILE), scratch(TILE * TILE));
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

        // SAFETY: scratch has the sizes above, views reach the rows that their dims name, and the
        // rows of dq, dk, dv of this (batch, key head) belong to this task alone.
        unsafe {
            std::slice::from_raw_parts_mut(dq_sum, n * padded).fill(0.0);
            for r in 0..n {
                let (head, query) = place(r);
                let (q_row, g_row) = (q_rows.add(r * padded), g_rows.add(r * padded));
                pad_rows(s, self.q.row(b, query, head), 0, 1, dim, q_row, padded);
                copy_scaled(s, q_row, padded, self.scale, q_row);
                let g = self.dout.row(b, query, head);
                pad_rows(s, g, 0, 1, dim, g_row, padded);
                *per_row.add(2 * r) = dot(s, g, self.out.row(b, query, head), dim);
                let lse = self.lse[(b * heads + head) * q_len + query];
                *per_row.add(2 * r + 1) = if lse == f32::NEG_INFINITY { 0.0 } else { lse };
            }
            for r0 in (0..n).step_by(TILE) {
                let rows = Rows::new(TILE.min(n - r0), S::MR);
                for t in 0..rows.tiles {
                    let (a, h) = (r0 + rows.start(t), rows.start(t + 1) - rows.start(t));
                    let (from, to) = (a * padded, a * dim);
                    pack::lhs_panel(s, q_rows.add(from), (padded, 1), h, dim, q_pack.add(to));
                    pack::lhs_panel(s, g_rows.add(from), (padded, 1), h, dim, g_pack.add(to));
                }
            }
            for k0 in (0..k_len).step_by(TILE) {
                let width = TILE.min(k_len - k0);
                pack_keys(s, &layout, self.k, (b, k0, kv), width, k_pack);
                pack_keys(s, &layout, self.v, (b, k0, kv), width, v_pack);
                let (keys, ld) = (self.k.row(b, k0, kv), self.k.row_stride());
                pad_rows(s, keys, ld, width, dim, k_rows, padded);
                std::slice::from_raw_parts_mut(dk_sum, TILE * padded).fill(0.0);
                std::slice::from_raw_parts_mut(dv_sum, TILE * padded).fill(0.0);
                for r0 in (0..n).step_by(TILE) {
                    let m = TILE.min(n - r0);
                    let sees = |r: usize| {
                        let list = self.ranges.of(b, place(r).1);
                        let first = list.partition_point(|&(_, end)| end as usize <= k0);
                        list.get(first)
                            .is_some_and(|&(start, _)| (start as usize) < k0 + width)
                    };
                    if !(r0..r0 + m).any(sees) {
                        continue;
                    }
                    let rows = Rows::new(m, S::MR);
                    for t in 0..rows.tiles {
                        let (a, h) = (rows.start(t), rows.start(t + 1) - rows.start(t));
                        let at = (r0 + a) * dim;
                        let panel = dim * S::NR;
                        let left = (Inner::F32(Lhs::Panel), q_pack.add(at).cast_const(), h);
                        let to = (weight.add(a * TILE), TILE, width);
                        multiply(s, left, (k_pack, S::NR, panel, dim), to, false);
                        let left = (Inner::F32(Lhs::Panel), g_pack.add(at).cast_const(), h);
                        let to = (dscore.add(a * TILE), TILE, width);
                        multiply(s, left, (v_pack, S::NR, panel, dim), to, false);
                    }
                    for r in 0..m {
                        let (p, ds) = (weight.add(r * TILE), dscore.add(r * TILE));
                        let of_row = per_row.add(2 * (r0 + r));
                        differentiate(s, p, ds, *of_row, *of_row.add(1));
                        gaps(self.ranges.of(b, place(r0 + r).1), k0, |from, to| {
                            std::slice::from_raw_parts_mut(p.add(from), to - from).fill(0.0);
                            std::slice::from_raw_parts_mut(ds.add(from), to - from).fill(0.0);
                        });
                    }
                    let cols = Rows::new(width, S::MR);
                    for t in 0..cols.tiles {
                        let (j, h) = (cols.start(t), cols.start(t + 1) - cols.start(t));
                        let (g, q) = (g_rows.add(r0 * padded), q_rows.add(r0 * padded));
                        let left = (Inner::F32(Lhs::Cols), weight.add(j).cast_const(), h);
                        let to = (dv_sum.add(j * padded), padded, padded);
                        multiply(s, left, (g, padded, S::NR, m), to, true);
                        let left = (Inner::F32(Lhs::Cols), dscore.add(j).cast_const(), h);
                        let to = (dk_sum.add(j * padded), padded, padded);
                        multiply(s, left, (q, padded, S::NR, m), to, true);
                    }
                    for t in 0..rows.tiles {
                        let (a, h) = (rows.start(t), rows.start(t + 1) - rows.start(t));
                        let left = (Inner::F32(Lhs::Rows), dscore.add(a * TILE).cast_const(), h);
                        let to = (dq_sum.add((r0 + a) * padded), padded, padded);
                        multiply(s, left, (k_rows, padded, S::NR, width), to, true);
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
