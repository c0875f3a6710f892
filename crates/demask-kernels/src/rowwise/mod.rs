//! Operations on the rows of a matrix, or on each value of a slice.
//!
//! | name | file | source |
//! |---|---|---|
//! | RMS norm | `rms_norm.rs` | Zhang & Sennrich, 2019 |
//! | RMS norm of the heads in a fused buffer | `head_norm.rs` | Henry et al., 2020 |
//! | layer norm | `layer_norm.rs` | Ba et al., 2016 |
//! | group norm, SiLU after it | `group_norm.rs` | Wu & He, 2018 |
//! | cross-entropy | `cross_entropy.rs` | – |
//! | score (softmax statistics, Gumbel draw, largest tokens) | `score/` | Milakov & Gimelshein, 2018; Gumbel, 1954 |
//! | SwiGLU | `swiglu.rs` | Shazeer, 2020 |
//! | GELU (tanh form) | `gelu.rs` | Hendrycks & Gimpel, 2016 |
//! | SiLU | `silu.rs` | Elfwing et al., 2018 |
//! | pictures at twice and half the size | `resample.rs` | – |
//! | rows side by side | `join.rs` | – |
//! | matrices one above the other | `stack.rs` | – |
//! | rotary positions | `rotary.rs` | Su et al., 2021 |
//! | embedding | `embedding.rs` | – |
//! | embedding with rows in bf16 | `bf16_rows.rs` | – |
//! | AdamW | `adamw.rs` | Loshchilov & Hutter, 2017 |
//! | sum | `add.rs` | – |
//! | sums of columns (gradient of a bias) | `column_sums.rs` | – |
//! | lerp (moving average of the weights) | `lerp.rs` | – |
//!
//! A sum over a row has 16 partial sums (value j goes to partial sum j mod 16), folded in a fixed
//! order; a sum over rows goes through fixed chunks of rows, added in order. Neither depends on
//! the number of rows (for the results of a row) or the threads.

mod adamw;
mod add;
mod bf16_rows;
mod column_sums;
mod cross_entropy;
mod embedding;
pub(crate) mod gelu;
mod group_norm;
mod head_norm;
mod join;
mod layer_norm;
mod lerp;
mod resample;
mod rms_norm;
mod rotary;
pub(crate) mod score;
pub(crate) mod silu;
mod stack;
mod swiglu;

pub use adamw::{AdamW, adamw_step};
pub use add::add;
pub use bf16_rows::Bf16Rows;
pub use column_sums::column_sums;
pub use cross_entropy::{cross_entropy, cross_entropy_backward};
pub use embedding::{embedding_gather, embedding_scatter_add};
pub use gelu::{gelu, gelu_backward};
pub use group_norm::{ChannelGradients, ChannelParams, GroupNorm, group_norm, group_norm_backward};
pub use head_norm::{HeadRows, head_norm, head_norm_backward};
pub use join::{join, split};
pub use layer_norm::{layer_norm, layer_norm_backward, layer_norm_backward_onto};
pub use lerp::lerp;
pub use resample::{average_pool2, average_pool2_backward, upsample2, upsample2_backward};
pub use rms_norm::{rms_norm, rms_norm_backward, rms_norm_backward_onto};
pub use rotary::{RotaryLayout, RotaryTable, rotary, rotary_backward, rotary_rows};
pub use score::{
    Asked, Noise, RowAsked, RowScore, Scored, Softmax, TokenSet, score, score_allowed,
};
pub use silu::{silu, silu_backward};
pub use stack::stack;
pub use swiglu::{swiglu, swiglu_backward, swiglu_rows};

use crate::element::Element;
use crate::simd::{LANES, Simd};
use crate::threads;

/// Rows that share one partial sum of a gradient that is summed over rows.
const CHUNK_ROWS: usize = 64;

