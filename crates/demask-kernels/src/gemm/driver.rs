//! Cache blocks and threads.
//!
//! A is packed first, in full height up to a limit; a panel of its rows is read by every task that multiplies
//! them. Then the result is cut into a grid of blocks, one task each. A task walks strips of columns of B (packed
//! here unless B came packed; a strip stays in the second-level cache), and for each the register tiles:
//! in the float formats for a few hundred inner steps at a time, so that a panel of A stays in the first-level cache
//! while the panels of B stream past; in the integer formats, whose panels are a quarter as long and whose sums
//! can't be put down half-done, over the whole inner dimension.

use super::format::{Format, Layout};
use super::micro::{Groups, Inner, Lhs, Tile};
use super::pack::{self, Rows, SLACK};
use super::packed::pack_panels;
use super::{Beta, MatrixMut, MatrixRef, Rhs};
use crate::mem::{MutPtr, Ptr, Scratch};
use crate::simd::{Isa, Kernel, Simd, dispatch, tile_shape};
use crate::threads;

/// Most words of the inner dimension in a block of floats: a panel of A (14 rows) then takes 28 KiB of
/// first-level cache.
const KC: usize = 512;
/// Words of B in a strip: 384 KiB of second-level cache.
const STRIP: usize = 96 << 10;
/// At most so many tiles of rows, a task takes B panel by panel, in the order in which it lies in memory.
const FEW: usize = 3;
/// Words of A that are packed at a time, half of a small third-level cache, if that is not too few rows.
const LEFT: usize = 2 << 20;
/// Fewest rows that are packed at a time.
const LEFT_ROWS: usize = 224;
/// Most rows of a task.
const ROWS: usize = 256;
/// Most words of a B that is packed for all tasks together.
const RIGHT: usize = 4 << 20;
/// Steps of the inner dimension that are packed at a time where columns of A are contiguous.
const STEPS: usize = 64;
/// Fewest rows and columns worth a task of their own.
const MIN_ROWS: usize = 56;
const MIN_COLS: usize = 128;

/// The right operand as the tasks see it.
#[derive(Clone, Copy)]
enum Source {
    Strided { ptr: Ptr, strides: (usize, usize) },
    Panels { ptr: Ptr, scales: Ptr },
}

/// Packs some tiles of rows of A.
struct PackLeft<'a> {
    layout: &'a Layout,
    a: *const f32,
    strides: (usize, usize),
    rows: Rows,
    tiles: (usize, usize),
    dst: *mut f32,
}

impl Kernel for PackLeft<'_> {
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
            for t in self.tiles.0..self.tiles.1 {
                let (r0, r1) = (self.rows.start(t), self.rows.start(t + 1));
                let h = r1 - r0;
                let src = (self.a).wrapping_add(r0 * self.strides.0 + k0 * self.strides.1);
                let dst = (self.dst).wrapping_add(place(self.layout, r0, t) + w0 * h);
                // SAFETY: the rows lie in A, and a tile has its own place with its own slack; what is written
                // past a part is overwritten by the next one.
                unsafe { pack::left(s, &part, src, self.strides, h, dst) }
            }
        }
    }
}

/// Where tile `t`, which begins at row `r0`, lies in the packed A.
#[inline(always)]
fn place(layout: &Layout, r0: usize, t: usize) -> usize {
    r0 * layout.lhs_row() + t * SLACK
}

