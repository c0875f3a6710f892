//! The whole configuration of an evaluation.

use std::path::PathBuf;

use demask_models::ModelSpec;
use demask_text::DecodeConfig;
use serde::{Deserialize, Serialize};

use crate::data::WindowConfig;
use crate::metric::entropy::EntropyConfig;
use crate::metric::gen_ppl::GenPplConfig;
use crate::metric::likelihood::LikelihoodConfig;
use crate::metric::mauve::MauveConfig;
use crate::metric::nelbo::NelboConfig;
use crate::{EvalError, MetricName};

/// What is measured, on what, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// The metrics, in the order of the report.
    pub metrics: Vec<MetricName>,
    /// Human text: to be scored, or to be compared with.
    pub data: DataConfig,
    /// Written text: to be judged.
    pub samples: SamplesConfig,
    /// Seed of everything that is drawn, but for written text: `samples.decode` has its own.
    pub seed: u64,
    /// Rows forwarded at a time. Changes no number.
    pub batch: usize,
    /// Settings of `nelbo` and `ppl`.
    pub nelbo: NelboConfig,
    /// Settings of `likelihood` and `greedy-match`.
    pub likelihood: LikelihoodConfig,
    /// Settings of `gen-ppl`.
    pub gen_ppl: GenPplConfig,
    /// Settings of `entropy`.
    pub entropy: EntropyConfig,
    /// Settings of `mauve`.
    pub mauve: MauveConfig,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            metrics: vec![MetricName::Nelbo, MetricName::Ppl],
            data: DataConfig::default(),
            samples: SamplesConfig::default(),
            seed: 0,
            batch: 8,
            nelbo: NelboConfig::default(),
            likelihood: LikelihoodConfig::default(),
            gen_ppl: GenPplConfig::default(),
            entropy: EntropyConfig::default(),
            mauve: MauveConfig::default(),
        }
    }
}

/// Where human text comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// A `.txt` or `.jsonl` file, or either with `.gz`; `--data` sets it.
    pub path: Option<PathBuf>,
    /// The field of a `.jsonl` line that holds a document.
    pub field: String,
    /// The field of a `.jsonl` line that holds a prompt (`likelihood`, `greedy-match`).
    pub prompt: String,
    /// The field of a `.jsonl` line that holds the answer to the prompt.
    pub answer: String,
    /// Most pairs of prompt and answer taken, from the beginning; `null` takes all.
    pub pairs: Option<usize>,
    /// How documents become windows.
    pub window: WindowConfig,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: None,
            field: "text".into(),
            prompt: "prompt".into(),
            answer: "answer".into(),
            pairs: None,
            window: WindowConfig::default(),
        }
    }
}

/// Where written text comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SamplesConfig {
    /// The model writes it now, from nothing.
    Written {
        /// How it writes; `samples` is the number of texts.
        #[serde(default = "sampled")]
        decode: DecodeConfig,
    },
    /// It was written before: the documents of a file.
    File {
        /// A `.txt` or `.jsonl` file, or either with `.gz`.
        path: PathBuf,
        /// The field of a `.jsonl` line that holds a text.
        #[serde(default = "text")]
        field: String,
    },
}

fn text() -> String {
    "text".into()
}

/// Texts written unless another number is asked for.
const SAMPLES: usize = 64;

fn sampled() -> DecodeConfig {
    DecodeConfig {
        temperature: 1.0,
        samples: SAMPLES,
        ..DecodeConfig::default()
    }
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self::Written { decode: sampled() }
    }
}

impl SamplesConfig {
    /// Texts written as the model's authors recommend. Where they recommend the most likely token,
    /// the temperature is 1: greedy writing from nothing gives one text again and again.
    ///
    /// # Errors
    /// A recommendation that cannot be used.
    pub fn for_model(spec: &ModelSpec) -> Result<Self, EvalError> {
        let mut decode = DecodeConfig {
            samples: SAMPLES,
            ..DecodeConfig::for_model(spec)?
        };
        if decode.temperature == 0.0 {
            decode.temperature = 1.0;
        }
        Ok(Self::Written { decode })
    }
}

