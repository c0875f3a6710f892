//! The vectors of the tokens.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use demask_kernels::rowwise::Bf16Rows;

use super::loader::Loader;
use crate::ops::{self, PackedTable, PackedWeight, WeightPacker};
use crate::{Dtype, NnError};

/// A table of vectors, `[vocabulary, d_model]`.
#[derive(Module, Debug)]
pub enum Embedding {
    /// As a trainable tensor.
    Dense(Param<Tensor<2>>),
    /// Rounded for inference; read by rows, never multiplied.
    Packed(PackedTable),
}

impl Embedding {
    /// Reads `embed.weight`. If the head is `tied` to a table that is rounded, the head's own copy is packed of the
    /// same bands; of any other table it can be had later.
    pub(super) fn load(
        [vocabulary, width]: [usize; 2],
        tied: bool,
        loader: &mut Loader<'_>,
    ) -> Result<(Self, Option<PackedWeight>), NnError> {
        let (name, dims) = ("embed.weight", [vocabulary, width]);
        let Some(dtype) = loader.pack.filter(|dtype| dtype.rounds_table()) else {
            return Ok((Self::Dense(loader.param(name, dims)?), None));
        };
        let mut table = Bf16Rows::with_capacity(vocabulary, width);
        let mut head = tied.then(|| WeightPacker::new(dims, dtype.of_head()));
        loader.bands(name, dims, &mut |band| {
            table.push(band);
            if let Some(head) = &mut head {
                head.add(band);
            }
        })?;
        let table = Self::Packed(PackedTable::new(table));
        Ok((table, head.map(WeightPacker::finish)))
    }

    /// The rows of `ids`, `[ids, d_model]`, on `device`, where the network lives.
    pub(super) fn forward(&self, ids: &[u32], device: &Device) -> Tensor<2> {
        match self {
            Self::Dense(table) => ops::embedding(table.val(), ids),
            Self::Packed(table) => table.forward(ids, device),
        }
    }

    /// The table, if it is a tensor still.
    pub(super) fn dense(&self) -> Option<&Param<Tensor<2>>> {
        match self {
            Self::Dense(table) => Some(table),
            Self::Packed(_) => None,
        }
    }

    /// Bytes of the packed table, if it is one.
    pub(super) fn packed_bytes(&self) -> usize {
        match self {
            Self::Dense(_) => 0,
            Self::Packed(table) => table.bytes(),
        }
    }

    /// The same table as a network packed in `dtype` has it. It lives on the CPU.
    pub(super) fn packed(self, dtype: Dtype) -> Self {
        match self {
            Self::Dense(table) if dtype.rounds_table() => {
                Self::Packed(PackedTable::pack(table.val()))
            }
            other => other,
        }
    }
}
