//! Cache blocks and threads.
//!
//! A is packed first, in full height up to a limit, once for all products of the call (but for some on a tile unit,
//! whose tasks pack it [part by part](super::parts)); a panel of its rows is read by every task that multiplies them.
//! Then the result is cut into a grid of blocks, one task each. A task walks strips of columns of B (packed here unless
//! B came packed; a strip stays in the second-level cache), and for each the register tiles: in the float formats for a
//! few hundred inner steps at a time, so that a panel of A stays in the first-level cache while the panels of B stream
//! past (in the second-level cache, for a tile unit); in the integer formats, whose panels are a quarter as long and
//! whose sums can't be put down half-done, over the whole inner dimension.

use super::epilogue::{Epilogue, Place};
use super::format::{Format, Layout};
use super::pack::{self, Rows, SLACK};
use super::packed::{Panels, pack_panels};
use super::strip::{Destination, Left, LeftSource, Source, lhs_row, place};
use super::{MatrixRef, Rhs, parts, tiled};
use crate::Precision;
use crate::element::Element;
use crate::memory::{MutPtr, Ptr, Scratch};
use crate::simd::{Isa, Kernel, LANES, Simd, amx, dispatch, tile_shape};
use crate::threads;
use std::iter;

/// Words of A that are packed at a time, half of a small third-level cache, if that is not too few rows.
const LEFT: usize = 2 << 20;
/// Fewest rows that are packed at a time.
const LEFT_ROWS: usize = 224;
/// Most rows of a task.
const ROWS: usize = 256;
/// The same for a tile unit: B, which comes from far away, is read once for all of them.
const TILED_ROWS: usize = 1024;
/// Most words of a B that is packed for all tasks together.
const RIGHT: usize = 4 << 20;
/// Steps of the inner dimension that are packed at a time where columns of A are contiguous.
const STEPS: usize = 64;
/// Most columns of a product whose tasks pack the rows of A part by part; each strip of columns packs them again.
const PARTS_COLS: usize = 1024;
/// Rows of A that are asked for ahead of their turn when sums are finished.
const AHEAD: usize = 4;
/// Most tiles of rows whose sums are kept until a pass of their own.
const KEPT: usize = ROWS / tiled::MR;
const _: () = assert!(KEPT <= parts::TILES);
/// Fewest rows and columns worth a task of their own.
const MIN_ROWS: usize = 56;
const MIN_COLS: usize = 128;

/// Packs some tiles of rows of A, or some units of them for a tile unit.
struct PackLeft<'a, T> {
    layout: &'a Layout,
    tiled: bool,
    a: *const T,
    strides: (usize, usize),
    rows: Rows,
    /// The first of these, and the one after the last.
    pieces: (usize, usize),
    dst: *mut f32,
}

impl<T: Element> Kernel for PackLeft<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Contiguous columns are read a few at a time, so that all tiles find them in a near cache.
        let by_steps = self.strides.0 == 1 && self.layout.groups == 0;
        let steps = if by_steps { STEPS } else { self.layout.k };
        for k0 in (0..self.layout.k).step_by(steps) {
            let part = if by_steps {
                Layout::new(self.layout.format, steps.min(self.layout.k - k0))
            } else {
                *self.layout
            };
            let w0 = if by_steps {
                Layout::new(self.layout.format, k0).words
            } else {
                0
            };
            for piece in self.pieces.0..self.pieces.1 {
                let unit = S::UNIT && self.tiled;
                let t = if unit {
                    self.rows.tile_of(piece)
                } else {
                    piece
                };
                let (r0, r1) = (self.rows.start(t), self.rows.start(t + 1));
                let h = r1 - r0;
                let src = (self.a).wrapping_add(r0 * self.strides.0 + k0 * self.strides.1);
                let dst = (self.dst).wrapping_add(place(self.layout, self.tiled, r0, t));
                // SAFETY: the rows lie in A, and a tile has its own place with its own slack; what is written past a part
                // is overwritten by the next one. Units of a tile write their own rows and the scales of these alone.
                unsafe {
                    if unit {
                        let dst = dst.wrapping_add(w0 * h.next_multiple_of(amx::ROWS));
                        let first = piece * amx::ROWS - r0;
                        let some = (first, (first + amx::ROWS).min(h));
                        pack::some_tiles(s, &part, src, self.strides, (h, some), dst);
                    } else {
                        pack::left(s, &part, src, self.strides, h, dst.wrapping_add(w0 * h));
                    }
                }
            }
        }
    }
}

