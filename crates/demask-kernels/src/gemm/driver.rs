//! Cache blocks and threads.
//!
//! The result is cut into a grid of blocks, one task each. A task packs its rows of A for `kc` inner
//! steps, then for each strip of columns packs B (unless it came packed; the strip stays in the
//! second-level cache) and walks the register tiles: a panel of A stays in the first-level cache
//! while the panels of B stream past. Blocks of one row or column repeat some packing, which costs
//! 1–2 %, and in return there is one parallel loop without barriers.

use super::micro::{Lhs, Tile};
use super::pack::{self, Rows, SLACK};
use super::{Beta, MatrixMut, MatrixRef, Rhs};
use crate::mem::{MutPtr, Ptr, Scratch};
use crate::simd::{Isa, Kernel, Simd, dispatch, tile_shape};
use crate::threads;

/// Most inner steps in a block: a panel of A (14 rows) then takes 21 KiB of first-level cache.
const KC: usize = 384;
/// Columns of B in a strip: with `KC` steps 384 KiB of second-level cache.
const STRIP: usize = 256;
/// Most rows of a task.
const ROWS: usize = 512;
/// Fewest rows and columns worth a task of their own.
const MIN_ROWS: usize = 56;
const MIN_COLS: usize = 128;

/// The right operand as the tasks see it.
#[derive(Clone, Copy)]
enum Source {
    Strided {
        ptr: *const f32,
        strides: (usize, usize),
    },
    Panels {
        ptr: *const f32,
    },
}

/// One block of C.
struct Block {
    a: *const f32,
    a_strides: (usize, usize),
    /// Column 0 of B is column `col0` of the whole.
    b: Source,
    col0: usize,
    c: *mut f32,
    ldc: usize,
    bias: *const f32,
    m: usize,
    n: usize,
    k: usize,
    load_c: bool,
}

impl Kernel for Block {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let rows = Rows::new(self.m, S::MR);
        let blocks = self.k.div_ceil(KC);
        let kc_max = self.k.div_ceil(blocks);
        let mut a_pack = Scratch::take(self.m * kc_max + SLACK);
        let a_pack = a_pack.as_mut_ptr();
        let mut b_pack = Scratch::take(match self.b {
            Source::Strided { .. } => STRIP.min(self.n.next_multiple_of(S::NR)) * kc_max,
            Source::Panels { .. } => 0,
        });
        let b_pack = b_pack.as_mut_ptr();
        for block in 0..blocks {
            let (k0, k1) = (self.k * block / blocks, self.k * (block + 1) / blocks);
            let kc = k1 - k0;
            let (rs, cs) = self.a_strides;
            for i in 0..rows.tiles {
                let (r0, r1) = (rows.start(i), rows.start(i + 1));
                // SAFETY: rows r0..r1 and steps k0..k1 lie in A; a_pack holds m·kc + SLACK values.
                unsafe {
                    let src = self.a.add(r0 * rs + k0 * cs);
                    pack::lhs_panel(s, src, (rs, cs), r1 - r0, kc, a_pack.add(r0 * kc));
                }
            }
            let mut j0 = 0;
            while j0 < self.n {
                let width = STRIP.min(self.n - j0);
                let (strip, panel_len) = self.strip(s, (k0, kc), (j0, width), b_pack);
                for i in 0..rows.tiles {
                    let (r0, r1) = (rows.start(i), rows.start(i + 1));
                    for p in 0..width.div_ceil(S::NR) {
                        let j = j0 + p * S::NR;
                        let last = block + 1 == blocks && !self.bias.is_null();
                        let tile = Tile {
                            kc,
                            a: a_pack.wrapping_add(r0 * kc),
                            b: strip.wrapping_add(p * panel_len),
                            ldb: S::NR,
                            c: self.c.wrapping_add(r0 * self.ldc + j),
                            ldc: self.ldc,
                            cols: S::NR.min(self.n - j),
                            load_c: self.load_c || block > 0,
                            bias: if last {
                                self.bias.wrapping_add(j)
                            } else {
                                std::ptr::null()
                            },
                        };
                        // SAFETY: packed panels are whole; the tile lies inside this task's block
                        // of C, which no other task touches.
                        unsafe { s.micro(Lhs::Panel, r1 - r0, &tile) }
                    }
                }
                j0 += STRIP;
            }
        }
    }
}

