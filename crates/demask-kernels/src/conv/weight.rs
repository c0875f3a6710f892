//! Gradients with respect to the filters and the bias.
//!
//! `dW[o, (tap, c)] = Σ_pixel dY[o, pixel] · X[c, pixel under tap]` is a matrix product over pixels.
//! Pictures are turned to `[pixel][channel]` once, after which a tap is a shift of whole rows and no
//! further transposition is needed. Where a panel is wider than the channels it takes several taps.

use super::ConvShape;
use super::turned::Turned;
use super::winograd;
use super::winograd_weight::Minimal;
use crate::gemm::micro::{Groups, Inner, Lhs, Tile};
use crate::gemm::pack::{self, Rows, SLACK};
use crate::memory::{MutPtr, Scratch};
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch, tile_shape};
use crate::threads;

/// Most pixels in a block of inner steps.
const KC: usize = 384;
/// Most values of a turned band of a picture (256 KiB of second-level cache).
pub(super) const BAND: usize = 1 << 16;
/// Fewest row tiles worth a task of their own.
const MIN_TILES: usize = 2;

/// Gradient of [`super::conv2d`] with respect to the filters; `dweight` is overwritten.
/// `dweight[o, c, u, v] = Σ_{n, j, i} dy[n, o, j, i] · x[n, c, j·s₀ + u − p₀, i·s₁ + v − p₁]`: one chain over n,
/// then j, then i (filters 3×3 at stride 1 with at least 16 channels and filters: 16 chains over tiles of
/// four pixels, combined in a fixed order).
///
/// # Shapes
/// As in [`super::conv2d`].
///
/// # Panics
/// When the shapes do not fit together.
pub fn conv2d_backward_weight(shape: &ConvShape, x: &[f32], dy: &[f32], dweight: &mut [f32]) {
    shape.check(
        "conv2d_backward_weight",
        Some(x.len()),
        Some(dweight.len()),
        Some(dy.len()),
    );
    if shape.batch == 0 {
        dweight.fill(0.0);
    }
    if dweight.is_empty() || shape.batch == 0 {
        return;
    }
    let isa = Isa::detect();
    if winograd::fits(shape.kernel, shape.stride, shape.channels, shape.filters) {
        each_part(isa, shape, x, dy, dweight, |part| {
            dispatch(isa, Minimal(part));
        });
    } else {
        each_part(isa, shape, x, dy, dweight, |part| {
            dispatch(isa, Direct(part))
        });
    }
}

/// Cuts the channels into panels and the filters into tiles, and calls `f` for parts of both in parallel.
fn each_part(
    isa: Isa,
    shape: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dweight: &mut [f32],
    f: impl Fn(Part<'_>) + Sync,
) {
    let (mr, nr) = tile_shape(isa);
    let panels = shape.channels.div_ceil(nr);
    let rows = Rows::new(shape.filters, mr);
    let mut parts = 1;
    if shape.flops() >= threads::SMALL {
        while panels * parts < 2 * threads::count() && rows.tiles / parts >= 2 * MIN_TILES {
            parts += 1;
        }
    }
    let dw = MutPtr(dweight.as_mut_ptr());
    threads::parallel(panels * parts, shape.flops(), |task| {
        let (panel, part) = (task / parts, task % parts);
        f(Part {
            shape,
            x,
            dy,
            dw: dw.get(),
            channels: (panel * nr, ((panel + 1) * nr).min(shape.channels)),
            rows,
            tiles: (rows.tiles * part / parts, rows.tiles * (part + 1) / parts),
        });
    });
}

/// Some channels and some tiles of filters, over the whole batch.
pub(super) struct Part<'a> {
    pub shape: &'a ConvShape,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    /// The whole gradient, of which no other part writes this one's.
    pub dw: *mut f32,
    pub channels: (usize, usize),
    pub rows: Rows,
    pub tiles: (usize, usize),
}

struct Direct<'a>(Part<'a>);