/// Lanes j.. of a slice; lanes beyond its end are 0.
#[inline(always)]
fn get<S: Simd, T: Element>(s: S, x: &[T], j: usize) -> S::V {
    let rest = &x[j..];
    // SAFETY: `rest` has the number of values that is read.
    unsafe { T::load_part(s, rest.as_ptr(), rest.len()) }
}

/// Lanes j.. of a slice; lanes beyond its end are `fill`.
#[inline(always)]
fn get_or<S: Simd>(s: S, x: &[f32], j: usize, fill: f32) -> S::V {
    let rest = &x[j..];
    // SAFETY: `rest` has the number of values that is read.
    unsafe {
        if rest.len() >= LANES {
            s.load(rest.as_ptr())
        } else {
            s.load_part(rest.as_ptr(), rest.len(), fill)
        }
    }
}

/// Writes lanes j.. of a slice, as many as it has.
#[inline(always)]
fn put<S: Simd, T: Element>(s: S, x: &mut [T], j: usize, v: S::V) {
    let rest = &mut x[j..];
    // SAFETY: `rest` has the number of values that is written.
    unsafe { T::store_part(s, rest.as_mut_ptr(), rest.len(), v) }
}

/// Number of rows of `n` values in a slice.
fn row_count(what: &str, len: usize, n: usize) -> usize {
    assert!(
        n > 0 && len.is_multiple_of(n),
        "{what}: {len} values are not whole rows of {n}"
    );
    len / n
}

/// Panics unless all slices hold `dims` values, which fit the address space: a product that wrapped would let a short
/// slice pass.
fn same_size(what: &str, dims: &[usize], lens: &[usize]) {
    let want = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    assert!(
        lens.iter().all(|&n| Some(n) == want),
        "{what}: operands of {lens:?} values must all be {dims:?}"
    );
}

/// Panics unless all lengths agree.
fn same_len(what: &str, want: usize, others: &[usize]) {
    assert!(
        others.iter().all(|&n| n == want),
        "{what}: operands of {want} and {others:?} values must be equally long"
    );
}

/// Calls `f(from, to)` for parts of `0..len`; `cost` is the number of operations a value takes.
fn over_values(len: usize, cost: usize, f: impl Fn(usize, usize) + Sync) {
    const PART: usize = 4096;
    threads::over_rows(len.div_ceil(PART), len.saturating_mul(cost), |a, b| {
        f(a * PART, (b * PART).min(len));
    });
}

