//! Copying words into panels: the order in which the register tile reads them.

use crate::simd::{LANES, Simd};

/// Packs `rows × kc` words at `src[i·rs + k·cs]` as `dst[k·rows + i]`, `rows` ≤ 16.
///
/// # Safety
/// The source is readable at those places; `dst` is writable for `rows·kc + SLACK` values.
#[inline(always)]
pub(crate) unsafe fn lhs_panel<S: Simd>(
    s: S,
    src: *const f32,
    (rs, cs): (usize, usize),
    rows: usize,
    kc: usize,
    dst: *mut f32,
) {
    debug_assert!(rows <= LANES);
    // SAFETY: reads stay at the promised places; a full-width store at k·rows ends before
    // rows·kc + 16, and the part beyond `rows` is overwritten by the next one.
    unsafe {
        if cs == 1 && rows > 1 {
            let mut k = 0;
            while k < kc {
                let w = (kc - k).min(LANES);
                let mut block = [s.splat(0.0); LANES];
                for (i, x) in block.iter_mut().enumerate().take(rows) {
                    let p = src.add(i * rs + k);
                    *x = if w == LANES {
                        s.load(p)
                    } else {
                        s.load_part(p, w, 0.0)
                    };
                }
                for (j, x) in s.transpose(block).into_iter().enumerate().take(w) {
                    s.store(dst.add((k + j) * rows), x);
                }
                k += LANES;
            }
        } else if cs == 1 {
            std::ptr::copy_nonoverlapping(src, dst, kc);
        } else if rs == 1 {
            for k in 0..kc {
                s.store(dst.add(k * rows), s.load_part(src.add(k * cs), rows, 0.0));
            }
        } else {
            for k in 0..kc {
                for i in 0..rows {
                    *dst.add(k * rows + i) = *src.add(i * rs + k * cs);
                }
            }
        }
    }
}

/// Packs `kc × cols` words at `src[k·rs + j·cs]` as `dst[k·NR + j]`; columns from `cols` to `NR`
/// become 0.
///
/// # Safety
/// The source is readable at those places; `dst` is writable for `kc·NR` values.
#[inline(always)]
pub(crate) unsafe fn rhs_panel<S: Simd>(
    s: S,
    src: *const f32,
    (rs, cs): (usize, usize),
    kc: usize,
    cols: usize,
    dst: *mut f32,
) {
    // SAFETY: reads stay at the promised places, writes inside kc·NR.
    unsafe {
        if cs == 1 {
            for k in 0..kc {
                for v in 0..S::NV {
                    let p = src.wrapping_add(k * rs + LANES * v);
                    let left = cols.saturating_sub(LANES * v);
                    let x = if left >= LANES {
                        s.load(p)
                    } else {
                        s.load_part(p, left, 0.0)
                    };
                    s.store(dst.add(k * S::NR + LANES * v), x);
                }
            }
        } else if rs == 1 {
            for v in 0..S::NV {
                let left = cols.saturating_sub(LANES * v).min(LANES);
                let mut k = 0;
                while k < kc {
                    let w = (kc - k).min(LANES);
                    let mut block = [s.splat(0.0); LANES];
                    for (j, x) in block.iter_mut().enumerate().take(left) {
                        let p = src.add((LANES * v + j) * cs + k);
                        *x = if w == LANES {
                            s.load(p)
                        } else {
                            s.load_part(p, w, 0.0)
                        };
                    }
                    for (j, x) in s.transpose(block).into_iter().enumerate().take(w) {
                        s.store(dst.add((k + j) * S::NR + LANES * v), x);
                    }
                    k += LANES;
                }
            }
        } else {
            for k in 0..kc {
                for j in 0..S::NR {
                    *dst.add(k * S::NR + j) = if j < cols {
                        *src.add(k * rs + j * cs)
                    } else {
                        0.0
                    };
                }
            }
        }
    }
}
