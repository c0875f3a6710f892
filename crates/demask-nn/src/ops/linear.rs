use burn::tensor::Tensor;
use demask_kernels::Precision;

use super::{cpu, on_cpu};

/// `x Wᵀ + b`.
///
/// # Shapes
/// - `x`: `[rows, in]`
/// - `weight`: `[out, in]`
/// - `bias`: `[out]`
/// - output: `[rows, out]`
///
/// A row's result does not depend on the other rows of the call. The fast path multiplies in `precision`, forward and
/// backward.
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<2> {
    if on_cpu(&x.device()) {
        cpu::linear(x, weight, bias, precision)
    } else {
        portable(x, weight, bias)
    }
}

pub(super) fn portable(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let product = x.matmul(weight.transpose());
    match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random, strays};
    use super::*;

    #[test]
    fn a_product_by_hand() {
        let d = device();
        let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &d);
        let w = Tensor::<2>::from_floats([[1.0, 0.0], [0.5, -1.0], [2.0, 1.0]], &d);
        let b = Tensor::<1>::from_floats([0.0, 1.0, 0.0], &d);
        let y = linear(x, w, Some(b), Precision::F32)
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert_eq!(y, [1.0, -0.5, 4.0, 3.0, -1.5, 10.0]);
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        for [rows, inner, out] in [[1, 1, 1], [3, 7, 5], [33, 64, 17], [65, 130, 48]] {
            for biased in [false, true] {
                let run = |f: &dyn Fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>| {
                    let x = random([rows, inner], 1, &d).require_grad();
                    let w = random([out, inner], 2, &d).require_grad();
                    let b = biased.then(|| random([out], 4, &d).require_grad());
                    let g = random([rows, out], 3, &d);
                    let y = f(x.clone(), w.clone(), b.clone());
                    let grads = (y.clone() * g).sum().backward();
                    let (dx, dw) = (x.grad(&grads).unwrap(), w.grad(&grads).unwrap());
                    (y.inner(), dx, dw, b.map(|b| b.grad(&grads).unwrap()))
                };
                let slow = run(&portable);
                // In bf16 each operand is off by up to 2⁻⁸ of its size.
                for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 8e-3)] {
                    let fast = run(&|x, w, b| cpu::linear(x, w, b, precision));
                    close(fast.0.clone(), slow.0.clone(), tolerance);
                    close(fast.1.clone(), slow.1.clone(), tolerance);
                    close(fast.2.clone(), slow.2.clone(), tolerance);
                    if precision == Precision::Bf16 && rows > 1 {
                        strays(fast.0, slow.0.clone(), 1e-4);
                        strays(fast.1, slow.1.clone(), 1e-4);
                        strays(fast.2, slow.2.clone(), 1e-4);
                    }
                    assert_eq!(fast.3.is_some(), biased);
                    if let (Some(fast), Some(slow)) = (fast.3, slow.3.clone()) {
                        close(fast, slow, 1e-5);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_alone_and_in_a_batch_has_the_same_bits() {
        let d = device();
        let (x, w) = (random([77, 96], 4, &d), random([50, 96], 5, &d));
        let all = linear(x.clone(), w.clone(), None, Precision::F32)
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        for row in [0, 5, 63, 76] {
            let one = x.clone().narrow(0, row, 1);
            let one = linear(one, w.clone(), None, Precision::F32);
            let one = one.into_data().try_to_vec::<f32>().unwrap();
            assert_eq!(one, all[row * 50..(row + 1) * 50]);
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        type Linear = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>;
        let fast: Linear = |x, w, b| cpu::linear(x, w, b, Precision::F32);
        for biased in [false, true] {
            let run = |t: &mut Leaves, f: Linear| {
                let (x, w) = (t.leaf([3, 7]), t.leaf([5, 7]));
                f(x, w, biased.then(|| t.leaf([5])))
            };
            gradients(|t| run(t, fast), |t| run(t, portable));
        }
        // A weight that is also the input.
        let twice = |t: &mut Leaves, f: Linear| {
            let w = t.leaf([5, 5]);
            f(w.clone(), w, None)
        };
        gradients(|t| twice(t, fast), |t| twice(t, portable));
    }
}
