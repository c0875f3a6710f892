//! Tensors for the tests of this folder, and what a test asks of a gradient.

mod gradients;
mod leaves;
mod operations;

pub use gradients::{gradients, slopes};
pub use leaves::{Leaves, results};
pub use operations::operations_back;

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The CPU with autodiff.
pub fn device() -> Device {
    Device::flex().autodiff()
}

/// Values in `-1..1`, the same for the same seed.
pub fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Asserts that two tensors agree to `tolerance` of their largest value.
#[track_caller]
pub fn close<const D: usize>(a: Tensor<D>, b: Tensor<D>, tolerance: f32) {
    assert_eq!(a.dims(), b.dims());
    let a = a.into_data().try_to_vec::<f32>().unwrap();
    let b = b.into_data().try_to_vec::<f32>().unwrap();
    let scale = b.iter().fold(1f32, |m, x| m.max(x.abs()));
    for (i, (x, y)) in a.iter().zip(&b).enumerate() {
        assert!((x - y).abs() <= tolerance * scale, "at {i}: {x} and {y}");
    }
}

/// Asserts that two tensors differ somewhere by more than `least` of the largest value: what was to be rounded was.
#[track_caller]
pub fn strays<const D: usize>(a: Tensor<D>, b: Tensor<D>, least: f32) {
    let scale = b.clone().abs().max().into_scalar::<f32>().max(1.0);
    let far = (a - b).abs().max().into_scalar::<f32>();
    assert!(far > least * scale, "{far} of {scale} is not far");
}
