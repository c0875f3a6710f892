//! Filters packed into panels of the left operand.

use crate::gemm::pack::{self, Rows, SLACK};
use crate::memory::{MutPtr, Scratch};
use crate::simd::{Isa, Kernel, Simd, dispatch, tile_shape};
use crate::threads;

/// Most inner steps in a block: a panel of filters then stays in the first-level cache.
const KC: usize = 384;

/// How a filter bank lies in memory: row r, channel c and tap t at
/// `r·row_stride + c·channel_stride + taps[t]`.
#[derive(Clone, Copy)]
pub(super) struct FilterView<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub channels: usize,
    pub row_stride: usize,
    pub channel_stride: usize,
    pub taps: &'a [usize],
}

impl FilterView<'_> {
    /// Whether the inner steps of a row lie next to each other.
    fn is_dense(&self) -> bool {
        self.channel_stride == self.taps.len() && self.taps.iter().enumerate().all(|(i, &t)| i == t)
    }
}

/// A filter bank in panels of `MR` rows, `[block of channels][panel][channel, tap][row]`.
pub(super) struct Panels {
    data: Scratch,
    pub rows: Rows,
    pub channels: usize,
    pub taps: usize,
    pub isa: Isa,
}

impl Panels {
    /// `take` gives the memory: [`Scratch::take`] for one call, [`Scratch::fresh`] to keep.
    pub fn pack(isa: Isa, view: FilterView<'_>, take: fn(usize) -> Scratch) -> Self {
        let taps = view.taps.len();
        let rows = Rows::new(view.rows, tile_shape(isa).0);
        let mut panels = Self {
            data: Scratch::fresh(0),
            rows,
            channels: view.channels,
            taps,
            isa,
        };
        let tasks = panels.blocks() * rows.tiles;
        let values = view.rows * view.channels * taps;
        panels.data = take(values + tasks * SLACK);
        let dst = MutPtr(panels.data.as_mut_ptr());
        threads::parallel(tasks, values * 16, |task| {
            let (block, tile) = (task / rows.tiles, task % rows.tiles);
            let work = PackPanel {
                view: &view,
                channels: panels.block(block),
                rows: (rows.start(tile), rows.start(tile + 1)),
                // Every panel has its own slack, so tasks never share memory.
                dst: dst.get().wrapping_add(panels.offset(block, tile)),
            };
            dispatch(isa, work);
        });
        panels
    }

    /// Channels that make one block of inner steps.
    fn step(&self) -> usize {
        (KC / self.taps.max(1)).max(1)
    }

    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(self.step())
    }

    /// First and end channel of a block.
    pub fn block(&self, block: usize) -> (usize, usize) {
        let n = self.step();
        (block * n, ((block + 1) * n).min(self.channels))
    }

    fn offset(&self, block: usize, tile: usize) -> usize {
        let (c0, c1) = self.block(block);
        let (all, row) = (self.rows.start(self.rows.tiles), self.rows.start(tile));
        self.taps * (c0 * all + (c1 - c0) * row) + SLACK * (block * self.rows.tiles + tile)
    }

    /// A panel, `[channel, tap][row]`.
    pub fn panel(&self, block: usize, tile: usize) -> *const f32 {
        self.data.as_ptr().wrapping_add(self.offset(block, tile))
    }

    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }
}

struct PackPanel<'a> {
    view: &'a FilterView<'a>,
    channels: (usize, usize),
    rows: (usize, usize),
    dst: *mut f32,
}

impl Kernel for PackPanel<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (view, (c0, c1), (r0, r1)) = (self.view, self.channels, self.rows);
        let taps = view.taps.len();
        if view.is_dense() {
            let from = &view.data[r0 * view.row_stride + c0 * taps..];
            let strides = (view.row_stride, 1);
            // SAFETY: the rows hold taps·channels values from the first channel on; the panel has its place.
            unsafe {
                pack::lhs_panel(
                    s,
                    from.as_ptr(),
                    strides,
                    r1 - r0,
                    (c1 - c0) * taps,
                    self.dst,
                );
            }
            return;
        }
        let mut at = 0;
        for c in c0..c1 {
            for &t in view.taps {
                for r in r0..r1 {
                    let x = view.data[r * view.row_stride + c * view.channel_stride + t];
                    // SAFETY: the panel holds a value for each row, channel and tap.
                    unsafe { *self.dst.add(at) = x }
                    at += 1;
                }
            }
        }
    }
}