/// One product of a call: a right operand and what becomes of the sums.
pub(super) struct Target<'a> {
    pub b: Rhs<'a>,
    /// Null, or as long as a row.
    pub bias: Ptr,
    /// Another one of the same shape and its bias, where the epilogue reads the sums of two.
    pub second: Option<(Rhs<'a>, Ptr)>,
    pub epilogue: Epilogue,
}

impl<'a> Target<'a> {
    /// A single product.
    pub fn new(b: Rhs<'a>, bias: Option<&[f32]>, epilogue: Epilogue) -> Self {
        Self {
            b,
            bias: pointer(bias),
            second: None,
            epilogue,
        }
    }
}

/// Null, if there is no bias.
pub(super) fn pointer(bias: Option<&[f32]>) -> Ptr {
    Ptr(bias.map_or(std::ptr::null(), <[f32]>::as_ptr))
}

/// One block of C: some tiles of rows and some columns.
struct Block<'a> {
    left: Left<'a>,
    /// Row of the result that is the first one of the packed A.
    row0: usize,
    b: (Source, *const f32),
    second: Option<(Source, *const f32)>,
    cols: (usize, usize),
    /// Columns of the whole result.
    n: usize,
    epilogue: Epilogue,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let unit = self.left.unit(s);
        let both = 1 + usize::from(self.second.is_some());
        let strip = self.left.strip_panels(S::NR, &self.b.0, both) * S::NR;
        let width = strip.min((self.cols.1 - self.cols.0).next_multiple_of(S::NR));
        let operands = || iter::once(&self.b.0).chain(self.second.as_ref().map(|(b, _)| b));
        let room = operands().map(|b| self.left.room(b, width)).max();
        let mut b_pack = Scratch::take(room.unwrap_or(0));
        let b_pack = b_pack.as_mut_ptr();
        let direct = self.epilogue.direct();
        let parts = if direct.is_some() { 0 } else { both };
        // What needs a pass of its own is to stay in the cache until it has one.
        let most = match (parts, self.left.tiled) {
            (0, _) | (_, false) => usize::MAX,
            _ => KEPT,
        };
        // Sums that the unit keeps are finished one tile of rows after the other.
        let in_parts = operands().all(|b| self.left.in_parts(b));
        let kept = unit.as_ref().filter(|_| in_parts);
        let height = (self.left)
            .at_most(if kept.is_some() { 1 } else { most })
            .map(|left| left.rows().1 - left.rows().0)
            .max()
            .unwrap_or(0);
        let part = height * width;
        let mut sums = Scratch::take(parts * part);
        let sums = sums.as_mut_ptr();
        for j0 in (self.cols.0..self.cols.1).step_by(strip) {
            let cols = (j0, (j0 + strip).min(self.cols.1));
            // What the sums of operand `i` become, of rows from `r0` on.
            let to = |i: usize, r0: usize| {
                let bias = match (i, self.second) {
                    (0, _) | (_, None) => self.b.1,
                    (_, Some((_, bias))) => bias,
                };
                Destination {
                    // Row r0 of the group is the first of the scratch.
                    c: (sums.wrapping_add(i * part)).wrapping_sub(r0 * width),
                    ldc: width,
                    bias: match bias.is_null() {
                        true => bias,
                        false => bias.wrapping_add(j0),
                    },
                    load_c: false,
                    far: false,
                }
            };
            for left in self.left.at_most(most) {
                if let Some((c, load_c)) = direct {
                    let to = Destination {
                        c: c.get().wrapping_add(self.row0 * self.n + j0),
                        ldc: self.n,
                        load_c,
                        far: true,
                        ..to(0, 0)
                    };
                    left.strip(s, unit.as_ref(), &self.b.0, cols, b_pack, &to);
                    continue;
                }
                if let (true, Some(unit)) = (S::UNIT, kept) {
                    let words = left.part_sums_words::<S>(cols);
                    let mut whole = Scratch::take(both * words);
                    let whole = whole.as_mut_ptr();
                    for (i, b) in operands().enumerate() {
                        let whole = whole.wrapping_add(i * words);
                        // What this thread probably multiplies next.
                        let after = match (&self.second, i, left.tiles.1 == self.left.tiles.1) {
                            (Some((second, _)), 0, _) => left.part_panel(second, j0),
                            (_, _, true) => left.part_panel(&self.b.0, cols.1),
                            (_, _, false) => left.part_panel(&self.b.0, j0),
                        };
                        // SAFETY: the sums have room; nothing is loaded.
                        unsafe { left.part_sums(s, unit, (b, after), cols, &to(i, 0), whole) }
                    }
                    for t in left.tiles.0..left.tiles.1 {
                        let rows = (left.rows.start(t), left.rows.start(t + 1));
                        for (i, b) in operands().enumerate() {
                            let whole = whole.wrapping_add(i * words);
                            // SAFETY: these are their sums, and the scratch has room for this tile.
                            unsafe { left.finish_part_sums(s, b, cols, t, &to(i, rows.0), whole) }
                        }
                        self.finish(s, rows, cols, width, [sums, sums.wrapping_add(part)]);
                    }
                    continue;
                }
                let rows = left.rows();
                for (i, b) in operands().enumerate() {
                    left.strip(s, unit.as_ref(), b, cols, b_pack, &to(i, rows.0));
                }
                self.finish(s, rows, cols, width, [sums, sums.wrapping_add(part)]);
            }
        }
    }
}

