//! Group norm of pictures, alone or with SiLU after it.
//!
//! The values of one group of channels of one picture lie next to each other. A sum over them has 64
//! partial sums (value j of a channel goes to partial sum j mod 64), folded in a fixed order; sums over a
//! channel likewise; the gradients of weight and bias add the pictures in order.

use super::silu::value_and_slope;
use super::{get, same_len, same_size};
use crate::memory::{MutPtr, written};
use crate::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::threads;

/// The sizes of a group norm over pictures `[batch, channels, pixels]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Pictures.
    pub batch: usize,
    /// Channels of a picture.
    pub channels: usize,
    /// Values of a channel.
    pub pixels: usize,
    /// Groups of neighbouring channels that share mean and variance; divides `channels`.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether `silu(z) = z · σ(z)` follows.
    pub silu: bool,
}

/// What a group norm does to the channels.
#[derive(Clone, Copy, Debug)]
pub struct ChannelParams<'a> {
    /// Added to each channel of each picture before the norm, `[batch, channels]`; nothing when left out.
    pub shift: Option<&'a [f32]>,
    /// `[channels]`.
    pub weight: &'a [f32],
    /// `[channels]`.
    pub bias: &'a [f32],
}

/// Gradients of [`ChannelParams`], of the same shapes; they are overwritten.
#[derive(Debug)]
pub struct ChannelGradients<'a> {
    /// Of the shift, if it is wanted.
    pub shift: Option<&'a mut [f32]>,
    /// Of the weight.
    pub weight: &'a mut [f32],
    /// Of the bias.
    pub bias: &'a mut [f32],
}

impl ChannelParams<'_> {
    /// Those of group `g`, counted over all pictures.
    fn group(&self, shape: &GroupNorm, g: usize) -> Self {
        let per = shape.channels / shape.groups;
        let own = g % shape.groups * per..(g % shape.groups + 1) * per;
        Self {
            shift: self.shift.map(|shift| &shift[g * per..(g + 1) * per]),
            weight: &self.weight[own.clone()],
            bias: &self.bias[own],
        }
    }

    fn shift(&self, channel: usize) -> f32 {
        self.shift.map_or(0.0, |shift| shift[channel])
    }
}

impl GroupNorm {
    /// Panics unless the sizes fit; returns the channels of a group.
    fn check(
        &self,
        what: &str,
        pictures: &[usize],
        params: &ChannelParams<'_>,
        stats: usize,
    ) -> usize {
        assert!(
            self.groups > 0 && self.channels.is_multiple_of(self.groups),
            "{what}: {} channels can't be cut into {} groups",
            self.channels,
            self.groups
        );
        same_size(what, &[self.batch, self.channels, self.pixels], pictures);
        let channels = [params.weight.len(), params.bias.len()];
        same_len(
            &format!("{what}: weight and bias"),
            self.channels,
            &channels,
        );
        if let Some(shift) = params.shift {
            let what = format!("{what}: shift");
            same_size(&what, &[self.batch, self.channels], &[shift.len()]);
        }
        let what = format!("{what}: stats");
        same_size(&what, &[self.batch, self.groups, 2], &[stats]);
        self.channels / self.groups
    }
}

/// `y = (z − mean) / √(variance + ε) · weight + bias` with `z = x + shift`, then SiLU if asked, with the mean and
/// variance of each group of each picture; keeps `(mean, 1 / √(variance + ε))` for the backward pass. The
/// variance is the mean squared deviation, taken in a second pass.
///
/// # Shapes
/// `x`, `y`: `[batch, channels, pixels]`; `stats`: `[batch, groups, 2]`.
///
/// # Panics
/// When the shapes do not fit together.
pub fn group_norm(
    shape: &GroupNorm,
    x: &[f32],
    params: ChannelParams<'_>,
    stats: &mut [f32],
) -> Vec<f32> {
    let pictures = [x.len()];
    let per = shape.check("group_norm", &pictures, &params, stats.len());
    let (isa, n) = (Isa::detect(), per * shape.pixels);
    let stats = MutPtr(stats.as_mut_ptr());
    let groups = |y: MutPtr| {
        threads::over_rows(shape.batch * shape.groups, x.len() * 20, |a, b| {
            for g in a..b {
                let forward = Forward {
                    shape,
                    x: &x[g * n..(g + 1) * n],
                    params: params.group(shape, g),
                    y: y.get().wrapping_add(g * n),
                    // SAFETY: groups do not overlap.
                    stats: unsafe { stats.slice(2 * g, 2) },
                };
                dispatch(isa, forward);
            }
        });
    };
    // SAFETY: the groups are all of y, and each writes its own.
    unsafe { written(x.len(), groups) }
}

