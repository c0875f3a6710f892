use burn::tensor::Tensor;

use super::{cpu, on_cpu};

/// `x / √(mean x² + ε) · g` over the last axis (RMSNorm, arXiv 1910.07467).
///
/// # Shapes
/// `x`: `[rows, width]`, `weight` (`g`): `[width]`, output: `[rows, width]`.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    if on_cpu(&x.device()) {
        cpu::rms_norm(x, weight, eps)
    } else {
        portable_rms(x, weight, eps)
    }
}

/// `(x - mean x) / √(var x + ε) · g` over the last axis (layer norm, arXiv 1607.06450), with the
/// biased variance. A shift, where a network has one, is added by the caller.
///
/// # Shapes
/// `x`: `[rows, width]`, `weight` (`g`): `[width]`, output: `[rows, width]`.
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    if on_cpu(&x.device()) {
        cpu::layer_norm(x, weight, eps)
    } else {
        portable_layer(x, weight, eps)
    }
}

fn portable_rms(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let scale = (x.clone().square().mean_dim(1) + eps).sqrt().recip();
    x * scale * weight.unsqueeze()
}

fn portable_layer(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let x = x.clone() - x.mean_dim(1);
    portable_rms(x, weight, eps)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random};
    use super::*;

    #[test]
    fn norms_by_hand() {
        let d = device();
        let x = || Tensor::<2>::from_floats([[3.0, 4.0], [1.0, -1.0]], &d);
        let g = || Tensor::<1>::from_floats([1.0, 2.0], &d);
        // Row 1: mean of squares 12.5, root 3.5355339.
        let expected = Tensor::<2>::from_floats([[0.8485281, 2.2627417], [1.0, -2.0]], &d);
        close(rms_norm(x(), g(), 0.0), expected, 1e-6);
        let expected = Tensor::<2>::from_floats([[-1.0, 2.0], [1.0, -2.0]], &d);
        close(layer_norm(x(), g(), 0.0), expected, 1e-6);
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        type Norm = fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>;
        let d = device();
        let pairs: [(Norm, Norm); 2] = [
            (cpu::rms_norm, portable_rms),
            (cpu::layer_norm, portable_layer),
        ];
        for (fast, slow) in pairs {
            for [rows, width] in [[1, 2], [5, 31], [130, 96]] {
                let run = |f: Norm| {
                    let x = random([rows, width], 1, &d).require_grad();
                    let w = random([width], 2, &d).require_grad();
                    let g = random([rows, width], 3, &d);
                    let y = f(x.clone(), w.clone(), 1e-5);
                    let grads = (y.clone() * g).sum().backward();
                    (y.inner(), x.grad(&grads).unwrap(), w.grad(&grads).unwrap())
                };
                let (fast, slow) = (run(fast), run(slow));
                close(fast.0, slow.0, 1e-5);
                close(fast.1, slow.1, 2e-5);
                close(fast.2, slow.2, 2e-5);
            }
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        type Norm = fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>;
        let run = |t: &mut Leaves, f: Norm| f(t.leaf([5, 13]), t.near(1.0, [13]), 1e-3);
        gradients(|t| run(t, cpu::rms_norm), |t| run(t, portable_rms));
        gradients(|t| run(t, cpu::layer_norm), |t| run(t, portable_layer));
    }
}
