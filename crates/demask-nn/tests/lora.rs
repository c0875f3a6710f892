//! Adapters on the one network: a new one changes nothing, a merged one computes the same.

mod common;

use burn::tensor::{Device, TensorData};
use common::llama;
use demask_nn::transformer::params::for_each_in_order;
use demask_nn::transformer::{MlpKind, Projection};
use demask_nn::{
    Asked, Dtype, Input, LoraConfig, NnError, ParamSource, Transformer, TransformerConfig,
};

fn config() -> TransformerConfig {
    TransformerConfig {
        qkv_bias: true,
        ..llama()
    }
}

fn lora() -> LoraConfig {
    LoraConfig {
        rank: 3,
        alpha: 6.0,
        dropout: 0.25,
        targets: Projection::ALL.to_vec(),
    }
}

/// Adapters that are not zero.
struct Waves;

impl ParamSource for Waves {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let n: usize = shape.iter().product();
        let values = (0..n).map(|i| 0.3 * ((i * 7 + name.len()) as f32).sin());
        Ok(TensorData::new(values.collect::<Vec<_>>(), shape.to_vec()))
    }
}

fn network() -> Transformer {
    Transformer::init(&config(), 5, &Device::flex()).unwrap()
}

fn logits(network: &Transformer, dropout: Option<u64>) -> Vec<f32> {
    let input = Input {
        asked: Asked::All,
        dropout,
        ..Input::ids((0..12).map(|i| i * 3 % 40).collect(), 2, 6)
    };
    let logits = network.forward(input).unwrap().logits.unwrap();
    logits.into_data().try_into_vec::<f32>().unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn a_new_adapter_changes_nothing() {
    let plain = logits(&network(), None);
    let adapted = network().init_lora(&lora(), 9).unwrap();
    assert_eq!(logits(&adapted, None), plain);
    assert_eq!(logits(&adapted.merged().unwrap(), None), plain);
}

#[test]
fn a_merged_adapter_computes_the_same() {
    let plain = logits(&network(), None);
    let adapted = network().with_lora(&lora(), &mut Waves).unwrap();
    let with = logits(&adapted, None);
    assert!(distance(&plain, &with) > 0.05);
    assert!(distance(&with, &logits(&adapted.clone().packed(Dtype::F32), None)) < 1e-5);
    let merged = adapted.merged().unwrap();
    assert!(merged.lora().is_none());
    assert!(distance(&with, &logits(&merged, None)) < 1e-5);
}

#[test]
fn what_would_lose_adapters_is_refused() {
    let adapted = network().with_lora(&lora(), &mut Waves).unwrap();
    let packed = adapted.clone().packed(Dtype::F32);
    let said = packed.merged().unwrap_err().to_string();
    assert!(said.contains("merge first, then pack"), "{said}");
    let said = adapted.clone().with_lora(&lora(), &mut Waves).unwrap_err();
    assert!(said.to_string().contains("merge them first"), "{said}");
    assert!(adapted.init_lora(&lora(), 1).is_err());
    // Without adapters there is nothing to lose.
    assert!(network().packed(Dtype::F32).merged().is_ok());
}

#[test]
fn dropout_before_an_adapter_repeats_itself() {
    let adapted = network().with_lora(&lora(), &mut Waves).unwrap();
    assert_eq!(logits(&adapted, Some(1)), logits(&adapted, Some(1)));
    assert_ne!(logits(&adapted, Some(1)), logits(&adapted, Some(2)));
    assert_ne!(logits(&adapted, Some(1)), logits(&adapted, None));
    // The residual stream of this network drops nothing.
    assert_eq!(logits(&network(), Some(1)), logits(&network(), None));
}

#[test]
fn parameters_are_told_apart() {
    let mut lora = lora();
    lora.targets = vec![Projection::V, Projection::Down];
    let adapted = network().with_lora(&lora, &mut Waves).unwrap();
    let mut names = Vec::new();
    adapted.for_each_lora_param(&mut |name, data| names.push((name.to_owned(), data)));
    let shapes: Vec<_> = names
        .iter()
        .map(|(n, d)| (n.as_str(), d.shape().to_vec()))
        .collect();
    assert_eq!(
        shapes[..4],
        [
            ("layers.0.attn.v.lora_A.weight", vec![3, 32]),
            ("layers.0.attn.v.lora_B.weight", vec![16, 3]),
            ("layers.0.mlp.down.lora_A.weight", vec![3, 48]),
            ("layers.0.mlp.down.lora_B.weight", vec![32, 3]),
        ]
    );
    assert_eq!(shapes.len(), 8);
    let (mut base, mut plain) = (Vec::new(), Vec::new());
    adapted.for_each_param(&mut |name, data| base.push((name.to_owned(), data)));
    network().for_each_param(&mut |name, data| plain.push((name.to_owned(), data)));
    assert_eq!(base, plain);
    network().for_each_lora_param(&mut |name, _| panic!("{name}"));
    let mut adapters = 0;
    for_each_in_order(&config(), Some(&lora), &mut |_, _, adapter| {
        adapters += usize::from(adapter);
    });
    assert_eq!(adapters, 8);
}

#[test]
fn only_adapters_have_gradients() {
    let device = Device::flex().autodiff();
    let mut lora = lora();
    lora.targets = vec![Projection::Q, Projection::Up];
    let network = Transformer::init(&config(), 5, &device).unwrap();
    let network = network.with_lora(&lora, &mut Waves).unwrap();
    let input = Input {
        asked: Asked::All,
        ..Input::ids(vec![1, 2, 3, 4], 1, 4)
    };
    let sum = network
        .forward(input)
        .unwrap()
        .logits
        .unwrap()
        .powf_scalar(2.0)
        .sum();
    let mut grads = Grads(sum.backward(), Vec::new());
    burn::module::Module::visit(&network, &mut grads);
    let mut expected = Vec::new();
    for_each_in_order(&config(), Some(&lora), &mut |_, _, adapter| {
        expected.push(adapter)
    });
    assert_eq!(grads.1, expected);
}

/// Whether each parameter got a gradient that is not zero.
struct Grads(burn::tensor::Gradients, Vec<bool>);

impl burn::module::ModuleVisitor for Grads {
    fn visit_float<const D: usize>(
        &mut self,
        param: &burn::module::Param<burn::tensor::Tensor<D>>,
    ) {
        let grad = param.val().grad_remove(&mut self.0);
        self.1
            .push(grad.is_some_and(|g| g.abs().sum().into_scalar::<f32>() > 0.0));
    }
}

#[test]
fn unusable_settings_are_refused() {
    let gelu = TransformerConfig {
        mlp: MlpKind::GeluTanh,
        ..config()
    };
    let refuse = |change: fn(&mut LoraConfig)| {
        let mut lora = LoraConfig::default();
        assert!(lora.validate(&gelu).is_ok());
        change(&mut lora);
        lora.validate(&gelu).unwrap_err().to_string()
    };
    assert!(refuse(|l| l.rank = 0).contains("`lora.rank` must be at least 1"));
    assert!(refuse(|l| l.alpha = f64::NAN).contains("lora.alpha"));
    assert!(refuse(|l| l.dropout = 1.0).contains("lora.dropout"));
    assert!(refuse(|l| l.targets.clear()).contains("must name a projection"));
    assert!(refuse(|l| l.targets.push(Projection::Q)).contains("`q` twice"));
    assert!(refuse(|l| l.targets.push(Projection::Gate)).contains("no gate"));
}
