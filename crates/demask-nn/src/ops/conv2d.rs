use burn::tensor::Tensor;
use burn::tensor::module::conv2d as framework;
use burn::tensor::ops::ConvOptions;

use super::{cpu, on_cpu};

/// How a filter moves over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stride {
    /// Pixels from one place of the filter to the next, down and across.
    pub step: usize,
    /// Zeros around the picture, on each side.
    pub padding: usize,
}

impl Stride {
    /// One pixel at a time, with the zeros that keep the size under a filter of `kernel` pixels (an odd number).
    pub fn same(kernel: usize) -> Self {
        Self {
            step: 1,
            padding: kernel / 2,
        }
    }
}

/// 2-D convolution (as networks mean it, so a correlation) with zeros around the picture:
/// `y[n, o, j, i] = bias[o] + Σ_{c, u, v} weight[o, c, u, v] · x[n, c, j·s + u − p, i·s + v − p]`.
///
/// # Shapes
/// - `x`: `[batch, channels, height, width]`, the layout that the CPU kernels read
/// - `weight`: `[filters, channels, kernel, kernel]`
/// - `bias`: `[filters]`
/// - output: `[batch, filters, ⌊(height + 2p − kernel) / s⌋ + 1, …]`
///
/// The fast path takes 3×3 filters at step 1 through minimal filtering (F(2×2, 3×3), arXiv 1509.09308).
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: Stride,
) -> Tensor<4> {
    if on_cpu(&x.device()) {
        cpu::conv2d(x, weight, bias, None, stride)
    } else {
        portable(x, weight, bias, None, stride)
    }
}

/// `onto + conv2d(x)`, as a residual branch ends.
///
/// # Shapes
/// As in [`conv2d`]; `onto`: that of the output.
pub fn conv2d_onto(
    onto: Tensor<4>,
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: Stride,
) -> Tensor<4> {
    if on_cpu(&x.device()) {
        cpu::conv2d(x, weight, bias, Some(onto), stride)
    } else {
        portable(x, weight, bias, Some(onto), stride)
    }
}

fn portable(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    onto: Option<Tensor<4>>,
    stride: Stride,
) -> Tensor<4> {
    let options = ConvOptions::new([stride.step; 2], [stride.padding; 2], [1; 2], 1);
    let y = framework(x, weight, bias, options);
    match onto {
        Some(onto) => onto + y,
        None => y,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random};
    use super::*;

    #[test]
    fn a_convolution_by_hand() {
        let d = device();
        let x = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &d).reshape([1, 1, 2, 2]);
        // The centre, and twice the right neighbour.
        let w = Tensor::<1>::from_floats([0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0], &d);
        let w = w.reshape([1, 1, 3, 3]);
        let b = Tensor::<1>::from_floats([0.5], &d);
        let expected = |v: [f32; 4]| Tensor::<1>::from_floats(v, &d).reshape([1, 1, 2, 2]);
        let y = conv2d(x.clone(), w.clone(), Some(b.clone()), Stride::same(3));
        close(y, expected([5.5, 2.5, 11.5, 4.5]), 0.0);
        let y = conv2d_onto(x.clone(), x, w, Some(b), Stride::same(3));
        close(y, expected([6.5, 4.5, 14.5, 8.5]), 0.0);
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        let halving = Stride {
            step: 2,
            padding: 1,
        };
        for (batch, [channels, size, filters, kernel], stride) in [
            (1, [1, 1, 1, 1], Stride::same(1)),
            (2, [3, 7, 5, 3], Stride::same(3)),
            (2, [20, 9, 17, 3], Stride::same(3)),
            (3, [33, 8, 24, 1], Stride::same(1)),
            (2, [18, 10, 16, 3], halving),
            (1, [16, 5, 19, 3], halving),
        ] {
            let out = (size + 2 * stride.padding - kernel) / stride.step + 1;
            for (with_bias, with_onto) in [(false, false), (true, false), (true, true)] {
                type Conv = fn(
                    Tensor<4>,
                    Tensor<4>,
                    Option<Tensor<1>>,
                    Option<Tensor<4>>,
                    Stride,
                ) -> Tensor<4>;
                let run = |f: Conv| {
                    let x = random([batch, channels, size, size], 1, &d).require_grad();
                    let w = random([filters, channels, kernel, kernel], 2, &d).require_grad();
                    let b = with_bias.then(|| random([filters], 3, &d).require_grad());
                    let shape = [batch, filters, out, out];
                    let onto = with_onto.then(|| random(shape, 4, &d).require_grad());
                    let y = f(x.clone(), w.clone(), b.clone(), onto.clone(), stride);
                    let grads = (y.clone() * random(shape, 5, &d)).sum().backward();
                    (
                        [y.inner(), x.grad(&grads).unwrap(), w.grad(&grads).unwrap()],
                        b.map(|b| b.grad(&grads).unwrap()),
                        onto.map(|onto| onto.grad(&grads).unwrap()),
                    )
                };
                let (fast, slow) = (run(cpu::conv2d), run(portable));
                for (fast, slow) in fast.0.into_iter().zip(slow.0) {
                    close(fast, slow, 1e-5);
                }
                if with_bias {
                    close(fast.1.unwrap(), slow.1.unwrap(), 1e-5);
                }
                if with_onto {
                    close(fast.2.unwrap(), slow.2.unwrap(), 0.0);
                }
            }
        }
    }

    #[test]
    fn what_needs_no_gradient_gets_none() {
        let d = device();
        let x = random([1, 2, 4, 4], 1, &d);
        let w = random([3, 2, 3, 3], 2, &d).require_grad();
        let y = conv2d(x.clone(), w.clone(), None, Stride::same(3));
        let grads = y.sum().backward();
        assert!(x.grad(&grads).is_none());
        assert!(w.grad(&grads).is_some());
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        type Conv =
            fn(Tensor<4>, Tensor<4>, Option<Tensor<1>>, Option<Tensor<4>>, Stride) -> Tensor<4>;
        let stride = |step, padding| Stride { step, padding };
        for ([height, width], kernel, stride, biased, onto) in [
            ([5, 7], 1, stride(1, 0), false, false),
            ([5, 7], 3, Stride::same(3), true, false),
            ([5, 7], 3, Stride::same(3), true, true),
            ([6, 5], 3, stride(2, 1), true, true),
            ([7, 5], 3, stride(2, 0), false, true),
            ([5, 8], 2, stride(3, 2), true, false),
        ] {
            let run = |t: &mut Leaves, f: Conv| {
                let (x, w) = (
                    t.leaf([2, 3, height, width]),
                    t.leaf([5, 3, kernel, kernel]),
                );
                let out = |size| (size + 2 * stride.padding - kernel) / stride.step + 1;
                let bias = biased.then(|| t.leaf([5]));
                let onto = onto.then(|| t.leaf([2, 5, out(height), out(width)]));
                f(x, w, bias, onto, stride)
            };
            gradients(|t| run(t, cpu::conv2d), |t| run(t, portable));
        }
        // A residual around the convolution.
        let twice = |t: &mut Leaves, f: Conv| {
            let (x, w) = (t.leaf([1, 3, 4, 5]), t.leaf([3, 3, 3, 3]));
            f(x.clone(), w, None, Some(x), Stride::same(3))
        };
        gradients(|t| twice(t, cpu::conv2d), |t| twice(t, portable));
    }
}
