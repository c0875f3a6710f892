//! Where parameters come from, and in which format.

use std::fmt;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor, Var};

use crate::engine::{Failure, skip};
use crate::job::Dtype;
use crate::random;

/// How the weights of linears are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As numbers of this type, which the activations have as well.
    Plain(DType),
    /// As blocks of whole numbers, for activations in f32.
    Blocks(GgmlDType),
}

/// Makes parameters, and keeps those that are trained.
#[derive(Debug)]
pub struct Params {
    format: Format,
    trained: Option<Vec<Var>>,
}

impl Format {
    /// The format of candle that is nearest to `dtype`, for weights with these inner widths.
    ///
    /// # Errors
    /// A skip where the blocks do not fit.
    pub fn of(dtype: Dtype, inner: &[usize]) -> Result<Self, Failure> {
        let fits = |format: GgmlDType| inner.iter().all(|n| n.is_multiple_of(format.block_size()));
        let format = match dtype {
            Dtype::F32 => return Ok(Self::Plain(DType::F32)),
            Dtype::Bf16 => return Ok(Self::Plain(DType::BF16)),
            Dtype::Int8 => GgmlDType::Q8_0,
            Dtype::Int4 if fits(GgmlDType::Q4K) => GgmlDType::Q4K,
            Dtype::Int4 => GgmlDType::Q4_0,
        };
        match fits(format) {
            true => Ok(Self::Blocks(format)),
            false => {
                let size = format.block_size();
                Err(skip(format!(
                    "{inner:?} inputs do not fall into blocks of {size}"
                )))
            }
        }
    }

    /// The type of what goes through the linears.
    pub fn activations(self) -> DType {
        match self {
            Self::Plain(dtype) => dtype,
            Self::Blocks(_) => DType::F32,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => f.write_str(dtype.as_str()),
            Self::Blocks(GgmlDType::Q4K) => f.write_str("Q4_K"),
            Self::Blocks(format) => write!(f, "{format:?}"),
        }
    }
}

impl Params {
    /// Parameters that stay as they are.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            trained: None,
        }
    }

    /// Parameters that have gradients, in f32.
    pub fn trained() -> Self {
        Self {
            format: Format::Plain(DType::F32),
            trained: Some(Vec::new()),
        }
    }

    /// How the weights of linears are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// A parameter with random values.
    pub fn random(&mut self, name: &str, shape: &[usize]) -> candle_core::Result<Tensor> {
        let values = random::values(name, shape.iter().product());
        self.keep(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    /// A parameter of ones.
    pub fn ones(&mut self, shape: &[usize]) -> candle_core::Result<Tensor> {
        self.keep(Tensor::ones(shape, DType::F32, &Device::Cpu)?)
    }

    /// A tensor of numbers that are not learned.
    pub fn constant(&self, values: Vec<f32>, shape: &[usize]) -> candle_core::Result<Tensor> {
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(self.format.activations())
    }

    /// The matrix in blocks.
    pub fn blocks(matrix: &Tensor, format: GgmlDType) -> candle_core::Result<Arc<QTensor>> {
        Ok(Arc::new(QTensor::quantize(matrix, format)?))
    }

    /// All that are trained.
    pub fn into_trained(self) -> Vec<Var> {
        self.trained.unwrap_or_default()
    }

    fn keep(&mut self, tensor: Tensor) -> candle_core::Result<Tensor> {
        match &mut self.trained {
            None => tensor.to_dtype(self.format.activations()),
            Some(trained) => {
                let var = Var::from_tensor(&tensor)?;
                trained.push(var.clone());
                Ok(var.into_inner())
            }
        }
    }
}