/// One block of C: some tiles of rows and some columns.
struct Block<'a> {
    layout: &'a Layout,
    a: *const f32,
    rows: Rows,
    tiles: (usize, usize),
    b: Source,
    cols: (usize, usize),
    c: *mut f32,
    ldc: usize,
    bias: *const f32,
    load_c: bool,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let layout = self.layout;
        let blocks = match layout.format {
            Format::F32 | Format::Bf16 => layout.words.div_ceil(KC),
            Format::Int8 { .. } | Format::Int4 { .. } => 1,
        };
        let most = layout.words.div_ceil(blocks);
        let few = self.tiles.1 - self.tiles.0 <= FEW;
        let strip = if few {
            1
        } else {
            (STRIP / (most * S::NR)).clamp(1, 16)
        } * S::NR;
        let mut b_pack = Scratch::take(match self.b {
            Source::Strided { .. } => {
                strip.min((self.cols.1 - self.cols.0).next_multiple_of(S::NR)) * most
            }
            Source::Panels { .. } => 0,
        });
        let b_pack = b_pack.as_mut_ptr();
        for j0 in (self.cols.0..self.cols.1).step_by(strip) {
            let j1 = (j0 + strip).min(self.cols.1);
            for block in 0..blocks {
                let (w0, w1) = (
                    layout.words * block / blocks,
                    layout.words * (block + 1) / blocks,
                );
                let (panels, distance) = self.strip(s, (w0, w1), (j0, j1), b_pack);
                let (first, last) = (block == 0, block + 1 == blocks);
                for t in self.tiles.0..self.tiles.1 {
                    let (r0, r1) = (self.rows.start(t), self.rows.start(t + 1));
                    let h = r1 - r0;
                    let a = self.a.wrapping_add(place(layout, r0, t));
                    for (p, j) in (j0..j1).step_by(S::NR).enumerate() {
                        let tile = Tile {
                            kc: w1 - w0,
                            a: a.wrapping_add(w0 * h * layout.lhs),
                            b: panels.wrapping_add(p * distance),
                            ldb: S::NR,
                            c: self.c.wrapping_add(r0 * self.ldc + j),
                            ldc: self.ldc,
                            cols: S::NR.min(j1 - j),
                            load_c: self.load_c || !first,
                            bias: if last && !self.bias.is_null() {
                                self.bias.wrapping_add(j)
                            } else {
                                std::ptr::null()
                            },
                            groups: self.groups::<S>(a, h, j),
                        };
                        // SAFETY: packed panels are whole; the tile lies inside this task's block
                        // of C, which no other task touches.
                        unsafe { s.micro(inner(layout.format), h, &tile) }
                    }
                }
            }
        }
    }
}

