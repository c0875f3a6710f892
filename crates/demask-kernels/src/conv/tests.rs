use super::*;
use crate::simd::with_every_isa;
use crate::testing::Lcg;
use crate::threads::with_threads;
use proptest::prelude::*;

/// A sum in f64 and the sum of its absolute terms (the scale of the rounding error).
#[derive(Clone, Copy, Default)]
struct Exact {
    sum: f64,
    scale: f64,
    terms: usize,
}

impl Exact {
    fn add(&mut self, a: f32, b: f32) {
        let x = f64::from(a) * f64::from(b);
        self.sum += x;
        self.scale += x.abs();
        self.terms += 1;
    }
}

/// Calls `f(picture, filter, channel, output pixel, weight, input pixel)` for every product.
fn products(shape: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let [oh, ow] = shape.output();
    let (h, w, c) = (shape.height, shape.width, shape.channels);
    let [kh, kw] = shape.kernel;
    for n in 0..shape.batch {
        for o in 0..shape.filters {
            for (j, i) in (0..oh * ow).map(|p| (p / ow, p % ow)) {
                for ch in 0..c {
                    for (u, v) in (0..kh * kw).map(|t| (t / kw, t % kw)) {
                        let y = (j * shape.stride[0] + u).wrapping_sub(shape.padding[0]);
                        let x = (i * shape.stride[1] + v).wrapping_sub(shape.padding[1]);
                        if y < h && x < w {
                            f(
                                ((n * shape.filters + o) * oh + j) * ow + i,
                                ((o * c + ch) * kh + u) * kw + v,
                                ((n * c + ch) * h + y) * w + x,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Direct: each value within the error of its own chain. Winograd: within that of the tensor's largest
/// chain, as a tile mixes the values of its neighbours.
fn compare(what: &str, shape: &ConvShape, got: &[f32], want: &[Exact]) {
    assert_eq!(got.len(), want.len());
    let mixed = winograd::fits(shape.kernel, shape.stride, shape.channels, shape.filters);
    let error = |w: &Exact| w.scale * (w.terms as f64).sqrt().max(4.0);
    let worst = want.iter().map(error).fold(0.0, f64::max);
    for (x, w) in got.iter().zip(want) {
        let bound = if mixed { 2e-7 * worst } else { 1e-7 * error(w) };
        assert!(
            (f64::from(*x) - w.sum).abs() <= bound,
            "{what} of {shape:?}: {x} against {}",
            w.sum
        );
    }
}

struct Data {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

fn data(shape: &ConvShape, seed: u64) -> Data {
    let mut rng = Lcg(seed);
    let [oh, ow] = shape.output();
    Data {
        x: rng.vec(shape.batch * shape.channels * shape.height * shape.width),
        weight: rng.vec(shape.filters * shape.channels * shape.taps()),
        bias: rng.vec(shape.filters),
        dy: rng.vec(shape.batch * shape.filters * oh * ow),
    }
}

/// y, dx, dweight and dbias of our kernels.
fn run(shape: &ConvShape, d: &Data) -> [Vec<f32>; 4] {
    let nan = |n: usize| vec![f32::NAN; n];
    let mut out = [
        nan(d.dy.len()),
        nan(d.x.len()),
        nan(d.weight.len()),
        nan(d.bias.len()),
    ];
    conv2d(shape, &d.x, &d.weight, Some(&d.bias), &mut out[0]);
    conv2d_backward_input(shape, &d.weight, &d.dy, &mut out[1]);
    conv2d_backward_weight(shape, &d.x, &d.dy, &mut out[2]);
    conv2d_backward_bias(shape, &d.dy, &mut out[3]);
    out
}

fn check(shape: &ConvShape, seed: u64) {
    let d = data(shape, seed);
    let mut want: [Vec<Exact>; 4] =
        [d.dy.len(), d.x.len(), d.weight.len(), d.bias.len()].map(|n| vec![Exact::default(); n]);
    let pixels: usize = shape.output().iter().product();
    for (i, y) in want[0].iter_mut().enumerate() {
        y.add(d.bias[i / pixels % shape.filters], 1.0);
    }
    for (i, &dy) in d.dy.iter().enumerate() {
        want[3][i / pixels % shape.filters].add(dy, 1.0);
    }
    products(shape, |y, w, x| {
        want[0][y].add(d.x[x], d.weight[w]);
        want[1][x].add(d.dy[y], d.weight[w]);
        want[2][w].add(d.dy[y], d.x[x]);
    });
    with_every_isa(|_| {
        let got = run(shape, &d);
        for ((what, got), want) in ["y", "dx", "dweight", "dbias"].iter().zip(&got).zip(&want) {
            compare(what, shape, got, want);
        }
    });
}

fn shape(
    batch: usize,
    [channels, height, width]: [usize; 3],
    filters: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> ConvShape {
    ConvShape {
        batch,
        channels,
        height,
        width,
        filters,
        kernel,
        stride,
        padding,
    }
}

#[test]
fn a_convolution_by_hand() {
    // One picture 1..9, a filter that takes the centre and twice the right neighbour.
    let s = shape(1, [1, 3, 3], 1, [3, 3], [1, 1], [1, 1]);
    let x: Vec<f32> = (1..=9).map(|i| i as f32).collect();
    let mut weight = [0.0; 9];
    (weight[4], weight[5]) = (1.0, 2.0);
    let mut y = [0.0; 9];
    conv2d(&s, &x, &weight, Some(&[0.5]), &mut y);
    assert_eq!(y, [5.5, 8.5, 3.5, 14.5, 17.5, 6.5, 23.5, 26.5, 9.5]);
    let mut dx = [0.0; 9];
    conv2d_backward_input(&s, &weight, &x, &mut dx);
    assert_eq!(dx, [1.0, 4.0, 7.0, 4.0, 13.0, 16.0, 7.0, 22.0, 25.0]);
    let mut dw = [0.0; 9];
    conv2d_backward_weight(&s, &x, &[1.0; 9], &mut dw);
    assert_eq!(dw, [12.0, 21.0, 16.0, 27.0, 45.0, 33.0, 24.0, 39.0, 28.0]);
    let s2 = shape(1, [1, 3, 3], 1, [1, 1], [2, 2], [0, 0]);
    let mut y = [0.0; 4];
    conv2d(&s2, &x, &[10.0], None, &mut y);
    assert_eq!(y, [10.0, 30.0, 70.0, 90.0]);
    conv2d_backward_input(&s2, &[10.0], &[1.0, 2.0, 3.0, 4.0], &mut dx);
    assert_eq!(dx, [10.0, 0.0, 20.0, 0.0, 0.0, 0.0, 30.0, 0.0, 40.0]);
}

#[test]
fn odd_and_prime_shapes_match_f64() {
    for (i, s) in [
        shape(1, [1, 1, 1], 1, [1, 1], [1, 1], [0, 0]),
        shape(1, [1, 1, 1], 1, [3, 3], [1, 1], [1, 1]),
        shape(2, [3, 32, 32], 5, [3, 3], [1, 1], [1, 1]),
        shape(3, [17, 16, 16], 29, [3, 3], [1, 1], [1, 1]),
        shape(2, [33, 8, 8], 15, [3, 3], [1, 1], [1, 1]),
        shape(5, [47, 4, 4], 14, [3, 3], [1, 1], [1, 1]),
        shape(2, [5, 7, 13], 3, [3, 3], [2, 2], [1, 1]),
        shape(2, [20, 16, 16], 31, [3, 3], [2, 2], [1, 1]),
        shape(2, [20, 8, 8], 31, [1, 1], [1, 1], [0, 0]),
        shape(2, [37, 5, 9], 31, [1, 1], [2, 2], [0, 0]),
        shape(1, [2, 11, 40], 3, [5, 3], [1, 2], [2, 0]),
        shape(1, [4, 9, 9], 4, [2, 2], [2, 2], [0, 0]),
        shape(2, [4, 10, 12], 4, [4, 4], [2, 2], [1, 1]),
        shape(1, [3, 12, 14], 2, [3, 2], [3, 4], [2, 1]),
        shape(1, [2, 3, 3], 2, [3, 3], [1, 1], [4, 3]),
        shape(1, [70, 3, 19], 2, [7, 7], [1, 1], [3, 3]),
        shape(1, [97, 5, 5], 61, [3, 3], [1, 1], [0, 0]),
    ]
    .iter()
    .enumerate()
    {
        check(s, i as u64 + 1);
    }
}

/// Shapes that Winograd's filtering takes.
fn minimal_shape() -> impl Strategy<Value = ConvShape> {
    (
        1usize..4,
        [16usize..50, 1usize..14, 1usize..37],
        16usize..40,
        [0usize..3, 0usize..3],
    )
        .prop_filter_map("the kernel must fit", |(b, input, o, p)| {
            let fits = (0..2).all(|a| 3 <= input[a + 1] + 2 * p[a]);
            fits.then(|| shape(b, input, o, [3, 3], [1, 1], p))
        })
}

fn any_shape() -> impl Strategy<Value = ConvShape> {
    let pair = |r: std::ops::Range<usize>| [r.clone(), r];
    (
        1usize..4,
        [1usize..40, 1usize..20, 1usize..37],
        1usize..34,
        pair(1..5),
        pair(1..7),
        pair(0..3),
    )
        .prop_filter_map("the kernel must fit", |(b, input, o, k, s, p)| {
            let fits = (0..2).all(|a| k[a] <= input[a + 1] + 2 * p[a]);
            fits.then(|| shape(b, input, o, k, s, p))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn random_shapes_match_f64(s in any_shape(), seed in 1u64..1000) {
        check(&s, seed);
    }
    #[test]
    fn random_shapes_of_minimal_filtering_match_f64(s in minimal_shape(), seed in 1u64..1000) {
        check(&s, seed);
    }
}

/// The root mean square error of a typical layer, relative to the root mean square of the values.
#[test]
fn the_error_of_a_typical_layer() {
    let s = shape(2, [64, 16, 16], 64, [3, 3], [1, 1], [1, 1]);
    let d = data(&s, 9);
    let mut want = [d.dy.len(), d.x.len(), d.weight.len()].map(|n| vec![Exact::default(); n]);
    products(&s, |y, w, x| {
        want[0][y].add(d.x[x], d.weight[w]);
        want[1][x].add(d.dy[y], d.weight[w]);
        want[2][w].add(d.dy[y], d.x[x]);
    });
    with_every_isa(|isa| {
        let mut y = vec![0.0; d.dy.len()];
        conv2d(&s, &d.x, &d.weight, None, &mut y);
        let [_, dx, dw, _] = run(&s, &d);
        for (got, want) in [y, dx, dw].iter().zip(&want) {
            let pairs = || got.iter().zip(want);
            let error: f64 = pairs().map(|(x, w)| (f64::from(*x) - w.sum).powi(2)).sum();
            let size: f64 = want.iter().map(|w| w.sum * w.sum).sum();
            let relative = (error / size).sqrt();
            assert!(relative < 6e-7, "{relative:e} on {}", isa.name());
        }
    });
}

/// Layers whose strips span pictures, rows and blocks of channels in different ways.
fn layers() -> [ConvShape; 5] {
    [
        shape(5, [64, 8, 8], 70, [3, 3], [1, 1], [1, 1]),
        shape(3, [50, 13, 11], 33, [3, 3], [1, 1], [1, 1]),
        shape(4, [24, 16, 16], 40, [3, 3], [2, 2], [1, 1]),
        shape(7, [90, 4, 4], 31, [1, 1], [1, 1], [0, 0]),
        shape(2, [32, 32, 32], 32, [3, 3], [1, 1], [1, 1]),
    ]
}

#[test]
fn a_picture_has_the_same_bits_alone_and_in_a_batch() {
    for s in layers() {
        let d = data(&s, 3);
        with_every_isa(|isa| {
            let [y, dx, ..] = run(&s, &d);
            let one = ConvShape { batch: 1, ..s };
            for n in 0..s.batch {
                let cut = |v: &[f32]| {
                    let len = v.len() / s.batch;
                    v[n * len..(n + 1) * len].to_vec()
                };
                let alone = Data {
                    x: cut(&d.x),
                    weight: d.weight.clone(),
                    bias: d.bias.clone(),
                    dy: cut(&d.dy),
                };
                let [y1, dx1, ..] = run(&one, &alone);
                assert!(y1 == cut(&y) && dx1 == cut(&dx), "{s:?} on {}", isa.name());
            }
        });
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for s in layers() {
        let d = data(&s, 4);
        let one = with_threads(1, || run(&s, &d));
        assert!(one == with_threads(2, || run(&s, &d)), "{s:?}");
        assert!(one == with_threads(5, || run(&s, &d)), "{s:?}");
    }
}

#[test]
fn packed_filters_and_no_bias() {
    let s = shape(2, [9, 6, 6], 20, [3, 3], [1, 1], [1, 1]);
    let d = data(&s, 5);
    let packed = PackedFilters::pack(&s, &d.weight);
    let (mut a, mut b) = (vec![0.0; d.dy.len()], vec![1.0; d.dy.len()]);
    conv2d(&s, &d.x, &d.weight, None, &mut a);
    conv2d_packed(&s, &d.x, &packed, None, &mut b);
    assert_eq!(a, b);
}

#[test]
fn new_memory_has_the_same_bits_and_a_residual_is_added_as_if_afterwards() {
    for s in layers() {
        let d = data(&s, 6);
        let onto = Lcg(7).vec(d.dy.len());
        with_every_isa(|isa| {
            let [plain, dx, ..] = run(&s, &d);
            let y = |onto| new_conv2d(&s, &d.x, &d.weight, Some(&d.bias), onto);
            assert!(y(None) == plain, "{s:?} on {}", isa.name());
            let sum: Vec<f32> = onto.iter().zip(&plain).map(|(a, b)| a + b).collect();
            assert!(y(Some(&onto)) == sum, "{s:?} on {}", isa.name());
            let new = new_conv2d_backward_input(&s, &d.weight, &d.dy);
            assert!(new == dx, "{s:?} on {}", isa.name());
        });
    }
}

#[test]
fn nothing_is_convolved() {
    let mut dw = [1.0; 9];
    let none = shape(0, [1, 3, 3], 1, [3, 3], [1, 1], [1, 1]);
    conv2d(&none, &[], &[0.0; 9], None, &mut []);
    conv2d_backward_input(&none, &[0.0; 9], &[], &mut []);
    conv2d_backward_weight(&none, &[], &[], &mut dw);
    assert_eq!(dw, [0.0; 9]);
    let no_channels = shape(1, [0, 2, 2], 1, [1, 1], [1, 1], [0, 0]);
    let mut y = [9.0; 4];
    conv2d(&no_channels, &[], &[], Some(&[3.0]), &mut y);
    assert_eq!(y, [3.0; 4]);
    conv2d_backward_input(&no_channels, &[], &y, &mut []);
    conv2d_backward_weight(&no_channels, &[], &y, &mut []);
    let no_filters = shape(1, [1, 2, 2], 0, [1, 1], [1, 1], [0, 0]);
    let mut dx = [9.0; 4];
    conv2d(&no_filters, &[0.0; 4], &[], None, &mut []);
    conv2d_backward_input(&no_filters, &[], &[], &mut dx);
    assert_eq!(dx, [0.0; 4]);
}

#[test]
#[should_panic(expected = "the input is [1, 2, 3, 3], which is 18 values, but 9 were given")]
fn shapes_that_do_not_fit_are_named() {
    let s = shape(1, [2, 3, 3], 1, [1, 1], [1, 1], [0, 0]);
    conv2d(&s, &[0.0; 9], &[0.0; 2], None, &mut [0.0; 9]);
}

#[test]
#[should_panic(expected = "does not fit an input of [2, 2]")]
fn kernels_that_do_not_fit_are_named() {
    let s = shape(1, [1, 2, 2], 1, [3, 3], [1, 1], [0, 0]);
    conv2d(&s, &[0.0; 4], &[0.0; 9], None, &mut []);
}

#[test]
#[should_panic(expected = "conv2d: pictures of [1, 1] with padding [0, 9223372036854775807]")]
fn padding_beyond_the_address_space_is_refused() {
    let s = shape(1, [1, 1, 1], 1, [1, 1], [1, 1 << 40], [0, (1 << 63) - 1]);
    conv2d(&s, &[1.0], &[1.0], None, &mut vec![0.0; 1 << 24]);
}

#[test]
#[should_panic(expected = "conv2d_backward_weight: pictures of [1, 1] with padding")]
fn padding_and_stride_beyond_the_address_space_are_refused() {
    let s = shape(1, [2, 1, 1], 1, [1, 1], [1, 1 << 63], [0, 1 << 62]);
    conv2d_backward_weight(&s, &[1.0; 2], &[1.0; 2], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "a tensor of [0, 9223372036854775808, 2, 2] overflows")]
fn sizes_of_nothing_that_overflow_are_refused() {
    let s = shape(0, [1, 2, 2], 1 << 63, [1, 1], [1, 1], [0, 0]);
    conv2d_backward_bias(&s, &[], &mut []);
}

#[test]
fn strides_beyond_the_picture_reach_its_first_pixel() {
    for stride in [1 << 20, 1 << 32, 1 << 63, usize::MAX] {
        let s = shape(1, [1, 4, 4], 1, [1, 1], [stride; 2], [0, 0]);
        let mut dx = [f32::NAN; 16];
        conv2d_backward_input(&s, &[3.0], &[2.0], &mut dx);
        assert!(dx[0] == 6.0 && dx[1..] == [0.0; 15], "{stride}: {dx:?}");
        assert_eq!(new_conv2d_backward_input(&s, &[3.0], &[2.0]), dx);
        check(&shape(2, [3, 4, 5], 2, [3, 2], [stride; 2], [1, 1]), 1);
    }
}

/// Samples lie so far apart that the padded picture would not fit the memory, but for what taps read.
#[test]
fn memory_does_not_grow_with_the_stride() {
    for [ch, h, w] in [[1, 3, 3], [40, 3, 5], [3, 0, 2], [2, 2, 0]] {
        let far = 1 << 22;
        check(&shape(2, [ch, h, w], 3, [2, 3], [far; 2], [far; 2]), 1);
        check(&shape(2, [ch, h, w], 3, [2, 3], [far - 1; 2], [far; 2]), 1);
        check(&shape(2, [ch, h, w], 3, [1, 1], [2, far], [1, far]), 1);
        check(&shape(1, [ch, h, w], 3, [2, 20], [far, 21], [far, 50]), 1);
    }
}

/// A kernel without weights may have any size.
#[test]
fn large_kernels_without_weights() {
    let far = 1 << 40;
    let s = shape(1, [0, 1, 1], 1, [far, 2], [1, 1], [far / 2, 1]);
    let mut y = [9.0; 4];
    conv2d(&s, &[], &[], Some(&[3.0]), &mut y);
    assert_eq!(y, [3.0; 4]);
    conv2d_backward_input(&s, &[], &y, &mut []);
    conv2d_backward_weight(&s, &[], &y, &mut []);
    let s = shape(1, [1, 1, 2], 0, [far, 2], [1, 1], [far / 2, 1]);
    let mut dx = [9.0; 2];
    conv2d(&s, &[0.0; 2], &[], None, &mut []);
    conv2d_backward_input(&s, &[], &[], &mut dx);
    assert_eq!(dx, [0.0; 2]);
}
