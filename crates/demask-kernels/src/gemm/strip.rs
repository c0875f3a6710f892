//! The products of some tiles of rows with a strip of columns, the step that every task repeats.

use super::format::{Format, Layout};
use super::half_bytes::{self, Panel};
use super::micro::{Groups, Inner, Lhs, Tile};
use super::pack::{self, Rows, SLACK};
use super::{parts, tiled};
use crate::element::{Bf16, Element};
use crate::memory::Ptr;
use crate::simd::{Simd, amx};

/// Most words of the inner dimension in a block of floats: a panel of A (14 rows) then takes 28 KiB of
/// first-level cache.
const KC: usize = 512;
/// The same for a tile unit, which is so fast that its operands may well come from the second-level cache, and sums put
/// down half-done cost more than they save.
const TILED_KC: usize = 2048;
/// Words of B in a strip: 384 KiB of second-level cache.
const STRIP: usize = 96 << 10;
/// The same for a tile unit, whose machines have 2 MiB of it.
const TILED_STRIP: usize = 256 << 10;
/// Most tiles of rows for which a task takes B panel by panel.
const FEW: usize = 3;

/// The right operand as the tasks see it.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Strided {
        ptr: Ptr,
        strides: (usize, usize),
    },
    /// The same, rounded before.
    Rounded {
        ptr: Ptr<Bf16>,
        strides: (usize, usize),
    },
    Panels {
        ptr: Ptr,
        scales: Ptr,
    },
}

/// The left operand as the tasks see it.
#[derive(Clone, Copy)]
pub(super) enum LeftSource {
    /// All tiles of rows, packed.
    Panels(Ptr),
    /// The rows as they lie, which tasks pack part by part.
    Plain { ptr: Ptr, strides: (usize, usize) },
    /// The same, rounded before.
    Rounded {
        ptr: Ptr<Bf16>,
        strides: (usize, usize),
    },
}

/// Where tile `t`, which begins at row `r0`, lies in the packed A.
#[inline(always)]
pub(super) fn place(layout: &Layout, tiled: bool, r0: usize, t: usize) -> usize {
    r0 * lhs_row(layout, tiled) + t * SLACK
}

/// Words of a packed row of A.
#[inline(always)]
pub(super) fn lhs_row(layout: &Layout, tiled: bool) -> usize {
    if tiled {
        pack::tiles_width(layout) + 2 * layout.groups
    } else {
        layout.lhs_row()
    }
}

/// Where the sums of a strip of columns go.
pub(super) struct Destination {
    /// Column `j0` of row 0.
    pub c: *mut f32,
    pub ldc: usize,
    pub bias: *const f32,
    pub load_c: bool,
    /// It lies in memory, rather than in scratch that is near.
    pub far: bool,
}

/// Some tiles of rows of A.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub layout: &'a Layout,
    /// The tile unit multiplies them.
    pub tiled: bool,
    pub a: LeftSource,
    pub rows: Rows,
    /// The first of these, and the one after the last.
    pub tiles: (usize, usize),
}

