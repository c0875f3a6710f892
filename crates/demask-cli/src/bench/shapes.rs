//! The networks that benches name: shapes of published models and of comparisons in the field, with
//! random weights.

use demask::models::nearest;
use demask::nn::transformer::params::for_each_shape;
use demask::nn::transformer::{AttentionKind, MlpKind, NormKind, RotaryConfig};
use demask::nn::{AttentionMask, MaskKind, TransformerConfig};

/// A network's shape and its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What it is called in a row.
    pub name: String,
    /// The shape.
    pub config: TransformerConfig,
}

/// Widths of a Llama-like network: everything but its options.
struct Widths {
    model: usize,
    layers: usize,
    heads: [usize; 3],
    ffn: usize,
    vocabulary: usize,
}

/// All names, with the shape of each.
fn registry() -> [(&'static str, TransformerConfig); 5] {
    let plain = |w: Widths| llama_like(&w);
    [
        (
            // Four blocks of a 1B model: the stack on which engines are compared.
            "blocks-2048",
            plain(Widths {
                model: 2048,
                layers: 4,
                heads: [32, 32, 64],
                ffn: 5632,
                vocabulary: 512,
            }),
        ),
        (
            // Qwen2.5-0.5B, as Dream continues Qwen2.5 7B.
            "dream-0.5b",
            TransformerConfig {
                qkv_bias: true,
                tied_head: true,
                logit_shift: true,
                norm_eps: 1e-6,
                rotary: Some(RotaryConfig::new(1_000_000.0)),
                ..plain(Widths {
                    model: 896,
                    layers: 24,
                    heads: [14, 2, 64],
                    ffn: 4864,
                    vocabulary: 151_936,
                })
            },
        ),
        (
            "llada-0.2b",
            plain(Widths {
                model: 1024,
                layers: 12,
                heads: [16, 16, 64],
                ffn: 2816,
                vocabulary: 32_000,
            }),
        ),
        (
            // The small bidirectional network whose training is compared.
            "train-11m",
            plain(Widths {
                model: 384,
                layers: 6,
                heads: [6, 6, 64],
                ffn: 1024,
                vocabulary: 512,
            }),
        ),
        (
            // LLaDA-8B.
            "8b",
            TransformerConfig {
                rotary: Some(RotaryConfig::new(500_000.0)),
                ..plain(Widths {
                    model: 4096,
                    layers: 32,
                    heads: [32, 32, 128],
                    ffn: 12_288,
                    vocabulary: 126_464,
                })
            },
        ),
    ]
}

/// RMS norms, full rotation, SwiGLU, no biases, a head of its own; `heads` are query heads, key heads and
/// the width of one.
fn llama_like(w: &Widths) -> TransformerConfig {
    TransformerConfig {
        vocab_size: w.vocabulary,
        d_model: w.model,
        n_layers: w.layers,
        n_heads: w.heads[0],
        n_kv_heads: w.heads[1],
        head_dim: w.heads[2],
        d_ff: w.ffn,
        max_length: 4096,
        attention: AttentionKind::Full,
        norm: NormKind::Rms,
        norm_eps: 1e-5,
        qk_norm: false,
        qkv_bias: false,
        out_bias: false,
        mlp_bias: false,
        head_bias: false,
        rotary: Some(RotaryConfig::new(10_000.0)),
        mlp: MlpKind::SwiGlu,
        time: None,
        labels: None,
        tied_head: false,
        logit_shift: false,
        dropout: 0.0,
    }
}

/// The shape of that name.
///
/// # Errors
/// The nearest name, or all of them.
pub fn parse(name: &str) -> Result<Shape, String> {
    let found = registry().into_iter().find(|(known, _)| *known == name);
    found
        .map(|(name, config)| Shape {
            name: name.to_owned(),
            config,
        })
        .ok_or_else(|| {
            let names = registry().map(|(name, _)| name);
            match nearest(name, names) {
                Some(near) => format!("no such shape; did you mean `{near}`?"),
                None => format!("no such shape; there are {}", names.join(", ")),
            }
        })
}

/// A line of help that names them all.
pub fn help() -> String {
    let names = registry().map(|(name, _)| name);
    format!(
        "Networks of these shapes with random weights: {}",
        names.join(", ")
    )
}

/// What a forward pass has to do.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Cells that are forwarded, of all sequences.
    pub cells: usize,
    /// Keys that each of them sees.
    pub keys: usize,
    /// Cells whose logits are asked for.
    pub asked: usize,
}

impl Shape {
    /// Floating-point operations of a forward pass: its matrix products, those of attention among them.
    /// Everything else is less than a hundredth of it.
    pub fn operations(&self, pass: Pass) -> f64 {
        let c = &self.config;
        let mut weights = 0usize;
        for_each_shape(c, &mut |name, dims| {
            if let ([outputs, inputs], true) = (dims, name.starts_with("layers.")) {
                weights += outputs * inputs;
            }
        });
        let attention = 2 * c.n_layers * c.n_heads * c.head_dim * pass.keys;
        let head = c.vocab_size * c.d_model;
        2.0 * (pass.cells as f64 * (weights + attention) as f64 + pass.asked as f64 * head as f64)
    }

    /// The mask that the network was trained with, for sequences of `cells`, cached ones included.
    pub fn mask(&self, cells: usize) -> AttentionMask {
        match self.config.attention {
            AttentionKind::Full => AttentionMask::full(),
            AttentionKind::Causal => AttentionMask::causal(),
            AttentionKind::BlockCausal { block } => AttentionMask {
                kind: MaskKind::BlockCausal {
                    blocks: (0..cells)
                        .map(|cell| (cell / block.max(1)) as u32)
                        .collect(),
                },
                key_lengths: None,
            },
        }
    }

    /// Token ids for `cells` cells: all over the vocabulary, the same each time.
    pub fn ids(&self, cells: usize) -> Vec<u32> {
        let vocabulary = self.config.vocab_size;
        (0..cells).map(|i| (i * 7919 % vocabulary) as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_the_parameters_of_their_models() {
        for (name, parameters) in [
            // Per block 4 · 2048² + 3 · 2048 · 5632 + 2 · 2048; embedding and head 512 · 2048 each.
            (
                "blocks-2048",
                4 * (16_777_216 + 34_603_008 + 4096) + 2048 + 2 * 1_048_576,
            ),
            // As published for Qwen2.5-0.5B.
            ("dream-0.5b", 494_032_768),
            ("llada-0.2b", 219_702_272),
            ("train-11m", 11_015_040),
            // As published for LLaDA-8B.
            ("8b", 8_015_581_184),
        ] {
            let shape = parse(name).unwrap();
            shape.config.validate().unwrap();
            assert_eq!(shape.config.parameters(), parameters, "{name}");
        }
        assert_eq!(registry().len(), 5);
    }

    #[test]
    fn operations_by_hand() {
        let shape = parse("train-11m").unwrap();
        let pass = Pass {
            cells: 10,
            keys: 20,
            asked: 3,
        };
        // 6 blocks of 4 · 384² + 3 · 384 · 1024 weights, scores and sums over 20 keys of 384 values.
        let cell = 6 * (4 * 384 * 384 + 3 * 384 * 1024) + 6 * 2 * 384 * 20;
        let wanted = 2 * (10 * cell + 3 * 512 * 384);
        assert_eq!(shape.operations(pass), wanted as f64);
    }

    #[test]
    fn a_name_that_is_none_is_told_the_nearest() {
        assert!(parse("dream-0.5").unwrap_err().contains("`dream-0.5b`"));
        assert!(parse("what").unwrap_err().contains("llada-0.2b"));
    }
}
