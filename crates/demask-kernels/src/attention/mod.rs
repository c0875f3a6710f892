//! Multi-head attention, tiled so that memory grows linearly with the length.
//!
//! | name | file | source |
//! |---|---|---|
//! | views | `heads.rs` | `[batch, length, heads, head_dim]` with any strides |
//! | key ranges | `ranges.rs` | which keys a query sees, as intervals |
//! | forward | `forward.rs` | online softmax: Milakov & Gimelshein, 2018; Rabe & Staats, 2021; Dao et al., 2022 |
//! | kept | `kept.rs` | keys and values that are kept from call to call |
//! | sequences | `sequences.rs` | sequences with keys of their own, side by side |
//! | backward | `backward.rs` | recomputation from the log-sum-exp: Dao, 2023 |
//!
//! Tiles of keys begin at multiples of a fixed width, counted from key 0, and every sum runs over
//! keys (or, for the gradients of keys, over queries) in increasing order. A masked key contributes
//! an exact 0, so the bits of a query's result depend only on the query, on its visible keys and
//! on where these stand: not on further masked keys, other queries, other batch rows or threads.
//! In [`Precision::Bf16`](crate::Precision) queries, keys, values and weights are rounded; scores, the softmax and
//! sums are `f32`. Operands may be stored as f32 or bf16 in either precision. Keys and values must be finite even where masked (0 · ∞ is not 0).

mod backward;
mod forward;
mod heads;
mod kept;
#[cfg(test)]
mod narrow_tests;
mod ranges;
mod sequences;
#[cfg(test)]
mod tests;

pub use backward::attention_backward;
pub use forward::attention_forward;
pub use heads::{HeadsMut, HeadsRef};
pub use kept::KeptHeads;
pub use ranges::KeyRanges;
pub use sequences::{Sequence, attention_sequences};

pub use crate::Precision;
use crate::gemm::micro::TILE;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Checks what forward and backward share; returns query heads per key head.
fn check<Q, K>(
    q: &HeadsRef<'_, Q>,
    k: &HeadsRef<'_, K>,
    v: &HeadsRef<'_, K>,
    ranges: &KeyRanges,
) -> usize {
    let ([batch, q_len, heads, dim], [kb, k_len, kv_heads, k_dim]) = (q.dims(), k.dims());
    assert!(
        k.dims() == v.dims() && kb == batch && k_dim == dim,
        "attention: q is {:?}, k is {:?}, v is {:?}; wanted [batch, length, heads, head_dim] with \
         k and v alike",
        q.dims(),
        k.dims(),
        v.dims()
    );
    assert!(dim > 0, "attention: heads of no values");
    assert!(
        kv_heads > 0 && heads.is_multiple_of(kv_heads),
        "attention: {heads} query heads can't share {kv_heads} key heads evenly"
    );
    assert!(
        ranges.q_len() == q_len
            && ranges.k_len() == k_len
            && ranges.batch().is_none_or(|b| b == batch),
        "attention: the key ranges are for batch {:?}, {} queries and {} keys, but q is {:?} and \
         k is {:?}",
        ranges.batch(),
        ranges.q_len(),
        ranges.k_len(),
        q.dims(),
        k.dims()
    );
    heads / kv_heads
}

/// Panics unless there is a log-sum-exp for each query of each head.
fn check_lse(lse: &[f32], [batch, q_len, heads, _]: [usize; 4]) {
    let want = batch.checked_mul(heads).and_then(|n| n.checked_mul(q_len));
    assert!(
        Some(lse.len()) == want,
        "attention: lse is [batch, heads, q_len], [{batch}, {heads}, {q_len}], but holds {} values",
        lse.len()
    );
}

/// A kernel whose operands are rounded to bf16, or are not.
trait InPrecision {
    fn run<S: Simd, const BF16: bool>(self, s: S);
}

/// One of the two, as a kernel.
struct In<K, const BF16: bool>(K);

impl<K: InPrecision, const BF16: bool> Kernel for In<K, BF16> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.0.run::<S, BF16>(s)
    }
}

fn dispatch_in(precision: Precision, isa: Isa, kernel: impl InPrecision) {
    match precision {
        Precision::F32 => dispatch(isa, In::<_, false>(kernel)),
        Precision::Bf16 => dispatch(isa, In::<_, true>(kernel)),
    }
}

/// Whether any key of the tile `[k0, k0 + width)` lies in the intervals of `list`.
#[inline(always)]
fn sees(list: &[(u32, u32)], k0: usize, width: usize) -> bool {
    let first = list.partition_point(|&(_, end)| end as usize <= k0);
    list.get(first)
        .is_some_and(|&(start, _)| (start as usize) < k0 + width)
}

/// The intervals of `list` inside the tile `[k0, k0 + KEYS)`, relative to it: calls `gap(a, b)` for
/// every stretch of the tile that is *not* visible and returns whether anything is.
#[inline(always)]
fn gaps<const KEYS: usize>(
    list: &[(u32, u32)],
    k0: usize,
    mut gap: impl FnMut(usize, usize),
) -> bool {
    let first = list.partition_point(|&(_, end)| end as usize <= k0);
    let (mut done, mut any) = (0, false);
    for &(start, end) in &list[first..] {
        let (start, end) = (start as usize, end as usize);
        if start >= k0 + KEYS {
            break;
        }
        let (a, b) = (start.max(k0) - k0, end.min(k0 + KEYS) - k0);
        if a > done {
            gap(done, a);
        }
        (done, any) = (b, true);
    }
    if done < KEYS {
        gap(done, KEYS);
    }
    any
}
