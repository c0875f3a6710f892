//! Where a number format meets the library: the only place that knows which formats there are and how
//! weights are brought into one. A new format of the kernels is wired in here, and nowhere else.

use std::fmt;

use anyhow::Result;
use demask::kernels::gemm::{MatrixRef, PackedB};
use demask::kernels::peak::{self, Probe};
use demask::models::OpenOptions;
use demask::nn::{Transformer, TransformerConfig};
use serde::{Serialize, Serializer};

use super::shapes::Shape;
use crate::checkpoints;

/// The format of the weights, and so of the products with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, summed in f32.
    Bf16,
    /// Bytes times bytes.
    Int8,
    /// Weights of four bits.
    Int4,
}

impl Dtype {
    /// Every format that has a name.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Int8, Self::Int4];

    /// The formats that products and networks can be packed in.
    pub const PACKED: &'static [Self] = &[Self::F32];

    /// The formats that networks can be trained in.
    pub const TRAINED: &'static [Self] = &[Self::F32];

    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// The format of that name, if networks can be packed in it.
    pub fn packed(name: &str) -> Result<Self, String> {
        Self::one_of(Self::PACKED, name)
    }

    /// The format of that name, if networks can be trained in it.
    pub fn trained(name: &str) -> Result<Self, String> {
        Self::one_of(Self::TRAINED, name)
    }

    /// A line of help that ends with these formats.
    pub fn help(what: &str, formats: &[Self]) -> String {
        format!("{what}: {}", names(formats))
    }

    fn one_of(there: &[Self], name: &str) -> Result<Self, String> {
        match Self::ALL.into_iter().find(|dtype| dtype.name() == name) {
            None => Err(format!(
                "no such number format; there are {}",
                names(&Self::ALL)
            )),
            Some(dtype) if !there.contains(&dtype) => Err(format!(
                "is not there yet for this bench; what is there: {}",
                names(there)
            )),
            Some(dtype) => Ok(dtype),
        }
    }

    /// A weight `[inner, outer]` packed once.
    pub fn pack(self, weight: MatrixRef<'_>) -> PackedB {
        match self {
            Self::F32 => PackedB::pack(weight),
            Self::Bf16 | Self::Int8 | Self::Int4 => unreachable!("refused when it was read"),
        }
    }

    /// A network of this shape with random weights, packed.
    pub fn random(self, shape: &Shape) -> Result<Transformer> {
        let device = OpenOptions::default().device;
        Ok(Transformer::init(&shape.config, 1, &device)?.packed())
    }

    /// The network of a checkpoint, packed.
    pub fn open(self, name: &str) -> Result<Transformer> {
        Ok(checkpoints::open(name)?.network)
    }

    /// Bytes that a random network takes while it is built: all weights as f32, before they are packed,
    /// and a tied head beside its embedding.
    pub fn building(self, config: &TransformerConfig) -> f64 {
        let tied = match config.tied_head {
            true => config.vocab_size as f64 * config.d_model as f64,
            false => 0.0,
        };
        4.0 * (config.parameters() as f64 + tied)
    }

    /// The loop that its products are held against: that of the instruction they are made of, or, where
    /// the machine has none, of the f32 products that they are widened to.
    pub fn probe(self) -> Probe {
        let own = match self {
            Self::F32 => None,
            Self::Bf16 => peak::bf16_dot(),
            Self::Int8 | Self::Int4 => peak::int8_dot(),
        };
        own.unwrap_or_else(peak::f32_fma)
    }

    /// The unit of its products.
    pub fn unit(self) -> &'static str {
        match self {
            Self::F32 | Self::Bf16 => "GFLOP/s",
            Self::Int8 | Self::Int4 => "GOP/s",
        }
    }
}

fn names(formats: &[Dtype]) -> String {
    let names: Vec<_> = formats.iter().map(|dtype| dtype.name()).collect();
    names.join(", ")
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Dtype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_there_are_refused_with_those_that_are() {
        assert_eq!(Dtype::packed("f32"), Ok(Dtype::F32));
        let said = Dtype::trained("int4").unwrap_err();
        assert!(said.contains("what is there: f32"), "{said}");
        let said = Dtype::packed("fp7").unwrap_err();
        assert!(said.contains("f32, bf16, int8, int4"), "{said}");
    }
}
