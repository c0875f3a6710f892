//! 3×3 filters at stride 1 with 16 multiplications for four outputs instead of 36: F(2×2, 3×3) of
//! Lavin & Gray, 2016 (after Winograd, 1980).
//!
//! A tile of 2×2 outputs reads 4×4 samples. Samples and filters are transformed (`V = BᵀdB`,
//! `U = GgGᵀ`), each of the 16 positions is a matrix product over channels, and the tile is `AᵀMA`.
//! A strip of tiles goes through all three steps while it is in the second-level cache.
//!
//! The transforms add and subtract, so they cost little accuracy: with values uniform in −1..1 the root
//! mean square error is 2.6e-7 of the root mean square value at 64 channels and 4.9e-7 at 256 (a direct
//! product in f32: 2.1e-7 and 2.2e-7), for gradients of filters 3.5e-7 (3.9e-7). Tiles of 4×4 outputs
//! would save more and lose a digit.
// Columns of small matrices are taken by index.
#![allow(clippy::needless_range_loop)]

use super::direct::Added;
use super::planes::{Run, Sampling, Strip, copy, pieces, sum};
use super::weights::FilterView;
use crate::gemm::micro::{Groups, Inner, Lhs, Tile};
use crate::gemm::pack::{self, Rows, SLACK};
use crate::memory::{MutPtr, Ptr, Scratch};
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch, tile_shape};
use crate::threads;

/// Positions of a transformed tile.
pub(super) const POSITIONS: usize = 16;
/// Most values of a strip's transformed samples (512 KiB of second-level cache).
const STRIP: usize = 1 << 17;
/// Values between two panels of samples: panels are often a multiple of a cache's page long, and the 16
/// values of a tile would then all fall into one set of the cache.
pub(super) const GAP: usize = LANES;
/// Fewest row tiles worth a task of their own.
const MIN_TILES: usize = 4;
/// Fewest channels and filters for which the transforms are worth it.
const MIN_CHANNELS: usize = 16;

/// Whether a correlation goes this way: a matter of the filters alone, so never of the batch.
pub(super) fn fits(kernel: [usize; 2], step: [usize; 2], channels: usize, rows: usize) -> bool {
    kernel == [3, 3] && step == [1, 1] && channels >= MIN_CHANNELS && rows >= MIN_CHANNELS
}

/// Transformed filters, `[panel][position][channel][row]`, each panel and position with a slack.
pub(super) struct Transformed {
    data: Scratch,
    rows: Rows,
    channels: usize,
    isa: Isa,
}

impl Transformed {
    /// `offsets[t]` is where tap t of the view stands in the 3×3 window; `take` gives the memory, as in
    /// [`super::weights::Panels::pack`].
    pub fn pack(
        isa: Isa,
        view: FilterView<'_>,
        offsets: &[[usize; 2]],
        take: fn(usize) -> Scratch,
    ) -> Self {
        let rows = Rows::new(view.rows, tile_shape(isa).0);
        let mut order = [0; 9];
        for (&place, offset) in view.taps.iter().zip(offsets) {
            order[offset[0] * 3 + offset[1]] = place;
        }
        let values = view.rows * view.channels * POSITIONS;
        let mut this = Self {
            data: take(values + rows.tiles * POSITIONS * SLACK),
            rows,
            channels: view.channels,
            isa,
        };
        let dst = MutPtr(this.data.as_mut_ptr());
        threads::parallel(rows.tiles, values * 16, |tile| {
            let work = TransformFilters {
                view: &view,
                order,
                rows: (rows.start(tile), rows.start(tile + 1)),
                // Panels have their own places, so tasks never share memory.
                dst: dst.get().wrapping_add(this.offset(tile, 0)),
            };
            dispatch(isa, work);
        });
        this
    }

    fn offset(&self, tile: usize, position: usize) -> usize {
        let (r0, r1) = (self.rows.start(tile), self.rows.start(tile + 1));
        let before = POSITIONS * (r0 * self.channels + tile * SLACK);
        before + position * ((r1 - r0) * self.channels + SLACK)
    }

    /// The panel of a position, `[channel][row]`.
    fn panel(&self, tile: usize, position: usize) -> *const f32 {
        self.data.as_ptr().wrapping_add(self.offset(tile, position))
    }

    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }
}

struct TransformFilters<'a> {
    view: &'a FilterView<'a>,
    order: [usize; 9],
    rows: (usize, usize),
    dst: *mut f32,
}

