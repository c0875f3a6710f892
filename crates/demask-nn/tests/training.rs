//! What a training asks of the network: losses in place of logits, and products in bf16.

mod common;

use burn::tensor::Device;
use common::llama;
use demask_kernels::Precision;
use demask_nn::transformer::{MlpKind, NormKind, TimeConfig};
use demask_nn::{Asked, Dtype, Input, Targets, Transformer, TransformerConfig, ops};

/// Networks whose blocks and heads are of different kinds.
fn shapes() -> Vec<TransformerConfig> {
    let tied = TransformerConfig {
        qk_norm: true,
        tied_head: true,
        head_bias: true,
        ..llama()
    };
    let conditioned = TransformerConfig {
        norm: NormKind::Layer { bias: true },
        mlp: MlpKind::GeluTanh,
        mlp_bias: true,
        time: Some(TimeConfig {
            frequencies: 16,
            cond: 8,
        }),
        ..llama()
    };
    vec![llama(), tied, conditioned]
}

/// Rows enough for the products of a block to be cut between threads.
fn request() -> Input<'static> {
    let ids = (0..128 * 12).map(|i| i * 11 % 39).collect();
    Input {
        asked: Asked::Rows(vec![1, 3, 8, 12, 23]),
        ..Input::ids(ids, 128, 12)
    }
}

fn targets() -> Targets {
    Targets {
        ids: vec![5, 0, 38, 7, 7],
        forbidden: Some(39),
    }
}

/// The losses of the asked cells, and the gradient of their sum with regard to every parameter.
fn trained(network: &Transformer) -> (Vec<f32>, Vec<f32>) {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::tensor::{Gradients, Tensor};

    struct Collect(Gradients, Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(&self.0) {
                self.1
                    .extend(gradient.into_data().try_to_vec::<f32>().unwrap());
            }
        }
    }
    let input = Input {
        targets: Some(targets()),
        ..request()
    };
    let output = network.forward(input).unwrap();
    assert!(output.logits.is_none(), "losses are given in their place");
    let losses = output.losses.unwrap();
    let values = losses.to_data().try_to_vec::<f32>().unwrap();
    let mut collect = Collect(losses.sum().backward(), Vec::new());
    network.visit(&mut collect);
    (values, collect.1)
}

/// The largest difference, relative to the largest value of `b`.
fn strays(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0f32, |m, b| m.max(b.abs()));
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max) / largest
}

#[test]
fn losses_are_those_of_the_logits() {
    for config in shapes() {
        let network = Transformer::init(&config, 3, &Device::flex().autodiff()).unwrap();
        let (found, _) = trained(&network);
        let logits = network.forward(request()).unwrap().logits.unwrap();
        let Targets { ids, forbidden } = targets();
        let wanted = ops::cross_entropy(logits, &ids, forbidden).into_data();
        assert!(strays(&found, &wanted.try_to_vec::<f32>().unwrap()) < 1e-6);
        // A packed network has no head and loss in one operation.
        let packed = network.packed(Dtype::F32);
        let output = packed.forward(Input {
            targets: Some(targets()),
            ..request()
        });
        let packed = output.unwrap().losses.unwrap().into_data();
        assert!(strays(&packed.try_to_vec::<f32>().unwrap(), &found) < 1e-6);
    }
}

#[test]
fn targets_that_do_not_fit_are_refused() {
    let network = Transformer::init(&llama(), 3, &Device::flex()).unwrap();
    let says = |ids: Vec<u32>, forbidden| {
        let input = Input {
            targets: Some(Targets { ids, forbidden }),
            ..request()
        };
        network.forward(input).unwrap_err().to_string()
    };
    let few = says(vec![1, 2], None);
    assert!(few.contains("2 targets for 5 asked cells"), "{few}");
    let outside = says(vec![1, 2, 3, 4, 40], None);
    assert!(outside.contains("target 40 is outside"), "{outside}");
    let barred = says(vec![1, 2, 3, 4, 5], Some(3));
    assert!(barred.contains("token 3 is a target"), "{barred}");
}

#[test]
fn a_packed_network_keeps_its_format() {
    let packed = Transformer::packed_init(&llama(), 3, Dtype::Int8).unwrap();
    let error = packed.in_precision(Precision::Bf16).unwrap_err();
    assert!(error.to_string().contains("packed"), "{error}");
}

/// Every product rounds its operands to eight bits; two blocks and a head let losses stray by about a hundredth and
/// gradients by some of them.
#[test]
fn bf16_is_near_f32_and_not_f32() {
    for config in shapes() {
        let network = Transformer::init(&config, 3, &Device::flex().autodiff()).unwrap();
        let exact = trained(&network);
        let rounded = trained(&network.in_precision(Precision::Bf16).unwrap());
        assert!(strays(&rounded.0, &exact.0) < 0.01);
        assert!(strays(&rounded.1, &exact.1) < 0.05);
        // A head that begins at zero gives the same losses in both.
        assert!(rounded.1 != exact.1);
    }
}

#[test]
fn threads_change_no_bit_of_a_gradient() {
    let network = Transformer::init(&llama(), 3, &Device::flex().autodiff()).unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        let network = network.clone().in_precision(precision).unwrap();
        let with = |n| demask_kernels::threads::with_threads(n, || trained(&network));
        assert!(with(1) == with(3));
    }
}
