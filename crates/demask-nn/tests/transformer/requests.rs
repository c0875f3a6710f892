//! What a request may hold beside its cells, and what is refused.

use burn::tensor::Device;
use demask_nn::transformer::{RotaryConfig, TimeConfig};
use demask_nn::{
    Asked, AttentionMask, Input, NoiseLevel, Positions, Tap, Transformer, TransformerConfig,
};

use super::common::llama;
use super::{assert_close, ids, logits, network, shapes};

#[test]
fn rotary_positions_are_relative() {
    let network = network(&llama());
    let plain = logits(&network, Input::ids(ids(6), 1, 6));
    let moved = Positions::Explicit((100..106).collect());
    let moved = logits(
        &network,
        Input {
            positions: moved,
            ..Input::ids(ids(6), 1, 6)
        },
    );
    assert_close(&plain, &moved, 2e-4);
    let spread = Positions::Explicit((0..6).map(|i| i * 7).collect());
    let spread = logits(
        &network,
        Input {
            positions: spread,
            ..Input::ids(ids(6), 1, 6)
        },
    );
    assert!(plain.iter().zip(&spread).any(|(a, b)| (a - b).abs() > 1e-3));
    let other = Some(RotaryConfig::new(50.0));
    let other = logits(
        &network,
        Input {
            rotary: other,
            ..Input::ids(ids(6), 1, 6)
        },
    );
    assert!(plain.iter().zip(&other).any(|(a, b)| (a - b).abs() > 1e-3));
}

#[test]
fn the_noise_level_reaches_every_cell_it_is_given_for() {
    let (_, dit) = shapes().remove(3);
    let network = network(&dit);
    let run = |time| {
        logits(
            &network,
            Input {
                time,
                ..Input::ids(ids(8), 2, 4)
            },
        )
    };
    let zero = run(None);
    assert_eq!(zero, run(Some(NoiseLevel::PerSequence(vec![0.0, 0.0]))));
    let second = run(Some(NoiseLevel::PerSequence(vec![0.0, 3.0])));
    assert_eq!(zero[..160], second[..160]);
    assert!(zero[160..].iter().zip(&second[160..]).all(|(a, b)| a != b));
    let cells = run(Some(NoiseLevel::PerCell(vec![
        0.0, 0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 3.0,
    ])));
    assert_eq!(second, cells);
}

#[test]
fn taps_and_vectors_go_through_the_same_entry() {
    let network = network(&llama());
    let taps = [Tap::Block(1), Tap::Embedding];
    let output = network
        .forward(Input {
            taps: &taps,
            ..Input::ids(ids(6), 2, 3)
        })
        .unwrap();
    let [last, embedded] = output.taps.try_into().unwrap();
    assert_eq!(last.dims(), [2, 3, 32]);
    let again = network
        .forward(Input {
            asked: Asked::None,
            ..Input::vectors(embedded)
        })
        .unwrap();
    assert!(again.logits.is_none());
    again
        .hidden
        .into_data()
        .assert_eq(&output.hidden.into_data(), true);
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let network = network(&llama());
    let says = |input: Input| network.forward(input).unwrap_err().to_string();
    assert_eq!(
        says(Input::ids(vec![1, 40], 1, 2)),
        "network input: token 40 is outside the vocabulary of 40"
    );
    assert!(says(Input::ids(vec![], 1, 0)).contains("empty"));
    assert!(says(Input::ids(vec![1], 1, 2)).contains("1 ids for [1, 2]"));
    let asked = Asked::Rows(vec![2]);
    assert!(
        says(Input {
            asked,
            ..Input::ids(ids(2), 1, 2)
        })
        .contains("cell 2")
    );
    let positions = Positions::Explicit(vec![0]);
    assert!(
        says(Input {
            positions,
            ..Input::ids(ids(2), 1, 2)
        })
        .contains("1 positions")
    );
    let time = Some(NoiseLevel::PerCell(vec![0.0]));
    assert!(
        says(Input {
            time,
            ..Input::ids(ids(2), 1, 2)
        })
        .contains("noise levels")
    );
    let labels = Some(vec![Some(0)]);
    assert!(
        says(Input {
            labels,
            ..Input::ids(ids(2), 1, 2)
        })
        .contains("network without labels")
    );
    let mask = AttentionMask::bd3(vec![0]);
    assert!(
        says(Input {
            mask,
            ..Input::ids(ids(4), 1, 4)
        })
        .contains("mask describes 2")
    );
}

#[test]
fn every_field_of_a_bad_configuration_is_named() {
    let bad = [
        (
            "n_layers",
            TransformerConfig {
                n_layers: 0,
                ..llama()
            },
        ),
        (
            "n_kv_heads",
            TransformerConfig {
                n_kv_heads: 3,
                ..llama()
            },
        ),
        (
            "dropout",
            TransformerConfig {
                dropout: 1.0,
                ..llama()
            },
        ),
        (
            "norm_eps",
            TransformerConfig {
                norm_eps: f64::NAN,
                ..llama()
            },
        ),
        (
            "labels",
            TransformerConfig {
                labels: Some(2),
                ..llama()
            },
        ),
        (
            "labels",
            TransformerConfig {
                labels: Some(0),
                time: Some(TimeConfig {
                    frequencies: 16,
                    cond: 8,
                }),
                ..llama()
            },
        ),
        (
            "rotary.base",
            TransformerConfig {
                rotary: Some(RotaryConfig::new(0.5)),
                ..llama()
            },
        ),
    ];
    for (field, config) in bad {
        let error = Transformer::init(&config, 0, &Device::flex())
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("`{field}`")), "{error}");
    }
}
