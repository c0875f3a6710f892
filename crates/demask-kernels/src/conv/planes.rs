//! Strips of output columns, and the zero-padded source rows that they read.
//!
//! Output pixels of all pictures are numbered through; a *strip* is a range of these columns. For a
//! channel the source rows under a strip are copied once with their zeros around them, columns
//! sorted by their remainder modulo the step: then every tap of every stretch of a row is a plain
//! load at a constant offset, with no border to think of. Rows and columns between two samples that no
//! tap reads are left out, so that a plane grows with the taps and the columns, whatever the step.

use crate::simd::{LANES, Simd};

/// A correlation: output (j, i) of the grid reads source (j·step + tap) for every tap.
#[derive(Clone, Debug)]
pub(super) struct Sampling {
    /// Channels that are summed over.
    pub channels: usize,
    /// Height and width of the source.
    pub source: [usize; 2],
    /// Height and width of the output grid.
    pub grid: [usize; 2],
    /// Source rows and columns between neighbours of the grid.
    pub step: [usize; 2],
    /// Lowest tap.
    pub low: [isize; 2],
    /// Taps, counted from the lowest.
    pub taps: Vec<[usize; 2]>,
}

impl Sampling {
    /// Pixels of the output grid.
    pub fn pixels(&self) -> usize {
        self.grid[0] * self.grid[1]
    }
    /// Largest tap.
    fn span(&self, axis: usize) -> usize {
        self.taps.iter().map(|t| t[axis]).max().unwrap_or(0)
    }
    /// Rows (or columns) of a padded plane between neighbours of the grid: those that a tap reads.
    fn pitch(&self, axis: usize) -> usize {
        self.step[axis].min(self.span(axis) + 1)
    }
    /// Values of a padded row for one remainder of the column.
    fn phase(&self) -> usize {
        self.grid[1] + self.span(1) / self.step[1]
    }
    /// Values of a padded row.
    fn row(&self) -> usize {
        self.phase() * self.pitch(1)
    }
    /// Where each tap lies in a padded plane.
    pub fn tap_offsets(&self) -> Vec<usize> {
        let (row, phase, step) = (self.row(), self.phase(), self.step[1]);
        let offset = |t: &[usize; 2]| t[0] * row + t[1] % step * phase + t[1] / step;
        self.taps.iter().map(offset).collect()
    }
    /// Whether the source itself can be read as a padded plane, in whole vectors.
    pub fn is_plain(&self) -> bool {
        self.taps == [[0, 0]]
            && self.low == [0, 0]
            && self.step == [1, 1]
            && self.grid == self.source
            && self.pixels().is_multiple_of(LANES)
    }
}

/// Neighbouring columns of a strip that lie in one row of one picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// First column, counted from the strip's.
    pub col: usize,
    pub len: usize,
    pub picture: usize,
    /// Row and column of the grid.
    pub at: [usize; 2],
    /// Offset in the padded plane (without a tap).
    pub src: usize,
}

/// Rows of one picture under a strip.
struct Segment {
    picture: usize,
    /// Source row of the first padded row.
    first: isize,
    rows: usize,
}

/// A range of output columns.
pub(super) struct Strip {
    pub runs: Vec<Run>,
    segments: Vec<Segment>,
    /// Values of the padded plane of one channel.
    pub plane: usize,
    /// Values of a padded row, and of one remainder of the column.
    row: usize,
    phase: usize,
    /// Rows and columns between neighbours of the grid that a tap reads.
    pitch: [usize; 2],
    /// Source columns under a row of the grid, up to the last one that is read.
    reach: usize,
}

impl Strip {
    /// Columns q0..q1 of all pictures; runs end at multiples of `cut` columns.
    pub fn new(sampling: &Sampling, (q0, q1): (usize, usize), cut: usize) -> Self {
        let ([_, gw], pixels, row) = (sampling.grid, sampling.pixels(), sampling.row());
        let (step, pitch) = (sampling.step, [sampling.pitch(0), sampling.pitch(1)]);
        let (mut runs, mut segments, mut plane) = (Vec::new(), Vec::new(), 0);
        let mut q = q0;
        while q < q1 {
            let picture = q / pixels;
            let end = q1.min((picture + 1) * pixels);
            let (j0, j1) = (q % pixels / gw, (end - 1) % pixels / gw);
            while q < end {
                let at = [q % pixels / gw, q % gw];
                let to_cut = cut - (q - q0) % cut;
                let len = (gw - at[1]).min(end - q).min(to_cut);
                runs.push(Run {
                    col: q - q0,
                    len,
                    picture,
                    at,
                    src: plane + (at[0] - j0) * pitch[0] * row + at[1],
                });
                q += len;
            }
            let rows = (j1 - j0) * pitch[0] + sampling.span(0) + 1;
            segments.push(Segment {
                picture,
                first: (j0 * step[0]) as isize + sampling.low[0],
                rows,
            });
            plane += rows * row;
        }
        Self {
            runs,
            segments,
            plane,
            row,
            phase: sampling.phase(),
            pitch,
            reach: (gw - 1) * step[1] + sampling.span(1) + 1,
        }
    }

