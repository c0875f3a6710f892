use burn::tensor::{Tensor, activation};

use super::{cpu, on_cpu};

/// `silu(gate) · up` with `silu(x) = x / (1 + e⁻ˣ)` (SwiGLU, arXiv 2002.05202).
///
/// # Shapes
/// All `[rows, width]`.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    if on_cpu(&gate.device()) {
        cpu::swiglu(gate, up)
    } else {
        portable_swiglu(gate, up)
    }
}

/// `x / (1 + e⁻ˣ)` (SiLU, arXiv 1606.08415).
///
/// # Shapes
/// Both `[rows, width]`.
pub fn silu(x: Tensor<2>) -> Tensor<2> {
    if on_cpu(&x.device()) {
        cpu::silu(x)
    } else {
        activation::silu(x)
    }
}

/// The tanh form of GELU: `x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))` (arXiv 1606.08415).
///
/// # Shapes
/// Both `[rows, width]`.
pub fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    if on_cpu(&x.device()) {
        cpu::gelu_tanh(x)
    } else {
        portable_gelu(x)
    }
}

fn portable_swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}

fn portable_gelu(x: Tensor<2>) -> Tensor<2> {
    const ROOT: f64 = 0.797_884_560_802_865_4; // √(2/π)
    let cubic = x.clone() + x.clone().powi_scalar(3) * 0.044715;
    x * 0.5 * ((cubic * ROOT).tanh() + 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random};
    use super::*;

    #[test]
    fn activations_by_hand() {
        let d = device();
        let gate = Tensor::<2>::from_floats([[0.0, 1.0, -2.0]], &d);
        let up = Tensor::<2>::from_floats([[5.0, 2.0, 1.0]], &d);
        let expected = Tensor::<2>::from_floats([[0.0, 1.4621172, -0.23840584]], &d);
        close(swiglu(gate.clone(), up), expected, 1e-6);
        let expected = Tensor::<2>::from_floats([[0.0, 0.841192, -0.045402]], &d);
        close(gelu_tanh(gate.clone()), expected, 1e-6);
        let expected = Tensor::<2>::from_floats([[0.0, 0.7310586, -0.23840584]], &d);
        close(silu(gate), expected, 1e-6);
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        for shape in [[1, 1], [3, 17], [40, 129]] {
            let run = |f: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
                let a = (random(shape, 1, &d) * 6.0).detach().require_grad();
                let b = random(shape, 2, &d).require_grad();
                let y = f(a.clone(), b.clone());
                let grads = (y.clone() * random(shape, 3, &d)).sum().backward();
                (y.inner(), a.grad(&grads).unwrap(), b.grad(&grads).unwrap())
            };
            let pairs: [[&dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>; 2]; 3] = [
                [&|a, b| cpu::swiglu(a, b), &|a, b| portable_swiglu(a, b)],
                [&|a, b| cpu::gelu_tanh(a) * b, &|a, b| portable_gelu(a) * b],
                [&|a, b| cpu::silu(a) * b, &|a, b| activation::silu(a) * b],
            ];
            for [fast, slow] in pairs {
                let (fast, slow) = (run(fast), run(slow));
                close(fast.0, slow.0, 1e-5);
                close(fast.1, slow.1, 1e-5);
                close(fast.2, slow.2, 1e-5);
            }
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        type Gated = fn(Tensor<2>, Tensor<2>) -> Tensor<2>;
        let run = |t: &mut Leaves, f: Gated| f(t.leaf([3, 17]), t.leaf([3, 17]));
        gradients(|t| run(t, cpu::swiglu), |t| run(t, portable_swiglu));
        // A gate that is also what it opens.
        let twice = |t: &mut Leaves, f: Gated| {
            let x = t.leaf([3, 17]);
            f(x.clone(), x)
        };
        gradients(|t| twice(t, cpu::swiglu), |t| twice(t, portable_swiglu));
        let x = |t: &mut Leaves| t.leaf([3, 17]) * 2.0;
        gradients(|t| cpu::gelu_tanh(x(t)), |t| portable_gelu(x(t)));
        gradients(|t| cpu::silu(x(t)), |t| activation::silu(x(t)));
    }
}
