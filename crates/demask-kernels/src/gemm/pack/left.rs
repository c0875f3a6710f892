//! A tile of rows of A, rounded to the format.

use super::words::lhs_panel;
use super::{SLACK, floats, quantise};
use crate::Precision;
use crate::element::Element;
use crate::gemm::format::{Format, Layout};
use crate::memory::Scratch;
use crate::simd::{LANES, Simd};

/// Packs `rows` ≤ 16 whole rows at `src[i·rs + k·cs]` as a panel `[words][rows]`, followed in the integer
/// formats by the scales `[groups][rows]` and the beginnings of the sums `[groups][rows]`.
///
/// # Safety
/// The source is readable at those places; `dst` is writable for `rows · layout.lhs_row() + SLACK` words.
#[inline(always)]
pub(crate) unsafe fn left<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    (rs, cs): (usize, usize),
    rows: usize,
    dst: *mut f32,
) {
    // SAFETY: the caller's promises, handed on.
    unsafe {
        let zero = match layout.format {
            Format::Bf16 if cs == 1 => return pairs(s, layout, src, rs, rows, dst),
            Format::Bf16 => return joined(s, layout, src, (rs, cs), rows, dst),
            Format::F32 => None,
            Format::Int8 { .. } => Some(i32::from(S::ZERO)),
            Format::Int4 { .. } => Some(8),
        };
        match zero {
            None => {
                let (src, strides, _held) = floats(src, (rs, cs), (rows, layout.k));
                lhs_panel(s, src, strides, rows, layout.k, dst);
            }
            Some(zero) => quantised(s, layout, src, (rs, cs), rows, dst, zero),
        }
    }
}

/// Rounds contiguous rows to bf16, then packs pairs.
///
/// # Safety
/// As for [`left`], with steps that are neighbours.
#[inline(always)]
unsafe fn pairs<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    rs: usize,
    rows: usize,
    dst: *mut f32,
) {
    let (k, width) = (layout.k, layout.words.next_multiple_of(LANES));
    let mut line = Scratch::take(rows * width);
    let line = line.as_mut_ptr();
    // SAFETY: a line has room for `width` pairs, of which at most one whole vector beyond k is written.
    unsafe {
        for i in 0..rows {
            let (src, line) = (src.add(i * rs), line.add(i * width).cast::<u16>());
            for j in (0..k).step_by(LANES) {
                let v = T::load_part(s, src.add(j), k - j);
                s.store_bf16(line.add(j), v);
            }
        }
        lhs_panel(s, line, (width, 1), rows, layout.words, dst);
    }
}

/// Packs pairs of steps that are not neighbours: whole vectors of rows where rows are.
///
/// # Safety
/// As for [`left`].
#[inline(always)]
unsafe fn joined<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    (rs, cs): (usize, usize),
    rows: usize,
    dst: *mut f32,
) {
    // SAFETY: step k of each row is readable; a full-width store ends before the slack does.
    unsafe {
        let from = (src, (rs, cs), rows);
        for w in 0..layout.words {
            let (low, high) = (2 * w, 2 * w + 1);
            let pair = s.join_bf16(step(s, layout.k, from, low), step(s, layout.k, from, high));
            s.store(dst.add(w * rows), pair);
        }
    }
    const { assert!(SLACK >= LANES) };
}

/// Step `k` of at most 16 rows; 0 from step `end` on. A function, as a closure that is not compiled into its caller would
/// be compiled without the caller's instruction set.
///
/// # Safety
/// Steps below `end` of each row are readable.
#[inline(always)]
pub(super) unsafe fn step<S: Simd, T: Element>(
    s: S,
    end: usize,
    (src, (rs, cs), rows): (*const T, (usize, usize), usize),
    k: usize,
) -> S::V {
    if k >= end {
        return s.splat(0.0);
    }
    let p = src.wrapping_add(k * cs);
    // SAFETY: the caller's promises.
    unsafe {
        if rs == 1 && rows == LANES {
            return T::load(s, p);
        }
        if rs == 1 {
            return T::load_part(s, p, rows);
        }
        let mut lanes = [0.0; LANES];
        for (i, lane) in lanes.iter_mut().enumerate().take(rows) {
            *lane = (*p.add(i * rs)).into();
        }
        s.load(lanes.as_ptr())
    }
}

