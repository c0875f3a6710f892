use std::sync::Arc;

use burn::tensor::Tensor;
use demask_kernels::Precision;

use super::{BranchLinear, BranchNorm, RotaryTable, attention, cpu, on_cpu, rms_norm, rotary};
use crate::RequestMask;

/// The attention branch of a block.
#[derive(Debug, Clone)]
pub struct AttentionBranch {
    /// Before the branch.
    pub norm: BranchNorm,
    /// To queries, `[heads · head_dim, width]`.
    pub q: BranchLinear,
    /// To keys, `[kv_heads · head_dim, width]`.
    pub k: BranchLinear,
    /// To values, as keys.
    pub v: BranchLinear,
    /// Root-mean-square norms of each head of queries and keys.
    pub head_norms: Option<HeadNorms>,
    /// From what attention gave, `[width, heads · head_dim]`.
    pub o: BranchLinear,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values, which divide those of the queries.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
}

/// Norms of each head of queries and keys (QK-norm, arXiv 2010.04245).
#[derive(Debug, Clone)]
pub struct HeadNorms {
    /// Scale of the heads of queries, `[head_dim]`.
    pub q: Tensor<1>,
    /// Scale of the heads of keys, `[head_dim]`.
    pub k: Tensor<1>,
    /// What is added to the mean square.
    pub eps: f64,
}

/// `x + O · attention(Q h, K h, V h)` with `h = norm(x)`, and with norms of heads and rotary positions on queries and
/// keys where there are some.
///
/// The fast path is one node of the autodiff graph and multiplies in `precision`.
///
/// # Shapes
/// `x` and output: `[batch · length, width]`, `size`: `[batch, length]`; the rotary table is for these positions.
pub fn attention_branch(
    x: Tensor<2>,
    branch: AttentionBranch,
    mask: &RequestMask,
    rotary: Option<&Arc<RotaryTable>>,
    size: [usize; 2],
    precision: Precision,
) -> Tensor<2> {
    if on_cpu(&x.device()) {
        cpu::attention_branch(x, branch, mask, rotary, size, precision)
    } else {
        composed(x, branch, mask, rotary, size, precision)
    }
}

