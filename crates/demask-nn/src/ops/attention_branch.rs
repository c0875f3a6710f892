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
    use super::super::testing::{close, device, random};
    use super::*;
    use crate::AttentionMask;
    use crate::transformer::{RotaryConfig, RotaryLayout};

    /// What a branch can have.
    #[derive(Clone, Copy, Debug)]
    struct Options {
        batch: usize,
        centred: bool,
        shift: bool,
        biases: [bool; 2],
        head_norms: bool,
        rotary: bool,
        causal: bool,
        heads: [usize; 2],
    }

    const LENGTH: usize = 37;
    const WIDTH: usize = 24;
    const HEAD: usize = 8;

    type Run = fn(
        Tensor<2>,
        AttentionBranch,
        &RequestMask,
        Option<&Arc<RotaryTable>>,
        [usize; 2],
        Precision,
    ) -> Tensor<2>;

    /// The output of a branch with these options and the gradients of all its inputs.
    fn run(f: Run, options: Options, precision: Precision) -> Vec<Tensor<1>> {
        let d = device();
        let mut leaves = Vec::new();
        let [heads, kv_heads] = options.heads;
        let mut seed = 1;
        let mut leaf = |shape: [usize; 2], shift: f64| {
            seed += 1;
            let values = (random(shape, seed, &d) * 0.5 + shift).detach();
            let values = values.require_grad();
            leaves.push(values.clone());
            values
        };
        let x = leaf([options.batch * LENGTH, WIDTH], 0.0);
        let mut row = |n: usize, shift: f64| leaf([1, n], shift).reshape([n]);
        let norm = BranchNorm {
            scale: row(WIDTH, 1.0),
            shift: options.shift.then(|| row(WIDTH, 0.0)),
            eps: 1e-5,
            centred: options.centred,
        };
        let head_norms = options.head_norms.then(|| HeadNorms {
            q: row(HEAD, 1.0),
            k: row(HEAD, 1.0),
            eps: 1e-5,
        });
        let mut linear = |dims: [usize; 2], bias: bool| BranchLinear {
            weight: leaf(dims, 0.0),
            bias: bias.then(|| leaf([1, dims[0]], 0.0).reshape([dims[0]])),
        };
        let [all, keys] = options.biases;
        let branch = AttentionBranch {
            norm,
            q: linear([heads * HEAD, WIDTH], all),
            k: linear([kv_heads * HEAD, WIDTH], keys),
            v: linear([kv_heads * HEAD, WIDTH], all),
            head_norms,
            o: linear([WIDTH, heads * HEAD], all),
            heads,
            kv_heads,
            head_dim: HEAD,
        };
        let mask = match options.causal {
            true => AttentionMask::causal(),
            false => AttentionMask::full(),
        };
        let mask = mask.for_request(options.batch, LENGTH, 0).unwrap();
        let positions: Vec<u32> = (0..LENGTH as u32).collect();
        let config = RotaryConfig {
            base: 100.0,
            fraction: 1.0,
            layout: RotaryLayout::HalfSplit,
        };
        let table = Arc::new(RotaryTable::new(&config, HEAD, &positions));
        let rotary = options.rotary.then_some(&table);
        let size = [options.batch, LENGTH];
        let y = f(x, branch, &mask, rotary, size, precision);
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

    fn all_options() -> Vec<Options> {
        let plain = Options {
            batch: 2,
            centred: false,
            shift: false,
            biases: [false, false],
            head_norms: false,
            rotary: true,
            causal: false,
            heads: [3, 3],
        };
        vec![
            plain,
            Options {
                rotary: false,
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
                ..plain
            },
        ]
    }

    #[test]
    fn one_node_is_the_composed_branch() {
        for options in all_options() {
            let fast = run(cpu::attention_branch, options, Precision::F32);
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
        for options in all_options() {
            let fast = run(cpu::attention_branch, options, Precision::Bf16);
            let composed = run(composed, options, Precision::Bf16);
            let exact = run(super::composed, options, Precision::F32);
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
                run(cpu::attention_branch, options, Precision::F32)
            });
            let values = results.into_iter().map(Tensor::into_data);
            values.collect::<Vec<_>>()
        };
        assert_eq!(with(1), with(2));
    }
}
