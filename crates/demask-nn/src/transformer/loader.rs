//! Where the parameters of a network come from and what becomes of them.

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use super::ParamSource;
use crate::{Dtype, NnError};

/// What the parts of a network are built from.
pub(crate) struct Loader<'a> {
    pub source: &'a mut dyn ParamSource,
    pub device: &'a Device,
    /// Linears are packed as they are read, one after the other, so that never more than one of them is in memory
    /// as the source gives it; `None` for a trainable network.
    pub pack: Option<Dtype>,
}

impl Loader<'_> {
    /// Reads one parameter as a trainable tensor.
    pub fn param<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Param<Tensor<D>>, NnError> {
        let data = self.source.tensor(name, &shape)?;
        if data.shape().as_slice() != shape {
            return Err(NnError::source(
                name,
                format!(
                    "has shape {:?}, the network needs {shape:?}",
                    data.shape().as_slice()
                ),
            ));
        }
        Ok(Param::from_tensor(Tensor::from_data(data, self.device)))
    }

    /// The same loader for the parts that `dtype` names.
    pub fn packing(&mut self, dtype: fn(Dtype) -> Dtype) -> Loader<'_> {
        Loader {
            source: &mut *self.source,
            device: self.device,
            pack: self.pack.map(dtype),
        }
    }
}