/// The branch of single operations.
fn composed(
    x: Tensor<2>,
    branch: AttentionBranch,
    mask: &RequestMask,
    table: Option<&Arc<RotaryTable>>,
    [batch, length]: [usize; 2],
    precision: Precision,
) -> Tensor<2> {
    let (head_dim, rows) = (branch.head_dim, batch * length);
    let h = branch.norm.apply(x.clone());
    let heads = |linear: BranchLinear, heads: usize, norm: Option<(Tensor<1>, f64)>| {
        let y = linear.apply(h.clone(), precision);
        let y = match norm {
            Some((scale, eps)) => rms_norm(y.reshape([rows * heads, head_dim]), scale, eps),
            None => y,
        };
        y.reshape([batch, length, heads, head_dim])
    };
    let turned = |x: Tensor<4>| match table {
        Some(table) => rotary(x, table),
        None => x,
    };
    let (q_norm, k_norm) = match branch.head_norms {
        Some(norms) => (Some((norms.q, norms.eps)), Some((norms.k, norms.eps))),
        None => (None, None),
    };
    let q = turned(heads(branch.q, branch.heads, q_norm));
    let k = turned(heads(branch.k, branch.kv_heads, k_norm));
    let v = heads(branch.v, branch.kv_heads, None);
    let y = attention(q, k, v, mask, precision);
    let y = y.reshape([rows, branch.heads * head_dim]);
    x + branch.o.apply(y, precision)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, gradients, operations_back, results};
    use super::*;
    use crate::AttentionMask;
    use crate::transformer::{RotaryConfig, RotaryLayout};

    /// What a branch can have.
    #[derive(Clone, Copy, Debug)]
    struct Options {
        batch: usize,
        length: usize,
        width: usize,
        head_dim: usize,
        centred: bool,
        shift: bool,
        biases: [bool; 2],
        head_norms: bool,
        rotary: Option<RotaryLayout>,
        causal: bool,
        heads: [usize; 2],
    }

    type Run = fn(
        Tensor<2>,
        AttentionBranch,
        &RequestMask,
        Option<&Arc<RotaryTable>>,
        [usize; 2],
        Precision,
    ) -> Tensor<2>;

    /// The output of a branch with these options.
    fn run(t: &mut Leaves, f: Run, options: Options, precision: Precision) -> Tensor<2> {
        let Options {
            batch,
            length,
            width,
            head_dim,
            heads: [heads, kv_heads],
            ..
        } = options;
        let x = t.near(0.0, [batch * length, width]);
        let norm = BranchNorm {
            scale: t.near(1.0, [width]),
            shift: options.shift.then(|| t.near(0.0, [width])),
            eps: 1e-5,
            centred: options.centred,
        };
        let head_norms = options.head_norms.then(|| HeadNorms {
            q: t.near(1.0, [head_dim]),
            k: t.near(1.0, [head_dim]),
            eps: 1e-5,
        });
        let mut linear = |dims: [usize; 2], bias: bool| BranchLinear {
            weight: t.near(0.0, dims),
            bias: bias.then(|| t.near(0.0, [dims[0]])),
        };
        let [all, keys] = options.biases;
        let branch = AttentionBranch {
            norm,
            q: linear([heads * head_dim, width], all),
            k: linear([kv_heads * head_dim, width], keys),
            v: linear([kv_heads * head_dim, width], all),
            head_norms,
            o: linear([width, heads * head_dim], all),
            heads,
            kv_heads,
            head_dim,
        };
        let mask = match options.causal {
            true => AttentionMask::causal(),
            false => AttentionMask::full(),
        };
        let mask = mask.for_request(batch, length, 0).unwrap();
        let table = options.rotary.map(|layout| table(head_dim, length, layout));
        f(x, branch, &mask, table.as_ref(), [batch, length], precision)
    }

    fn table(head_dim: usize, length: usize, layout: RotaryLayout) -> Arc<RotaryTable> {
        let positions: Vec<u32> = (0..length as u32).collect();
        let config = RotaryConfig {
            base: 100.0,
            fraction: 1.0,
            layout,
        };
        Arc::new(RotaryTable::new(&config, head_dim, &positions))
    }

    fn all_options() -> Vec<Options> {
        let plain = Options {
            batch: 2,
            length: 37,
            width: 24,
            head_dim: 8,
            centred: false,
            shift: false,
            biases: [false, false],
            head_norms: false,
            rotary: Some(RotaryLayout::HalfSplit),
            causal: false,
            heads: [3, 3],
        };
        vec![
            plain,
            Options {
                rotary: None,
                causal: true,
                biases: [true, true],
                ..plain
            },
            Options {
                head_norms: true,
                heads: [4, 2],
                biases: [false, true],
                ..plain
            },
            Options {
                centred: true,
                shift: true,
                biases: [true, false],
                heads: [2, 1],
                causal: true,
                rotary: Some(RotaryLayout::Interleaved),
                ..plain
            },
        ]
    }

    #[test]
    fn one_node_is_the_composed_branch() {
        for options in all_options() {
            let fast = results(|t| run(t, cpu::attention_branch, options, Precision::F32));
            let slow = results(|t| run(t, composed, options, Precision::F32));
            assert_eq!(fast.len(), slow.len());
            for (fast, slow) in fast.into_iter().zip(slow) {
                close(fast, slow, 2e-5);
            }
        }
    }

    /// Products round their operands to eight bits, 2⁻⁸ relative to each: results stray by about that.
    #[test]
    fn bf16_strays_by_the_rounding_of_its_operands() {
        for options in all_options() {
            let fast = results(|t| run(t, cpu::attention_branch, options, Precision::Bf16));
            let composed = results(|t| run(t, composed, options, Precision::Bf16));
            let exact = results(|t| run(t, super::composed, options, Precision::F32));
            let mut alike = 0;
            for ((fast, composed), exact) in fast.into_iter().zip(composed).zip(exact) {
                alike += usize::from(fast.to_data() == exact.to_data());
                close(fast.clone(), exact, 0.03);
                close(fast, composed, 0.02);
            }
            // No product enters the gradient of the last bias.
            assert!(alike <= 1, "bf16 must not be f32, but {alike} results are");
        }
    }

    #[test]
    fn threads_change_no_bit() {
        // Rows enough for every operation to be cut.
        let options = Options {
            batch: 64,
            ..all_options()[2]
        };
        let with = |threads| {
            let results = demask_kernels::threads::with_threads(threads, || {
                results(|t| run(t, cpu::attention_branch, options, Precision::F32))
            });
            let values = results.into_iter().map(Tensor::into_data);
            values.collect::<Vec<_>>()
        };
        assert_eq!(with(1), with(2));
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        for options in all_options() {
            let options = Options {
                length: 5,
                width: 7,
                head_dim: 6,
                ..options
            };
            gradients(
                |t| run(t, cpu::attention_branch, options, Precision::F32),
                |t| run(t, composed, options, Precision::F32),
            );
        }
    }

    /// A branch all of whose matrices are one, and whose norms are too.
    #[test]
    fn shared_inputs_get_the_sum_of_their_gradients() {
        let mask = AttentionMask::causal();
        let mask = mask.for_request(1, 5, 0).unwrap();
        let table = table(6, 5, RotaryLayout::HalfSplit);
        let run = |t: &mut Leaves, f: Run| {
            let (x, scale, row) = (t.leaf([5, 6]), t.near(1.0, [6]), t.near(0.0, [6]));
            let linear = BranchLinear {
                weight: t.leaf([6, 6]),
                bias: Some(row.clone()),
            };
            let branch = AttentionBranch {
                norm: BranchNorm {
                    scale: scale.clone(),
                    shift: Some(row),
                    eps: 1e-3,
                    centred: false,
                },
                q: linear.clone(),
                k: linear.clone(),
                v: linear.clone(),
                head_norms: Some(HeadNorms {
                    q: scale.clone(),
                    k: scale,
                    eps: 1e-3,
                }),
                o: linear,
                heads: 1,
                kv_heads: 1,
                head_dim: 6,
            };
            f(x, branch, &mask, Some(&table), [1, 5], Precision::F32)
        };
        gradients(|t| run(t, cpu::attention_branch), |t| run(t, composed));
    }

    /// What takes place on the way back where only some inputs are tracked.
    #[test]
    fn what_needs_no_gradient_costs_none() {
        let options = all_options()[0];
        let back = |wanted: &[usize]| {
            let f = |t: &mut Leaves| run(t, cpu::attention_branch, options, Precision::F32);
            operations_back(wanted, f)
        };
        let [x, scale, q, k, v, o] = [0, 1, 2, 3, 4, 5];
        let heads = ["linear", "attention backward", "rotary", "norm"];
        assert_eq!(back(&[o]), ["linear"]);
        assert_eq!(back(&[q, k, v]), [&heads[..], &["linear"]].concat());
        for before in [x, scale] {
            let expected = [&heads[..], &["linear", "norm backward"]].concat();
            assert_eq!(back(&[before]), expected);
        }
        let all = back(&[x, scale, q, k, v, o]);
        let expected = [
            &["linear"],
            &heads[..],
            &["linear", "linear", "norm backward"],
        ]
        .concat();
        assert_eq!(all, expected);
    }
}
