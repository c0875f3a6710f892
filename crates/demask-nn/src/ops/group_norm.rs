use burn::tensor::{Tensor, activation};

use super::{cpu, on_cpu};

/// The settings of a [`group_norm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Groups {
    /// Groups of neighbouring channels that share mean and variance; divides the channels.
    pub count: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// `(z - mean z) / √(var z + ε) · g + b` with `z = x + shift`, over the pixels of each group of channels of each picture
/// (group norm, arXiv 1803.08494), with the biased variance; then SiLU where `groups` says so.
///
/// The shift of a channel is how a U-Net tells its blocks the time; here it costs nothing.
///
/// # Shapes
/// - `x` and output: `[batch, channels, height, width]`
/// - `shift`: `[batch, channels]`
/// - `weight` (`g`), `bias` (`b`): `[channels]`
pub fn group_norm(
    x: Tensor<4>,
    shift: Option<Tensor<2>>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: Groups,
) -> Tensor<4> {
    if on_cpu(&x.device()) {
        cpu::group_norm(x, shift, weight, bias, groups)
    } else {
        portable(x, shift, weight, bias, groups)
    }
}

fn portable(
    x: Tensor<4>,
    shift: Option<Tensor<2>>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: Groups,
) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let x = match shift {
        Some(shift) => x + shift.reshape([batch, channels, 1, 1]),
        None => x,
    };
    let values = channels / groups.count * height * width;
    let x = x.reshape([batch, groups.count, values]);
    let x = x.clone() - x.mean_dim(2);
    let scale = (x.clone().square().mean_dim(2) + groups.eps).sqrt().recip();
    let x = (x * scale).reshape([batch, channels, height, width]);
    let y = x * weight.reshape([1, channels, 1, 1]) + bias.reshape([1, channels, 1, 1]);
    match groups.silu {
        true => activation::silu(y),
        false => y,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random};
    use super::*;

    #[test]
    fn groups_by_hand() {
        let d = device();
        let picture = |v: [f32; 4]| Tensor::<1>::from_floats(v, &d).reshape([1, 4, 1, 1]);
        let channels = |v: [f32; 4]| Tensor::<1>::from_floats(v, &d);
        let mut groups = Groups {
            count: 2,
            eps: 0.0,
            silu: false,
        };
        let norm = |shift, groups| {
            let (w, b) = (
                channels([1.0, 1.0, 2.0, 2.0]),
                channels([0.0, 0.0, 1.0, 0.0]),
            );
            group_norm(picture([2.0, 4.0, 0.0, 6.0]), shift, w, b, groups)
        };
        // Means 3 and 3, deviations 1 and 3.
        close(norm(None, groups), picture([-1.0, 1.0, -1.0, 2.0]), 1e-6);
        // 5 and 4: mean 4.5, deviation 0.5.
        let shift = channels([3.0, 0.0, 0.0, 0.0]).reshape([1, 4]);
        let expected = picture([1.0, -1.0, -1.0, 2.0]);
        close(norm(Some(shift), groups), expected, 1e-6);
        groups.silu = true;
        // z / (1 + e⁻ᶻ)
        let expected = picture([-0.26894143, 0.7310586, -0.26894143, 1.761594]);
        close(norm(None, groups), expected, 1e-6);
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        for [batch, channels, size, count] in [[1, 2, 1, 1], [2, 6, 5, 3], [3, 32, 8, 8]] {
            for (silu, shifted) in [(false, false), (true, false), (true, true)] {
                type Norm =
                    fn(Tensor<4>, Option<Tensor<2>>, Tensor<1>, Tensor<1>, Groups) -> Tensor<4>;
                let groups = Groups {
                    count,
                    eps: 1e-3,
                    silu,
                };
                let run = |f: Norm| {
                    let shape = [batch, channels, size, size];
                    let x = random(shape, 1, &d).require_grad();
                    let shift = shifted.then(|| random([batch, channels], 2, &d).require_grad());
                    let w = random([channels], 3, &d).require_grad();
                    let b = random([channels], 4, &d).require_grad();
                    let y = f(x.clone(), shift.clone(), w.clone(), b.clone(), groups);
                    let grads = (y.clone() * random(shape, 5, &d)).sum().backward();
                    (
                        [y.inner(), x.grad(&grads).unwrap()],
                        shift.map(|shift| shift.grad(&grads).unwrap()),
                        [w.grad(&grads).unwrap(), b.grad(&grads).unwrap()],
                    )
                };
                let (fast, slow) = (run(cpu::group_norm), run(portable));
                for (fast, slow) in fast.0.into_iter().zip(slow.0) {
                    close(fast, slow, 2e-5);
                }
                for (fast, slow) in fast.1.into_iter().zip(slow.1) {
                    close(fast, slow, 2e-5);
                }
                for (fast, slow) in fast.2.into_iter().zip(slow.2) {
                    close(fast, slow, 2e-5);
                }
            }
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        type Norm = fn(Tensor<4>, Option<Tensor<2>>, Tensor<1>, Tensor<1>, Groups) -> Tensor<4>;
        for (silu, shifted) in [(false, false), (false, true), (true, false), (true, true)] {
            let run = |t: &mut Leaves, f: Norm| {
                let x = t.leaf([2, 6, 3, 5]);
                let shift = shifted.then(|| t.leaf([2, 6]));
                let groups = Groups {
                    count: 3,
                    eps: 1e-3,
                    silu,
                };
                f(x, shift, t.near(1.0, [6]), t.leaf([6]), groups)
            };
            gradients(|t| run(t, cpu::group_norm), |t| run(t, portable));
        }
    }
}
