use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::rowwise;

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::span;

#[backend_extension(Flex, Autodiff)]
trait EmbeddingBackend: Backend {
    fn embedding(table: FloatTensor<Self>, ids: Arc<[i64]>) -> FloatTensor<Self>;
}

/// Shapes as in [`embedding`](fn@crate::ops::embedding).
pub fn embedding(table: Tensor<2>, ids: &[u32]) -> Tensor<2> {
    let ids = ids.iter().map(|&id| i64::from(id)).collect();
    let rows = <Dispatch as EmbeddingBackend>::embedding(table.into_dispatch(), ids);
    Tensor::from_dispatch(rows)
}

impl EmbeddingBackend for Flex {
    fn embedding(table: FlexTensor, ids: Arc<[i64]>) -> FlexTensor {
        forward(&table, &ids)
    }
}

impl<C: CheckpointStrategy> EmbeddingBackend for Autodiff<Flex, C> {
    fn embedding(table: FloatTensor<Self>, ids: Arc<[i64]>) -> FloatTensor<Self> {
        register::<C, _, 1>([table], |[table]| {
            (
                forward(&table, &ids),
                Saved {
                    table: dims(&table),
                    ids,
                },
            )
        })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    table: [usize; 2],
    ids: Arc<[i64]>,
}

impl Gradient<1> for Saved {
    fn inputs(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let _span = span::part("embedding backward");
        let [rows, width] = self.table;
        let dy = Contiguous::new(&output);
        let mut dtable = vec![0.0; rows * width];
        rowwise::embedding_scatter_add(&mut dtable, width, &self.ids, dy.values());
        [Some(tensor(dtable, [rows, width]))]
    }
}

fn forward(table: &FlexTensor, ids: &[i64]) -> FlexTensor {
    let _span = span::part("embedding");
    let [_, width] = dims(table);
    let table = Contiguous::new(table);
    let mut y = vec![0.0; ids.len() * width];
    rowwise::embedding_gather(table.values(), width, ids, &mut y);
    tensor(y, [ids.len(), width])
}
