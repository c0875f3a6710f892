//! Implicit matrix product: filters times the samples of the output columns.
//!
//! `Y[m, q] = Σ_{channel, tap} W[m, channel, tap] · X[channel, place of q under tap]` is a matrix
//! product whose right operand is never stored as a whole: a strip of columns is packed for one block of
//! channels at a time, into panels of the register tile, and stays in the second-level cache.

use super::planes::{Piece, Run, Sampling, Strip, copy, pieces, sum};
use super::weights::Panels;
use crate::gemm::micro::{Groups, Inner, Lhs, Tile};
use crate::gemm::pack::SLACK;
use crate::memory::{MutPtr, Ptr, Scratch};
use crate::simd::{Kernel, LANES, Simd, dispatch, tile_shape};
use crate::threads;

/// Most columns of a strip.
const STRIP: usize = 256;
/// Fewest columns and row tiles worth a task of their own.
const MIN_STRIP: usize = 64;
const MIN_TILES: usize = 4;

/// Where the grid's pixels stand in the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Height and width of the output.
    pub size: [usize; 2],
    /// Pixel of grid (0, 0).
    pub origin: [usize; 2],
    /// Distance of neighbours.
    pub step: [usize; 2],
}

impl Target {
    /// The grid is the output.
    pub fn whole(size: [usize; 2]) -> Self {
        Self {
            size,
            origin: [0, 0],
            step: [1, 1],
        }
    }
}

/// What is added to a correlation; a null pointer stands for nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    /// A value for each row of the filters, at which the sums begin.
    pub bias: *const f32,
    /// A value for each one of the output, added to the finished sum. Only where the grid is the output.
    pub onto: *const f32,
}

impl Added {
    pub const NONE: Self = Self {
        bias: std::ptr::null(),
        onto: std::ptr::null(),
    };
}

// SAFETY: the operations that make one keep the slices borrowed until all tasks have ended.
unsafe impl Send for Added {}
// SAFETY: as above; it is only read through.
unsafe impl Sync for Added {}

/// Overwrites the grid's pixels of `[batch, rows of the filters, size]` with the correlation and what is
/// added to it.
///
/// # Safety
/// `src` is `[batch, channels, source]`, `dst` reaches the whole output, `added` holds what its
/// fields say.
pub(super) unsafe fn correlate(
    batch: usize,
    sampling: &Sampling,
    filters: &Panels,
    target: Target,
    src: *const f32,
    added: Added,
    dst: *mut f32,
) {
    let (_, nr) = tile_shape(filters.isa);
    let columns = batch * sampling.pixels();
    if columns == 0 || filters.rows.tiles == 0 {
        return;
    }
    let rows = filters.rows.start(filters.rows.tiles);
    let inner = filters.channels * filters.taps;
    let work = 2usize
        .saturating_mul(columns)
        .saturating_mul(rows)
        .saturating_mul(inner.max(1));
    let panels = columns.div_ceil(nr);
    let (mut strips, mut parts) = (columns.div_ceil(STRIP), 1);
    if work >= threads::SMALL && threads::count() > 1 {
        // Several tasks a thread, so that a thread that is disturbed can be helped.
        while strips * parts < 4 * threads::count() {
            if columns / strips >= 2 * MIN_STRIP && strips < panels {
                strips += 1;
            } else if filters.rows.tiles / parts >= 2 * MIN_TILES {
                parts += 1;
            } else {
                break;
            }
        }
    }
    let (src, dst) = (Ptr(src), MutPtr(dst));
    threads::parallel(strips * parts, work, |task| {
        let (strip, part) = (task / parts, task % parts);
        let q0 = panels * strip / strips * nr;
        let q1 = (panels * (strip + 1) / strips * nr).min(columns);
        let tiles = filters.rows.tiles;
        let block = Block {
            sampling,
            filters,
            target,
            tiles: (tiles * part / parts, tiles * (part + 1) / parts),
            columns: (q0, q1),
            src: src.get(),
            added,
            dst: dst.get(),
        };
        dispatch(filters.isa, block);
    });
}

