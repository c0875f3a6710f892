//! A network conditioned on a class label: the label of a sequence reaches all of its cells, and only
//! them.

mod common;

use burn::tensor::{Device, TensorData};
use common::llama;
use demask_nn::transformer::TimeConfig;
use demask_nn::{Dtype, Input, NnError, NoiseLevel, ParamSource, Transformer, TransformerConfig};

/// Three classes; every parameter moved off its initial zero or one.
fn config() -> TransformerConfig {
    TransformerConfig {
        time: Some(TimeConfig {
            frequencies: 16,
            cond: 8,
        }),
        labels: Some(3),
        ..llama()
    }
}

/// Waves in every parameter but the label vectors, which are what `labels` says, `[4, 8]`.
struct Waves(Option<f32>);

impl ParamSource for Waves {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let n: usize = shape.iter().product();
        let wave = |i: usize| 0.3 * ((i * 7 + name.len()) as f32).sin();
        let values: Vec<f32> = (0..n)
            .map(|i| match (name, self.0) {
                ("labels.weight", Some(value)) => value,
                _ => wave(i),
            })
            .collect();
        Ok(TensorData::new(values, shape.to_vec()))
    }
}

fn network(config: &TransformerConfig, labels: Option<f32>, device: &Device) -> Transformer {
    Transformer::from_source(config, &mut Waves(labels), device).unwrap()
}

const CELLS: usize = 3 * 40;

/// Two sequences of three cells.
fn run(network: &Transformer, labels: Option<Vec<Option<u32>>>, time: NoiseLevel) -> Vec<f32> {
    let input = Input {
        labels,
        time: Some(time),
        ..Input::ids(vec![3, 14, 25, 36, 7, 18], 2, 3)
    };
    let logits = network.forward(input).unwrap().logits.unwrap();
    logits.into_data().try_to_vec().unwrap()
}

fn once() -> NoiseLevel {
    NoiseLevel::PerSequence(vec![0.5, 2.0])
}

#[test]
fn a_label_reaches_its_own_sequence_whatever_the_noise_level_looks_like() {
    let network = network(&config(), None, &Device::flex());
    let none = run(&network, None, once());
    assert_eq!(none, run(&network, Some(vec![None, None]), once()));
    let second = run(&network, Some(vec![None, Some(1)]), once());
    assert_eq!(none[..CELLS], second[..CELLS]);
    let differs = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a != b);
    assert!(differs(&none[CELLS..], &second[CELLS..]));
    let other = run(&network, Some(vec![None, Some(2)]), once());
    assert!(differs(&second[CELLS..], &other[CELLS..]));

    let cells = NoiseLevel::PerCell(vec![0.5, 0.5, 0.5, 2.0, 2.0, 2.0]);
    assert_eq!(second, run(&network, Some(vec![None, Some(1)]), cells));
    let packed = network.clone().packed(Dtype::F32);
    assert_eq!(second, run(&packed, Some(vec![None, Some(1)]), once()));
}

#[test]
fn a_label_of_zeros_changes_nothing() {
    let plain = TransformerConfig {
        labels: None,
        ..config()
    };
    let (device, labels) = (Device::flex(), Some(vec![Some(0), None]));
    // silu(0) = 0 is added to the condition.
    let zeros = network(&config(), Some(0.0), &device);
    let without = network(&plain, None, &device);
    assert_eq!(run(&zeros, labels, once()), run(&without, None, once()));
    assert_eq!(config().parameters() - plain.parameters(), 4 * 8);
}

#[test]
fn the_rows_that_were_read_get_gradients() {
    let network = network(&config(), None, &Device::flex().autodiff());
    let input = Input {
        labels: Some(vec![Some(2), None]),
        time: Some(once()),
        ..Input::ids(vec![3, 14, 25, 36, 7, 18], 2, 3)
    };
    let logits = network.forward(input).unwrap().logits.unwrap();
    let mut grads = logits.sin().sum().backward();
    let table = label_gradient(&network, &mut grads);
    for (row, read) in [(0, false), (1, false), (2, true), (3, true)] {
        let moved = table[row * 8..][..8].iter().any(|g| *g != 0.0);
        assert_eq!(moved, read, "row {row}");
    }
}

/// The gradient of the label vectors, `[4, 8]`: the one parameter of this shape.
fn label_gradient(network: &Transformer, grads: &mut burn::tensor::Gradients) -> Vec<f32> {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::Tensor;

    struct Find<'a>(&'a mut burn::tensor::Gradients, Vec<f32>);
    impl ModuleVisitor for Find<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().dims()[..] == [4, 8] {
                let grad = param.val().grad_remove(self.0).unwrap();
                self.1 = grad.into_data().try_to_vec().unwrap();
            }
        }
    }
    let mut find = Find(grads, Vec::new());
    network.visit(&mut find);
    find.1
}

#[test]
fn new_label_vectors_are_standard_normal() {
    let wide = TransformerConfig {
        labels: Some(499),
        ..config()
    };
    let network = Transformer::init(&wide, 3, &Device::flex()).unwrap();
    let mut values: Vec<f32> = Vec::new();
    network.for_each_param(&mut |name, data| {
        if name == "labels.weight" {
            values = data.try_into_vec().unwrap();
        }
    });
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    let var = values.iter().map(|v| v * v).sum::<f32>() / n;
    // 4000 values: standard errors 0.016 and 0.022.
    assert!(
        mean.abs() < 0.06 && (var - 1.0).abs() < 0.09,
        "{mean} {var}"
    );
}
