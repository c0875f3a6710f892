//! The one network: what every configuration of it must hold.

#[path = "../common/mod.rs"]
mod common;

mod requests;
mod sequences;
mod weights;

use burn::tensor::{Device, TensorData};
use common::llama;
use demask_nn::transformer::{MlpKind, NormKind, RotaryConfig, RotaryLayout, TimeConfig};
use demask_nn::{Input, NnError, ParamSource, Transformer, TransformerConfig};

/// One configuration of each shape of network that a family has.
fn shapes() -> Vec<(&'static str, TransformerConfig)> {
    let dream = TransformerConfig {
        qkv_bias: true,
        logit_shift: true,
        ..llama()
    };
    let sdar = TransformerConfig {
        qk_norm: true,
        head_dim: 12,
        tied_head: true,
        ..llama()
    };
    let dit = TransformerConfig {
        norm: NormKind::Layer { bias: false },
        mlp: MlpKind::GeluTanh,
        mlp_bias: true,
        head_bias: true,
        n_kv_heads: 4,
        time: Some(TimeConfig {
            frequencies: 16,
            cond: 8,
        }),
        ..llama()
    };
    let partial = RotaryConfig {
        base: 100.0,
        fraction: 0.5,
        layout: RotaryLayout::Interleaved,
    };
    let partial = TransformerConfig {
        rotary: Some(partial),
        out_bias: true,
        ..llama()
    };
    let labelled = TransformerConfig {
        labels: Some(3),
        ..dit.clone()
    };
    vec![
        ("llama", llama()),
        ("dream", dream),
        ("sdar", sdar),
        ("dit", dit),
        ("partial", partial),
        ("labelled", labelled),
    ]
}

/// Random parameters, none of them at its initial zero or one.
fn network(config: &TransformerConfig) -> Transformer {
    struct Shaken(Vec<(String, TensorData)>);
    impl ParamSource for Shaken {
        fn tensor(&mut self, name: &str, _: &[usize]) -> Result<TensorData, NnError> {
            let (_, data) = self.0.iter().find(|(n, _)| n == name).unwrap();
            let values: Vec<f32> = data
                .as_slice::<f32>()
                .unwrap()
                .iter()
                .enumerate()
                .map(|(i, v)| v * 4.0 + ((i * 37 % 19) as f32 - 9.0) * 0.01)
                .collect();
            Ok(TensorData::new(values, data.shape().clone()))
        }
    }
    let device = Device::flex();
    let mut values = Vec::new();
    let plain = Transformer::init(config, 1, &device).unwrap();
    plain.for_each_param(&mut |name, data| values.push((name.to_owned(), data)));
    Transformer::from_source(config, &mut Shaken(values), &device).unwrap()
}

fn ids(n: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 11 + 3) % 40) as u32).collect()
}

fn logits(network: &Transformer, input: Input) -> Vec<f32> {
    network
        .forward(input)
        .unwrap()
        .logits
        .unwrap()
        .into_data()
        .try_to_vec()
        .unwrap()
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance, "at {i}: {x} and {y}");
    }
}