/// Gradients of [`group_norm`]: gives `dx`, overwrites `gradients`. With `h = (x + shift − mean)·r`,
/// `d = dy` (with SiLU `dy · silu'(h·weight + bias)`) and `g = d · weight`:
/// `dx = r · (g − mean(g) − h · mean(g · h))`, `dweight = Σ d · h`, `dbias = Σ d`, and `dshift` is the sum of `dx` over
/// the pixels.
///
/// # Shapes
/// As in [`group_norm`].
///
/// # Panics
/// When the shapes do not fit together.
pub fn group_norm_backward(
    shape: &GroupNorm,
    x: &[f32],
    params: ChannelParams<'_>,
    stats: &[f32],
    dy: &[f32],
    gradients: ChannelGradients<'_>,
) -> Vec<f32> {
    let what = "group_norm_backward";
    let pictures = [x.len(), dy.len()];
    let per = shape.check(what, &pictures, &params, stats.len());
    let found = [gradients.weight.len(), gradients.bias.len()];
    same_len(&format!("{what}: gradients"), shape.channels, &found);
    if let Some(shift) = &gradients.shift {
        let what = format!("{what}: gradient of the shift");
        same_size(&what, &[shape.batch, shape.channels], &[shift.len()]);
    }
    if x.is_empty() {
        // The channels of pictures without pixels may be any number.
        let ChannelGradients {
            shift,
            weight,
            bias,
        } = gradients;
        for gradient in [weight, bias].into_iter().chain(shift) {
            gradient.fill(0.0);
        }
        return Vec::new();
    }
    let (isa, n) = (Isa::detect(), per * shape.pixels);
    // (Σ d, Σ d·h) of each channel of each picture.
    let mut sums = vec![0.0f32; 2 * shape.batch * shape.channels];
    let sums_ptr = MutPtr(sums.as_mut_ptr());
    let shift = gradients.shift.map(|shift| MutPtr(shift.as_mut_ptr()));
    let groups = |dx: MutPtr| {
        threads::over_rows(shape.batch * shape.groups, x.len() * 30, |a, b| {
            for g in a..b {
                // SAFETY: groups do not overlap.
                let (sums, dshift) = unsafe {
                    (
                        sums_ptr.slice(2 * g * per, 2 * per),
                        shift.map(|shift| shift.slice(g * per, per)),
                    )
                };
                let backward = Backward {
                    shape,
                    x: &x[g * n..(g + 1) * n],
                    params: params.group(shape, g),
                    stats: &stats[2 * g..2 * g + 2],
                    dy: &dy[g * n..(g + 1) * n],
                    dx: dx.get().wrapping_add(g * n),
                    sums,
                    dshift,
                };
                dispatch(isa, backward);
            }
        });
    };
    // SAFETY: the groups are all of dx, and each writes its own before it reads it.
    let dx = unsafe { written(x.len(), groups) };
    let (dweight, dbias) = (gradients.weight, gradients.bias);
    dweight.fill(0.0);
    dbias.fill(0.0);
    for picture in sums.chunks_exact((2 * shape.channels).max(1)) {
        for (c, pair) in picture.chunks_exact(2).enumerate() {
            dbias[c] += pair[0];
            dweight[c] += pair[1];
        }
    }
    dx
}

/// Partial vectors of a sum, so that additions need not wait for each other.
const PARTS: usize = 4;

/// Folds the partial vectors of a sum.
#[inline(always)]
fn fold<S: Simd>(s: S, [a, b, c, d]: [S::V; PARTS]) -> f32 {
    s.sum(s.add(s.add(a, b), s.add(c, d)))
}