impl Block<'_> {
    /// Makes results of the sums of some rows of the group, `width` values apart from the first of them on.
    #[inline(always)]
    fn finish<S: Simd>(
        &self,
        s: S,
        (r0, r1): (usize, usize),
        cols: (usize, usize),
        width: usize,
        sums: [*mut f32; 2],
    ) {
        for r in r0..r1 {
            let at = Place {
                row: self.row0 + r,
                cols,
                n: self.n,
            };
            let later = Place {
                row: at.row + AHEAD,
                ..at
            };
            self.epilogue.ask(s, later);
            let rows = sums.map(|sums| sums.wrapping_add((r - r0) * width).cast_const());
            // SAFETY: the scratch parts have whole vectors here, and the results the columns of this block.
            unsafe { (self.epilogue).finish(s, at, rows) }
        }
    }
}

/// Most rows of a register tile of this format: the halves of a vector of half bytes take two registers more, and where
/// NEON has no dot product those of a vector of bytes or bf16 take four.
fn tallest(isa: Isa, format: Format) -> usize {
    match (isa, format) {
        (Isa::Neon, Format::Bf16 | Format::Int8 { .. } | Format::Int4 { .. })
        | (Isa::NeonDot, Format::Bf16) => 5,
        (_, Format::Int4 { .. }) => 13,
        _ => usize::MAX,
    }
}

/// Cuts an m×n result into (row parts, column parts) for the threads.
fn grid(m: usize, n: usize, most: usize, threads: usize) -> (usize, usize) {
    let (mut rows, mut cols) = (m.div_ceil(most), 1);
    if threads > 1 {
        // Several blocks a thread, so that a thread that is disturbed can be helped.
        while rows * cols < 4 * threads {
            let (height, width) = (m / rows, n / cols);
            if width >= 2 * MIN_COLS && (width >= height || height < 2 * MIN_ROWS) {
                cols += 1;
            } else if height >= 2 * MIN_ROWS {
                rows += 1;
            } else {
                break;
            }
        }
        // As many for each thread: with few of them, one more takes a good part of the whole.
        let even = cols.next_multiple_of(threads);
        if rows == 1 && n / even >= MIN_COLS / 2 {
            cols = even;
        }
    }
    (rows, cols)
}

/// Panics when a place could wrap: views that repeat one value may be larger than any memory.
pub(super) fn check_sizes([m, n, k]: [usize; 3]) {
    const MOST: usize = isize::MAX as usize / 64;
    let fits = |a: usize, b: usize| a.checked_mul(b).is_some_and(|x| x <= MOST);
    assert!(
        fits(m, k) && fits(n, k) && fits(m, n) && fits(m, m) && fits(n, n) && fits(k, k),
        "gemm: {m}x{k} times {k}x{n} is too large to be cut into blocks"
    );
}

