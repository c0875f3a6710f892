use burn::tensor::Tensor;

use super::{cpu, on_cpu};

/// Every pixel 2×2 times (nearest neighbour).
///
/// # Shapes
/// `x`: `[batch, channels, height, width]`, output: `[batch, channels, 2·height, 2·width]`.
pub fn upsample2(x: Tensor<4>) -> Tensor<4> {
    if on_cpu(&x.device()) {
        cpu::upsample2(x)
    } else {
        portable_upsample(x)
    }
}

/// The mean of 2×2 pixels; height and width must be even.
///
/// # Shapes
/// `x`: `[batch, channels, 2·height, 2·width]`, output: `[batch, channels, height, width]`.
pub fn average_pool2(x: Tensor<4>) -> Tensor<4> {
    if on_cpu(&x.device()) {
        cpu::average_pool2(x)
    } else {
        portable_pool(x)
    }
}

fn portable_upsample(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch * channels, height, 1, width, 1])
        .expand([batch * channels, height, 2, width, 2])
        .reshape([batch, channels, 2 * height, 2 * width])
}

fn portable_pool(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let (height, width) = (height / 2, width / 2);
    x.reshape([batch * channels, height, 2, width, 2])
        .mean_dim(4)
        .mean_dim(2)
        .reshape([batch, channels, height, width])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random};
    use super::*;

    #[test]
    fn a_picture_by_hand() {
        let d = device();
        let small = Tensor::<1>::from_floats([1.0, 4.0], &d).reshape([1, 1, 1, 2]);
        let large = Tensor::<1>::from_floats([1.0, 1.0, 4.0, 4.0, 1.0, 1.0, 4.0, 4.0], &d);
        let large = large.reshape([1, 1, 2, 4]);
        close(upsample2(small.clone()), large.clone(), 0.0);
        close(average_pool2(large), small, 0.0);
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        type Op = fn(Tensor<4>) -> Tensor<4>;
        let d = device();
        let pairs: [(Op, Op); 2] = [
            (cpu::upsample2, portable_upsample),
            (cpu::average_pool2, portable_pool),
        ];
        for (fast, slow) in pairs {
            for shape in [[1, 1, 2, 2], [2, 3, 4, 6], [1, 5, 2, 34]] {
                let run = |f: Op| {
                    let x = random(shape, 1, &d).require_grad();
                    let y = f(x.clone());
                    let grads = (y.clone() * random(y.dims(), 2, &d)).sum().backward();
                    (y.inner(), x.grad(&grads).unwrap())
                };
                let (fast, slow) = (run(fast), run(slow));
                close(fast.0, slow.0, 1e-6);
                close(fast.1, slow.1, 1e-6);
            }
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let x = |t: &mut Leaves| t.leaf([2, 3, 5, 7]);
        gradients(|t| cpu::upsample2(x(t)), |t| portable_upsample(x(t)));
        let x = |t: &mut Leaves| t.leaf([2, 3, 6, 10]);
        gradients(|t| cpu::average_pool2(x(t)), |t| portable_pool(x(t)));
    }
}
