//! Whose kernels do the work.

mod burn;
mod candle;
mod version;

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};

use crate::job::Job;

/// An engine that is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// candle on the CPU, without a BLAS of others.
    Candle,
    /// burn on its flex backend.
    Burn,
}

/// A job that could be run at once.
pub struct Ready {
    /// Engine, version and method.
    pub name: String,
    /// Does it once and says how long that took.
    pub work: Box<dyn FnMut() -> Result<Duration>>,
}

/// Why a job is not ready.
#[derive(Debug)]
pub enum Failure {
    /// The engine, or this program, cannot do it.
    Skip(String),
    /// It should have been possible.
    Error(Error),
}

impl Engine {
    /// Prepares everything that a run does not count.
    ///
    /// # Errors
    /// A skip for what the engine cannot do; otherwise what it says.
    pub fn prepare(self, job: &Job) -> Result<Ready, Failure> {
        match self {
            Self::Candle => candle::prepare(job),
            Self::Burn => burn::prepare(job),
        }
    }
}

/// A job that is not done, and why.
pub fn skip(why: impl Into<String>) -> Failure {
    Failure::Skip(why.into())
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Work of which everything counts.
fn whole<T>(name: String, mut work: impl FnMut() -> Result<T> + 'static) -> Ready {
    let work = move || {
        let begin = Instant::now();
        black_box(work()?);
        Ok(begin.elapsed())
    };
    Ready {
        name,
        work: Box::new(work),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::job::Train;
    use crate::network::tests::tiny;

    /// Prepares and runs a job twice, or says why it is skipped.
    fn done(engine: Engine, job: Value) -> Result<String, String> {
        let job = Job::parse(job).unwrap();
        match engine.prepare(&job) {
            Ok(mut ready) => {
                for _ in 0..2 {
                    assert!((ready.work)().unwrap() > Duration::ZERO);
                }
                Ok(ready.name)
            }
            Err(Failure::Skip(why)) => Err(why),
            Err(Failure::Error(error)) => panic!("{error:#}"),
        }
    }

    fn gemm(dtype: &str, inner: usize) -> Value {
        json!({"kind": "gemm", "dtype": dtype, "rows": 3, "inner": inner, "outer": 5})
    }

    #[test]
    fn products_in_every_format_there_is() {
        let named = |engine, dtype, inner| done(engine, gemm(dtype, inner)).unwrap();
        for engine in [Engine::Candle, Engine::Burn] {
            assert!(named(engine, "f32", 7).ends_with("f32"));
            assert!(named(engine, "bf16", 7).contains("bf16"));
        }
        assert!(named(Engine::Candle, "int8", 64).ends_with("Q8_0"));
        assert!(named(Engine::Candle, "int4", 256).ends_with("Q4_K"));
        assert!(named(Engine::Candle, "int4", 96).ends_with("Q4_0"));
        let why = done(Engine::Candle, gemm("int8", 40)).unwrap_err();
        assert!(why.contains("40"), "{why}");
        assert!(done(Engine::Burn, gemm("int8", 64)).is_err());
    }

    #[test]
    fn layers_of_pictures_in_both_directions() {
        for engine in [Engine::Candle, Engine::Burn] {
            for pass in ["forward", "backward"] {
                let conv = json!({
                    "kind": "conv", "dtype": "f32", "pass": pass, "batch": 2, "channels": 3,
                    "size": 6, "filters": 4, "kernel": 3, "step": 2, "padding": 1,
                });
                done(engine, conv).unwrap();
                let norm = json!({
                    "kind": "group_norm", "dtype": "f32", "pass": pass, "batch": 2, "channels": 4,
                    "size": 3, "groups": 2, "eps": 1e-5, "silu": true,
                });
                done(engine, norm).unwrap();
            }
        }
    }

    #[test]
    fn the_engines_have_the_same_network() {
        let mut tied = tiny();
        (tied.tied_head, tied.n_kv_heads) = (true, 4);
        for network in [tiny(), tied] {
            let [wanted, trained] = candle::tests::both(&network, 2, 5);
            let [burn, burn_trained] = burn::tests::both(&network, 2, 5);
            assert_eq!(wanted.len(), 2 * 5 * network.vocab_size);
            assert!(wanted.iter().any(|x| x.abs() > 0.1));
            for other in [trained, burn, burn_trained] {
                let apart = wanted.iter().zip(&other).map(|(a, b)| (a - b).abs());
                let apart = apart.fold(0.0, f32::max);
                assert!(apart < 1e-5, "{apart}");
            }
        }
    }

    #[test]
    fn the_engines_learn_the_same() {
        let work = Train {
            network: tiny(),
            batch: 2,
            length: 8,
        };
        let candle = candle::tests::losses(&work, 12);
        let burn = burn::tests::losses(&work, 12);
        // Nothing is known at first: all 96 tokens are as likely.
        let (first, last) = (candle[0], candle[11]);
        assert!((first - 96f32.ln()).abs() < 0.1, "{candle:?}");
        assert!(last < first - 0.5, "{candle:?}");
        for (candle, burn) in candle.iter().zip(&burn) {
            assert!((candle - burn).abs() < 1e-3, "{candle} {burn}");
        }
    }

    #[test]
    fn forward_passes_in_every_format_there_is() {
        let network = json!({
            "vocab_size": 64, "d_model": 32, "n_layers": 1, "n_heads": 4, "n_kv_heads": 2,
            "head_dim": 8, "d_ff": 64, "attention": {"kind": "full"}, "norm": {"kind": "rms"},
            "norm_eps": 1e-5, "qk_norm": false, "qkv_bias": true, "out_bias": false,
            "mlp_bias": false, "head_bias": false, "mlp": "swi_glu", "time": null,
            "rotary": {"base": 10000.0, "fraction": 1.0, "layout": "half_split"},
            "tied_head": true, "logit_shift": true,
        });
        for engine in [Engine::Candle, Engine::Burn] {
            for dtype in ["f32", "bf16", "int8", "int4"] {
                for logits in ["all", "none"] {
                    let job = json!({
                        "kind": "forward", "dtype": dtype, "network": network, "batch": 2,
                        "tokens": 3, "logits": logits,
                    });
                    let done = done(engine, job);
                    let written = engine == Engine::Candle || !dtype.starts_with("int");
                    assert_eq!(done.is_ok(), written, "{engine:?} {dtype}");
                }
            }
        }
    }
}
