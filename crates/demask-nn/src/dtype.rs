//! The number format of packed weights.

use std::fmt;
use std::str::FromStr;

use demask_kernels::Precision;
use demask_kernels::gemm::Format;
use serde::{Deserialize, Serialize};

use crate::TransformerConfig;

/// How the matrices of a packed network are stored and multiplied.
///
/// Activations stay `f32` between the operations. In bf16 a product rounds them to bf16; in int8 and int4 it rounds
/// each row to int8 with a scale of its own (of each group of the row in int4), and sums whole numbers. With
/// any format but f32 attention multiplies in bf16, and the vectors of the tokens are stored in bf16. Sums are `f32`
/// everywhere.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 32-bit floats, without any loss: what training uses unless told otherwise.
    #[default]
    F32,
    /// bf16: half the memory, twice the speed on processors with bf16 dot products.
    Bf16,
    /// Whole numbers −127..=127, one scale a row of the weight: a quarter of the memory.
    Int8,
    /// Whole numbers −8..=7, one scale for each 64 values of a row; the head, whose errors fall directly on the
    /// tokens, stays int8. An eighth of the memory.
    Int4,
}

/// Values of a row of an int4 weight that share a scale.
const INT4_GROUP: usize = 64;

impl Dtype {
    /// All of them, the most exact first.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Int8, Self::Int4];

    /// What a network of this shape is packed in when nobody says: bf16 from 200 million parameters on, where
    /// speed and memory matter, f32 below. Weights of that size are published in bf16; where bf16 was measured
    /// (`demask bench accuracy`, models of 2 and 5 million parameters), it costs 0.0001 nats a token at most.
    pub fn usual(config: &TransformerConfig) -> Self {
        match config.parameters() {
            ..200_000_000 => Self::F32,
            _ => Self::Bf16,
        }
    }

    /// The lower-case name: `f32`, `bf16`, `int8` or `int4`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// What the head is packed in.
    pub(crate) fn of_head(self) -> Self {
        match self {
            Self::Int4 => Self::Int8,
            other => other,
        }
    }

    /// What small matrices are packed in, whose rounding would touch every row for little speed: those of the
    /// noise level.
    pub(crate) fn of_condition(self) -> Self {
        Self::F32
    }

    /// Whether the vectors of the tokens are rounded to bf16. They are read by rows and never multiplied, so there
    /// is memory to be gained and no speed, and what published checkpoints hold is bf16 already.
    pub(crate) fn rounds_table(self) -> bool {
        self != Self::F32
    }

    /// What attention multiplies in, and a network that is [trained](crate::Transformer::in_precision).
    pub fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            _ => Precision::Bf16,
        }
    }

    /// What the kernels pack matrices in.
    pub fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::Bf16 => Format::Bf16,
            Self::Int8 => Format::Int8 {
                group: Format::WHOLE,
            },
            Self::Int4 => Format::Int4 { group: INT4_GROUP },
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|dtype| dtype.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            match Self::ALL
                .map(Self::name)
                .into_iter()
                .find(|n| n.eq_ignore_ascii_case(name))
            {
                Some(near) => format!("did you mean `{near}`? There are {names}"),
                None => format!("unknown number format; there are {names}"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        assert!("fp8".parse::<Dtype>().unwrap_err().contains("int4"));
        let shouted = "BF16".parse::<Dtype>().unwrap_err();
        assert!(shouted.starts_with("did you mean `bf16`?"), "{shouted}");
    }
}
