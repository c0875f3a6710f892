//! What `inspect` says about a checkpoint.

use std::collections::BTreeMap;

use demask_nn::TransformerConfig;
use serde::Serialize;

use crate::{Checkpoint, Frame, GenerationDefaults, ModelKind, Provenance};

/// Everything worth knowing about a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Where it lies.
    pub name: String,
    /// Its family.
    pub family: String,
    /// The family's paper.
    pub paper: String,
    /// How it writes text.
    pub kind: ModelKind,
    /// Trained values in the network.
    pub parameters: u64,
    /// Bytes of the stored tensors.
    pub stored_bytes: u64,
    /// Tensors and values by number type.
    pub dtypes: BTreeMap<String, DtypeCount>,
    /// The network.
    pub network: TransformerConfig,
    /// Whether the noise level is given to the network.
    pub time_conditioning: bool,
    /// The range of masked shares the network was trained on, where it was clipped.
    pub sampling_eps: Option<[f64; 2]>,
    /// The names of the classes of a network with labels, in the order of their numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The tokenizer.
    pub tokenizer: TokenizerReport,
    /// Special tokens by role.
    pub ids: BTreeMap<&'static str, NamedId>,
    /// Where begin and end tokens stand.
    pub frame: Frame,
    /// Whether there is a chat template.
    pub chat_template: bool,
    /// What is recommended for generation.
    pub generation: GenerationDefaults,
    /// Where the weights come from.
    pub provenance: Option<Provenance>,
    /// What is unusual, in sentences.
    pub unusual: Vec<String>,
}

/// How many tensors and values have a number type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DtypeCount {
    /// Tensors.
    pub tensors: usize,
    /// Values in them.
    pub values: u64,
}

/// A tokenizer in brief.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenizerReport {
    /// "byte-level BPE" and the like.
    pub kind: String,
    /// One more than its largest id.
    pub size: usize,
    /// Rows of the embedding without a token.
    pub rows_without_token: usize,
}

/// A special token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedId {
    /// Its id.
    pub id: u32,
    /// How it is spelled; none when the tokenizer has no token for it.
    pub token: Option<String>,
}

impl Checkpoint {
    /// Everything worth knowing about the checkpoint, without building its network.
    pub fn report(&self) -> Report {
        let mut dtypes: BTreeMap<String, DtypeCount> = BTreeMap::new();
        let mut stored_bytes = 0;
        for name in self.tensors.names() {
            if let Some(info) = self.tensors.info(name) {
                let count = dtypes.entry(info.dtype).or_default();
                count.tensors += 1;
                count.values += info.shape.iter().map(|dim| *dim as u64).product::<u64>();
            }
            stored_bytes += self
                .tensors
                .bytes(name)
                .map_or(0, |bytes| bytes.len() as u64);
        }
        let spec = &self.spec;
        let rows = spec.network.vocab_size;
        let info = self.family.info();
        Report {
            name: self.label.clone(),
            family: info.name.to_string(),
            paper: info.paper.to_string(),
            kind: spec.kind,
            parameters: spec.network.parameters(),
            stored_bytes,
            dtypes,
            network: spec.network.clone(),
            time_conditioning: spec.time_conditioning,
            sampling_eps: spec.sampling_eps,
            labels: spec.labels.clone(),
            tokenizer: TokenizerReport {
                kind: self.tokenizer.description(),
                size: self.tokenizer.vocab_size(),
                rows_without_token: (0..rows as u32)
                    .filter(|id| !self.tokenizer.is_assigned(*id))
                    .count(),
            },
            ids: spec
                .ids
                .named()
                .map(|(role, id)| {
                    (
                        role,
                        NamedId {
                            id,
                            token: self.tokenizer.id_to_token(id),
                        },
                    )
                })
                .collect(),
            frame: spec.frame,
            chat_template: spec.chat_template.is_some(),
            generation: spec.generation.clone(),
            provenance: spec.provenance.clone(),
            unusual: self.unusual.clone(),
        }
    }
}