struct Forward<'a> {
    shape: &'a GroupNorm,
    x: &'a [f32],
    params: ChannelParams<'a>,
    /// As long as `x`, and written only.
    y: *mut f32,
    stats: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (n, pixels, params) = (self.x.len(), self.shape.pixels, self.params);
        // (Loops are written out: the compiler leaves closures outside the instruction set.)
        let mut acc = [s.splat(0.0); PARTS];
        let mut shifted = 0.0;
        for (c, x) in self.x.chunks_exact(pixels.max(1)).enumerate() {
            shifted += params.shift(c);
            for j0 in (0..pixels).step_by(PARTS * LANES) {
                let steps = (j0..pixels).step_by(LANES);
                for (j, acc) in steps.zip(&mut acc) {
                    *acc = s.add(*acc, get(s, x, j));
                }
            }
        }
        let mean = match n {
            0 => 0.0,
            n => (fold(s, acc) + shifted * pixels as f32) / n as f32,
        };
        let mut acc = [s.splat(0.0); PARTS];
        for (c, x) in self.x.chunks_exact(pixels.max(1)).enumerate() {
            let centre = mean - params.shift(c);
            for j0 in (0..pixels).step_by(PARTS * LANES) {
                let steps = (j0..pixels).step_by(LANES);
                for (j, acc) in steps.zip(&mut acc) {
                    // Lanes beyond the channel deviate by 0.
                    let d = s.sub(super::get_or(s, x, j, centre), s.splat(centre));
                    *acc = s.fma(d, d, *acc);
                }
            }
        }
        let squares = fold(s, acc);
        let r = 1.0 / (squares / n.max(1) as f32 + self.shape.eps).sqrt();
        self.stats.copy_from_slice(&[mean, r]);
        for (c, x) in self.x.chunks_exact(pixels.max(1)).enumerate() {
            let (centre, r) = (s.splat(mean - params.shift(c)), s.splat(r));
            let (w, b) = (s.splat(params.weight[c]), s.splat(params.bias[c]));
            for j in (0..pixels).step_by(LANES) {
                let z = s.fma(s.mul(s.sub(get(s, x, j), centre), r), w, b);
                let z = if self.shape.silu {
                    value_and_slope(s, z).0
                } else {
                    z
                };
                // SAFETY: channel c of y is as long as that of x.
                unsafe { s.store_part(self.y.add(c * pixels + j), pixels - j, z) }
            }
        }
    }
}

