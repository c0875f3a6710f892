use burn::tensor::Tensor;
use demask_kernels::Precision;

use super::{BranchLinear, BranchNorm, cpu, gelu_tanh, on_cpu, swiglu};

/// The MLP branch of a block.
#[derive(Debug, Clone)]
pub struct MlpBranch {
    /// Before the branch.
    pub norm: BranchNorm,
    /// `[inner, width]`; SwiGLU when there is one, GELU otherwise.
    pub gate: Option<BranchLinear>,
    /// `[inner, width]`.
    pub up: BranchLinear,
    /// `[width, inner]`.
    pub down: BranchLinear,
}

/// `x + D · swiglu(G h, U h)`, or `x + D · gelu(U h)` without a gate, with `h = norm(x)`.
///
/// The fast path is one node of the autodiff graph and multiplies in `precision`.
///
/// # Shapes
/// `x` and output: `[rows, width]`.
pub fn mlp_branch(x: Tensor<2>, branch: MlpBranch, precision: Precision) -> Tensor<2> {
    if on_cpu(&x.device()) {
        cpu::mlp_branch(x, branch, precision)
    } else {
        composed(x, branch, precision)
    }
}

/// The branch of single operations.
fn composed(x: Tensor<2>, branch: MlpBranch, precision: Precision) -> Tensor<2> {
    let h = branch.norm.apply(x.clone());
    let inner = match branch.gate {
        Some(gate) => {
            let gate = gate.apply(h.clone(), precision);
            swiglu(gate, branch.up.apply(h, precision))
        }
        None => gelu_tanh(branch.up.apply(h, precision)),
    };
    x + branch.down.apply(inner, precision)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, device, random};
    use super::*;

    /// What a branch can have.
    #[derive(Clone, Copy, Debug)]
    struct Options {
        gated: bool,
        biases: bool,
        centred: bool,
        shift: bool,
    }

    const ALL: [Options; 4] = [
        Options {
            gated: true,
            biases: false,
            centred: false,
            shift: false,
        },
        Options {
            gated: true,
            biases: true,
            centred: true,
            shift: false,
        },
        Options {
            gated: false,
            biases: true,
            centred: true,
            shift: true,
        },
        Options {
            gated: false,
            biases: false,
            centred: false,
            shift: true,
        },
    ];

    type Run = fn(Tensor<2>, MlpBranch, Precision) -> Tensor<2>;

    /// The output of a branch with these options and the gradients of all its inputs.
    fn run(f: Run, options: Options, precision: Precision) -> Vec<Tensor<1>> {
        let d = device();
        let (rows, width, inner) = (71, 24, 40);
        let mut leaves = Vec::new();
        let mut seed = 1;
        let mut leaf = |shape: [usize; 2], shift: f64| {
            seed += 1;
            let values = (random(shape, seed, &d) * 0.5 + shift).detach();
            let values = values.require_grad();
            leaves.push(values.clone());
            values
        };
        let x = leaf([rows, width], 0.0);
        let norm = BranchNorm {
            scale: leaf([1, width], 1.0).reshape([width]),
            shift: (options.shift).then(|| leaf([1, width], 0.0).reshape([width])),
            eps: 1e-5,
            centred: options.centred,
        };
        let mut linear = |dims: [usize; 2]| BranchLinear {
            weight: leaf(dims, 0.0),
            bias: (options.biases).then(|| leaf([1, dims[0]], 0.0).reshape([dims[0]])),
        };
        let branch = MlpBranch {
            norm,
            gate: options.gated.then(|| linear([inner, width])),
            up: linear([inner, width]),
            down: linear([width, inner]),
        };
        let y = f(x, branch, precision);
        let g = random(y.dims(), 99, &d);
        let grads = (y.clone() * g).sum().backward();
        let gradients = leaves
            .iter()
            .map(|leaf| leaf.grad(&grads).expect("every input has a gradient"));
        std::iter::once(y.inner())
            .chain(gradients)
            .map(|t| t.flatten(0, 1))
            .collect()
    }

    #[test]
    fn one_node_is_the_composed_branch() {
        for options in ALL {
            let fast = run(cpu::mlp_branch, options, Precision::F32);
            let slow = run(composed, options, Precision::F32);
            assert_eq!(fast.len(), slow.len());
            for (fast, slow) in fast.into_iter().zip(slow) {
                close(fast, slow, 2e-5);
            }
        }
    }

    /// Products round their operands to eight bits, 2⁻⁸ relative to each: results stray by about that.
    #[test]
    fn bf16_strays_by_the_rounding_of_its_operands() {
        for options in ALL {
            let fast = run(cpu::mlp_branch, options, Precision::Bf16);
            let exact = run(composed, options, Precision::F32);
            let mut alike = 0;
            for (fast, exact) in fast.into_iter().zip(exact) {
                alike += usize::from(fast.to_data() == exact.to_data());
                close(fast, exact, 0.03);
            }
            // No product enters the gradient of the last bias.
            assert!(alike <= 1, "bf16 must not be f32, but {alike} results are");
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let d = device();
        let branch = |scale: Tensor<1>, up: Tensor<2>| MlpBranch {
            norm: BranchNorm {
                scale,
                shift: None,
                eps: 1e-5,
                centred: false,
            },
            gate: Some(BranchLinear {
                weight: random([5, 3], 3, &d),
                bias: None,
            }),
            up: BranchLinear {
                weight: up,
                bias: None,
            },
            down: BranchLinear {
                weight: random([3, 5], 4, &d),
                bias: None,
            },
        };
        let (x, up) = (random([2, 3], 1, &d), random([5, 3], 2, &d));
        let g = random([2, 3], 5, &d);
        let loss = |x: Tensor<2>, up: Tensor<2>| {
            let y = mlp_branch(x, branch(Tensor::ones([3], &d), up), Precision::F32);
            (y * g.clone()).sum()
        };
        let (lx, lup) = (x.clone().require_grad(), up.clone().require_grad());
        let grads = loss(lx.clone(), lup.clone()).backward();
        let slope = |leaf: Tensor<2>| leaf.grad(&grads).unwrap().into_data();
        let (dx, dup) = (slope(lx), slope(lup));
        // In f32 a step of 2⁻⁶ leaves about three digits of a slope.
        let step = 1.0 / 64.0;
        let nudged = |t: &Tensor<2>, at: usize, by: f32| {
            let mut values = t.to_data().try_to_vec::<f32>().unwrap();
            values[at] += by;
            Tensor::<1>::from_floats(values.as_slice(), &d).reshape(t.dims())
        };
        let value = |t: Tensor<1>| t.into_scalar::<f32>();
        for at in 0..6 {
            let up_by = value(loss(nudged(&x, at, step), up.clone()));
            let down_by = value(loss(nudged(&x, at, -step), up.clone()));
            let found = dx.as_slice::<f32>().unwrap()[at];
            let wanted = (up_by - down_by) / (2.0 * step);
            assert!((found - wanted).abs() < 5e-3, "{at}: {found} {wanted}");
        }
        for at in 0..15 {
            let up_by = value(loss(x.clone(), nudged(&up, at, step)));
            let down_by = value(loss(x.clone(), nudged(&up, at, -step)));
            let found = dup.as_slice::<f32>().unwrap()[at];
            let wanted = (up_by - down_by) / (2.0 * step);
            assert!((found - wanted).abs() < 5e-3, "{at}: {found} {wanted}");
        }
    }
}
