//! Weights: their names, sizes and number formats.

use std::collections::HashMap;

use burn::tensor::{Device, TensorData};
use demask_kernels::rowwise::{self, Noise, RowAsked, TokenSet, score_allowed};
use demask_nn::{
    Asked, Dtype, Input, NnError, ParamSource, Scoring, Transformer, TransformerConfig,
};

use super::common::llama;
use super::{ids, logits, network, shapes};

#[test]
fn parameters_come_back_under_their_names() {
    for (name, config) in shapes() {
        let first = network(&config);
        let mut stored = HashMap::new();
        first.for_each_param(&mut |name, data| {
            assert!(
                stored.insert(name.to_owned(), data).is_none(),
                "{name} twice"
            );
        });
        let total: usize = stored.values().map(TensorData::num_elements).sum();
        assert_eq!(total as u64, config.parameters(), "{name}");

        struct Stored(HashMap<String, TensorData>);
        impl ParamSource for Stored {
            fn tensor(&mut self, name: &str, _: &[usize]) -> Result<TensorData, NnError> {
                self.0
                    .remove(name)
                    .ok_or_else(|| NnError::source(name, "is missing"))
            }
        }
        let mut source = Stored(stored);
        let second = Transformer::from_source(&config, &mut source, &Device::flex()).unwrap();
        assert!(source.0.is_empty(), "{name}: unused parameters");
        let run = |network: &Transformer| logits(network, Input::ids(ids(6), 1, 6));
        assert_eq!(run(&first), run(&second), "{name}");
    }
}

#[test]
fn a_missing_parameter_is_named() {
    struct Empty;
    impl ParamSource for Empty {
        fn tensor(&mut self, name: &str, _: &[usize]) -> Result<TensorData, NnError> {
            Err(NnError::source(name, "is missing"))
        }
    }
    let error = Transformer::from_source(&llama(), &mut Empty, &Device::flex()).unwrap_err();
    assert_eq!(error.to_string(), "parameter `embed.weight`: is missing");
}

#[test]
fn packed_weights_give_the_same_bits() {
    for (name, config) in shapes() {
        let dense = network(&config);
        let expected = logits(&dense, Input::ids(ids(9), 1, 9));
        let packed = dense.packed(Dtype::F32);
        assert_eq!(
            logits(&packed, Input::ids(ids(9), 1, 9)),
            expected,
            "{name}"
        );
    }
}

#[test]
fn narrow_weights_are_near_and_load_one_by_one_to_the_same_bits() {
    for (name, config) in shapes() {
        let dense = network(&config);
        let exact = logits(&dense, Input::ids(ids(9), 1, 9));
        let mut values = HashMap::new();
        dense.for_each_param(&mut |name, data| {
            values.insert(name.to_owned(), data);
        });
        let power = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>();
        for (dtype, most) in [(Dtype::Bf16, 0.03), (Dtype::Int8, 0.15), (Dtype::Int4, 1.0)] {
            let packed = dense.clone().packed(dtype);
            assert_eq!((packed.dtype(), packed.is_packed()), (dtype, true));
            let found = logits(&packed, Input::ids(ids(9), 1, 9));
            let far: Vec<f32> = exact.iter().zip(&found).map(|(a, b)| a - b).collect();
            let far = (power(&far) / power(&exact)).sqrt();
            assert!(far < most, "{name} in {dtype}: {far}");
            let mut source = Named(values.clone());
            let loaded = Transformer::packed_from_source(&config, &mut source, dtype).unwrap();
            assert_eq!(logits(&loaded, Input::ids(ids(9), 1, 9)), found, "{name}");
        }
    }
}

/// Parameters by name.
struct Named(HashMap<String, TensorData>);

impl ParamSource for Named {
    fn tensor(&mut self, name: &str, _: &[usize]) -> Result<TensorData, NnError> {
        Ok(self.0[name].clone())
    }
}

/// Gives bands of one row, whatever is asked for.
struct Thin(Named);