/// Sums of nothing: the bias alone.
struct Nothing<'a> {
    m: usize,
    target: &'a Target<'a>,
}

impl Kernel for Nothing<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.target.b.cols();
        let second = self.target.second.as_ref().map(|(_, bias)| *bias);
        let sums = [Some(self.target.bias), second].map(|bias| {
            let mut sums = vec![0.0; n.next_multiple_of(LANES)];
            if let Some(bias) = bias.filter(|bias| !bias.get().is_null()) {
                // SAFETY: a bias has `n` values.
                sums[..n].copy_from_slice(unsafe { std::slice::from_raw_parts(bias.get(), n) });
            }
            sums
        });
        for row in 0..self.m {
            let at = Place {
                row,
                cols: (0, n),
                n,
            };
            // SAFETY: the sums have whole vectors, and the results m rows.
            unsafe { (self.target.epilogue).finish(s, at, [sums[0].as_ptr(), sums[1].as_ptr()]) }
        }
    }
}

/// How B lies, and the instruction set it is packed for.
fn layout(b: &Rhs<'_>) -> (Isa, Layout) {
    match b {
        Rhs::Packed(p) => (p.isa(), *p.layout()),
        Rhs::Plain(b) => (Isa::detect(), Layout::new(Format::F32, b.rows())),
        Rhs::Bf16(b) => (Isa::detect(), Layout::new(Format::Bf16, b.rows())),
        Rhs::Rounded(b) => (Isa::detect(), Layout::new(Format::Bf16, b.rows())),
    }
}

/// A strided B that many tasks would pack, packed once by all of them.
fn shared(b: &Rhs<'_>, m: usize, nr: usize, (isa, layout): (Isa, &Layout)) -> Option<Scratch> {
    let words = b.cols().div_ceil(nr) * nr * layout.words;
    if m <= ROWS || words > RIGHT || matches!(b, Rhs::Packed(_)) {
        return None;
    }
    let mut all = Scratch::take(words);
    // Formats that are packed in a call have no scales.
    let to = Panels {
        words: MutPtr(all.as_mut_ptr()),
        scales: MutPtr(std::ptr::null_mut()),
    };
    match b {
        Rhs::Plain(b) | Rhs::Bf16(b) => {
            pack_panels(isa, layout, Ptr(b.ptr()), b.strides(), b.cols(), to);
        }
        Rhs::Rounded(b) => pack_panels(isa, layout, Ptr(b.ptr()), b.strides(), b.cols(), to),
        Rhs::Packed(_) => {}
    }
    Some(all)
}

pub(super) fn source(b: &Rhs<'_>, shared: Option<&Scratch>, nr: usize) -> Source {
    if let Some(shared) = shared {
        return Source::Panels {
            ptr: Ptr(shared.as_ptr()),
            scales: Ptr(shared.as_ptr()),
        };
    }
    match b {
        Rhs::Plain(b) | Rhs::Bf16(b) => Source::Strided {
            ptr: Ptr(b.ptr()),
            strides: b.strides(),
        },
        Rhs::Rounded(b) => Source::Rounded {
            ptr: Ptr(b.ptr()),
            strides: b.strides(),
        },
        Rhs::Packed(p) => {
            let panels = p.cols().div_ceil(nr);
            Source::Panels {
                ptr: Ptr(p.ptr()),
                scales: Ptr(p.ptr().wrapping_add(panels * nr * p.layout().words)),
            }
        }
    }
}

/// The rows of A that are packed at a time, each part from its first row to the one after its last.
pub(super) fn parts_of_left(
    m: usize,
    (isa, layout): (Isa, &Layout),
) -> impl Iterator<Item = (usize, usize)> + use<> {
    let most = (LEFT / lhs_row(layout, tiled(isa, layout))).max(LEFT_ROWS);
    let parts = m.div_ceil(most);
    (0..parts).map(move |part| (m * part / parts, m * (part + 1) / parts))
}

