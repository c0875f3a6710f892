//! The SUBS output map (MDLM 2406.07524, section 3.2.3) and the cross-entropy that rests on it.

use burn::tensor::{Tensor, TensorData, activation::log_softmax};

use super::{Corrupted, LossInput, column, indices};
use crate::{DiffusionError, Result};

/// What stands for minus infinity in the SUBS map, as published.
pub const NEVER: f64 = -1e6;

/// The SUBS map of one row, in place: logits become log-probabilities of `x_0`.
///
/// The mask never: its logit is [`NEVER`] before the log-softmax. A written token stays: where `present` is not the
/// mask, the row is 0 on it and [`NEVER`] elsewhere.
pub fn subs(row: &mut [f64], mask: u32, present: u32) {
    if present != mask {
        row.fill(NEVER);
        if let Some(cell) = row.get_mut(present as usize) {
            *cell = 0.0;
        }
        return;
    }
    if let Some(cell) = row.get_mut(mask as usize) {
        *cell = NEVER;
    }
    crate::sampling::log_softmax(row);
}

/// `-ln p(target)` of each row, `[A]`, from logits `[A, V]`. The column `forbidden` is minus infinity before the softmax.
pub fn cross_entropy(
    logits: Tensor<2>,
    target: &[u32],
    forbidden: Option<u32>,
) -> Result<Tensor<1>> {
    let [rows, width] = logits.dims();
    if rows != target.len() {
        return Err(DiffusionError::shape(
            "logits",
            [target.len(), width],
            [rows, width],
        ));
    }
    let outside = target
        .iter()
        .chain(&forbidden)
        .find(|&&id| id as usize >= width);
    if let Some(&id) = outside {
        let place = format!("asked of logits with {width} columns");
        return Err(DiffusionError::Token {
            id,
            place,
            reason: "lies outside the network's output",
        });
    }
    let index = indices(target, &logits);
    let logits = match forbidden {
        None => logits,
        Some(id) => {
            let mut bar = vec![0.0; width];
            bar[id as usize] = f64::NEG_INFINITY;
            let options = (&logits.device(), logits.dtype());
            logits + Tensor::<2>::from_data(TensorData::new(bar, [1, width]), options)
        }
    };
    Ok(log_softmax(logits, 1)
        .gather(1, index)
        .neg()
        .reshape([rows]))
}

/// The cross-entropy of each asked row times its weight: the loss of every objective that is a weighted cross-entropy.
pub fn weighted_cross_entropy(prediction: LossInput, corrupted: &Corrupted) -> Result<Tensor<1>> {
    let entropy = match prediction {
        LossInput::Logits(logits) => cross_entropy(logits, &corrupted.target, corrupted.forbidden)?,
        LossInput::CrossEntropy(entropy) => entropy,
    };
    let [rows] = entropy.dims();
    if rows != corrupted.weight.len() {
        return Err(DiffusionError::shape(
            "cross-entropy",
            [corrupted.weight.len()],
            [rows],
        ));
    }
    let weight = column(&corrupted.weight, &entropy);
    Ok(entropy * weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn subs_by_hand() {
        // exp(0), exp(ln 3), mask: 1/4, 3/4, never.
        let mut row = [0.0, 3f64.ln(), 7.0];
        subs(&mut row, 2, 2);
        assert!((row[0] - 0.25f64.ln()).abs() < 1e-15);
        assert!((row[1] - 0.75f64.ln()).abs() < 1e-15);
        assert!(row[2] < -9e5);
        let mut row = [0.3, -1.0, 7.0];
        subs(&mut row, 2, 1);
        assert_eq!(row, [NEVER, 0.0, NEVER]);
    }

    #[test]
    fn cross_entropy_bars_the_mask_and_keeps_gradients_finite() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_data([[0.0, 3f32.ln(), 9.0]], &device).require_grad();
        let loss = cross_entropy(logits.clone(), &[1], Some(2)).unwrap();
        let value: f32 = loss.clone().into_scalar();
        assert!((value - (4.0f32 / 3.0).ln()).abs() < 1e-6, "{value}");
        let gradient = logits.grad(&loss.backward()).unwrap().into_data();
        let gradient: Vec<f32> = gradient.try_to_vec().unwrap();
        for (found, wanted) in gradient.iter().zip([0.25, -0.25, 0.0]) {
            assert!((found - wanted).abs() < 1e-6, "{gradient:?}");
        }
    }

    #[test]
    fn targets_outside_are_errors() {
        let logits = Tensor::<2>::zeros([1, 3], &Device::flex());
        assert!(cross_entropy(logits.clone(), &[3], None).is_err());
        assert!(cross_entropy(logits, &[0, 1], None).is_err());
    }
}
