//! The estimators on a real network: the batch and the threads change no bit.

use burn::tensor::Device;
use demask_diffusion::Noise;
use demask_eval::data::Window;
use demask_eval::metric::likelihood::{LikelihoodConfig, log_likelihood};
use demask_eval::metric::nelbo::{NelboConfig, nelbo};
use demask_eval::{EvalError, LanguageModel, Silent};
use demask_kernels::threads::with_threads;
use demask_models::{Frame, ModelKind, SpecialIds};
use demask_nn::{Input, Output, Transformer, TransformerConfig};

struct Tiny {
    network: Transformer,
    kind: ModelKind,
    ids: SpecialIds,
}

impl Tiny {
    fn new(kind: ModelKind) -> Self {
        let json = r#"{"vocab_size": 33, "d_model": 32, "n_layers": 2, "n_heads": 2,
            "n_kv_heads": 2, "head_dim": 16, "d_ff": 64, "max_length": 24}"#;
        let config: TransformerConfig = serde_json::from_str(json).expect("a configuration");
        let network = Transformer::init(&config, 5, &Device::flex()).expect("a network");
        let ids = SpecialIds {
            mask: Some(32),
            ..SpecialIds::default()
        };
        Self { network, kind, ids }
    }
}

impl LanguageModel for Tiny {
    fn kind(&self) -> ModelKind {
        self.kind
    }
    fn ids(&self) -> &SpecialIds {
        &self.ids
    }
    fn frame(&self) -> Frame {
        Frame::default()
    }
    fn vocab_size(&self) -> usize {
        33
    }
    fn max_length(&self) -> usize {
        24
    }
    fn time_conditioning(&self) -> bool {
        false
    }
    fn forward(&self, input: Input<'_>) -> Result<Output, EvalError> {
        Ok(self.network.forward(input)?)
    }
    fn encode(&self, text: &str) -> Result<Vec<u32>, EvalError> {
        Ok(text.bytes().map(|byte| u32::from(byte % 32)).collect())
    }
    fn decode(&self, _: &[u32]) -> Result<String, EvalError> {
        Ok(String::new())
    }
    fn device(&self) -> Device {
        self.network.device()
    }
}

#[test]
fn batch_and_threads_change_no_bit() {
    // In batches of 60 the kernels share their work out among the threads.
    let windows: Vec<Window> = (0..60)
        .map(|i| Window {
            ids: (0..24).map(|j| (i * 7 + j * 3) % 32).collect(),
            bytes: vec![1.0; 24],
        })
        .collect();
    let config = NelboConfig {
        draws: 2,
        ..NelboConfig::default()
    };
    let answers = LikelihoodConfig {
        mc_num: 12,
        round: 4,
        ..LikelihoodConfig::default()
    };
    for kind in [
        ModelKind::Masked,
        ModelKind::BlockMasked { block: 8 },
        ModelKind::Autoregressive,
    ] {
        let run = |threads: usize, batch: usize| {
            with_threads(threads, || {
                let model = Tiny::new(kind);
                let bound =
                    nelbo(&model, &windows, &config, batch, Noise::new(1), &mut Silent).unwrap();
                let answer = log_likelihood(
                    &model,
                    &[1, 2, 3],
                    &[4, 5, 6, 7],
                    &answers,
                    batch,
                    Noise::new(2),
                )
                .unwrap();
                (bound, answer)
            })
        };
        let one = run(1, 1);
        assert!(one.0.nats.is_finite() && one.0.nats > 1.0);
        for (threads, batch) in [(1, 7), (2, 1), (2, 60)] {
            assert_eq!(one, run(threads, batch), "{kind:?} {threads} {batch}");
        }
    }
}