impl Kernel for Direct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let part = self.0;
        let shape = part.shape;
        let [oh, ow] = shape.output();
        let ([kh, kw], [sy, sx]) = (shape.kernel, shape.stride);
        let (c0, c1) = part.channels;
        let (depth, taps) = (c1 - c0, kh * kw);
        let (row0, row1) = (part.rows.start(part.tiles.0), part.rows.start(part.tiles.1));
        let height = row1 - row0;
        // Taps that share a panel.
        let group = (S::NR / depth).clamp(1, taps);
        let groups = taps.div_ceil(group);
        // Rows and columns between two samples that no tap reads are left out; columns only where that saves a vector,
        // as they are turned so many at a time.
        let sparse = sx > kw.next_multiple_of(LANES);
        let pitch = [sy.min(kh), if sparse { kw } else { sx }];
        // A turned row of the picture, in values; a band of output rows; a block of them.
        let picture = Turned {
            source: [shape.height, shape.width],
            channels: shape.channels,
            part: part.channels,
            columns: (ow - 1) * pitch[1] + kw,
            before: shape.padding[1],
            step: shape.stride,
            pitch,
        };
        let line = picture.line();
        let band_lines = |rows: usize| (rows - 1) * pitch[0] + kh;
        let band = ((BAND / line).saturating_sub(kh) / pitch[0] + 1).min(oh);
        let block = (KC / ow).clamp(1, band);
        // One tap, one after the other: the turned picture is the panel.
        let plain = taps == 1 && shape.stride == [1, 1] && depth == S::NR;

        let mut turned = Scratch::take(band_lines(band) * line + SLACK);
        let mut left = Scratch::take(height * block * ow + SLACK);
        let mut right = Scratch::take(block * ow * S::NR + SLACK);
        let mut sums = Scratch::take(groups * height * S::NR);
        let (turned, left) = (turned.as_mut_ptr(), left.as_mut_ptr());
        let (right, sums) = (right.as_mut_ptr(), sums.as_mut_ptr());
        let mut first = true;
        // SAFETY: scratch has the sizes above; the tiles read whole panels of it; reads of x and dy stay
        // in the pictures; each weight of these channels and tiles is written by this task alone.
        unsafe {
            for n in 0..shape.batch {
                for band0 in (0..oh).step_by(band) {
                    let band1 = (band0 + band).min(oh);
                    let y = (band0 * sy) as isize - shape.padding[0] as isize;
                    let lines = (y, band_lines(band1 - band0));
                    picture.fill(s, part.x.as_ptr(), n, lines, turned);
                    for j0 in (band0..band1).step_by(block) {
                        let j1 = (j0 + block).min(band1);
                        let kc = (j1 - j0) * ow;
                        for tile in part.tiles.0..part.tiles.1 {
                            let (r0, r1) = (part.rows.start(tile), part.rows.start(tile + 1));
                            let from = (n * shape.filters + r0) * oh * ow + j0 * ow;
                            let src = part.dy.as_ptr().add(from);
                            let dst = left.add((r0 - row0) * kc);
                            pack::lhs_panel(s, src, (oh * ow, 1), r1 - r0, kc, dst);
                        }
                        for g in 0..groups {
                            let top = turned.add((j0 - band0) * pitch[0] * line).cast_const();
                            let panel = if plain {
                                top
                            } else {
                                let end = ((g + 1) * group).min(taps);
                                let mut places = [(0, 0); 16 * LANES];
                                let places = &mut places[..end - g * group];
                                for (i, place) in places.iter_mut().enumerate() {
                                    let tap = g * group + i;
                                    *place = (tap / kw * line + tap % kw * depth, i * depth);
                                }
                                let steps = (j1 - j0, pitch[0] * line, ow, pitch[1] * depth);
                                shift(s, top, steps, places, depth, right);
                                right.cast_const()
                            };
                            for tile in part.tiles.0..part.tiles.1 {
                                let (r0, r1) = (part.rows.start(tile), part.rows.start(tile + 1));
                                let tile = Tile {
                                    kc,
                                    a: left.add((r0 - row0) * kc),
                                    b: panel,
                                    ldb: S::NR,
                                    c: sums.add((g * height + r0 - row0) * S::NR),
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
            }
            for r in row0..row1 {
                for tap in 0..taps {
                    let at = (tap / group * height + r - row0) * S::NR + tap % group * depth;
                    for c in c0..c1 {
                        *part.dw.add((r * shape.channels + c) * taps + tap) =
                            *sums.add(at + c - c0);
                    }
                }
            }
        }
    }
}

/// Packs a right panel `[row, column][NR]`: for each pixel the channels under each of some taps, which
/// are (offset in the turned picture, column of the panel).
///
/// # Safety
/// `depth` values (rounded up to 16) are readable at each place; `dst` holds the panel and 15 values more.
#[inline(always)]
unsafe fn shift<S: Simd>(
    s: S,
    top: *const f32,
    (rows, row_step, columns, column_step): (usize, usize, usize, usize),
    places: &[(usize, usize)],
    depth: usize,
    mut dst: *mut f32,
) {
    // SAFETY: the caller's promises; stores overlap in rising order.
    unsafe {
        for j in 0..rows {
            for i in 0..columns {
                let from = top.add(j * row_step + i * column_step);
                for &(src, at) in places {
                    for v in (0..depth).step_by(LANES) {
                        s.store(dst.add(at + v), s.load(from.add(src + v)));
                    }
                }
                dst = dst.add(S::NR);
            }
        }
    }
}

/// Gradient of [`super::conv2d`] with respect to the bias: the sum of `dy` over pictures and pixels.
/// The sum over a picture has 16 partial sums, folded in a fixed order; pictures are added in order.
///
/// # Shapes
/// `dy`: `[batch, filters, output]`; `dbias`: `[filters]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn conv2d_backward_bias(shape: &ConvShape, dy: &[f32], dbias: &mut [f32]) {
    shape.check("conv2d_backward_bias", None, None, Some(dy.len()));
    assert_eq!(
        dbias.len(),
        shape.filters,
        "conv2d_backward_bias: dbias must have a value for each of the {} filters",
        shape.filters
    );
    let [oh, ow] = shape.output();
    let (isa, pixels, out) = (Isa::detect(), oh * ow, MutPtr(dbias.as_mut_ptr()));
    threads::over_rows(shape.filters, dy.len() * 2, |a, b| {
        for o in a..b {
            let mut sum = 0.0;
            for n in 0..shape.batch {
                let from = (n * shape.filters + o) * pixels;
                sum += dispatch(isa, Sum(&dy[from..from + pixels]));
            }
            // SAFETY: each filter belongs to one part.
            unsafe { *out.get().add(o) = sum }
        }
    });
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (whole, rest) = self.0.split_at(self.0.len() / LANES * LANES);
        let mut sum = s.splat(0.0);
        for x in whole.chunks_exact(LANES) {
            // SAFETY: the chunk has 16 values.
            sum = s.add(sum, unsafe { s.load(x.as_ptr()) });
        }
        // SAFETY: the rest is read and nothing else.
        s.sum(s.add(sum, unsafe { s.load_part(rest.as_ptr(), rest.len(), 0.0) }))
    }
}