impl EvalConfig {
    /// An error that names the field when a setting is outside its range.
    pub fn check(&self) -> Result<(), EvalError> {
        if self.metrics.is_empty() {
            return Err(EvalError::setting("metrics", "[]", "at least one metric"));
        }
        if self.batch == 0 {
            return Err(EvalError::setting("batch", 0, "at least 1"));
        }
        for (key, count) in [
            ("data.pairs", self.data.pairs),
            ("data.window.limit", self.data.window.limit),
        ] {
            if count == Some(0) {
                return Err(EvalError::setting(key, 0, "at least 1, or null for all"));
            }
        }
        if let SamplesConfig::Written { decode } = &self.samples {
            decode.check()?;
        }
        if self.entropy.orders.contains(&0) {
            return Err(EvalError::setting(
                "entropy.orders",
                &self.entropy.orders,
                "1 or more",
            ));
        }
        self.nelbo.check()?;
        self.likelihood.check()?;
        self.mauve.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_drawn_as_the_model_recommends_but_never_greedily() {
        let spec = |temperature: f64| -> ModelSpec {
            serde_json::from_value(serde_json::json!({
                "model_type": "demask", "kind": { "kind": "masked" },
                "network": {
                    "vocab_size": 33, "d_model": 32, "n_layers": 2, "n_heads": 2,
                    "n_kv_heads": 2, "head_dim": 16, "d_ff": 64, "max_length": 24,
                },
                "generation": { "length": 10, "temperature": temperature, "top_p": 0.9 },
            }))
            .unwrap()
        };
        for (own, used) in [(0.0, 1.0), (0.3, 0.3)] {
            let samples = SamplesConfig::for_model(&spec(own)).unwrap();
            let SamplesConfig::Written { decode } = &samples else {
                panic!("the model writes")
            };
            assert_eq!(
                (decode.temperature, decode.length, decode.steps),
                (used, 10, 10)
            );
            assert_eq!((decode.top_p, decode.samples), (Some(0.9), 64));
            let text = serde_json::to_string(&samples).unwrap();
            assert_eq!(
                serde_json::from_str::<SamplesConfig>(&text).unwrap(),
                samples
            );
        }
    }

    #[test]
    fn unknown_fields_and_values_out_of_range_are_named() {
        let error = serde_json::from_str::<EvalConfig>(r#"{"nelbo":{"drws":3}}"#).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("unknown field `drws`, expected one of `draws`")
        );
        let error = serde_json::from_str::<EvalConfig>(r#"{"samples":{"kind":"file","x":1}}"#);
        assert!(error.is_err());
        let config: EvalConfig = serde_json::from_str(
            r#"{"metrics":["gen-ppl"],"samples":{"kind":"file","path":"a.txt"},
                "likelihood":{"rule":{"kind":"dream"}}}"#,
        )
        .unwrap();
        config.check().unwrap();
        let back: EvalConfig =
            serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(back, config);
        for (json, name) in [
            (r#"{"batch":0}"#, "batch"),
            (r#"{"metrics":[]}"#, "metrics"),
            (r#"{"nelbo":{"draws":0}}"#, "nelbo.draws"),
            (r#"{"data":{"pairs":0}}"#, "data.pairs"),
            (r#"{"data":{"window":{"limit":0}}}"#, "data.window.limit"),
            (r#"{"nelbo":{"eps":0}}"#, "nelbo.eps"),
            (r#"{"likelihood":{"mc_num":10}}"#, "likelihood.mc_num"),
            (
                r#"{"likelihood":{"rule":{"kind":"dream","eps":1.5}}}"#,
                "likelihood.rule.eps",
            ),
            (r#"{"mauve":{"scale":0}}"#, "mauve.scale"),
            (r#"{"entropy":{"orders":[0]}}"#, "entropy.orders"),
            (
                r#"{"samples":{"kind":"written","decode":{"samples":0}}}"#,
                "samples",
            ),
        ] {
            let config: EvalConfig = serde_json::from_str(json).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{json}: {error}");
        }
    }
}