impl Kernel for TransformFilters<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (view, (r0, r1)) = (self.view, self.rows);
        let n = r1 - r0;
        let mut turned = Scratch::take(9 * n + SLACK);
        let turned = turned.as_mut_ptr();
        for c in 0..view.channels {
            let from = &view.data[r0 * view.row_stride + c * view.channel_stride..];
            // SAFETY: the nine taps of each row lie next to each other; `turned` holds them and a slack;
            // a store runs at most 15 past a position's panel, into its slack.
            unsafe {
                pack::lhs_panel(s, from.as_ptr(), (view.row_stride, 1), n, 9, turned);
                let g = |t: usize| s.load(turned.add(self.order[t] * n));
                // Down, then across. (Arrays are written out here and below: what `array::from_fn` calls
                // is not always compiled for the instruction set.)
                let half = [
                    filter(s, [g(0), g(3), g(6)]),
                    filter(s, [g(1), g(4), g(7)]),
                    filter(s, [g(2), g(5), g(8)]),
                ];
                for a in 0..4 {
                    let row = filter(s, [half[0][a], half[1][a], half[2][a]]);
                    for (b, u) in row.into_iter().enumerate() {
                        let panel = (4 * a + b) * (n * view.channels + SLACK);
                        s.store(self.dst.add(panel + c * n), u);
                    }
                }
            }
        }
    }
}

/// `G g`.
#[inline(always)]
fn filter<S: Simd>(s: S, g: [S::V; 3]) -> [S::V; 4] {
    let half = s.splat(0.5);
    let (ends, middle) = (s.mul(half, s.add(g[0], g[2])), s.mul(half, g[1]));
    [g[0], s.add(ends, middle), s.sub(ends, middle), g[2]]
}

/// `Bᵀ d`.
#[inline(always)]
pub(super) fn sample<S: Simd>(s: S, d: [S::V; 4]) -> [S::V; 4] {
    [
        s.sub(d[0], d[2]),
        s.add(d[1], d[2]),
        s.sub(d[2], d[1]),
        s.sub(d[1], d[3]),
    ]
}

/// `Aᵀ m`.
#[inline(always)]
fn gather<S: Simd>(s: S, m: [S::V; 4]) -> [S::V; 2] {
    [
        s.add(s.add(m[0], m[1]), m[2]),
        s.sub(s.sub(m[1], m[2]), m[3]),
    ]
}

/// As [`super::direct::correlate`], for a whole output and the window 3×3 that begins at
/// `sampling.low`.
///
/// # Safety
/// As for [`super::direct::correlate`].
pub(super) unsafe fn correlate(
    batch: usize,
    sampling: &Sampling,
    filters: &Transformed,
    src: *const f32,
    added: Added,
    dst: *mut f32,
) {
    let (_, nr) = tile_shape(filters.isa);
    let tiled = Sampling {
        grid: sampling.grid.map(|n| n.div_ceil(2)),
        step: [2, 2],
        taps: (0..POSITIONS).map(|t| [t / 4, t % 4]).collect(),
        ..sampling.clone()
    };
    let columns = batch * tiled.pixels();
    let (row_tiles, channels) = (filters.rows.tiles, filters.channels);
    if columns == 0 || row_tiles == 0 {
        return;
    }
    let work = (2 * POSITIONS)
        .saturating_mul(columns)
        .saturating_mul(filters.rows.start(row_tiles))
        .saturating_mul(channels);
    let panels = columns.div_ceil(nr);
    let most = (STRIP / (POSITIONS * channels * nr)).max(1);
    let (mut strips, mut parts) = (panels.div_ceil(most), 1);
    if work >= threads::SMALL && threads::count() > 1 {
        while strips * parts < 4 * threads::count() {
            if strips < panels {
                strips += 1;
            } else if row_tiles / parts >= 2 * MIN_TILES {
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
        let block = Block {
            tiled: &tiled,
            size: sampling.grid,
            filters,
            tiles: (row_tiles * part / parts, row_tiles * (part + 1) / parts),
            columns: (q0, q1),
            src: src.get(),
            added,
            dst: dst.get(),
        };
        dispatch(filters.isa, block);
    });
}

/// A strip of 2×2 tiles for some tiles of rows.
struct Block<'a> {
    /// The samples of the tiles.
    tiled: &'a Sampling,
    /// Height and width of the output.
    size: [usize; 2],
    filters: &'a Transformed,
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
        let filters = self.filters;
        let channels = filters.channels;
        let panels = (self.columns.1 - self.columns.0).div_ceil(S::NR);
        let strip = Strip::new(self.tiled, self.columns, S::NR);
        let mut samples = Scratch::take(POSITIONS * panels * (channels * S::NR + GAP));
        let mut products = Scratch::take(POSITIONS * panels * S::MR * S::NR);
        let (samples, products) = (samples.as_mut_ptr(), products.as_mut_ptr());
        // SAFETY: scratch has the sizes above; results lie in this task's rows and columns.
        unsafe {
            self.transform(s, &strip, samples);
            for tile in self.tiles.0..self.tiles.1 {
                let (r0, r1) = (filters.rows.start(tile), filters.rows.start(tile + 1));
                for position in 0..POSITIONS {
                    for p in 0..panels {
                        let place = position * panels + p;
                        let tile = Tile {
                            kc: channels,
                            a: filters.panel(tile, position),
                            b: samples.add(place * (channels * S::NR + GAP)),
                            ldb: S::NR,
                            c: products.add(place * S::MR * S::NR),
                            ldc: S::NR,
                            cols: S::NR,
                            load_c: false,
                            bias: std::ptr::null(),
                            groups: Groups::NONE,
                        };
                        s.micro(Inner::F32(Lhs::Panel), r1 - r0, &tile);
                    }
                }
                let mut rest = &strip.runs[..];
                for p in 0..panels {
                    let end = rest.partition_point(|run| run.col < (p + 1) * S::NR);
                    let (runs, after) = rest.split_at(end);
                    rest = after;
                    for r in r0..r1 {
                        let from = products.add((p * S::MR + r - r0) * S::NR);
                        self.finish(s, runs, r, from, panels * S::MR * S::NR);
                    }
                }
            }
        }
    }
}

