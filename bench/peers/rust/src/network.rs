//! The shape of a transformer, as far as it is written here.

use serde::Deserialize;
use serde_json::Value;

use crate::engine::{Failure, skip};
use crate::job::positive;

/// A bidirectional transformer with RMS norms, rotary positions, SwiGLU and grouped keys: a part of the
/// `TransformerConfig` of demask.
#[derive(Debug, Clone, Deserialize)]
pub struct Network {
    /// Rows of the embedding and of the head.
    #[serde(deserialize_with = "positive")]
    pub vocab_size: usize,
    /// Width of the residual stream.
    #[serde(deserialize_with = "positive")]
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    #[serde(deserialize_with = "positive")]
    pub n_heads: usize,
    /// Key and value heads.
    #[serde(deserialize_with = "positive")]
    pub n_kv_heads: usize,
    /// Width of one head.
    #[serde(deserialize_with = "positive")]
    pub head_dim: usize,
    /// Inner width of the MLP.
    #[serde(deserialize_with = "positive")]
    pub d_ff: usize,
    /// Added to the variance inside every norm.
    pub norm_eps: f64,
    /// Bias on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on the output projection of attention.
    pub out_bias: bool,
    /// Bias on the linears of the MLP.
    pub mlp_bias: bool,
    /// The head is the embedding.
    pub tied_head: bool,
    /// Cell `i - 1` predicts cell `i`.
    pub logit_shift: bool,
    /// Positions.
    rotary: Option<Rotary>,
    // What must be what it is here.
    norm: Kind,
    attention: Kind,
    mlp: String,
    qk_norm: bool,
    head_bias: bool,
    time: Option<Value>,
    labels: Option<usize>,
}

/// A value of several kinds, of which one is written here.
#[derive(Debug, Clone, Deserialize)]
struct Kind {
    kind: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Rotary {
    base: f64,
    fraction: f64,
    layout: String,
}

impl Network {
    /// Whether it is written here.
    ///
    /// # Errors
    /// A skip that names what is not, or what cannot be right in any network.
    pub fn check(&self) -> Result<(), Failure> {
        let rotary = |r: &Rotary| r.fraction == 1.0 && r.layout == "half_split";
        let written = [
            ("norm", self.norm.kind == "rms"),
            ("attention", self.attention.kind == "full"),
            ("rotary embedding", self.rotary.as_ref().is_some_and(rotary)),
            ("MLP", self.mlp == "swi_glu"),
            ("norm of queries and keys", !self.qk_norm),
            ("bias of the head", !self.head_bias),
            ("time", self.time.is_none()),
            ("class labels", self.labels.is_none()),
        ];
        let other = written.iter().filter(|(_, ok)| !ok).map(|(what, _)| *what);
        let other: Vec<_> = other.collect();
        if !other.is_empty() {
            let other = other.join(" and ");
            return Err(skip(format!(
                "networks with another {other} are not written here"
            )));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) || !self.head_dim.is_multiple_of(2) {
            let message = "heads must be a multiple of key heads, and their width even";
            return Err(Failure::Error(anyhow::anyhow!(message)));
        }
        Ok(())
    }

    /// Cosines and sines of the angles of `length` positions, each `[length, head_dim / 2]`.
    pub fn turns(&self, length: usize) -> [Vec<f32>; 2] {
        let base = self.rotary.as_ref().map_or(1.0, |rotary| rotary.base);
        let half = self.head_dim / 2;
        let angle = |i: usize| {
            let (position, pair) = (i / half, i % half);
            position as f64 * base.powf(-(pair as f64) / half as f64)
        };
        let of = |f: fn(f64) -> f64| (0..length * half).map(|i| f(angle(i)) as f32).collect();
        [of(f64::cos), of(f64::sin)]
    }

    /// Token ids for `cells` cells: all over the vocabulary, the same each time.
    pub fn ids(&self, cells: usize) -> Vec<u32> {
        (0..cells)
            .map(|i| (i * 7919 % self.vocab_size) as u32)
            .collect()
    }

