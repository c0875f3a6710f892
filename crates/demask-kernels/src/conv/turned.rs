//! Pictures with the channel as the last dimension.

use super::planes::zero;
use crate::simd::{LANES, Simd};

/// Some channels of pictures as `[row][column][channel]`, with zeros around.
pub(super) struct Turned {
    /// Height and width of the source.
    pub source: [usize; 2],
    /// Channels of the source.
    pub channels: usize,
    /// First and end channel of the part.
    pub part: (usize, usize),
    /// Columns of a turned row, zeros included.
    pub columns: usize,
    /// Columns of zeros before the first.
    pub before: usize,
    /// Rows and columns of the padded source from one sample to the next.
    pub step: [usize; 2],
    /// How many of them are turned; the others, which no tap reads, are left out.
    pub pitch: [usize; 2],
}

impl Turned {
    /// Values of a turned row.
    pub fn line(&self) -> usize {
        self.columns * (self.part.1 - self.part.0)
    }

    /// Turns `lines` rows of a picture, from source row `y0` on, without those that are left out.
    ///
    /// # Safety
    /// `x` holds the pictures; `dst` holds the lines and 15 values more.
    #[inline(always)]
    pub unsafe fn fill<S: Simd>(
        &self,
        s: S,
        x: *const f32,
        picture: usize,
        (y0, lines): (isize, usize),
        mut dst: *mut f32,
    ) {
        let [h, w] = self.source;
        let (c0, c1) = self.part;
        let depth = c1 - c0;
        let ([down, across], [rows, columns]) = (self.step, self.pitch);
        // Neighbouring columns: all of them, or those of one step.
        let (runs, columns) = if columns == across {
            (1, self.columns)
        } else {
            (self.columns / columns, columns)
        };
        // SAFETY: writes rise through a line and stay in it; reads lie in rows of x.
        unsafe {
            let top = x.add((picture * self.channels + c0) * h * w);
            let (mut next, mut row) = (y0, 0);
            for _ in 0..lines {
                if row == rows {
                    (next, row) = (next + (down - rows) as isize, 0);
                }
                let y = next;
                (next, row) = (next + 1, row + 1);
                if y < 0 || y >= h as isize {
                    zero(s, dst, self.line());
                    dst = dst.add(self.line());
                    continue;
                }
                for run in 0..runs {
                    let x0 = run * across;
                    let before = self.before.saturating_sub(x0).min(columns);
                    let x0 = x0.saturating_sub(self.before);
                    let count = w.saturating_sub(x0).min(columns - before);
                    let after = columns - before - count;
                    zero(s, dst, before * depth);
                    let line = dst.add(before * depth);
                    let from = top.wrapping_add(y as usize * w + x0);
                    turn(s, from, h * w, count, depth, line);
                    zero(s, line.add(count * depth), after * depth);
                    dst = dst.add(columns * depth);
                }
            }
        }
    }
}

/// Turns `count` pixels of `depth` planes to `[pixel][plane]`.
///
/// # Safety
/// The pixels are readable, `dst` is writable for all of them.
#[inline(always)]
unsafe fn turn<S: Simd>(
    s: S,
    src: *const f32,
    plane: usize,
    count: usize,
    depth: usize,
    dst: *mut f32,
) {
    for x in (0..count).step_by(LANES) {
        let width = (count - x).min(LANES);
        for v in (0..depth).step_by(LANES) {
            let lanes = (depth - v).min(LANES);
            let mut grid = [s.splat(0.0); LANES];
            // SAFETY: the caller's promises.
            unsafe {
                for (i, row) in grid.iter_mut().enumerate().take(lanes) {
                    let p = src.add((v + i) * plane + x);
                    *row = if width == LANES {
                        s.load(p)
                    } else {
                        s.load_part(p, width, 0.0)
                    };
                }
                for (i, pixel) in s.transpose(grid).into_iter().enumerate().take(width) {
                    let p = dst.add((x + i) * depth + v);
                    if lanes == LANES {
                        s.store(p, pixel);
                    } else {
                        s.store_part(p, lanes, pixel);
                    }
                }
            }
        }
    }
}
