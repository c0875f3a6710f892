//! The gradient of 3×3 filters at stride 1: the transposed path of `winograd.rs`.
//!
//! With `V = BᵀdB` of the samples and `E = A dY Aᵀ` of the output's gradient, each of the 16 positions is
//! a matrix product over tiles, `dU = Σ_tile E·V`, and at the end `dW = Gᵀ dU G`. Lanes are channels,
//! so pictures are turned first.
// Columns of small matrices are taken by index.
#![allow(clippy::needless_range_loop)]

use super::turned::Turned;
use super::weight::{BAND, Part};
use super::winograd::{GAP, POSITIONS, sample};
use crate::gemm::micro::{Groups, Inner, Lhs, Tile};
use crate::gemm::pack::{self, SLACK};
use crate::memory::Scratch;
use crate::simd::{Kernel, LANES, Simd};

/// Most tiles in a block of inner steps.
const KC: usize = 128;

/// Minimal filtering of a part.
pub(super) struct Minimal<'a>(pub Part<'a>);

impl Kernel for Minimal<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let part = self.0;
        let shape = part.shape;
        let [oh, ow] = shape.output();
        let depth = part.channels.1 - part.channels.0;
        let (row0, row1) = (part.rows.start(part.tiles.0), part.rows.start(part.tiles.1));
        let height = row1 - row0;
        let (down, across) = (oh.div_ceil(2), ow.div_ceil(2));
        let picture = Turned {
            source: [shape.height, shape.width],
            channels: shape.channels,
            part: part.channels,
            columns: 2 * across + 2,
            before: shape.padding[1],
            step: [1, 1],
            pitch: [1, 1],
        };
        let line = picture.line();
        // Rows of tiles in a block; the lines under it.
        let most = (KC / across).clamp(1, down);
        let most = most.min((BAND / (2 * line)).max(2) - 1);
        let kc_max = most * across;

        let mut turned = Scratch::take((2 * most + 2) * line + SLACK);
        let mut pixels = Scratch::take(2 * most * ow * S::MR + SLACK);
        let mut left = Scratch::take(POSITIONS * (kc_max * S::MR + SLACK));
        let mut right = Scratch::take(POSITIONS * (kc_max * S::NR + GAP));
        let mut sums = Scratch::take(POSITIONS * height * S::NR);
        let (turned, pixels) = (turned.as_mut_ptr(), pixels.as_mut_ptr());
        let (left, right) = (left.as_mut_ptr(), right.as_mut_ptr());
        let sums = sums.as_mut_ptr();
        let mut first = true;
        // SAFETY: scratch has the sizes above; reads of x and dy stay in the pictures; each weight of
        // these channels and tiles is written by this task alone.
        unsafe {
            for n in 0..shape.batch {
                for j0 in (0..down).step_by(most) {
                    let rows = most.min(down - j0);
                    let kc = rows * across;
                    let y = (2 * j0) as isize - shape.padding[0] as isize;
                    picture.fill(s, part.x.as_ptr(), n, (y, 2 * rows + 2), turned);
                    transform(s, turned, (rows, across), (line, depth), right);
                    for tile in part.tiles.0..part.tiles.1 {
                        let (r0, r1) = (part.rows.start(tile), part.rows.start(tile + 1));
                        let height_here = (2 * rows).min(oh - 2 * j0);
                        let from = (n * shape.filters + r0) * oh * ow + 2 * j0 * ow;
                        let src = part.dy.as_ptr().add(from);
                        let strides = (oh * ow, 1);
                        pack::lhs_panel(s, src, strides, r1 - r0, height_here * ow, pixels);
                        spread(s, pixels, (height_here, ow), r1 - r0, left);
                        for position in 0..POSITIONS {
                            let tile = Tile {
                                kc,
                                a: left.add(position * (kc * (r1 - r0) + SLACK)),
                                b: right.add(position * (kc * S::NR + GAP)),
                                ldb: S::NR,
                                c: sums.add((position * height + r0 - row0) * S::NR),
                                ldc: S::NR,
                                cols: S::NR,
                                load_c: !first,
                                bias: std::ptr::null(),
                                groups: Groups::NONE,
                            };
                            s.micro(Inner::F32(Lhs::Panel), r1 - r0, &tile);
                        }
                    }
                    first = false;
                }
            }
            for r in row0..row1 {
                let from = sums.add((r - row0) * S::NR).cast_const();
                let at = (r * shape.channels + part.channels.0) * 9;
                finish(s, from, height * S::NR, depth, part.dw.add(at));
            }
        }
    }
}

