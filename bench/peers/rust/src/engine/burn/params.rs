//! Where parameters come from.

use burn::module::Param;
use burn::nn::{Linear, RmsNorm};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::random;

/// Makes parameters of a type on a device.
#[derive(Debug)]
pub struct Params {
    dtype: DType,
    device: Device,
}

impl Params {
    /// Parameters of this type; on a device with gradients they are trained.
    pub fn new(dtype: DType, device: Device) -> Self {
        Self { dtype, device }
    }

    /// A tensor of numbers that are not learned.
    pub fn constant<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::<D>::from_data(TensorData::new(values, shape), &self.device).cast(self.dtype)
    }

    /// A parameter with random values.
    pub fn random<const D: usize>(&self, name: &str, shape: [usize; D]) -> Param<Tensor<D>> {
        let values = random::values(name, shape.iter().product());
        Param::from_tensor(self.constant(values, shape))
    }

    /// A random weight `[inner, outer]`, as burn's linears store it.
    pub fn matrix(&self, name: &str, inner: usize, outer: usize) -> Param<Tensor<2>> {
        // The values belong to `[outer, inner]`; as data they are brought into the other order.
        let values = random::values(name, inner * outer);
        let turned =
            Tensor::<2>::from_data(TensorData::new(values, [outer, inner]), &Device::flex());
        let weight = Tensor::<2>::from_data(turned.transpose().into_data(), &self.device);
        Param::from_tensor(weight.cast(self.dtype))
    }

    /// A linear with random weights.
    pub fn linear(&self, name: &str, inner: usize, outer: usize, biased: bool) -> Linear {
        Linear {
            weight: self.matrix(&format!("{name}.weight"), inner, outer),
            bias: biased.then(|| self.random(&format!("{name}.bias"), [outer])),
        }
    }

    /// A norm that scales by one.
    pub fn norm(&self, width: usize, epsilon: f64) -> RmsNorm {
        RmsNorm {
            gamma: Param::from_tensor(self.constant(vec![1.0; width], [width])),
            epsilon,
        }
    }
}
