//! Where a number format meets a bench: how weights are brought into it, and what it is held against.

use anyhow::Result;
use demask::kernels::gemm::{MatrixRef, PackedB};
use demask::kernels::peak::{self, Probe};
use demask::nn::{Dtype, Transformer, TransformerConfig};

use super::shapes::Shape;
use crate::checkpoints;

/// The formats that networks can be trained in.
pub const TRAINED: [Dtype; 2] = [Dtype::F32, Dtype::Bf16];

/// The format of that name, if networks can be trained in it.
pub fn trained(name: &str) -> Result<Dtype, String> {
    let there_are = names(&TRAINED);
    match name.parse() {
        Ok(dtype) if TRAINED.contains(&dtype) => Ok(dtype),
        Ok(_) => Err(format!(
            "networks are not trained in it; what there is: {there_are}"
        )),
        Err(_) => Err(format!("unknown number format; there are {there_are}")),
    }
}

/// A line of help that ends with these formats.
pub fn help(what: &str, formats: &[Dtype]) -> String {
    format!("{what}: {}", names(formats))
}

/// The help of the formats that networks are packed in.
pub fn help_of_networks() -> String {
    let formats = help("Number types of the weights", &Dtype::ALL);
    format!("{formats} [default: bf16 from 200 million parameters on, f32 below]")
}

fn names(formats: &[Dtype]) -> String {
    let names: Vec<_> = formats.iter().map(|dtype| dtype.name()).collect();
    names.join(", ")
}

/// A weight `[inner, outer]` packed once.
pub fn pack(dtype: Dtype, weight: MatrixRef<'_>) -> PackedB {
    PackedB::pack(weight, dtype.format())
}

/// A network of this shape with random weights, packed.
pub fn random(dtype: Dtype, shape: &Shape) -> Result<Transformer> {
    Ok(Transformer::packed_init(&shape.config, 1, dtype)?)
}

/// The network of a checkpoint, packed.
pub fn open(dtype: Dtype, name: &str) -> Result<Transformer> {
    Ok(checkpoints::open(name, dtype)?.network)
}

/// Bytes that a random network takes: its packed weights, and the table of embeddings, in bf16 except beside f32.
pub fn bytes(dtype: Dtype, config: &TransformerConfig) -> f64 {
    let table = config.vocab_size as f64 * config.d_model as f64;
    let matrices = match config.tied_head {
        true => config.parameters() as f64,
        false => config.parameters() as f64 - table,
    };
    let (vector, each) = match dtype {
        Dtype::F32 => (4.0, 4.0),
        Dtype::Bf16 => (2.0, 2.0),
        Dtype::Int8 => (2.0, 1.0),
        Dtype::Int4 => (2.0, 0.57),
    };
    vector * table + each * matrices
}

/// The loop that its products are held against: that of the instruction they are made of, or, where
/// the machine has none, of the f32 products that they are widened to.
pub fn probe(dtype: Dtype) -> Probe {
    let own = match dtype {
        Dtype::F32 => None,
        Dtype::Bf16 => peak::bf16_dot(),
        Dtype::Int8 | Dtype::Int4 => peak::int8_dot(),
    };
    own.unwrap_or_else(peak::f32_fma)
}

/// The unit of its products.
pub fn unit(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 | Dtype::Bf16 => "GFLOP/s",
        Dtype::Int8 | Dtype::Int4 => "GOP/s",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_not_trained_in_are_refused_with_those_that_are() {
        assert_eq!(trained("f32"), Ok(Dtype::F32));
        assert_eq!(trained("bf16"), Ok(Dtype::Bf16));
        let said = trained("int4").unwrap_err();
        assert!(said.contains("what there is: f32, bf16"), "{said}");
        let said = trained("fp7").unwrap_err();
        assert!(said.ends_with("there are f32, bf16"), "{said}");
    }

    #[test]
    fn a_network_takes_the_bytes_that_are_asked_for() {
        let shape = super::super::shapes::parse("8b").unwrap();
        let billions = |dtype| bytes(dtype, &shape.config) / 1e9;
        assert!((billions(Dtype::Int8) - 8.53).abs() < 0.02);
        assert!((billions(Dtype::Int4) - 5.31).abs() < 0.02);
    }
}
