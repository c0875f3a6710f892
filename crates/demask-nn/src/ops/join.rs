use burn::tensor::Tensor;

use super::{cpu, on_cpu};

/// The channels of `a`, then those of `b`.
///
/// # Shapes
/// `a`: `[batch, channels_a, height, width]`, `b`: `[batch, channels_b, height, width]`, output:
/// `[batch, channels_a + channels_b, height, width]`.
pub fn join_channels(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    if on_cpu(&a.device()) {
        cpu::join_channels(a, b)
    } else {
        portable(a, b)
    }
}

fn portable(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    Tensor::cat(vec![a, b], 1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random};
    use super::*;

    #[test]
    fn channels_by_hand() {
        let d = device();
        let t = |values: &[f32], channels| {
            Tensor::<1>::from_floats(values, &d).reshape([2, channels, 1, 1])
        };
        let y = join_channels(t(&[1.0, 2.0], 1), t(&[3.0, 4.0, 5.0, 6.0], 2));
        close(y, t(&[1.0, 3.0, 4.0, 2.0, 5.0, 6.0], 3), 0.0);
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        let run = |f: fn(Tensor<4>, Tensor<4>) -> Tensor<4>| {
            let a = random([3, 2, 4, 5], 1, &d).require_grad();
            let b = random([3, 7, 4, 5], 2, &d).require_grad();
            let y = f(a.clone(), b.clone());
            let grads = (y.clone() * random([3, 9, 4, 5], 3, &d)).sum().backward();
            [y.inner(), a.grad(&grads).unwrap(), b.grad(&grads).unwrap()]
        };
        for (fast, slow) in run(cpu::join_channels).into_iter().zip(run(portable)) {
            close(fast, slow, 0.0);
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        type Join = fn(Tensor<4>, Tensor<4>) -> Tensor<4>;
        let run = |t: &mut Leaves, f: Join| f(t.leaf([2, 1, 3, 5]), t.leaf([2, 4, 3, 5]));
        gradients(|t| run(t, cpu::join_channels), |t| run(t, portable));
        let twice = |t: &mut Leaves, f: Join| {
            let x = t.leaf([2, 3, 1, 5]);
            f(x.clone(), x)
        };
        gradients(|t| twice(t, cpu::join_channels), |t| twice(t, portable));
    }
}