/// A strip of columns for some tiles of rows.
struct Block<'a> {
    sampling: &'a Sampling,
    filters: &'a Panels,
    target: Target,
    tiles: (usize, usize),
    columns: (usize, usize),
    src: *const f32,
    added: Added,
    dst: *mut f32,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (filters, sampling) = (self.filters, self.sampling);
        let (q0, q1) = self.columns;
        let (width, pixels) = (q1 - q0, sampling.pixels());
        let panels = width.div_ceil(S::NR);
        let strip = Strip::new(sampling, self.columns, S::NR);
        let plain = sampling.is_plain();
        let taps = sampling.tap_offsets();
        let (pieces, starts) = if plain {
            self.plain_pieces(S::NR)
        } else {
            pieces(&strip, S::NR)
        };
        let rows = |tile: usize| (filters.rows.start(tile), filters.rows.start(tile + 1));
        let (row0, row1) = (rows(self.tiles.0).0, rows(self.tiles.1 - 1).1);
        let all = filters.rows.start(filters.rows.tiles);
        // A panel inside one picture is written to where it belongs; others are gathered first.
        let whole = self.target.step == [1, 1] && sampling.grid == self.target.size;
        let place = |p: usize| {
            let (first, last) = (q0 + p * S::NR, (q0 + (p + 1) * S::NR).min(q1) - 1);
            let inside = whole && first / pixels == last / pixels;
            inside.then(|| first / pixels * all * pixels + first % pixels)
        };
        let loose = (0..panels).any(|p| place(p).is_none());

        let most = filters.block(0).1;
        let mut planes = Scratch::take(if plain { 0 } else { most * strip.plane } + SLACK);
        let mut packed = Scratch::take(most * taps.len() * panels * S::NR + SLACK);
        let mut sums = Scratch::take(if loose {
            panels * (row1 - row0) * S::NR
        } else {
            0
        });
        let planes = planes.as_mut_ptr();
        let (packed, sums) = (packed.as_mut_ptr(), sums.as_mut_ptr());

        let blocks = filters.blocks().max(1);
        for block in 0..blocks {
            let (c0, c1) = filters.block(block);
            let kc = (c1 - c0) * taps.len();
            // SAFETY: scratch has the sizes above; a copy of 16 values may run 15 past the plane or the
            // panel, into the next one or the slack. Tiles lie in this task's rows and columns.
            unsafe {
                let (base, plane) = if plain {
                    (self.src.add(c0 * pixels), pixels)
                } else {
                    for c in c0..c1 {
                        let dst = planes.add((c - c0) * strip.plane);
                        strip.fill(s, sampling, self.src, c, dst);
                    }
                    (planes.cast_const(), strip.plane)
                };
                for p in 0..panels {
                    let list = &pieces[starts[p]..starts[p + 1]];
                    let dst = packed.add(p * kc * S::NR);
                    pack(s, list, (base, plane, c1 - c0), &taps, dst);
                }
                for tile in self.tiles.0..self.tiles.1 {
                    let (r0, r1) = rows(tile);
                    for p in 0..panels {
                        let (c, ldc, cols) = match place(p) {
                            Some(at) => (
                                self.dst.add(at + r0 * pixels),
                                pixels,
                                S::NR.min(width - p * S::NR),
                            ),
                            None => {
                                let at = (p * (row1 - row0) + r0 - row0) * S::NR;
                                (sums.add(at), S::NR, S::NR)
                            }
                        };
                        if block == 0 && !self.added.bias.is_null() {
                            for r in r0..r1 {
                                let row = c.add((r - r0) * ldc);
                                let bias = s.splat(*self.added.bias.add(r));
                                for j in (0..cols).step_by(LANES) {
                                    s.store_part(row.add(j), cols - j, bias);
                                }
                            }
                        }
                        let tile = Tile {
                            kc,
                            a: filters.panel(block, tile),
                            b: packed.wrapping_add(p * kc * S::NR),
                            ldb: S::NR,
                            c,
                            ldc,
                            cols,
                            load_c: block > 0 || !self.added.bias.is_null(),
                            bias: std::ptr::null(),
                            groups: Groups::NONE,
                        };
                        s.micro(Inner::F32(Lhs::Panel), r1 - r0, &tile);
                        if let (Some(at), false) = (place(p), self.added.onto.is_null())
                            && block + 1 == blocks
                        {
                            for r in r0..r1 {
                                let (at, row) = (at + r * pixels, c.add((r - r0) * pixels));
                                sum(s, self.added.onto.add(at), row, row, cols);
                            }
                        }
                    }
                }
            }
        }
        for run in &strip.runs {
            let p = run.col / S::NR;
            if place(p).is_none() {
                for r in row0..row1 {
                    let from = (p * (row1 - row0) + r - row0) * S::NR + run.col % S::NR;
                    // SAFETY: the run lies in a row of the output that belongs to this task.
                    unsafe { self.scatter(s, run, r, all, sums.add(from)) }
                }
            }
        }
    }
}

