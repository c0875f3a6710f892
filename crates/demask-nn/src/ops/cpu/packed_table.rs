//! A table of embeddings in bf16, for inference.

use std::sync::Arc;

use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault};
use burn::tensor::{Device, Tensor};
use demask_kernels::rowwise::Bf16Rows;

use super::storage::{Contiguous, give, take, tensor};
use crate::span;

/// The rows of an embedding in bf16: half the memory, and what published checkpoints hold. No gradient flows through it.
#[derive(Clone, Debug)]
pub struct PackedTable(Arc<Bf16Rows>);

impl PackedTable {
    /// Of rows that were added one after the other.
    pub fn new(rows: Bf16Rows) -> Self {
        Self(Arc::new(rows))
    }

    /// Rounds `table` `[rows, width]`, which must live on the CPU.
    pub fn pack(table: Tensor<2>) -> Self {
        let [rows, width] = table.dims();
        let mut packed = Bf16Rows::with_capacity(rows, width);
        packed.push(Contiguous::new(&take(table)).values());
        Self::new(packed)
    }

    /// The rows of `ids`, `[ids, width]`, on a CPU device.
    pub fn forward(&self, ids: &[u32], device: &Device) -> Tensor<2> {
        let _span = span::part("embedding");
        let width = self.0.width();
        let mut y = vec![0.0; ids.len() * width];
        self.0.gather(ids, &mut y);
        give(tensor(y, [ids.len(), width]), device)
    }

    /// Bytes the table takes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl Module for PackedTable {
    burn::empty!(module);
}

impl ModuleDisplayDefault for PackedTable {
    fn content(&self, content: Content) -> Option<Content> {
        let shape = format!("bf16 [{}, {}]", self.0.rows(), self.0.width());
        content.add_formatted(&shape).optional()
    }
}

impl ModuleDisplay for PackedTable {}
