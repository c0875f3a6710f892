//! Where the parameters of a network come from and what becomes of them.

use burn::module::Param;
use burn::tensor::{Device, Tensor};

use super::ParamSource;
use crate::ops::{PackedWeight, WeightPacker};
use crate::{Dtype, NnError};

/// Values of a band: 4 MiB, enough for all threads and little beside any weight.
const BAND: usize = 1 << 20;

/// What the parts of a network are built from.
pub(crate) struct Loader<'a> {
    pub source: &'a mut dyn ParamSource,
    pub device: &'a Device,
    /// Matrices are packed as they are read, band by band, so that never more than a band is in memory as the source
    /// gives it; `None` for a trainable network.
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

    /// Reads the matrix `name` `[rows, columns]` band by band. A band is a multiple of
    /// [`WeightPacker::STEP`] rows, but for the last one.
    pub fn bands(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), NnError> {
        let height = (BAND / columns.max(1)).max(1);
        let height = height.next_multiple_of(WeightPacker::STEP);
        let mut missing = rows * columns;
        let mut whole = true;
        self.source
            .bands(name, [rows, columns], height, &mut |band| {
                // A source that gives more than was asked for, or parts of rows, is told so below.
                let step = band.len() == (height * columns).min(missing);
                whole &= step && missing > 0;
                if whole {
                    missing -= band.len();
                    take(band);
                }
            })?;
        match whole && missing == 0 {
            true => Ok(()),
            false => Err(NnError::source(
                name,
                format!("does not come in bands of {height} of [{rows}, {columns}]"),
            )),
        }
    }

    /// Reads and packs the weight `name` `[out, in]`.
    pub fn packed(
        &mut self,
        name: &str,
        dims: [usize; 2],
        dtype: Dtype,
    ) -> Result<PackedWeight, NnError> {
        let mut packer = WeightPacker::new(dims, dtype);
        self.bands(name, dims, &mut |band| packer.add(band))?;
        Ok(packer.finish())
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
