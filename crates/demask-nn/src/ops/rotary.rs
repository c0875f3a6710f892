use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use demask_kernels::rowwise;

use super::{cpu, on_cpu};
use crate::transformer::{RotaryConfig, RotaryLayout};

/// Cosines and sines of a request's positions, computed in f64 once for all layers.
#[derive(Debug, Clone)]
pub struct RotaryTable {
    /// One row for each of `batch * length` cells, or for each of `length` when all sequences
    /// share positions. Pair `i` of a head turns by `position · base^(-2 i / rotated)`.
    pub(super) angles: rowwise::RotaryTable,
    pub(super) layout: RotaryLayout,
}

impl RotaryTable {
    /// The angles of `positions` for heads of `head_dim`.
    pub fn new(config: &RotaryConfig, head_dim: usize, positions: &[u32]) -> Self {
        let positions: Vec<f64> = positions.iter().map(|&p| f64::from(p)).collect();
        let angles = rowwise::RotaryTable::new(&positions, config.rotated(head_dim), config.base);
        Self {
            angles,
            layout: config.layout,
        }
    }

    /// Number of positions.
    pub fn rows(&self) -> usize {
        self.angles.rows()
    }
}

impl From<RotaryLayout> for rowwise::RotaryLayout {
    fn from(layout: RotaryLayout) -> Self {
        match layout {
            RotaryLayout::HalfSplit => Self::HalfSplit,
            RotaryLayout::Interleaved => Self::Interleaved,
        }
    }
}

/// Rotates the first `2 * pairs` dimensions of each head by its position's angles
/// (RoFormer, arXiv 2104.09864, eq. 34).
///
/// # Shapes
/// `x` and output: `[batch, length, heads, head]`.
pub fn rotary(x: Tensor<4>, table: &Arc<RotaryTable>) -> Tensor<4> {
    if on_cpu(&x.device()) {
        cpu::rotary(x, table)
    } else {
        portable(x, table)
    }
}

fn portable(x: Tensor<4>, table: &Arc<RotaryTable>) -> Tensor<4> {
    let [batch, length, heads, head] = x.dims();
    let pairs = table.angles.rotary_dim() / 2;
    let rows = if table.rows() == length { 1 } else { batch };
    let device = x.device();
    let angles = |values: &[f32]| {
        let data = TensorData::new(values.to_vec(), [rows, length, 1, pairs]);
        Tensor::<4>::from_data(data, &device)
    };
    let (cos, sin) = (angles(table.angles.cos()), angles(table.angles.sin()));
    let rest = head - 2 * pairs;
    let turned = x.clone().narrow(3, 0, 2 * pairs);
    let turned = match table.layout {
        RotaryLayout::HalfSplit => {
            let (a, b) = (
                turned.clone().narrow(3, 0, pairs),
                turned.narrow(3, pairs, pairs),
            );
            let first = a.clone() * cos.clone() - b.clone() * sin.clone();
            Tensor::cat(vec![first, a * sin + b * cos], 3)
        }
        RotaryLayout::Interleaved => {
            let two = turned.reshape([batch, length, heads, pairs, 2]);
            let part = |i| {
                two.clone()
                    .narrow(4, i, 1)
                    .reshape([batch, length, heads, pairs])
            };
            let (a, b) = (part(0), part(1));
            let first = a.clone() * cos.clone() - b.clone() * sin.clone();
            let second = a * sin + b * cos;
            Tensor::stack::<5>(vec![first, second], 4).reshape([batch, length, heads, 2 * pairs])
        }
    };
    if rest == 0 {
        turned
    } else {
        Tensor::cat(vec![turned, x.narrow(3, 2 * pairs, rest)], 3)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random};
    use super::*;

    fn config(fraction: f64, layout: RotaryLayout) -> RotaryConfig {
        RotaryConfig {
            base: 100.0,
            fraction,
            layout,
        }
    }

    #[test]
    fn a_rotation_by_hand() {
        let d = device();
        // Width 4, base 100: frequencies 1 and 0.1; position 1.
        let x = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &d).reshape([1, 1, 1, 4]);
        let run = |layout| {
            let table = Arc::new(RotaryTable::new(&config(1.0, layout), 4, &[1]));
            rotary(x.clone(), &table)
        };
        let (c, s, c2, s2) = (0.5403023, 0.84147098, 0.9950042, 0.0998334);
        let half = [
            c - 3.0 * s,
            2.0 * c2 - 4.0 * s2,
            s + 3.0 * c,
            2.0 * s2 + 4.0 * c2,
        ];
        let expected = Tensor::<1>::from_floats(half, &d).reshape([1, 1, 1, 4]);
        close(run(RotaryLayout::HalfSplit), expected, 1e-6);
        let pairs = [
            c - 2.0 * s,
            s + 2.0 * c,
            3.0 * c2 - 4.0 * s2,
            3.0 * s2 + 4.0 * c2,
        ];
        let expected = Tensor::<1>::from_floats(pairs, &d).reshape([1, 1, 1, 4]);
        close(run(RotaryLayout::Interleaved), expected, 1e-6);
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        for layout in [RotaryLayout::HalfSplit, RotaryLayout::Interleaved] {
            for (fraction, positions) in [(1.0, vec![0, 1, 2]), (0.5, vec![4, 9, 2, 7, 7, 0])] {
                let table = RotaryTable::new(&config(fraction, layout), 12, &positions);
                let table = Arc::new(table);
                let run = |f: fn(Tensor<4>, &Arc<RotaryTable>) -> Tensor<4>| {
                    let x = random([2, 3, 5, 12], 1, &d).require_grad();
                    let y = f(x.clone(), &table);
                    let grads = (y.clone() * random([2, 3, 5, 12], 2, &d)).sum().backward();
                    (y.inner(), x.grad(&grads).unwrap())
                };
                let (fast, slow) = (run(cpu::rotary), run(portable));
                close(fast.0, slow.0, 1e-6);
                close(fast.1, slow.1, 1e-6);
            }
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        for layout in [RotaryLayout::HalfSplit, RotaryLayout::Interleaved] {
            // Positions that the sequences share, and their own.
            for (fraction, positions) in [(1.0, vec![0, 1, 5]), (0.5, vec![4, 9, 2, 7, 7, 0])] {
                let table = RotaryTable::new(&config(fraction, layout), 12, &positions);
                let table = Arc::new(table);
                let x = |t: &mut Leaves| t.leaf([2, 3, 5, 12]);
                gradients(|t| cpu::rotary(x(t), &table), |t| portable(x(t), &table));
            }
        }
    }
}
