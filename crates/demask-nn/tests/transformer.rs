//! The one network: what every configuration of it must hold.

mod common;

use std::collections::HashMap;

use burn::tensor::{Device, TensorData};
use common::llama;
use demask_kernels::rowwise::{self, Noise, RowAsked, TokenSet, score_allowed};
use demask_nn::transformer::{MlpKind, NormKind, RotaryConfig, RotaryLayout, TimeConfig};
use demask_nn::{
    Asked, AttentionMask, Dtype, Input, KvCache, MaskKind, NnError, NoiseLevel, ParamSource,
    Positions, Scoring, Tap, Transformer, TransformerConfig,
};

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

#[test]
fn a_sequence_alone_and_in_a_padded_batch_has_the_same_bits() {
    for dtype in Dtype::ALL {
        alone_and_padded(dtype);
    }
}

fn alone_and_padded(dtype: Dtype) {
    for (name, config) in shapes() {
        let network = network(&config).packed(dtype);
        let (short, long) = (ids(5), ids(13));
        let alone = logits(&network, Input::ids(short.clone(), 1, 5));
        let mut both = long.clone();
        both.extend(&short);
        both.extend([0; 8]);
        let input = Input {
            mask: AttentionMask::full().with_key_lengths(vec![13, 5]),
            ..Input::ids(both, 2, 13)
        };
        let batch = logits(&network, input);
        assert_eq!(alone, batch[13 * 40..18 * 40], "{name}");
        assert_eq!(
            logits(&network, Input::ids(long, 1, 13)),
            batch[..13 * 40],
            "{name}"
        );
    }
}

#[test]
fn asked_rows_are_rows_of_all_logits() {
    for (name, config) in shapes() {
        let network = network(&config);
        let all = logits(&network, Input::ids(ids(12), 2, 6));
        let input = Input {
            asked: Asked::Rows(vec![0, 11, 3, 6]),
            ..Input::ids(ids(12), 2, 6)
        };
        let some = logits(&network, input);
        for (row, cell) in [0, 11, 3, 6].into_iter().enumerate() {
            assert_eq!(
                some[row * 40..][..40],
                all[cell * 40..][..40],
                "{name} cell {cell}"
            );
        }
    }
}

#[test]
fn the_shift_moves_predictions_one_cell_on() {
    let shifted = TransformerConfig {
        logit_shift: true,
        ..llama()
    };
    let plain = logits(&network(&llama()), Input::ids(ids(5), 1, 5));
    let moved = logits(&network(&shifted), Input::ids(ids(5), 1, 5));
    assert_eq!(moved[..40], plain[..40]);
    assert_eq!(moved[40..], plain[..4 * 40]);
}

#[test]
fn a_cache_continues_a_causal_sequence() {
    for (name, config) in shapes() {
        let network = network(&config);
        let mask = AttentionMask::causal;
        let whole = logits(
            &network,
            Input {
                mask: mask(),
                ..Input::ids(ids(10), 1, 10)
            },
        );
        let mut cache = KvCache::new();
        let mut parts = Vec::new();
        for range in [0..4, 4..5, 5..10] {
            let part = ids(10)[range.clone()].to_vec();
            let input = Input {
                mask: mask(),
                caches: vec![&mut cache],
                ..Input::ids(part, 1, range.len())
            };
            parts.extend(logits(&network, input));
        }
        assert_eq!(cache.length(), 10);
        assert_eq!(parts, whole, "{name}");
        cache.truncate(4);
        assert_eq!(cache.length(), 4);
        // From the middle again: a network that shifts reads the fourth cell for the fifth.
        let input = Input {
            mask: mask(),
            caches: vec![&mut cache],
            asked: Asked::Rows(vec![0, 5]),
            ..Input::ids(ids(10)[4..].to_vec(), 1, 6)
        };
        let again = logits(&network, input);
        assert_eq!(again[..40], whole[4 * 40..5 * 40], "{name}");
        assert_eq!(again[40..], whole[9 * 40..], "{name}");
    }
    assert!(shapes().iter().any(|(_, config)| config.logit_shift));
}