/// Runs `f(first row, end row, partial sums)` for fixed chunks of rows in parallel and adds the
/// partial sums (`width` values a chunk, zero before) in order.
fn sum_over_rows(
    rows: usize,
    width: usize,
    work: usize,
    f: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let chunks = rows.div_ceil(CHUNK_ROWS);
    let mut partial = vec![0.0f32; chunks * width];
    let ptr = crate::memory::MutPtr(partial.as_mut_ptr());
    threads::parallel(chunks, work, |c| {
        // SAFETY: chunk c has its own `width` values.
        let sums = unsafe { ptr.slice(c * width, width) };
        f(c * CHUNK_ROWS, ((c + 1) * CHUNK_ROWS).min(rows), sums);
    });
    let mut total = vec![0.0f32; width];
    for chunk in partial.chunks_exact(width.max(1)) {
        for (t, p) in total.iter_mut().zip(chunk) {
            *t += p;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Bf16;
    use crate::simd::with_every_isa;
    use crate::testing::{Lcg, floats as wide, rounded};

    #[test]
    fn rows_stored_as_bf16_are_the_same_rows_rounded() {
        let (rows, n) = (6, 37);
        let mut rng = Lcg(4);
        let (x, weight, shift) = (rng.vec(rows * n), rng.vec(n), rng.vec(n));
        let (w, b) = (Some(&weight[..]), Some(&shift[..]));
        let shifted = rng.vec(rows * n);
        let table = RotaryTable::with_frequencies(&[1.0, 2.0, 3.0], &[1.0, 0.5, 0.25]);
        with_every_isa(|_| {
            let (mut y, mut small) = (vec![0.0; rows * n], rounded::<Bf16>(&x));
            let (mut stats, mut again) = (vec![0.0; 2 * rows], vec![0.0; 2 * rows]);
            layer_norm(&x, n, w, b, 1e-5, &mut y, &mut stats);
            layer_norm(&x, n, w, b, 1e-5, &mut small, &mut again);
            assert!(wide(&small) == wide(&rounded::<Bf16>(&y)) && stats == again);
            rms_norm(&x, n, w, b, 1e-5, &mut y, &mut stats[..rows]);
            rms_norm(&x, n, w, b, 1e-5, &mut small, &mut again[..rows]);
            assert!(wide(&small) == wide(&rounded::<Bf16>(&y)) && stats == again);
            // What is read is what is stored, too.
            let x = rounded::<Bf16>(&x);
            assert_eq!(column_sums(&x, n), column_sums(&wide(&x), n));
            for layout in [RotaryLayout::HalfSplit, RotaryLayout::Interleaved] {
                let (mut y, mut small) = (wide(&x), x.clone());
                for back in [false, true] {
                    rotary_rows(&mut y, rows, n, 3, 6, &table, layout, back);
                    rotary_rows(&mut small, rows, n, 3, 6, &table, layout, back);
                    y = wide(&rounded::<Bf16>(&y));
                    assert_eq!(wide(&small), y);
                }
            }
            // Three heads of 11 after 4 values of each row.
            let at = HeadRows {
                rows,
                stride: n,
                skip: 4,
                heads: 3,
                head_dim: 11,
            };
            let (dy, scale) = (rounded::<Bf16>(&shifted[..at.len()]), &weight[..11]);
            let (mut y, mut small) = (vec![0.0; at.len()], rounded::<Bf16>(&vec![0.0; at.len()]));
            let (mut one, mut two) = (vec![0.0; 3 * rows], vec![0.0; 3 * rows]);
            head_norm(&wide(&x), at, scale, 1e-5, &mut y, &mut one);
            head_norm(&x, at, scale, 1e-5, &mut small, &mut two);
            assert!(wide(&small) == wide(&rounded::<Bf16>(&y)) && one == two);
            let (mut dx, mut small) = (wide(&x), x.clone());
            let (mut dw, mut again) = (vec![0.0; 11], vec![0.0; 11]);
            head_norm_backward(&wide(&x), at, scale, &one, &wide(&dy), &mut dx, &mut dw);
            head_norm_backward(&x, at, scale, &one, &dy, &mut small, &mut again);
            assert!(wide(&small) == wide(&rounded::<Bf16>(&dx)) && dw == again);
            let (gate_up, mut y) = (&x[..4 * n], vec![0.0; 2 * n]);
            let mut small = rounded::<Bf16>(&y);
            swiglu_rows(&wide(gate_up), n, &mut y);
            swiglu_rows(gate_up, n, &mut small);
            assert_eq!(wide(&small), wide(&rounded::<Bf16>(&y)));
            gelu(&wide(&x[..2 * n]), &mut y);
            gelu(&x[..2 * n], &mut small);
            assert_eq!(wide(&small), wide(&rounded::<Bf16>(&y)));
        });
    }

    #[test]
    fn a_shift_is_added_after_the_scale() {
        let (mut y, mut stats) = ([0.0; 2], [0.0; 2]);
        // (3, 4) has a mean square of 12.5.
        rms_norm(
            &[3.0, 4.0],
            2,
            Some(&[1.0, 2.0]),
            Some(&[0.5, 1.0]),
            0.0,
            &mut y,
            &mut stats[..1],
        );
        let r = 1.0 / 12.5f32.sqrt();
        assert_eq!(y, [3.0 * r + 0.5, 4.0 * r * 2.0 + 1.0]);
        layer_norm(
            &[2.0, 4.0],
            2,
            Some(&[5.0, 6.0]),
            Some(&[0.5, 1.0]),
            0.0,
            &mut y,
            &mut stats,
        );
        assert_eq!(y, [-4.5, 7.0]);
    }
}