/// Whether the tile unit multiplies.
fn tiled(isa: Isa, layout: &Layout) -> bool {
    isa == Isa::Amx && tiled::takes(layout)
}

/// Whether tasks pack the rows of A themselves: a few columns, and an inner dimension so long that the unit takes it in
/// [parts](super::parts).
fn packs_in_parts<'a>(
    (isa, layout): (Isa, &Layout),
    m: usize,
    targets: &[Target<'_>],
    mut sources: impl Iterator<Item = &'a Source>,
) -> bool {
    tiled(isa, layout)
        && layout.format == Format::Bf16
        && layout.words > 2 * parts::WORDS
        && m > MIN_ROWS
        && targets.iter().all(|target| target.b.cols() <= PARTS_COLS)
        && sources.all(|source| matches!(source, Source::Panels { .. }))
}

/// Some rows of A, packed or to be packed.
pub(super) struct PackedLeft<'a> {
    layout: &'a Layout,
    tiled: bool,
    pub rows: Rows,
    words: Scratch,
    /// The rows as they lie, if tasks are to pack them.
    plain: Option<LeftSource>,
}

impl<'a> PackedLeft<'a> {
    /// Packs rows `m0..m1` of `a`.
    pub fn pack<T: Element>(
        (isa, layout): (Isa, &'a Layout),
        a: MatrixRef<'_, T>,
        (m0, m1): (usize, usize),
    ) -> Self {
        let (mr, _) = tile_shape(isa);
        let tiled = tiled(isa, layout);
        let (rows, height) = if tiled {
            let height = (m1 - m0).next_multiple_of(amx::ROWS);
            (Rows::of_units(m1 - m0, tiled::MR, amx::ROWS), height)
        } else {
            (
                Rows::new(m1 - m0, mr.min(tallest(isa, layout.format))),
                m1 - m0,
            )
        };
        let mut words = Scratch::take(height * lhs_row(layout, tiled) + rows.tiles * SLACK);
        let to = MutPtr(words.as_mut_ptr());
        let (from, strides) = (Ptr(a.ptr()), a.strides());
        let pieces = if tiled { rows.units() } else { rows.tiles };
        // Packing reads and writes: about as long as 16 multiplications a value, and a multiple of it in groups, each of
        // which has a largest value to be found.
        let each = if layout.groups > 1 { 64 } else { 16 };
        threads::over_rows(pieces, each * (m1 - m0) * layout.k, |first, end| {
            let pack = PackLeft {
                layout,
                tiled,
                a: from.get().wrapping_add(m0 * strides.0),
                strides,
                rows,
                pieces: (first, end),
                dst: to.get(),
            };
            dispatch(isa, pack);
        });
        Self {
            layout,
            tiled,
            rows,
            words,
            plain: None,
        }
    }

    /// All rows as they are, for the tile unit.
    fn plain<T: Element>(layout: &'a Layout, a: MatrixRef<'_, T>) -> Self {
        Self {
            layout,
            tiled: true,
            rows: Rows::of_units(a.rows(), tiled::MR, amx::ROWS),
            words: Scratch::take(0),
            plain: Some(match T::PRECISION {
                Precision::F32 => LeftSource::Plain {
                    ptr: Ptr(a.ptr().cast()),
                    strides: a.strides(),
                },
                Precision::Bf16 => LeftSource::Rounded {
                    ptr: Ptr(a.ptr().cast()),
                    strides: a.strides(),
                },
            }),
        }
    }

    /// The tiles of part `part` of `parts`.
    pub fn tiles(&self, part: usize, parts: usize) -> Left<'a> {
        let all = self.rows.tiles;
        Left {
            layout: self.layout,
            tiled: self.tiled,
            a: (self.plain).unwrap_or(LeftSource::Panels(Ptr(self.words.as_ptr()))),
            rows: self.rows,
            tiles: (all * part / parts, all * (part + 1) / parts),
        }
    }
}

