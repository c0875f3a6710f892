//! A small network.

use demask_nn::TransformerConfig;
use demask_nn::transformer::{MlpKind, NormKind, RotaryConfig};

/// Two layers of the plainest shape.
pub fn llama() -> TransformerConfig {
    TransformerConfig {
        vocab_size: 40,
        d_model: 32,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        d_ff: 48,
        max_length: 64,
        attention: Default::default(),
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
