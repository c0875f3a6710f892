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
/// The fast path is one node of the autodiff graph and multiplies in `precision`, in which the rows inside are stored
/// as well.
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
    use super::super::testing::{Leaves, close, gradients, operations_back, results};
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

    /// The output of a branch with these options and sizes: rows, their width, and that inside.
    fn run(
        t: &mut Leaves,
        f: Run,
        options: Options,
        [rows, width, inner]: [usize; 3],
        precision: Precision,
    ) -> Tensor<2> {
        let x = t.near(0.0, [rows, width]);
        let norm = BranchNorm {
            scale: t.near(1.0, [width]),
            shift: options.shift.then(|| t.near(0.0, [width])),
            eps: 1e-5,
            centred: options.centred,
        };
        let mut linear = |dims: [usize; 2]| BranchLinear {
            weight: t.near(0.0, dims),
            bias: options.biases.then(|| t.near(0.0, [dims[0]])),
        };
        let branch = MlpBranch {
            norm,
            gate: options.gated.then(|| linear([inner, width])),
            up: linear([inner, width]),
            down: linear([width, inner]),
        };
        f(x, branch, precision)
    }

    const SIZES: [usize; 3] = [71, 24, 40];

    #[test]
    fn one_node_is_the_composed_branch() {
        for options in ALL {
            let fast = results(|t| run(t, cpu::mlp_branch, options, SIZES, Precision::F32));
            let slow = results(|t| run(t, composed, options, SIZES, Precision::F32));
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
            let fast = results(|t| run(t, cpu::mlp_branch, options, SIZES, Precision::Bf16));
            let exact = results(|t| run(t, composed, options, SIZES, Precision::F32));
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
        for options in ALL {
            let run = |t: &mut Leaves, f: Run| run(t, f, options, [3, 7, 11], Precision::F32);
            gradients(|t| run(t, cpu::mlp_branch), |t| run(t, composed));
        }
    }

    /// A branch whose square matrices are one, and whose vectors are too.
    #[test]
    fn shared_inputs_get_the_sum_of_their_gradients() {
        let run = |t: &mut Leaves, f: Run| {
            let (x, row) = (t.leaf([3, 7]), t.near(1.0, [7]));
            let linear = BranchLinear {
                weight: t.leaf([7, 7]),
                bias: Some(row.clone()),
            };
            let branch = MlpBranch {
                norm: BranchNorm {
                    scale: row.clone(),
                    shift: Some(row),
                    eps: 1e-3,
                    centred: true,
                },
                gate: Some(linear.clone()),
                up: linear.clone(),
                down: linear,
            };
            f(x, branch, Precision::F32)
        };
        gradients(|t| run(t, cpu::mlp_branch), |t| run(t, composed));
    }

    /// What takes place on the way back where only some inputs are tracked.
    #[test]
    fn what_needs_no_gradient_costs_none() {
        let back = |wanted: &[usize]| {
            operations_back(wanted, |t| {
                run(t, cpu::mlp_branch, ALL[0], SIZES, Precision::F32)
            })
        };
        let [x, scale, gate, up, down] = [0, 1, 2, 3, 4];
        // The activation is part of the product before it.
        let inner = ["linear", "norm"];
        assert_eq!(back(&[down]), ["swiglu", "linear"]);
        assert_eq!(back(&[gate, up]), [&inner[..], &["linear"]].concat());
        for before in [x, scale] {
            let expected = [&inner[..], &["linear", "norm backward"]].concat();
            assert_eq!(back(&[before]), expected);
        }
        let expected = [
            "linear",
            "linear",
            "norm",
            "linear",
            "linear",
            "norm backward",
        ];
        assert_eq!(back(&[x, scale, gate, up, down]), expected);
    }
}