impl Left<'_> {
    /// The first row, and the one after the last.
    #[inline(always)]
    pub fn rows(&self) -> (usize, usize) {
        (self.rows.start(self.tiles.0), self.rows.start(self.tiles.1))
    }

    /// The same tiles, at most so many at a time.
    #[inline(always)]
    pub fn at_most(self, most: usize) -> impl Iterator<Item = Self> {
        let (first, end) = self.tiles;
        (first..end).step_by(most).map(move |t| Self {
            tiles: (t, end.min(t.saturating_add(most))),
            ..self
        })
    }

    /// Panels of a strip, of as many right operands as are multiplied strip by strip.
    #[inline(always)]
    pub fn strip_panels(&self, nr: usize, b: &Source, operands: usize) -> usize {
        if !self.is_packed() {
            return parts::WIDE / operands;
        }
        if self.in_parts(b) {
            return parts::PANELS;
        }
        let words = if self.tiled { TILED_STRIP } else { STRIP };
        match self.in_order() {
            true => 1,
            false => (words / (self.longest() * nr) / operands).clamp(1, 16),
        }
    }

    /// Whether all tiles have been packed before.
    #[inline(always)]
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.a, LeftSource::Panels(_))
    }

    /// Whether there are so few rows that B is taken panel by panel, in the order in which it lies in memory.
    #[inline(always)]
    fn in_order(&self) -> bool {
        self.tiles.1 - self.tiles.0 <= FEW
    }

    /// The tile unit, if these tiles are for it; to be held as long as strips are multiplied.
    #[inline(always)]
    pub fn unit<S: Simd>(&self, _: S) -> Option<amx::Tiles> {
        // SAFETY: tiles are packed for the unit where the instruction set of the call has it; a task runs on one thread,
        // and nothing inside it begins another.
        (S::UNIT && self.tiled).then(|| unsafe { amx::Tiles::begin() })
    }

    /// Whether the unit multiplies part by part of a long inner dimension; see [`Left::parts`].
    #[inline(always)]
    pub(super) fn in_parts(&self, b: &Source) -> bool {
        // Sums of bf16 are results, which the unit puts into C itself: a short dimension is not worth keeping them.
        let whole = match self.layout.format {
            Format::Bf16 => 2 * parts::WORDS,
            _ => parts::WORDS,
        };
        let parts = self.tiled
            && matches!(b, Source::Panels { .. })
            && !self.in_order()
            && self.layout.groups <= 1
            && !self.has_half_bytes()
            && self.layout.words > whole;
        parts || !self.is_packed()
    }

    /// Parts into which the inner dimension is cut.
    fn blocks(&self) -> usize {
        match self.layout.format {
            Format::F32 | Format::Bf16 => {
                let most = if self.tiled { TILED_KC } else { KC };
                self.layout.words.div_ceil(most)
            }
            Format::Int8 { .. } | Format::Int4 { .. } => 1,
        }
    }

    /// The words of a part: in whole tiles but for the last.
    fn words(&self, block: usize) -> (usize, usize) {
        let (words, blocks) = (self.layout.words, self.blocks());
        let unit = if self.tiled { amx::WORDS } else { 1 };
        let start = |block: usize| (words.div_ceil(unit) * block / blocks * unit).min(words);
        (start(block), start(block + 1))
    }

    /// Words of a column in the longest of them, as they are multiplied.
    fn longest(&self) -> usize {
        let words = |block| self.words(block).1 - self.words(block).0;
        let longest = (0..self.blocks()).map(words).max().unwrap_or(0);
        match self.has_half_bytes() {
            true => half_bytes::room(longest * self.layout.lhs),
            false => longest,
        }
    }

    /// Whether B has half bytes, of which the unit takes none: they become bytes strip by strip.
    #[inline(always)]
    fn has_half_bytes(&self) -> bool {
        self.tiled && matches!(self.layout.format, Format::Int4 { .. })
    }

    /// The tile of row panel `t` of these and the `panel` of half bytes at column `j` of a strip, in words of bytes, which
    /// have their place in `bytes`.
    #[inline(always)]
    fn half_bytes(
        &self,
        mut tile: Tile,
        panel: *const f32,
        t: usize,
        bytes: *const f32,
        j: usize,
    ) -> (Tile, Panel) {
        tile.kc *= self.layout.lhs;
        tile.groups.words *= self.layout.lhs;
        tile.b = bytes.wrapping_add(j * half_bytes::room(tile.kc));
        let alone = self.tiles.1 - self.tiles.0 == 1;
        let panel = match (t, alone) {
            (0, true) => Panel::Once(panel),
            (0, false) => Panel::Kept(panel),
            _ => Panel::Bytes,
        };
        (tile, panel)
    }

    /// Words that a strip of `width` columns of `b` needs where it is packed or unpacked.
    pub fn room(&self, b: &Source, width: usize) -> usize {
        match b {
            Source::Panels { .. } if !self.has_half_bytes() => 0,
            _ => width * self.longest(),
        }
    }

    /// Multiplies the rows by a strip of columns of `b`, with [their unit](Self::unit) and [room](Self::room) for the strip.
    #[inline(always)]
    pub fn strip<S: Simd>(
        &self,
        s: S,
        unit: Option<&amx::Tiles>,
        b: &Source,
        (j0, j1): (usize, usize),
        b_pack: *mut f32,
        to: &Destination,
    ) {
        let (layout, blocks) = (self.layout, self.blocks());
        if let (true, Some(unit)) = (S::UNIT && self.in_parts(b), unit) {
            return self.parts(s, unit, b, (j0, j1), to);
        }
        for block in 0..blocks {
            let (w0, w1) = self.words(block);
            let (panels, distance) = self.panels(s, b, (w0, w1), (j0, j1), b_pack);
            let (first, last) = (block == 0, block + 1 == blocks);
            for t in self.tiles.0..self.tiles.1 {
                // Taken panel by panel, B comes from memory for the first tile of rows.
                let far = self.in_order() && t == self.tiles.0;
                for (p, j) in (0..j1 - j0).step_by(S::NR).enumerate() {
                    let panel = panels.wrapping_add(p * distance);
                    let (mut tile, h) = self.tile::<S>(t, b, panel, (j0, j, j1), to);
                    let height = if self.tiled {
                        h.next_multiple_of(amx::ROWS)
                    } else {
                        h
                    };
                    tile.kc = w1 - w0;
                    tile.a = tile.a.wrapping_add(w0 * height * layout.lhs);
                    tile.load_c |= !first;
                    if !last {
                        tile.bias = std::ptr::null();
                    }
                    // SAFETY: packed panels are whole; the tile lies inside this task's block of C or its scratch, which
                    // no other task touches. `b_pack` has room for the bytes of a strip, which the first tile of rows puts
                    // there before others read them.
                    unsafe {
                        match unit {
                            Some(unit) if S::UNIT && self.has_half_bytes() => {
                                let t = t - self.tiles.0;
                                let (tile, panel) = self.half_bytes(tile, panel, t, b_pack, j);
                                half_bytes::multiply(s, unit, h, &tile, panel);
                            }
                            Some(unit) if S::UNIT => {
                                tiled::multiply(s, unit, layout.format, h, &tile, far)
                            }
                            _ => s.micro(inner(layout.format), h, &tile),
                        }
                    }
                }
            }
        }
    }

    /// The tile of panel `t` of A and a `panel` of B at column `j` of a strip of columns `j0..j1`, over the whole inner
    /// dimension, and its rows.
    #[inline(always)]
    pub(super) fn tile<S: Simd>(
        &self,
        t: usize,
        b: &Source,
        panel: *const f32,
        (j0, j, j1): (usize, usize, usize),
        to: &Destination,
    ) -> (Tile, usize) {
        let layout = self.layout;
        let (r0, r1) = (self.rows.start(t), self.rows.start(t + 1));
        let h = r1 - r0;
        // Tiles that are not packed yet get their place later.
        let a = match self.a {
            LeftSource::Panels(a) => a.get(),
            _ => std::ptr::null(),
        };
        let a = a.wrapping_add(place(layout, self.tiled, r0, t));
        // Words of the panel of A before its scales.
        let words = match self.tiled {
            true => h.next_multiple_of(amx::ROWS) * pack::tiles_width(layout),
            false => h * layout.words * layout.lhs,
        };
        let tile = Tile {
            kc: layout.words,
            a,
            b: panel,
            ldb: S::NR,
            c: to.c.wrapping_add(r0 * to.ldc + j),
            ldc: to.ldc,
            cols: S::NR.min(j1 - j0 - j),
            load_c: to.load_c,
            bias: match to.bias.is_null() {
                true => to.bias,
                false => to.bias.wrapping_add(j),
            },
            groups: self.groups(b, a.wrapping_add(words), j0 + j),
        };
        (tile, h)
    }

    /// The panels of a strip of B and the distance between two of them; packs them if need be.
    #[inline(always)]
    fn panels<S: Simd>(
        &self,
        s: S,
        b: &Source,
        (w0, w1): (usize, usize),
        (j0, j1): (usize, usize),
        b_pack: *mut f32,
    ) -> (*const f32, usize) {
        match b {
            Source::Panels { ptr, .. } => {
                let words = self.layout.words;
                let at = j0 / S::NR * S::NR * words + w0 * S::NR;
                (ptr.get().wrapping_add(at), S::NR * words)
            }
            Source::Strided { ptr, strides } => {
                self.pack(s, ptr.get(), *strides, (w0, w1), (j0, j1), b_pack)
            }
            Source::Rounded { ptr, strides } => {
                self.pack(s, ptr.get(), *strides, (w0, w1), (j0, j1), b_pack)
            }
        }
    }

    /// The same for a B that is packed here.
    #[inline(always)]
    fn pack<S: Simd, T: Element>(
        &self,
        s: S,
        b: *const T,
        strides: (usize, usize),
        (w0, w1): (usize, usize),
        (j0, j1): (usize, usize),
        b_pack: *mut f32,
    ) -> (*const f32, usize) {
        // Values of the block; only the last one of the dimension may hold an odd one.
        let values = if self.layout.format == Format::Bf16 {
            2
        } else {
            1
        };
        let (k0, k1) = (w0 * values, (w1 * values).min(self.layout.k));
        let part = Layout::new(self.layout.format, k1 - k0);
        let distance = S::NR * (w1 - w0);
        for (p, j) in (j0..j1).step_by(S::NR).enumerate() {
            let cols = S::NR.min(j1 - j);
            // SAFETY: the columns lie in B; b_pack holds the strip's panels.
            unsafe {
                let src = b.add(k0 * strides.0 + j * strides.1);
                let dst = b_pack.add(p * distance);
                pack::right(s, &part, src, strides, cols, dst, std::ptr::null_mut());
            }
        }
        (b_pack, distance)
    }

    /// The scales of a panel of rows, at `a`, and of the panel at column `j`.
    #[inline(always)]
    fn groups(&self, b: &Source, a: *const f32, j: usize) -> Groups {
        let layout = self.layout;
        match b {
            Source::Panels { scales, .. } if layout.groups > 0 => Groups {
                count: layout.groups,
                words: layout.group_words,
                a,
                b: scales.get().wrapping_add(j * layout.groups),
            },
            _ => Groups::NONE,
        }
    }
}

fn inner(format: Format) -> Inner {
    match format {
        Format::F32 => Inner::F32(Lhs::Panel),
        Format::Bf16 => Inner::Bf16(Lhs::Panel),
        Format::Int8 { .. } => Inner::Int8,
        Format::Int4 { .. } => Inner::Int4,
    }
}