/// Runs products of one left operand whose shapes have been [checked](super::products::check). C is written in full where it is not
/// loaded.
///
/// # Panics
/// When the right operands are not packed alike.
pub(super) fn run<T: Element>(a: MatrixRef<'_, T>, targets: &[Target<'_>]) {
    let (m, k) = (a.rows(), a.cols());
    let Some(first) = targets.first().filter(|_| m > 0) else {
        return;
    };
    if k == 0 {
        let nothing = |target| dispatch(Isa::detect(), Nothing { m, target });
        return targets.iter().for_each(nothing);
    }
    let (isa, layout) = self::layout(&first.b);
    for target in targets {
        let alike = |b: &Rhs<'_>| self::layout(b) == (isa, layout);
        assert!(
            alike(&target.b) && target.second.iter().all(|(b, _)| alike(b)),
            "gemm: the right operands of one call must be packed alike"
        );
    }
    let (_, nr) = tile_shape(isa);
    // Right operands that are packed here, and how the tasks see them all.
    let packed: Vec<[Option<Scratch>; 2]> = targets
        .iter()
        .map(|target| {
            let pack = |b: &Rhs<'_>| shared(b, m, nr, (isa, &layout));
            [
                pack(&target.b),
                target.second.as_ref().and_then(|(b, _)| pack(b)),
            ]
        })
        .collect();
    let sources: Vec<(Source, Option<Source>)> = targets
        .iter()
        .zip(&packed)
        .map(|(target, [b, second])| {
            (
                source(&target.b, b.as_ref(), nr),
                (target.second.as_ref()).map(|(b, _)| source(b, second.as_ref(), nr)),
            )
        })
        .collect();
    let all = sources
        .iter()
        .flat_map(|(b, second)| iter::once(b).chain(second));
    if packs_in_parts((isa, &layout), m, targets, all) {
        let left = PackedLeft::plain(&layout, a);
        return multiply(isa, &left, (0, m), targets, &sources);
    }
    for rows in parts_of_left(m, (isa, &layout)) {
        let left = PackedLeft::pack((isa, &layout), a, rows);
        multiply(isa, &left, rows, targets, &sources);
    }
}

/// Multiplies rows `m0..m1` of the left operand.
fn multiply(
    isa: Isa,
    left: &PackedLeft<'_>,
    (m0, m1): (usize, usize),
    targets: &[Target<'_>],
    sources: &[(Source, Option<Source>)],
) {
    let (_, nr) = tile_shape(isa);
    let work = |target: &Target<'_>| {
        let products = 1 + usize::from(target.second.is_some());
        (2 * products)
            .saturating_mul(m1 - m0)
            .saturating_mul(target.b.cols() * left.layout.k)
    };
    let total = targets.iter().map(work).fold(0, usize::saturating_add);
    let threads = if total < threads::SMALL {
        1
    } else {
        threads::count()
    };
    // The parts of every target, one after the other.
    let cut: Vec<(usize, usize)> = targets
        .iter()
        .map(|target| {
            let n = target.b.cols();
            let (row_parts, col_parts) = match (left.plain, left.tiled) {
                (Some(_), _) => parts::grid(m1 - m0, n, threads),
                (None, true) => grid(m1 - m0, n, TILED_ROWS, threads),
                (None, false) => grid(m1 - m0, n, ROWS, threads),
            };
            (
                row_parts.min(left.rows.tiles),
                col_parts.min(n.div_ceil(nr)),
            )
        })
        .collect();
    let tasks = cut.iter().map(|(rows, cols)| rows * cols).sum();
    threads::parallel(tasks, total, |mut task| {
        let mut which = 0;
        while task >= cut[which].0 * cut[which].1 {
            task -= cut[which].0 * cut[which].1;
            which += 1;
        }
        let (target, (row_parts, col_parts)) = (&targets[which], cut[which]);
        let (n, panels) = (target.b.cols(), target.b.cols().div_ceil(nr));
        // Neighbouring tasks share columns, so a thread keeps reusing its part of B.
        let (col, row) = (task / row_parts, task % row_parts);
        let second = target.second.as_ref().map(|(_, bias)| bias.get());
        let block = Block {
            left: left.tiles(row, row_parts),
            row0: m0,
            b: (sources[which].0, target.bias.get()),
            second: sources[which].1.zip(second),
            cols: (
                panels * col / col_parts * nr,
                (panels * (col + 1) / col_parts * nr).min(n),
            ),
            n,
            epilogue: target.epilogue,
        };
        dispatch(isa, block);
    });
}
