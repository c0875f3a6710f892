use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::rowwise;

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims};
use crate::ops::RotaryTable;
use crate::span;

#[backend_extension(Flex, Autodiff)]
trait RotaryBackend: Backend {
    fn rotary(x: FloatTensor<Self>, table: Arc<RotaryTable>) -> FloatTensor<Self>;
}

/// Shapes as in [`rotary`](fn@crate::ops::rotary).
pub fn rotary(x: Tensor<4>, table: &Arc<RotaryTable>) -> Tensor<4> {
    let y = <Dispatch as RotaryBackend>::rotary(x.into_dispatch(), Arc::clone(table));
    Tensor::from_dispatch(y)
}

impl RotaryBackend for Flex {
    fn rotary(x: FlexTensor, table: Arc<RotaryTable>) -> FlexTensor {
        turn(x, &table, rowwise::rotary)
    }
}

impl<C: CheckpointStrategy> RotaryBackend for Autodiff<Flex, C> {
    fn rotary(x: FloatTensor<Self>, table: Arc<RotaryTable>) -> FloatTensor<Self> {
        register::<C, _, 1>([x], |[x]| {
            (turn(x, &table, rowwise::rotary), Saved { table })
        })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    table: Arc<RotaryTable>,
}

impl Gradient<1> for Saved {
    fn inputs(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(turn(output, &self.table, rowwise::rotary_backward))]
    }
}

type Turn = fn(&mut [f32], usize, usize, usize, &rowwise::RotaryTable, rowwise::RotaryLayout);

/// Rotates in the place of `x` where nobody else holds it.
fn turn(x: FlexTensor, table: &RotaryTable, turn: Turn) -> FlexTensor {
    let _span = span::part("rotary");
    let [_, _, heads, head] = dims(&x);
    let mut y = Contiguous::new(&x);
    drop(x);
    // Sequences that share positions share the table.
    let part = table.rows() * heads * head;
    for rows in y.values_mut().chunks_exact_mut(part) {
        turn(
            rows,
            heads * head,
            heads,
            head,
            &table.angles,
            table.layout.into(),
        );
    }
    y.into_tensor()
}