#[test]
fn a_shift_reads_each_sequence_s_own_cache() {
    let network = network(&TransformerConfig {
        logit_shift: true,
        ..llama()
    });
    let mask = AttentionMask::causal;
    let (one, two) = (ids(7), (0..7).map(|i| 39 - i).collect::<Vec<u32>>());
    let both = |range: std::ops::Range<usize>| [&one[range.clone()], &two[range]].concat();
    let mut caches = [KvCache::new(), KvCache::new()];
    for (range, expected) in [(0..4, 4), (4..7, 7)] {
        let input = Input {
            mask: mask(),
            caches: caches.iter_mut().collect(),
            ..Input::ids(both(range.clone()), 2, range.len())
        };
        let found = logits(&network, input);
        for (b, text) in [&one, &two].into_iter().enumerate() {
            let input = Input {
                mask: mask(),
                ..Input::ids(text[..expected].to_vec(), 1, expected)
            };
            let alone = logits(&network, input);
            let rows = 40 * range.len();
            assert_eq!(found[b * rows..][..rows], alone[40 * range.start..]);
        }
    }
}

#[test]
fn sequences_with_caches_of_different_lengths_are_those_alone() {
    let shift = TransformerConfig {
        logit_shift: true,
        ..llama()
    };
    let block = 2;
    let mask = |cells: usize| AttentionMask {
        kind: MaskKind::BlockCausal {
            blocks: (0..cells).map(|i| (i / block) as u32).collect(),
        },
        key_lengths: None,
    };
    let configs = shapes().into_iter().map(|(_, config)| config);
    for config in configs.chain([shift]) {
        let network = network(&config);
        // Nothing, one block and three blocks are cached; two more blocks are forwarded.
        let cached = [0, 2, 6];
        let text =
            |b: usize| -> Vec<u32> { (0..10).map(|i| ((7 * i + 11 * b) % 40) as u32).collect() };
        let mut caches = Vec::new();
        for (b, &n) in cached.iter().enumerate() {
            let mut cache = KvCache::new();
            if n > 0 {
                let input = Input {
                    mask: mask(n),
                    caches: vec![&mut cache],
                    ..Input::ids(text(b)[..n].to_vec(), 1, n)
                };
                network.forward(input).unwrap();
            }
            caches.push(cache);
        }
        let ids = cached
            .iter()
            .enumerate()
            .flat_map(|(b, &n)| text(b)[n..n + 4].to_vec());
        let found = logits(
            &network,
            Input {
                mask: mask(10),
                caches: caches.iter_mut().collect(),
                ..Input::ids(ids.collect(), 3, 4)
            },
        );
        for (b, &n) in cached.iter().enumerate() {
            assert_eq!(caches[b].length(), n + 4);
            let input = Input {
                mask: mask(n + 4),
                ..Input::ids(text(b)[..n + 4].to_vec(), 1, n + 4)
            };
            let alone = logits(&network, input);
            assert_eq!(found[b * 160..][..160], alone[n * 40..], "{n} cached");
        }
    }
}

#[test]
fn sequences_with_caches_take_no_padding() {
    let mut cache = KvCache::new();
    let input = Input {
        mask: AttentionMask::full().with_key_lengths(vec![2]),
        caches: vec![&mut cache],
        ..Input::ids(ids(3), 1, 3)
    };
    let said = network(&llama()).forward(input).unwrap_err().to_string();
    assert!(said.contains("no padding"), "{said}");
}

#[test]
fn a_cache_of_another_network_is_refused() {
    let filled = |config: &TransformerConfig| {
        let mut cache = KvCache::new();
        let input = Input {
            caches: vec![&mut cache],
            ..Input::ids(ids(3), 1, 3)
        };
        network(config).forward(input).unwrap();
        cache
    };
    let refuse = |config: &TransformerConfig, mut cache: KvCache, batch: usize| {
        let input = Input {
            caches: vec![&mut cache],
            ..Input::ids(ids(2 * batch), batch, 2)
        };
        network(config).forward(input).unwrap_err().to_string()
    };
    let deep = TransformerConfig {
        n_layers: 3,
        ..llama()
    };
    let said = refuse(&llama(), filled(&deep), 1);
    assert!(
        said.contains("is [3, 2, 8] in it and [2, 2, 8] here"),
        "{said}"
    );
    assert!(refuse(&deep, filled(&llama()), 1).contains("is [2, 2, 8] in it"));
    let heads = TransformerConfig {
        n_kv_heads: 4,
        ..llama()
    };
    assert!(refuse(&heads, filled(&llama()), 1).contains("and [2, 4, 8] here"));
    let shifted = TransformerConfig {
        logit_shift: true,
        ..llama()
    };
    assert!(refuse(&shifted, filled(&llama()), 1).contains("this network needs [3, 32]"));
    assert!(refuse(&llama(), filled(&llama()), 2).contains("1 caches for 2 sequences"));
}

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