impl Block {
    /// The panels of a strip of B and the distance between two of them; packs them if need be.
    #[inline(always)]
    fn strip<S: Simd>(
        &self,
        s: S,
        (k0, kc): (usize, usize),
        (j0, width): (usize, usize),
        b_pack: *mut f32,
    ) -> (*const f32, usize) {
        match self.b {
            Source::Panels { ptr } => {
                let first = (self.col0 + j0) / S::NR;
                (
                    ptr.wrapping_add(first * S::NR * self.k + k0 * S::NR),
                    S::NR * self.k,
                )
            }
            Source::Strided { ptr, strides } => {
                for p in 0..width.div_ceil(S::NR) {
                    let j = j0 + p * S::NR;
                    let cols = S::NR.min(self.n - j);
                    // SAFETY: the columns lie in B; b_pack holds STRIP columns of kc_max steps.
                    unsafe {
                        let src = ptr.add(k0 * strides.0 + (self.col0 + j) * strides.1);
                        pack::rhs_panel(s, src, strides, kc, cols, b_pack.add(p * S::NR * kc));
                    }
                }
                (b_pack, S::NR * kc)
            }
        }
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

/// Panics when a part of one of the three sizes, `size · part / parts`, could wrap: views that repeat one
/// value may be larger than any memory.
fn check_sizes([m, n, k]: [usize; 3], [rows, cols]: [usize; 2]) {
    let cut = |size: usize, parts: usize| size.checked_mul(parts).is_some();
    assert!(
        cut(m, rows) && cut(n, cols) && cut(k, k.div_ceil(KC)),
        "gemm: {m}x{k} times {k}x{n} is too large to be cut into blocks"
    );
}

/// Runs a product whose shapes have been checked.
pub(super) fn run(
    isa: Isa,
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
    let (_, nr) = tile_shape(isa);
    let work = 2usize.saturating_mul(m).saturating_mul(n).saturating_mul(k);
    let (row_parts, col_parts) = grid(
        m,
        n,
        if work < threads::SMALL {
            1
        } else {
            threads::count()
        },
    );
    let panels = n.div_ceil(nr);
    let col_parts = col_parts.min(panels);
    check_sizes([m, n, k], [row_parts, col_parts]);
    let (a_ptr, a_strides) = (Ptr(a.ptr()), a.strides());
    let (b_ptr, b_strides) = match b {
        Rhs::Plain(b) => (Ptr(b.ptr()), Some(b.strides())),
        Rhs::Packed(p) => (Ptr(p.ptr()), None),
    };
    let bias = Ptr(bias.map_or(std::ptr::null(), <[f32]>::as_ptr));
    threads::parallel(row_parts * col_parts, work, |task| {
        // Neighbouring tasks share columns, so a thread keeps reusing its part of B.
        let (part, row) = (task / row_parts, task % row_parts);
        let (r0, r1) = (m * row / row_parts, m * (row + 1) / row_parts);
        let j0 = panels * part / col_parts * nr;
        let j1 = (panels * (part + 1) / col_parts * nr).min(n);
        let bias = bias.get();
        let block = Block {
            a: a_ptr.get().wrapping_add(r0 * a_strides.0),
            a_strides,
            b: match b_strides {
                Some(strides) => Source::Strided {
                    ptr: b_ptr.get(),
                    strides,
                },
                None => Source::Panels { ptr: b_ptr.get() },
            },
            col0: j0,
            c: c.get().wrapping_add(r0 * ldc + j0),
            ldc,
            bias: if bias.is_null() {
                bias
            } else {
                bias.wrapping_add(j0)
            },
            m: r1 - r0,
            n: j1 - j0,
            k,
            load_c: beta == Beta::Accumulate,
        };
        dispatch(isa, block);
    });
}