/// Quantises rows group by group to signed bytes, then packs fours.
///
/// # Safety
/// As for [`left`].
#[inline(always)]
unsafe fn quantised<S: Simd, T: Element>(
    s: S,
    layout: &Layout,
    src: *const T,
    (rs, cs): (usize, usize),
    rows: usize,
    dst: *mut f32,
    zero: i32,
) {
    let words = layout.words * layout.lhs;
    let width = words.next_multiple_of(LANES) + LANES;
    let mut lines = Scratch::take(rows * width);
    let bytes = lines.as_mut_ptr();
    // Scales and beginnings follow the panel, whose whole-vector stores reach past its end: they are
    // copied there last.
    let tail = 2 * layout.groups * rows;
    let mut scales = Scratch::take(tail);
    let scales = scales.as_mut_ptr();
    // SAFETY: the lines and the tail are as long as above.
    unsafe {
        let mut quantiser = RowQuantiser::new(layout, zero);
        for i in 0..rows {
            let line = bytes.add(i * width).cast::<i8>();
            quantiser.row(s, src.add(i * rs), cs, line, scales.add(i), rows);
        }
        lhs_panel(s, bytes, (width, 1), rows, words, dst);
        std::ptr::copy_nonoverlapping(scales, dst.add(words * rows), tail);
    }
}

/// Quantises rows of A to signed bytes, group by group. A sum begins at `−zero · Σ qa`, which takes the zero
/// of B, `zero`, out of it.
pub(super) struct RowQuantiser<'a> {
    layout: &'a Layout,
    zero: i32,
    /// A group, padded with zeros to whole vectors.
    one: Scratch,
    /// A row as f32, where it does not lie as such.
    gathered: Scratch,
}

impl<'a> RowQuantiser<'a> {
    pub fn new(layout: &'a Layout, zero: i32) -> Self {
        let group = layout.group_words * layout.lhs * 4;
        Self {
            layout,
            zero,
            one: Scratch::take(group.min(layout.k) / 4 + 2 * LANES),
            gathered: Scratch::take(0),
        }
    }

    /// The row at `row[k·cs]`, copied.
    ///
    /// # Safety
    /// The row is readable.
    #[inline(always)]
    unsafe fn gathered<S: Simd, T: Element>(
        &mut self,
        s: S,
        row: *const T,
        cs: usize,
    ) -> *const f32 {
        let k = self.layout.k;
        if self.gathered.len() < k.next_multiple_of(LANES) {
            self.gathered = Scratch::take(k.next_multiple_of(LANES));
        }
        let to = self.gathered.as_mut_ptr();
        // SAFETY: the caller's promise; the copy has room for whole vectors.
        unsafe {
            if cs == 1 {
                for i in (0..k).step_by(LANES) {
                    s.store(to.add(i), T::load_part(s, row.add(i), k - i));
                }
            } else {
                for i in 0..k {
                    *to.add(i) = (*row.add(i * cs)).into();
                }
            }
        }
        to
    }

    /// The row at `row[k·cs]` into `line`; what is beyond k in its last words becomes 0. The scale of group g goes to
    /// `scales[g·rows]`, the beginning of its sum to `scales[(groups + g)·rows]`.
    ///
    /// # Safety
    /// The row is readable; `line` is writable for `words · lhs` words and `scales` at those places.
    #[inline(always)]
    pub unsafe fn row<S: Simd, T: Element>(
        &mut self,
        s: S,
        row: *const T,
        cs: usize,
        line: *mut i8,
        scales: *mut f32,
        rows: usize,
    ) {
        let layout = self.layout;
        let group = layout.group_words * layout.lhs * 4;
        let one = self.one.as_mut_ptr().cast::<i8>();
        // SAFETY: the caller's promises; a group padded to whole vectors fits in `one`.
        unsafe {
            let row = match (T::PRECISION, cs) {
                (Precision::F32, 1) => row.cast::<f32>(),
                _ => self.gathered(s, row, cs),
            };
            // What is beyond k in the last words multiplies to 0.
            line.add(4 * (layout.words - 1) * layout.lhs)
                .write_bytes(0, 4 * layout.lhs);
            for g in 0..layout.groups {
                let n = group.min(layout.k - g * group);
                let (whole, padded) = (n - n % LANES, n.next_multiple_of(4 * LANES));
                let (from, to) = (row.add(g * group), line.add(g * group));
                // What is not whole vectors is longer than its place.
                let bytes = if n == padded { to } else { one };
                if n != padded {
                    one.add(whole).write_bytes(0, padded - whole);
                }
                let scale = quantise::int8(s, from, n, bytes);
                let sum = match self.zero {
                    0 => 0,
                    _ => quantise::sum(s, bytes, padded),
                };
                if n != padded {
                    std::ptr::copy_nonoverlapping(one, to, n);
                }
                *scales.add(g * rows) = scale;
                *scales.add((layout.groups + g) * rows) =
                    f32::from_bits(self.zero.wrapping_mul(sum).wrapping_neg() as u32);
            }
        }
    }
}
