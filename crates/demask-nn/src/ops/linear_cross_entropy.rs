use burn::tensor::Tensor;
use demask_kernels::Precision;

use super::cross_entropy::{check, portable as portable_cross_entropy};
use super::linear::portable as portable_linear;
use super::{cpu, on_cpu};

/// `-log softmax(x Wᵀ + b)[target]` of each row: a head and its loss.
///
/// The logits are an inner matter: on the CPU one matrix of them lives from the forward to the backward pass, where
/// their gradient takes its place, and none is handed out. The fast path multiplies in `precision`; the softmax
/// and its sums are f32.
///
/// # Shapes
/// `x`: `[rows, in]`, `weight`: `[vocabulary, in]`, `bias`: `[vocabulary]`, `targets`: `rows` ids, output: `[rows]`.
/// `forbidden` as in [`cross_entropy`](fn@super::cross_entropy).
///
/// # Panics
/// As [`cross_entropy`](fn@super::cross_entropy).
pub fn linear_cross_entropy(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: &[u32],
    forbidden: Option<u32>,
    precision: Precision,
) -> Tensor<1> {
    let ([rows, _], [vocabulary, _]) = (x.dims(), weight.dims());
    check([rows, vocabulary], targets, forbidden);
    if on_cpu(&x.device()) {
        cpu::linear_cross_entropy(x, weight, bias, targets, forbidden, precision)
    } else {
        composed(x, weight, bias, targets, forbidden)
    }
}

fn composed(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: &[u32],
    forbidden: Option<u32>,
) -> Tensor<1> {
    portable_cross_entropy(portable_linear(x, weight, bias), targets, forbidden)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random, strays};
    use super::*;

    #[test]
    fn a_loss_by_hand() {
        let d = device();
        // Logits 0, ln 2 and 0 before the bias of ln 2 on the last: probabilities 1/5, 2/5, 2/5.
        let x = Tensor::<2>::from_floats([[1.0]], &d);
        let w = Tensor::<2>::from_floats([[0.0], [2f32.ln()], [0.0]], &d);
        let b = Tensor::<1>::from_floats([0.0, 0.0, 2f32.ln()], &d);
        let loss = |forbidden| {
            let (x, w, b) = (x.clone(), w.clone(), Some(b.clone()));
            linear_cross_entropy(x, w, b, &[1], forbidden, Precision::F32)
        };
        let expected = |p: f32| Tensor::<1>::from_floats([-p.ln()], &d);
        close(loss(None), expected(0.4), 1e-6);
        close(loss(Some(0)), expected(0.5), 1e-6);
    }

    #[test]
    #[should_panic(expected = "token 2 is a target and forbidden")]
    fn a_forbidden_target_is_named() {
        let (x, w) = (
            Tensor::zeros([1, 4], &device()),
            Tensor::zeros([3, 4], &device()),
        );
        linear_cross_entropy(x, w, None, &[2], Some(2), Precision::F32);
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        for (rows, inner, vocabulary, biased, forbidden) in [
            (1, 3, 2, false, None),
            (9, 16, 33, true, Some(32)),
            (40, 24, 130, false, Some(129)),
        ] {
            let targets: Vec<u32> = (0..rows)
                .map(|i| (i * 7 % (vocabulary - 1)) as u32)
                .collect();
            type Loss<'a> = dyn Fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<1> + 'a;
            let run = |f: &Loss| {
                let x = random([rows, inner], 1, &d).require_grad();
                let w = random([vocabulary, inner], 2, &d).require_grad();
                let b = biased.then(|| random([vocabulary], 3, &d).require_grad());
                let y = f(x.clone(), w.clone(), b.clone());
                let grads = (y.clone() * random([rows], 4, &d)).sum().backward();
                let (dx, dw) = (x.grad(&grads).unwrap(), w.grad(&grads).unwrap());
                (y.inner(), dx, dw, b.map(|b| b.grad(&grads).unwrap()))
            };
            let slow = run(&|x, w, b| composed(x, w, b, &targets, forbidden));
            // In bf16 each operand is off by up to 2⁻⁸ of its size.
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)] {
                let fast = run(&|x, w, b| {
                    cpu::linear_cross_entropy(x, w, b, &targets, forbidden, precision)
                });
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
                    close(fast, slow, tolerance);
                }
            }
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let targets = [3, 0, 9, 3, 7];
        for (biased, forbidden) in [(false, None), (true, None), (true, Some(5))] {
            let inputs = |t: &mut Leaves| {
                let (x, w) = (t.leaf([5, 7]), t.leaf([11, 7]));
                (x, w, biased.then(|| t.leaf([11])))
            };
            let fast = |t: &mut Leaves| {
                let (x, w, b) = inputs(t);
                cpu::linear_cross_entropy(x, w, b, &targets, forbidden, Precision::F32)
            };
            let slow = |t: &mut Leaves| {
                let (x, w, b) = inputs(t);
                composed(x, w, b, &targets, forbidden)
            };
            gradients(fast, slow);
        }
    }
}
