//! Sequences beside each other and behind a cache: the same as alone.

use demask_nn::{
    Asked, AttentionMask, Dtype, Input, KvCache, MaskKind, Transformer, TransformerConfig,
};

use super::common::llama;
use super::{ids, logits, network, shapes};

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
    for dtype in Dtype::ALL {
        continues(dtype);
    }
}

fn continues(dtype: Dtype) {
    for (name, config) in shapes() {
        let name = format!("{name} {dtype:?}");
        let network = network(&config).packed(dtype);
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
    // Keys in bf16 are of no use to attention in f32, nor the other way round.
    let packed = |dtype| network(&llama()).packed(dtype);
    for (one, other, refused) in [
        (Dtype::F32, Dtype::Int8, true),
        (Dtype::Bf16, Dtype::F32, true),
        (Dtype::Bf16, Dtype::Int8, false),
    ] {
        let mut cache = KvCache::new();
        let mut more = |network: Transformer| {
            let input = Input {
                caches: vec![&mut cache],
                ..Input::ids(ids(3), 1, 3)
            };
            network.forward(input).map(drop)
        };
        more(packed(one)).unwrap();
        let said = more(packed(other)).err().map(|e| e.to_string());
        assert_eq!(said.is_some(), refused, "{one:?} {other:?}");
        assert!(said.is_none_or(|said| said.contains("another number type")));
    }
}