    /// The cells whose hidden states predict `cells` of sequences of `length`.
    pub fn predictors(&self, cells: impl Iterator<Item = usize>, length: usize) -> Vec<u32> {
        let shifted = |cell: usize| match self.logit_shift && !cell.is_multiple_of(length) {
            true => cell - 1,
            false => cell,
        };
        cells.map(|cell| shifted(cell) as u32).collect()
    }
}

/// A batch to train on: every second cell masked by the last token.
#[derive(Debug)]
pub struct Masked {
    /// What the network reads.
    pub ids: Vec<u32>,
    /// The cells whose hidden states predict the masked ones.
    pub predictors: Vec<u32>,
    /// What stood in the masked ones.
    pub targets: Vec<u32>,
}

impl Masked {
    /// A batch of `[batch, length]`.
    pub fn new(network: &Network, batch: usize, length: usize) -> Self {
        let mut ids = network.ids(batch * length);
        let masked = || (1..batch * length).step_by(2);
        let targets = masked().map(|cell| ids[cell]).collect();
        for cell in masked() {
            ids[cell] = (network.vocab_size - 1) as u32;
        }
        Self {
            ids,
            predictors: network.predictors(masked(), length),
            targets,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// A tiny network with everything that is written here.
    pub fn tiny() -> Network {
        serde_json::from_value(config()).unwrap()
    }

    fn config() -> Value {
        json!({
            "vocab_size": 96, "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2,
            "head_dim": 8, "d_ff": 64, "max_length": 16, "attention": {"kind": "full"},
            "norm": {"kind": "rms"}, "norm_eps": 1e-5, "qk_norm": false, "qkv_bias": true,
            "out_bias": true, "mlp_bias": true, "head_bias": false,
            "rotary": {"base": 10000.0, "fraction": 1.0, "layout": "half_split"},
            "mlp": "swi_glu", "time": null, "tied_head": false, "logit_shift": false, "dropout": 0.0,
        })
    }

    #[test]
    fn what_is_not_written_here_is_skipped_by_name() {
        tiny().check().unwrap();
        for (key, value, what) in [
            ("norm", json!({"kind": "layer", "bias": true}), "norm"),
            ("attention", json!({"kind": "causal"}), "attention"),
            ("rotary", Value::Null, "rotary embedding"),
            ("mlp", json!("gelu_tanh"), "MLP"),
            ("qk_norm", json!(true), "norm of queries and keys"),
            ("time", json!({"frequencies": 2, "cond": 2}), "time"),
        ] {
            let mut other = config();
            other[key] = value;
            let other: Network = serde_json::from_value(other).unwrap();
            let wanted = format!("networks with another {what} are not written here");
            assert!(matches!(other.check(), Err(Failure::Skip(why)) if why == wanted));
        }
        let odd = Network {
            n_heads: 3,
            ..tiny()
        };
        assert!(matches!(odd.check(), Err(Failure::Error(_))));
    }

    #[test]
    fn angles_by_hand() {
        let network = Network {
            head_dim: 4,
            ..tiny()
        };
        let [cos, sin] = network.turns(2);
        assert_eq!(cos[..2], [1.0, 1.0]);
        // Position 1 turns the first pair by 1 and the second by 10000^(-1/2).
        assert_eq!(cos[2..], [1f64.cos() as f32, 0.01f64.cos() as f32]);
        assert_eq!(sin, [0.0, 0.0, 1f64.sin() as f32, 0.01f64.sin() as f32]);
    }

    #[test]
    fn every_second_cell_is_masked() {
        let shifted = Network {
            logit_shift: true,
            ..tiny()
        };
        let batch = Masked::new(&tiny(), 2, 3);
        // 7919 = 82 · 96 + 47.
        assert_eq!(batch.ids, [0, 95, 94, 95, 92, 95]);
        assert_eq!(batch.targets, [47, 45, 43]);
        assert_eq!(batch.predictors, [1, 3, 5]);
        // The first cell of a sequence has nothing before it.
        assert_eq!(Masked::new(&shifted, 2, 3).predictors, [0, 3, 4]);
    }
}