struct Backward<'a> {
    shape: &'a GroupNorm,
    x: &'a [f32],
    params: ChannelParams<'a>,
    stats: &'a [f32],
    dy: &'a [f32],
    /// As long as `x`, and written before it is read.
    dx: *mut f32,
    /// (Σ d, Σ d·h) of each channel.
    sums: &'a mut [f32],
    dshift: Option<&'a mut [f32]>,
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (n, pixels, params) = (self.x.len(), self.shape.pixels, self.params);
        if n == 0 {
            return;
        }
        let (mean, r) = (self.stats[0], s.splat(self.stats[1]));
        let silu = self.shape.silu;
        let (mut sum_g, mut sum_gh) = (0.0, 0.0);
        // First pass: the sums, and d into dx when it is dear.
        for (c, sums) in self.sums.chunks_exact_mut(2).enumerate() {
            let (a, z) = (c * pixels, (c + 1) * pixels);
            let (x, dy, dx) = (&self.x[a..z], &self.dy[a..z], self.dx.wrapping_add(a));
            let centre = s.splat(mean - params.shift(c));
            let (w, b) = (s.splat(params.weight[c]), s.splat(params.bias[c]));
            let (mut acc_d, mut acc_dh) = ([s.splat(0.0); PARTS], [s.splat(0.0); PARTS]);
            for j0 in (0..pixels).step_by(PARTS * LANES) {
                let steps = (j0..pixels).step_by(LANES);
                for (j, (acc_d, acc_dh)) in steps.zip(acc_d.iter_mut().zip(&mut acc_dh)) {
                    let h = s.mul(s.sub(get(s, x, j), centre), r);
                    let mut d = get(s, dy, j);
                    if silu {
                        d = s.mul(d, value_and_slope(s, s.fma(h, w, b)).1);
                        // SAFETY: channel c of dx is as long as that of x.
                        unsafe { s.store_part(dx.add(j), pixels - j, d) }
                    }
                    *acc_d = s.add(*acc_d, d);
                    *acc_dh = s.fma(d, h, *acc_dh);
                }
            }
            let (sum_d, sum_dh) = (fold(s, acc_d), fold(s, acc_dh));
            sums.copy_from_slice(&[sum_d, sum_dh]);
            sum_g += params.weight[c] * sum_d;
            sum_gh += params.weight[c] * sum_dh;
        }
        let (mean_g, back) = (s.splat(sum_g / n as f32), s.splat(-sum_gh / n as f32));
        for (c, &w) in params.weight.iter().enumerate() {
            let (a, z) = (c * pixels, (c + 1) * pixels);
            let (x, dy, dx) = (&self.x[a..z], &self.dy[a..z], self.dx.wrapping_add(a));
            let centre = s.splat(mean - params.shift(c));
            let w = s.splat(w);
            let mut acc = [s.splat(0.0); PARTS];
            for j0 in (0..pixels).step_by(PARTS * LANES) {
                let steps = (j0..pixels).step_by(LANES);
                for (j, acc) in steps.zip(&mut acc) {
                    let left = pixels - j;
                    let d = if silu {
                        // SAFETY: the first pass has written channel c, which is as long as that of x.
                        unsafe { s.load_part(dx.add(j), left, 0.0) }
                    } else {
                        get(s, dy, j)
                    };
                    let h = s.mul(s.sub(get(s, x, j), centre), r);
                    let g = s.fma(d, w, s.fma(h, back, s.sub(s.splat(0.0), mean_g)));
                    let g = s.mul(r, g);
                    // SAFETY: as above. Lanes beyond the channel hold no pixels.
                    unsafe {
                        s.store_part(dx.add(j), left, g);
                        *acc = s.add(*acc, s.load_part(dx.add(j), left, 0.0));
                    }
                }
            }
            if let Some(dshift) = &mut self.dshift {
                dshift[c] = fold(s, acc);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_every_isa;
    use crate::testing::{Lcg, relative_error};
    use crate::threads::with_threads;
    use proptest::prelude::*;

    #[test]
    fn a_group_by_hand() {
        // Mean 3, variance 1.
        let shape = GroupNorm {
            batch: 1,
            channels: 2,
            pixels: 1,
            groups: 1,
            eps: 0.0,
            silu: false,
        };
        let mut stats = [0.0; 2];
        let mut params = ChannelParams {
            shift: None,
            weight: &[5.0, 6.0],
            bias: &[0.5, 1.0],
        };
        let y = group_norm(&shape, &[2.0, 4.0], params, &mut stats);
        assert_eq!((&y[..], stats), (&[-4.5, 7.0][..], [3.0, 1.0]));
        // 3 and 7: mean 5, variance 4.
        params.shift = Some(&[1.0, 3.0]);
        let y = group_norm(&shape, &[2.0, 4.0], params, &mut stats);
        assert_eq!((&y[..], stats), (&[-4.5, 7.0][..], [5.0, 0.5]));
    }

    struct Data {
        x: Vec<f32>,
        shift: Option<Vec<f32>>,
        w: Vec<f32>,
        b: Vec<f32>,
        dy: Vec<f32>,
    }

    /// y, dx, dweight, dbias, and dshift where there is a shift.
    fn run(shape: &GroupNorm, d: &Data) -> [Vec<f32>; 5] {
        let mut stats = vec![0.0; 2 * shape.batch * shape.groups];
        let (mut dw, mut db) = (d.w.clone(), d.w.clone());
        let mut dshift = d.shift.clone().unwrap_or_default();
        let params = ChannelParams {
            shift: d.shift.as_deref(),
            weight: &d.w,
            bias: &d.b,
        };
        let y = group_norm(shape, &d.x, params, &mut stats);
        let gradients = ChannelGradients {
            shift: d.shift.is_some().then_some(&mut dshift[..]),
            weight: &mut dw,
            bias: &mut db,
        };
        let dx = group_norm_backward(shape, &d.x, params, &stats, &d.dy, gradients);
        [y, dx, dw, db, dshift]
    }

    /// The same in f64, written from the formulas, and the scales of the errors of dx and of dw and db: the largest
    /// `r · g`, of which small groups leave little, and the largest term of a sum whose terms may nearly cancel.
    fn reference(shape: &GroupNorm, d: &Data) -> ([Vec<f64>; 5], [f64; 2]) {
        let (p, per) = (shape.pixels, shape.channels / shape.groups);
        let n = per * p;
        let (mut y, mut dx) = (vec![0.0; d.x.len()], vec![0.0; d.x.len()]);
        let (mut dw, mut db) = (vec![0.0; shape.channels], vec![0.0; shape.channels]);
        let mut dshift = vec![0.0; d.shift.as_ref().map_or(0, Vec::len)];
        let (mut scale, mut term) = (1e-3f64, 0.0f64);
        for g in 0..shape.batch * shape.groups {
            let plane = |j: usize| (g * n + j) / p;
            let shift = |j: usize| {
                d.shift
                    .as_ref()
                    .map_or(0.0, |shift| f64::from(shift[plane(j)]))
            };
            let x = |j: usize| f64::from(d.x[g * n + j]) + shift(j);
            let channel = |j: usize| g % shape.groups * per + j / p;
            let avg = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
            let mean = avg(&x);
            let r = 1.0 / (avg(&|j| (x(j) - mean).powi(2)) + f64::from(shape.eps)).sqrt();
            let h = |j: usize| (x(j) - mean) * r;
            let w = |j: usize| f64::from(d.w[channel(j)]);
            let z = |j: usize| h(j) * w(j) + f64::from(d.b[channel(j)]);
            let sig = |z: f64| 1.0 / (1.0 + (-z).exp());
            let slope = |j: usize| {
                let (z, s) = (z(j), sig(z(j)));
                if shape.silu {
                    s + z * s * (1.0 - s)
                } else {
                    1.0
                }
            };
            let grad = |j: usize| f64::from(d.dy[g * n + j]) * slope(j);
            let mean_g = avg(&|j| grad(j) * w(j));
            let mean_gh = avg(&|j| grad(j) * w(j) * h(j));
            for j in 0..n {
                let at = g * n + j;
                y[at] = z(j) * if shape.silu { sig(z(j)) } else { 1.0 };
                scale = scale.max((r * grad(j) * w(j)).abs());
                dx[at] = r * (grad(j) * w(j) - mean_g - h(j) * mean_gh);
                term = term.max(grad(j).abs() * h(j).abs().max(1.0));
                dw[channel(j)] += grad(j) * h(j);
                db[channel(j)] += grad(j);
                if let Some(sum) = dshift.get_mut(plane(j)) {
                    *sum += dx[at];
                }
            }
        }
        ([y, dx, dw, db, dshift], [scale, term])
    }

    fn check(shape: GroupNorm, seed: u64) {
        check_with(shape, false, seed);
        check_with(shape, true, seed);
    }

    fn check_with(shape: GroupNorm, shifted: bool, seed: u64) {
        let mut rng = Lcg(seed);
        let n = shape.batch * shape.channels * shape.pixels;
        let d = Data {
            x: rng.vec(n),
            shift: shifted.then(|| rng.vec(shape.batch * shape.channels)),
            w: rng.vec(shape.channels),
            b: rng.vec(shape.channels),
            dy: rng.vec(n),
        };
        let (want, [scale, term]) = reference(&shape, &d);
        let one = with_threads(1, || run(&shape, &d));
        assert!(one == with_threads(3, || run(&shape, &d)));
        with_every_isa(|isa| {
            let one = run(&shape, &d);
            for (i, (got, want)) in one.iter().zip(&want).enumerate() {
                let most = want.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
                // The gradient of a shift is a sum of values of dx that nearly cancel; those of w and b are sums over
                // all pictures, whose errors grow as their root.
                let scale = match i {
                    1 => scale,
                    2 | 3 => term * ((shape.batch * shape.pixels) as f64).sqrt(),
                    4 => scale * shape.pixels as f64,
                    _ => 0.0,
                };
                let error = relative_error(got, want) / (scale / most).max(1.0);
                assert!(error < 5e-6, "{shape:?}, {i} on {}: {error:e}", isa.name());
            }
            // The first picture alone.
            let first = GroupNorm { batch: 1, ..shape };
            let cut = |v: &[f32]| v[..n / shape.batch].to_vec();
            let alone = Data {
                x: cut(&d.x),
                shift: d
                    .shift
                    .as_deref()
                    .map(|shift| shift[..shape.channels].to_vec()),
                w: d.w.clone(),
                b: d.b.clone(),
                dy: cut(&d.dy),
            };
            let [y, dx, ..] = run(&first, &alone);
            assert!(y == cut(&one[0]) && dx == cut(&one[1]), "{shape:?}");
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn random_shapes_match_f64(
            batch in 1usize..4, per in 1usize..6, groups in 1usize..5, pixels in 2usize..150,
            silu: bool, seed in 1u64..1000,
        ) {
            check(GroupNorm { batch, channels: per * groups, pixels, groups, eps: 1e-5, silu }, seed);
        }
    }

    /// A gradient of w that is the small sum of 296 terms.
    #[test]
    fn terms_that_cancel() {
        let (batch, pixels) = (2, 148);
        check(
            GroupNorm {
                batch,
                channels: 1,
                pixels,
                groups: 1,
                eps: 1e-5,
                silu: false,
            },
            729,
        );
    }

    #[test]
    fn large_pictures_and_one_pixel() {
        for (batch, channels, pixels, groups) in [(3, 64, 1024, 8), (2, 12, 1, 4), (2, 9, 289, 3)] {
            for silu in [false, true] {
                let eps = 1e-3;
                check(
                    GroupNorm {
                        batch,
                        channels,
                        pixels,
                        groups,
                        eps,
                        silu,
                    },
                    7,
                );
            }
        }
    }

    /// A norm of no values.
    fn empty(batch: usize, channels: usize, pixels: usize, groups: usize) -> GroupNorm {
        GroupNorm {
            batch,
            channels,
            pixels,
            groups,
            eps: 1.0,
            silu: true,
        }
    }

    #[test]
    fn pictures_of_nothing() {
        for (shape, channels) in [(empty(1, 0, 1, 3), 0), (empty(1, 6, 0, 3), 6)] {
            let (mut stats, none) = ([9.0; 6], vec![0.0; channels]);
            let params = ChannelParams {
                shift: Some(&none),
                weight: &none,
                bias: &none,
            };
            assert!(group_norm(&shape, &[], params, &mut stats).is_empty());
            assert_eq!(stats, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
            let [mut shift, mut weight, mut bias] = [9.0f32; 3].map(|x| vec![x; channels]);
            let gradients = ChannelGradients {
                shift: Some(&mut shift),
                weight: &mut weight,
                bias: &mut bias,
            };
            let dx = group_norm_backward(&shape, &[], params, &stats, &[], gradients);
            assert!(dx.is_empty() && [shift, weight, bias] == [&none; 3].map(Vec::clone));
        }
    }

    #[test]
    #[should_panic(
        expected = "group_norm: stats: operands of [0] values must all be [1, 9223372036854775808, 2]"
    )]
    fn groups_beyond_the_address_space_are_refused() {
        let params = ChannelParams {
            shift: None,
            weight: &[],
            bias: &[],
        };
        group_norm(&empty(1, 0, 1, 1 << 63), &[], params, &mut []);
    }

    #[test]
    #[should_panic(
        expected = "stats: operands of [0] values must all be [9223372036854775808, 1, 2]"
    )]
    fn a_batch_beyond_the_address_space_is_refused() {
        let params = ChannelParams {
            shift: None,
            weight: &[1.0],
            bias: &[1.0],
        };
        let gradients = ChannelGradients {
            shift: None,
            weight: &mut [0.0],
            bias: &mut [0.0],
        };
        group_norm_backward(&empty(1 << 63, 1, 0, 1), &[], params, &[], &[], gradients);
    }

    #[test]
    #[should_panic(expected = "9 channels can't be cut into 2 groups")]
    fn groups_that_do_not_fit_are_named() {
        let shape = GroupNorm {
            batch: 1,
            channels: 9,
            pixels: 1,
            groups: 2,
            eps: 0.0,
            silu: false,
        };
        let params = ChannelParams {
            shift: None,
            weight: &[0.0; 9],
            bias: &[0.0; 9],
        };
        group_norm(&shape, &[0.0; 9], params, &mut [0.0; 4]);
    }
}