impl ParamSource for Thin {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        self.0.tensor(name, shape)
    }

    fn bands(
        &mut self,
        _: &str,
        [rows, columns]: [usize; 2],
        _: usize,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), NnError> {
        (0..rows).for_each(|_| take(&vec![0.0; columns]));
        Ok(())
    }
}

#[test]
fn a_source_that_gives_other_bands_is_refused() {
    let mut values = HashMap::new();
    network(&llama()).for_each_param(&mut |name, data| {
        values.insert(name.to_owned(), data);
    });
    let mut source = Thin(Named(values));
    let refused = Transformer::packed_from_source(&llama(), &mut source, Dtype::Int8);
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("`embed.weight`") && said.contains("of [40, 32]"),
        "{said}"
    );
}

#[test]
fn weights_take_the_bytes_of_their_format() {
    // Widths that fill whole panels on every machine.
    let config = TransformerConfig {
        vocab_size: 128,
        d_model: 64,
        n_layers: 1,
        n_heads: 2,
        n_kv_heads: 2,
        head_dim: 32,
        d_ff: 192,
        ..llama()
    };
    let dense = network(&config);
    assert_eq!(dense.bytes() as u64, 4 * config.parameters());
    // Four matrices of attention, three of the MLP and the head; the table; three norms of f32.
    let (matrices, table, norms) = (4 * 64 * 64 + 3 * 64 * 192 + 128 * 64, 128 * 64, 3 * 64);
    let bytes = |dtype| dense.clone().packed(dtype).bytes();
    assert_eq!(bytes(Dtype::F32), 4 * (matrices + table + norms));
    assert_eq!(bytes(Dtype::Bf16), 2 * (matrices + table) + 4 * norms);
    // A scale of four bytes for each row of a matrix.
    let scales = 4 * 64 + 2 * 192 + 64 + 128;
    assert_eq!(
        bytes(Dtype::Int8),
        matrices + 4 * scales + 2 * table + 4 * norms
    );
    // The bias of a tied head is there once, in its packed head too.
    let tied = network(&TransformerConfig {
        tied_head: true,
        head_bias: true,
        ..config
    });
    let packed = tied.packed(Dtype::F32).bytes();
    assert_eq!(packed, 4 * (matrices + table + norms + 128));
}

#[test]
fn scores_are_those_of_the_logits() {
    for (name, config) in shapes() {
        let dense = network(&config);
        let packed = Dtype::ALL.map(|dtype| dense.clone().packed(dtype));
        for network in packed.iter().chain([&dense]) {
            let sets = [TokenSet::new(vec![3, 17])];
            let rows: Vec<RowAsked<'_>> = (0..4)
                .map(|i| RowAsked {
                    noise: Some(Noise::Keystream([i as u32; 8])),
                    forbidden: &sets[..i % 2],
                })
                .collect();
            let scoring = Scoring {
                asked: rowwise::Asked {
                    temperature: 0.7,
                    tempered: true,
                    largest: 1,
                },
                rows: &rows,
            };
            let input = |scoring| Input {
                asked: Asked::Rows(vec![0, 3, 9, 17]),
                scoring,
                ..Input::ids(ids(18), 2, 9)
            };
            let mut stored = logits(network, input(None));
            let wanted = score_allowed(&mut stored, config.vocab_size, &scoring.asked, &rows);
            let output = network.forward(input(Some(scoring))).unwrap();
            assert!(output.logits.is_none());
            assert_eq!(output.scores.unwrap(), wanted, "{name} {}", network.dtype());
        }
    }
    let none = Scoring {
        asked: rowwise::Asked::default(),
        rows: &[],
    };
    let input = Input {
        scoring: Some(none),
        ..Input::ids(ids(4), 1, 4)
    };
    let refused = network(&llama()).forward(input).unwrap_err().to_string();
    assert!(
        refused.contains("scores of 0 cells where 4 are asked"),
        "{refused}"
    );
}
