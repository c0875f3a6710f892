use burn::tensor::{Int, Tensor, TensorData, activation};

use super::{cpu, on_cpu};

/// `-log softmax(x)[target]` of each row.
///
/// `forbidden` names a token whose logit counts as `-∞`: the mask token under the SUBS
/// parameterisation (MDLM, arXiv 2406.07524, §3.2.3), which a masked model never predicts.
///
/// # Shapes
/// `logits`: `[rows, vocabulary]`, `targets`: `rows` ids, output: `[rows]`.
///
/// # Panics
/// If the number of targets is not the number of rows, if a target or `forbidden` is not in the
/// vocabulary, or if a target is `forbidden`, whose loss would be infinite.
pub fn cross_entropy(logits: Tensor<2>, targets: &[u32], forbidden: Option<u32>) -> Tensor<1> {
    check(logits.dims(), targets, forbidden);
    if on_cpu(&logits.device()) {
        cpu::cross_entropy(logits, targets, forbidden)
    } else {
        portable(logits, targets, forbidden)
    }
}

/// Panics unless the targets fit logits of `[rows, vocabulary]`.
pub(super) fn check([rows, vocabulary]: [usize; 2], targets: &[u32], forbidden: Option<u32>) {
    assert_eq!(targets.len(), rows, "one target a row");
    assert!(
        targets.iter().all(|&t| (t as usize) < vocabulary),
        "targets are in the vocabulary"
    );
    if let Some(token) = forbidden {
        assert!(
            (token as usize) < vocabulary,
            "the forbidden token {token} is not in the vocabulary of {vocabulary}"
        );
        assert!(
            !targets.contains(&token),
            "token {token} is a target and forbidden: its loss would be infinite"
        );
    }
}

pub(super) fn portable(logits: Tensor<2>, targets: &[u32], forbidden: Option<u32>) -> Tensor<1> {
    let [rows, vocabulary] = logits.dims();
    let device = logits.device();
    let logits = match forbidden {
        Some(token) => {
            let mut shift = vec![0f32; vocabulary];
            shift[token as usize] = f32::NEG_INFINITY;
            logits
                + Tensor::<1>::from_data(TensorData::new(shift, [vocabulary]), &device).unsqueeze()
        }
        None => logits,
    };
    let targets: Vec<i64> = targets.iter().map(|&t| i64::from(t)).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [rows, 1]), &device);
    -activation::log_softmax(logits, 1)
        .gather(1, targets)
        .reshape([rows])
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Leaves, close, device, gradients, random};
    use super::*;

    #[test]
    fn losses_by_hand() {
        let d = device();
        let logits = || Tensor::<2>::from_floats([[0.0, 2f32.ln(), 0.0], [0.0, 0.0, 0.0]], &d);
        // Row 1: probabilities 1/4, 1/2, 1/4. Without token 2: 1/3, 2/3.
        let expected = Tensor::<1>::from_floats([2f32.ln(), 3f32.ln()], &d);
        close(cross_entropy(logits(), &[1, 0], None), expected, 1e-6);
        let expected = Tensor::<1>::from_floats([1.5f32.ln(), 2f32.ln()], &d);
        close(cross_entropy(logits(), &[1, 0], Some(2)), expected, 1e-6);
    }

    #[test]
    #[should_panic(expected = "the forbidden token 3 is not in the vocabulary of 3")]
    fn a_forbidden_token_outside_is_named() {
        cross_entropy(Tensor::zeros([1, 3], &device()), &[0], Some(3));
    }

    #[test]
    #[should_panic(expected = "token 2 is a target and forbidden")]
    fn a_forbidden_target_is_named() {
        cross_entropy(Tensor::zeros([2, 3], &device()), &[0, 2], Some(2));
    }

    #[test]
    fn fast_path_is_the_portable_path() {
        let d = device();
        for (shape, forbidden) in [([1, 2], None), ([9, 33], Some(32)), ([40, 130], None)] {
            let targets: Vec<u32> = (0..shape[0])
                .map(|i| (i * 7 % (shape[1] - 1)) as u32)
                .collect();
            let run = |f: fn(Tensor<2>, &[u32], Option<u32>) -> Tensor<1>| {
                let x = (random(shape, 1, &d) * 5.0).detach().require_grad();
                let y = f(x.clone(), &targets, forbidden);
                let grads = (y.clone() * random([shape[0]], 2, &d)).sum().backward();
                (y.inner(), x.grad(&grads).unwrap())
            };
            let (fast, slow) = (run(cpu::cross_entropy), run(portable));
            close(fast.0, slow.0, 1e-5);
            close(fast.1, slow.1, 1e-5);
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let targets = [3, 0, 9, 3, 7];
        for forbidden in [None, Some(5)] {
            let run = |t: &mut Leaves, f: fn(Tensor<2>, &[u32], Option<u32>) -> Tensor<1>| {
                f(t.leaf([5, 11]) * 3.0, &targets, forbidden)
            };
            gradients(|t| run(t, cpu::cross_entropy), |t| run(t, portable));
        }
    }
}