impl Block<'_> {
    /// The copies for a source that is read as it lies.
    #[inline(always)]
    fn plain_pieces(&self, nr: usize) -> (Vec<Piece>, Vec<usize>) {
        let (pixels, channels) = (self.sampling.pixels(), self.sampling.channels);
        let (mut pieces, mut starts) = (Vec::new(), Vec::new());
        let (q0, q1) = self.columns;
        for q in (q0..q1).step_by(LANES) {
            if (q - q0).is_multiple_of(nr) {
                starts.push(pieces.len());
            }
            let src = q / pixels * channels * pixels + q % pixels;
            let dst = (q - q0) % nr;
            pieces.push(Piece { src, dst });
        }
        starts.push(pieces.len());
        (pieces, starts)
    }

    /// Writes one row of a run to the output.
    ///
    /// # Safety
    /// The row of the run is this task's; `from` holds the run.
    #[inline(always)]
    unsafe fn scatter<S: Simd>(&self, s: S, run: &Run, r: usize, all: usize, from: *const f32) {
        let Target { size, origin, step } = self.target;
        let y = origin[0] + run.at[0] * step[0];
        let x = origin[1] + run.at[1] * step[1];
        // SAFETY: the caller's promises.
        unsafe {
            let at = ((run.picture * all + r) * size[0] + y) * size[1] + x;
            let to = self.dst.add(at);
            if !self.added.onto.is_null() {
                sum(s, self.added.onto.add(at), from, to, run.len);
            } else if step[1] == 1 {
                copy(s, from, to, run.len);
            } else {
                for i in 0..run.len {
                    *to.add(i * step[1]) = *from.add(i);
                }
            }
        }
    }
}

/// Packs a panel `[channel, tap][NR]`.
///
/// # Safety
/// 16 values are readable at every piece of every tap and channel; `dst` is writable for the panel and 15
/// values more.
#[inline(always)]
unsafe fn pack<S: Simd>(
    s: S,
    pieces: &[Piece],
    (base, plane, channels): (*const f32, usize, usize),
    taps: &[usize],
    mut dst: *mut f32,
) {
    for c in 0..channels {
        for &tap in taps {
            // SAFETY: the caller's promises.
            unsafe {
                let from = base.add(c * plane + tap);
                if let [a, b] = pieces {
                    s.store(dst.add(a.dst), s.load(from.add(a.src)));
                    s.store(dst.add(b.dst), s.load(from.add(b.src)));
                } else {
                    for piece in pieces {
                        s.store(dst.add(piece.dst), s.load(from.add(piece.src)));
                    }
                }
                dst = dst.add(S::NR);
            }
        }
    }
}