impl Block<'_> {
    /// The panels of a strip of B and the distance between two of them; packs them if need be.
    #[inline(always)]
    fn strip<S: Simd>(
        &self,
        s: S,
        (w0, w1): (usize, usize),
        (j0, j1): (usize, usize),
        b_pack: *mut f32,
    ) -> (*const f32, usize) {
        match self.b {
            Source::Panels { ptr, .. } => {
                let words = self.layout.words;
                let at = j0 / S::NR * S::NR * words + w0 * S::NR;
                (ptr.get().wrapping_add(at), S::NR * words)
            }
            Source::Strided { ptr, strides } => {
                // Values of the block; only the last one of the dimension may hold an odd one.
                let a_word = if self.layout.format == Format::Bf16 {
                    2
                } else {
                    1
                };
                let (k0, k1) = (w0 * a_word, (w1 * a_word).min(self.layout.k));
                let part = Layout::new(self.layout.format, k1 - k0);
                let distance = S::NR * (w1 - w0);
                for (p, j) in (j0..j1).step_by(S::NR).enumerate() {
                    let cols = S::NR.min(j1 - j);
                    // SAFETY: the columns lie in B; b_pack holds the strip's panels.
                    unsafe {
                        let src = ptr.get().add(k0 * strides.0 + j * strides.1);
                        let dst = b_pack.add(p * distance);
                        pack::right(s, &part, src, strides, cols, dst, std::ptr::null_mut());
                    }
                }
                (b_pack, distance)
            }
        }
    }

    /// The scales of a tile of `h` rows packed at `a` and of the panel at column `j`.
    #[inline(always)]
    fn groups<S: Simd>(&self, a: *const f32, h: usize, j: usize) -> Groups {
        let layout = self.layout;
        let Source::Panels { scales, .. } = self.b else {
            return Groups::NONE;
        };
        if layout.groups == 0 {
            return Groups::NONE;
        }
        Groups {
            count: layout.groups,
            words: layout.group_words,
            a: a.wrapping_add(layout.words * layout.lhs * h),
            b: scales.get().wrapping_add(j * layout.groups),
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

/// Most rows of a tile of this format: the halves of a vector of half bytes take two registers more.
fn most_rows(format: Format) -> usize {
    match format {
        Format::Int4 { .. } => 13,
        _ => usize::MAX,
    }
}

/// Cuts an m×n result into (row parts, column parts) for the threads.
fn grid(m: usize, n: usize, threads: usize) -> (usize, usize) {
    let (mut rows, mut cols) = (m.div_ceil(ROWS), 1);
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
    }
    (rows, cols)
}

/// Panics when a place could wrap: views that repeat one value may be larger than any memory.
fn check_sizes([m, n, k]: [usize; 3]) {
    const MOST: usize = isize::MAX as usize / 64;
    let fits = |a: usize, b: usize| a.checked_mul(b).is_some_and(|x| x <= MOST);
    assert!(
        fits(m, k) && fits(n, k) && fits(m, n) && fits(m, m) && fits(n, n) && fits(k, k),
        "gemm: {m}x{k} times {k}x{n} is too large to be cut into blocks"
    );
}

/// Runs a product whose shapes have been checked.
pub(super) fn run(
    mut c: MatrixMut<'_>,
    beta: Beta,
    a: MatrixRef<'_>,
    b: Rhs<'_>,
    bias: Option<&[f32]>,
) {
    let (m, n, k) = (c.rows(), c.cols(), a.cols());
    if m == 0 || n == 0 {
        return;
    }
    let (ldc, c) = (n, MutPtr(c.ptr()));
    if k == 0 {
        for i in 0..m {
            // SAFETY: row i of C is ours alone and has n values.
            let row = unsafe { std::slice::from_raw_parts_mut(c.get().add(i * ldc), n) };
            if beta == Beta::Overwrite {
                row.fill(0.0);
            }
            for (x, &b) in row.iter_mut().zip(bias.unwrap_or(&[])) {
                *x += b;
            }
        }
        return;
    }
    check_sizes([m, n, k]);
    let (isa, layout) = match b {
        Rhs::Packed(p) => (p.isa(), *p.layout()),
        Rhs::Plain(_) => (Isa::detect(), Layout::new(Format::F32, k)),
        Rhs::Bf16(_) => (Isa::detect(), Layout::new(Format::Bf16, k)),
    };
    let (mr, nr) = tile_shape(isa);
    let panels = n.div_ceil(nr);
    // A strided B that many tasks would pack is packed once, by all of them.
    let shared = match b {
        Rhs::Plain(b) | Rhs::Bf16(b) if m > ROWS && panels * nr * layout.words <= RIGHT => {
            let mut shared = Scratch::take(panels * nr * layout.words);
            let dst = MutPtr(shared.as_mut_ptr());
            pack_panels(isa, &layout, Ptr(b.ptr()), b.strides(), n, dst);
            Some(shared)
        }
        _ => None,
    };
    let source = match (b, &shared) {
        (_, Some(shared)) => Source::Panels {
            ptr: Ptr(shared.as_ptr()),
            scales: Ptr(shared.as_ptr()),
        },
        (Rhs::Plain(b) | Rhs::Bf16(b), None) => Source::Strided {
            ptr: Ptr(b.ptr()),
            strides: b.strides(),
        },
        (Rhs::Packed(p), None) => Source::Panels {
            ptr: Ptr(p.ptr()),
            scales: Ptr(p.ptr().wrapping_add(panels * nr * layout.words)),
        },
    };
    let (a_ptr, a_strides) = (Ptr(a.ptr()), a.strides());
    let bias = Ptr(bias.map_or(std::ptr::null(), <[f32]>::as_ptr));

    let most = (LEFT / layout.lhs_row()).max(LEFT_ROWS);
    let chunks = m.div_ceil(most);
    for chunk in 0..chunks {
        let (m0, m1) = (m * chunk / chunks, m * (chunk + 1) / chunks);
        let rows = Rows::new(m1 - m0, mr.min(most_rows(layout.format)));
        let mut packed = Scratch::take((m1 - m0) * layout.lhs_row() + rows.tiles * SLACK);
        let packed = MutPtr(packed.as_mut_ptr());
        // Packing reads and writes: about as long as 16 multiplications a value.
        threads::over_rows(rows.tiles, 16 * (m1 - m0) * k, |t0, t1| {
            let pack = PackLeft {
                layout: &layout,
                a: a_ptr.get().wrapping_add(m0 * a_strides.0),
                strides: a_strides,
                rows,
                tiles: (t0, t1),
                dst: packed.get(),
            };
            dispatch(isa, pack);
        });
        let work = 2usize.saturating_mul(m1 - m0).saturating_mul(n * k);
        let threads = if work < threads::SMALL {
            1
        } else {
            threads::count()
        };
        let (row_parts, col_parts) = grid(m1 - m0, n, threads);
        let (row_parts, col_parts) = (row_parts.min(rows.tiles), col_parts.min(panels));
        threads::parallel(row_parts * col_parts, work, |task| {
            // Neighbouring tasks share columns, so a thread keeps reusing its part of B.
            let (part, row) = (task / row_parts, task % row_parts);
            let cut = |all: usize, i: usize, parts: usize| all * i / parts;
            let block = Block {
                layout: &layout,
                a: packed.get(),
                rows,
                tiles: (
                    cut(rows.tiles, row, row_parts),
                    cut(rows.tiles, row + 1, row_parts),
                ),
                b: source,
                cols: (
                    cut(panels, part, col_parts) * nr,
                    (cut(panels, part + 1, col_parts) * nr).min(n),
                ),
                c: c.get().wrapping_add(m0 * ldc),
                ldc,
                bias: bias.get(),
                load_c: beta == Beta::Accumulate,
            };
            dispatch(isa, block);
        });
    }
}