/// Transforms the samples of `rows × across` tiles to `[position][tile][NR]`, positions `GAP` apart.
///
/// # Safety
/// `turned` holds the lines under the tiles and a slack, `dst` the transformed samples.
#[inline(always)]
unsafe fn transform<S: Simd>(
    s: S,
    turned: *const f32,
    (rows, across): (usize, usize),
    (line, depth): (usize, usize),
    dst: *mut f32,
) {
    let stride = rows * across * S::NR + GAP;
    for (j, i) in (0..rows).flat_map(|j| (0..across).map(move |i| (j, i))) {
        for v in (0..depth).step_by(LANES) {
            // SAFETY: the caller's promises.
            unsafe {
                let from = turned.add(2 * j * line + 2 * i * depth + v);
                let mut half = [[s.splat(0.0); 4]; 4];
                for (a, half) in half.iter_mut().enumerate() {
                    let load = |b| s.load(from.add(a * line + b * depth));
                    *half = sample(s, [load(0), load(1), load(2), load(3)]);
                }
                let to = dst.add((j * across + i) * S::NR + v);
                for b in 0..4 {
                    let column = sample(s, [half[0][b], half[1][b], half[2][b], half[3][b]]);
                    for (a, x) in column.into_iter().enumerate() {
                        s.store(to.add((4 * a + b) * stride), x);
                    }
                }
            }
        }
    }
}

/// `A y`.
#[inline(always)]
fn widen<S: Simd>(s: S, y: [S::V; 2]) -> [S::V; 4] {
    let negative = s.sub(s.splat(0.0), y[1]);
    [y[0], s.add(y[0], y[1]), s.sub(y[0], y[1]), negative]
}

/// Transforms the gradients of the output, `[pixel][row]`, to `[position][tile][row]`, each position with a
/// slack.
///
/// # Safety
/// `pixels` holds the gradients and a slack, `dst` the result.
#[inline(always)]
unsafe fn spread<S: Simd>(
    s: S,
    pixels: *const f32,
    (height, width): (usize, usize),
    n: usize,
    dst: *mut f32,
) {
    let (down, across) = (height.div_ceil(2), width.div_ceil(2));
    let stride = down * across * n + SLACK;
    for (j, i) in (0..down).flat_map(|j| (0..across).map(move |i| (j, i))) {
        let (two_down, two_across) = (2 * j + 1 < height, 2 * i + 1 < width);
        let none = s.splat(0.0);
        // SAFETY: the caller's promises; stores overlap in rising order, the last runs into the slack.
        unsafe {
            let from = pixels.add((2 * j * width + 2 * i) * n);
            let load = |there: bool, at: usize| {
                if there {
                    s.load(from.add(at * n))
                } else {
                    none
                }
            };
            let top = widen(s, [load(true, 0), load(two_across, 1)]);
            let low = widen(
                s,
                [
                    load(two_down, width),
                    load(two_down && two_across, width + 1),
                ],
            );
            let to = dst.add((j * across + i) * n);
            for b in 0..4 {
                for (a, x) in widen(s, [top[b], low[b]]).into_iter().enumerate() {
                    s.store(to.add((4 * a + b) * stride), x);
                }
            }
        }
    }
}

/// `Gᵀ u`.
#[inline(always)]
fn narrow<S: Simd>(s: S, u: [S::V; 4]) -> [S::V; 3] {
    let half = s.splat(0.5);
    let (plus, minus) = (
        s.mul(half, s.add(u[1], u[2])),
        s.mul(half, s.sub(u[1], u[2])),
    );
    [s.add(u[0], plus), minus, s.add(plus, u[3])]
}

/// Transforms the sums of one filter (positions `stride` apart) to `depth` channels of 9 weights.
///
/// # Safety
/// The sums are there, `dst` is writable for all weights.
#[inline(always)]
unsafe fn finish<S: Simd>(s: S, from: *const f32, stride: usize, depth: usize, dst: *mut f32) {
    let mut out = [[0.0f32; LANES]; 9];
    for v in (0..depth).step_by(LANES) {
        // SAFETY: the caller's promises; each row of `out` holds 16 values.
        unsafe {
            let mut half = [[s.splat(0.0); 3]; 4];
            for (a, half) in half.iter_mut().enumerate() {
                let load = |b| s.load(from.add((4 * a + b) * stride + v));
                *half = narrow(s, [load(0), load(1), load(2), load(3)]);
            }
            for b in 0..3 {
                let column = narrow(s, [half[0][b], half[1][b], half[2][b], half[3][b]]);
                for (a, x) in column.into_iter().enumerate() {
                    s.store(out[3 * a + b].as_mut_ptr(), x);
                }
            }
            for c in 0..LANES.min(depth - v) {
                for (tap, out) in out.iter().enumerate() {
                    *dst.add((v + c) * 9 + tap) = out[c];
                }
            }
        }
    }
}