    /// Writes the padded plane of a channel.
    ///
    /// # Safety
    /// `src` is the whole source, `dst` is writable for `plane` values.
    #[inline(always)]
    pub unsafe fn fill<S: Simd>(
        &self,
        s: S,
        sampling: &Sampling,
        src: *const f32,
        channel: usize,
        mut dst: *mut f32,
    ) {
        let ([h, w], [down, step]) = (sampling.source, sampling.step);
        let Self {
            row,
            phase,
            pitch: [lines, pitch],
            reach,
            ..
        } = *self;
        // Source columns x0..x0 + count stand at left.. of the padded row.
        let x0 = sampling.low[1].max(0) as usize;
        let left = ((-sampling.low[1]).max(0) as usize).min(reach);
        let count = w.saturating_sub(x0).min(reach - left);
        // SAFETY: all writes lie in the row that begins at dst; reads in the source row.
        unsafe {
            for segment in &self.segments {
                let plane = src.add((segment.picture * sampling.channels + channel) * h * w);
                let (mut next, mut line) = (segment.first, 0);
                for _ in 0..segment.rows {
                    if line == lines {
                        (next, line) = (next + (down - lines) as isize, 0);
                    }
                    let y = next;
                    (next, line) = (next + 1, line + 1);
                    if y < 0 || y >= h as isize || count == 0 {
                        zero(s, dst, row);
                    } else {
                        let from = plane.add(y as usize * w + x0);
                        if step == 1 {
                            zero(s, dst, left);
                            copy(s, from, dst.add(left), count);
                            zero(s, dst.add(left + count), row - left - count);
                        } else {
                            zero(s, dst, row);
                            split(s, from, count, left, dst, (step, phase, pitch));
                        }
                    }
                    dst = dst.add(row);
                }
            }
        }
    }
}

/// A copy into a packed panel: 16 values from `src` of a padded plane to column `dst` of the panel.
/// Stores overlap, so they must be made in order.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub src: usize,
    pub dst: usize,
}

/// The copies for panels of `nr` columns (a strip cut there), and where the list of each panel begins.
pub(super) fn pieces(strip: &Strip, nr: usize) -> (Vec<Piece>, Vec<usize>) {
    let (mut pieces, mut starts) = (Vec::new(), vec![0]);
    for run in &strip.runs {
        if run.col > 0 && run.col.is_multiple_of(nr) {
            starts.push(pieces.len());
        }
        for i in (0..run.len).step_by(LANES) {
            let (src, dst) = (run.src + i, run.col % nr + i);
            pieces.push(Piece { src, dst });
        }
    }
    starts.push(pieces.len());
    (pieces, starts)
}

/// Sorts `count` values, which stand at `left`.. of a row, by the remainder of their place modulo `step`; those with a
/// remainder of `pitch` or more are left out.
///
/// # Safety
/// `src` holds `count` values, `dst` `pitch · phase`, of which these are a part.
#[inline(always)]
unsafe fn split<S: Simd>(
    s: S,
    src: *const f32,
    count: usize,
    left: usize,
    dst: *mut f32,
    (step, phase, pitch): (usize, usize, usize),
) {
    // SAFETY: the caller's promises.
    unsafe {
        if step == 2 {
            // Where the first value and the second one go; the others follow in turn.
            let place = |x: usize| dst.wrapping_add(x % 2 * phase + x / 2);
            let (keep_first, keep_second) = (left % 2 < pitch, (left + 1) % 2 < pitch);
            let (first, second) = (place(left), place(left + 1));
            let (firsts, seconds) = (count.div_ceil(2), count / 2);
            for i in (0..firsts).step_by(LANES) {
                let (a, b) = if count - 2 * i >= 2 * LANES {
                    (s.load(src.add(2 * i)), s.load(src.add(2 * i + LANES)))
                } else {
                    let rest = count - 2 * i;
                    let after = src.wrapping_add(2 * i + LANES);
                    (
                        s.load_part(src.add(2 * i), rest, 0.0),
                        s.load_part(after, rest.saturating_sub(LANES), 0.0),
                    )
                };
                let (even, odd) = s.unzip(a, b);
                if keep_first {
                    s.store_part(first.add(i), firsts - i, even);
                }
                if keep_second && seconds > i {
                    s.store_part(second.add(i), seconds - i, odd);
                }
            }
        } else {
            let (mut remainder, mut at) = (left % step, left / step);
            for i in 0..count {
                if remainder < pitch {
                    *dst.add(remainder * phase + at) = *src.add(i);
                }
                remainder += 1;
                if remainder == step {
                    (remainder, at) = (0, at + 1);
                }
            }
        }
    }
}

/// # Safety
/// `dst` holds `n` values.
#[inline(always)]
pub(super) unsafe fn zero<S: Simd>(s: S, dst: *mut f32, n: usize) {
    for i in (0..n).step_by(LANES) {
        // SAFETY: n − i values are left.
        unsafe { s.store_part(dst.add(i), n - i, s.splat(0.0)) }
    }
}

/// # Safety
/// Both hold `n` values and do not overlap.
#[inline(always)]
pub(super) unsafe fn copy<S: Simd>(s: S, src: *const f32, dst: *mut f32, n: usize) {
    for i in (0..n).step_by(LANES) {
        // SAFETY: n − i values are left.
        unsafe {
            if n - i >= LANES {
                s.store(dst.add(i), s.load(src.add(i)));
            } else {
                s.store_part(dst.add(i), n - i, s.load_part(src.add(i), n - i, 0.0));
            }
        }
    }
}

/// `dst ← a + b`.
///
/// # Safety
/// All hold `n` values; `dst` may be one of the others.
#[inline(always)]
pub(super) unsafe fn sum<S: Simd>(s: S, a: *const f32, b: *const f32, dst: *mut f32, n: usize) {
    for i in (0..n).step_by(LANES) {
        // SAFETY: n − i values are left.
        unsafe {
            let (a, b) = (
                s.load_part(a.add(i), n - i, 0.0),
                s.load_part(b.add(i), n - i, 0.0),
            );
            s.store_part(dst.add(i), n - i, s.add(a, b));
        }
    }
}
