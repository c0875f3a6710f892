//! A panel of columns of B, rounded to the format.

use super::words::rhs_panel;
use super::{floats, quantise};
use crate::element::Element;
use crate::gemm::format::{Format, Layout};
use crate::memory::Scratch;
use crate::simd::{LANES, Simd};

/// Packs `cols` whole columns at `src[k·rs + j·cs]` as a panel `[words][NR]`; columns from `cols` on
/// multiply to 0. In the integer formats the scales `[groups][NR]` go to `scales`.
///
/// # Safety
/// The source is readable at those places; `dst` is writable for `words·NR` words and `scales` for
/// `groups·NR`.
#[inline(always)]
pub(crate) unsafe fn right<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    (rs, cs): (usize, usize),
    cols: usize,
    dst: *mut f32,
    scales: *mut f32,
) {
    // SAFETY: the caller's promises, handed on.
    unsafe {
        match layout.format {
            Format::Bf16 if cs == 1 => joined(s, layout, src, rs, cols, dst),
            Format::Bf16 => pairs(s, layout, src, (rs, cs), cols, dst),
            format => {
                let (src, strides, _held) = floats(src, (rs, cs), (layout.k, cols));
                match format {
                    Format::F32 => rhs_panel(s, src, strides, layout.k, cols, dst),
                    _ => quantised(s, layout, src, strides, cols, dst, scales),
                }
            }
        }
    }
}

/// Columns that are asked for ahead of their turn where they are neighbours: those of the next panels.
const AHEAD: usize = 64;

/// Joins neighbouring steps of whole rows of B.
///
/// # Safety
/// As for [`right`], with columns that are neighbours.
#[inline(always)]
unsafe fn joined<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    rs: usize,
    cols: usize,
    dst: *mut f32,
) {
    for w in 0..layout.words {
        for k in [2 * w, 2 * w + 1] {
            s.prefetch(
                src.wrapping_add(k.wrapping_mul(rs))
                    .wrapping_add(AHEAD)
                    .cast(),
            );
        }
        for v in 0..S::NV {
            let left = cols.saturating_sub(LANES * v);
            let src = src.wrapping_add(LANES * v);
            // SAFETY: `left` columns of step k are readable; the panel has room for the word.
            unsafe {
                let (low, high) = (2 * w, 2 * w + 1);
                let (low, high) = (
                    columns(s, layout.k, (src, rs, left), low),
                    columns(s, layout.k, (src, rs, left), high),
                );
                let pair = s.join_bf16(low, high);
                s.store(dst.add(w * S::NR + LANES * v), pair);
            }
        }
    }
}

/// The first 16 of `left` columns of step `k`; 0 beyond them and from step `end` on. A function, as a closure that is not
/// compiled into its caller would be compiled without the caller's instruction set.
///
/// # Safety
/// The columns of steps below `end` are readable.
#[inline(always)]
unsafe fn columns<S: Simd, T: Element>(
    s: S,
    end: usize,
    (src, rs, left): (*const T, usize, usize),
    k: usize,
) -> S::V {
    if k >= end || left == 0 {
        return s.splat(0.0);
    }
    // SAFETY: the caller's promise.
    unsafe { T::load_part(s, src.wrapping_add(k.wrapping_mul(rs)), left) }
}

/// Column j as contiguous values: itself where it is, else a copy in `copy`.
///
/// # Safety
/// The column is readable; `copy` is writable for `k` values.
#[inline(always)]
unsafe fn column<T: Copy>(
    src: *const T,
    (rs, cs): (usize, usize),
    k: usize,
    j: usize,
    copy: *mut T,
) -> *const T {
    // SAFETY: the caller's promises.
    unsafe {
        let src = src.add(j * cs);
        if rs == 1 {
            return src;
        }
        for l in 0..k {
            *copy.add(l) = *src.add(l * rs);
        }
        copy
    }
}

/// Rounds columns to bf16, then packs pairs.
///
/// # Safety
/// As for [`right`].
#[inline(always)]
unsafe fn pairs<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    strides: (usize, usize),
    cols: usize,
    dst: *mut f32,
) {
    let (k, width) = (layout.k, layout.words.next_multiple_of(LANES));
    let (mut lines, mut copy) = (Scratch::take(cols * width), Scratch::take(k));
    let (lines, copy) = (lines.as_mut_ptr(), copy.as_mut_ptr().cast::<T>());
    // SAFETY: a line has room for `width` pairs, of which at most one whole vector beyond k is written.
    unsafe {
        for j in 0..cols {
            let x = column(src, strides, k, j, copy);
            let line = lines.add(j * width).cast::<u16>();
            for l in (0..k).step_by(LANES) {
                s.store_bf16(line.add(l), T::load_part(s, x.add(l), k - l));
            }
        }
        rhs_panel(s, lines, (1, width), layout.words, cols, dst);
    }
}

/// Quantises columns group by group to unsigned bytes or half bytes, then packs words of them.
///
/// # Safety
/// As for [`right`].
#[inline(always)]
unsafe fn quantised<S: Simd>(
    s: S,
    layout: &Layout,
    src: *const f32,
    strides: (usize, usize),
    cols: usize,
    dst: *mut f32,
    scales: *mut f32,
) {
    let nibbles = matches!(layout.format, Format::Int4 { .. });
    let (k, width) = (layout.k, layout.words);
    let group = layout.group_words * layout.lhs * 4;
    let (mut lines, mut copy) = (Scratch::take(cols * width), Scratch::take(k));
    let (lines, copy) = (lines.as_mut_ptr(), copy.as_mut_ptr());
    let mut bytes = vec![0u8; k.next_multiple_of(8) + LANES];
    // SAFETY: lines hold `width` words each; the column has k values, and its groups lie in it.
    unsafe {
        std::slice::from_raw_parts_mut(scales, layout.groups * S::NR).fill(0.0);
        for j in 0..cols {
            let x = column(src, strides, k, j, copy);
            for g in 0..layout.groups {
                let (from, n) = (g * group, group.min(k - g * group));
                *scales.add(g * S::NR + j) = if nibbles {
                    let x = std::slice::from_raw_parts(x.add(from), n);
                    quantise::int4(x, &mut bytes[from..from + n])
                } else {
                    let out = bytes.as_mut_ptr().add(from).cast();
                    let scale = quantise::int8(s, x.add(from), n, out);
                    for byte in &mut bytes[from..from + n] {
                        *byte ^= S::ZERO;
                    }
                    scale
                };
            }
            // A packs zeros beyond k, so what B has there does not matter.
            let line = std::slice::from_raw_parts_mut(lines.add(j * width).cast::<u8>(), 4 * width);
            if nibbles {
                for (word, eight) in line.chunks_exact_mut(4).zip(bytes.chunks_exact(8)) {
                    for (i, byte) in word.iter_mut().enumerate() {
                        *byte = (eight[i] & 0xf) | eight[i + 4] << 4;
                    }
                }
            } else {
                line.copy_from_slice(&bytes[..4 * width]);
            }
        }
        rhs_panel(s, lines, (1, width), width, cols, dst);
    }
}