impl Block<'_> {
    /// Transforms all samples of the strip to `[position][panel][channel][NR]`, panels `GAP` apart.
    ///
    /// # Safety
    /// `samples` has that size.
    #[inline(always)]
    unsafe fn transform<S: Simd>(&self, s: S, strip: &Strip, samples: *mut f32) {
        let (tiled, channels) = (self.tiled, self.filters.channels);
        let panels = (self.columns.1 - self.columns.0).div_ceil(S::NR);
        let taps = tiled.tap_offsets();
        let (pieces, starts) = pieces(strip, S::NR);
        let mut plane = Scratch::take(strip.plane + SLACK);
        let mut stage = Scratch::take(POSITIONS * S::NR + SLACK);
        let (plane, stage) = (plane.as_mut_ptr(), stage.as_mut_ptr());
        for c in 0..channels {
            // SAFETY: scratch has the sizes above; a copy of 16 values may run 15 past its end.
            unsafe {
                strip.fill(s, tiled, self.src, c, plane);
                for p in 0..panels {
                    let list = &pieces[starts[p]..starts[p + 1]];
                    let whole = list.len() == S::NV && list.iter().all(|x| x.dst % LANES == 0);
                    if !whole {
                        for (t, &tap) in taps.iter().enumerate() {
                            for piece in list {
                                let x = s.load(plane.add(tap + piece.src));
                                s.store(stage.add(t * S::NR + piece.dst), x);
                            }
                        }
                    }
                    for v in 0..S::NV {
                        let load = |t: usize| {
                            if whole {
                                s.load(plane.add(taps[t] + list[v].src))
                            } else {
                                s.load(stage.add(t * S::NR + v * LANES))
                            }
                        };
                        let mut half = [[s.splat(0.0); 4]; 4];
                        for (a, half) in half.iter_mut().enumerate() {
                            let t = 4 * a;
                            *half = sample(s, [load(t), load(t + 1), load(t + 2), load(t + 3)]);
                        }
                        for b in 0..4 {
                            let column =
                                sample(s, [half[0][b], half[1][b], half[2][b], half[3][b]]);
                            for (a, x) in column.into_iter().enumerate() {
                                let place = (4 * a + b) * panels + p;
                                let at = place * (channels * S::NR + GAP) + c * S::NR;
                                s.store(samples.add(at + v * LANES), x);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Transforms one row of a panel of products back and writes it; positions are `stride` apart.
    ///
    /// # Safety
    /// The products are there; the runs of this row belong to this task.
    #[inline(always)]
    unsafe fn finish<S: Simd>(
        &self,
        s: S,
        runs: &[Run],
        r: usize,
        from: *const f32,
        stride: usize,
    ) {
        let [h, w] = self.size;
        let mut out = [[0.0f32; 4 * LANES]; 2];
        // SAFETY: NR ≤ 32, so both rows of outputs fit; writes end with the rows of the output.
        unsafe {
            let bias = if self.added.bias.is_null() {
                s.splat(0.0)
            } else {
                s.splat(*self.added.bias.add(r))
            };
            for v in 0..S::NV {
                let mut half = [[s.splat(0.0); 2]; 4];
                for (a, half) in half.iter_mut().enumerate() {
                    let load = |b| s.load(from.add((4 * a + b) * stride + v * LANES));
                    *half = gather(s, [load(0), load(1), load(2), load(3)]);
                }
                let left = gather(s, [half[0][0], half[1][0], half[2][0], half[3][0]]);
                let right = gather(s, [half[0][1], half[1][1], half[2][1], half[3][1]]);
                for (y, out) in out.iter_mut().enumerate() {
                    let (low, high) = s.zip(s.add(left[y], bias), s.add(right[y], bias));
                    s.store(out.as_mut_ptr().add(2 * LANES * v), low);
                    s.store(out.as_mut_ptr().add(2 * LANES * v + LANES), high);
                }
            }
            let all = self.filters.rows.start(self.filters.rows.tiles);
            for run in runs {
                let (y, x) = (2 * run.at[0], 2 * run.at[1]);
                let at = ((run.picture * all + r) * h + y) * w + x;
                let (from, len) = (2 * (run.col % S::NR), (2 * run.len).min(w - x));
                for (line, out) in out.iter().enumerate().take(h - y) {
                    let (from, at) = (out.as_ptr().add(from), at + line * w);
                    if self.added.onto.is_null() {
                        copy(s, from, self.dst.add(at), len);
                    } else {
                        sum(s, self.added.onto.add(at), from, self.dst.add(at), len);
                    }
                }
            }
        }
    }
}
