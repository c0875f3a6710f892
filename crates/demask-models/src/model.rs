//! A network with its tokenizer and its description.

use std::path::Path;

use demask_nn::Transformer;

use crate::chat::ChatTemplate;
use crate::family::demask;
use crate::format::{SaveDtype, replace_file, write_safetensors};
use crate::{Checkpoint, ModelError, ModelSpec, OpenOptions, Tokenizer};

/// A network with its tokenizer and its description.
#[derive(Debug)]
pub struct Model {
    /// The network.
    pub network: Transformer,
    /// What it is.
    pub spec: ModelSpec,
    /// Text to token ids and back.
    pub tokenizer: Tokenizer,
    /// What is unusual about the checkpoint, in sentences for people.
    pub unusual: Vec<String>,
}

impl Model {
    /// Opens a checkpoint: a folder, a llama2.c file, or the name of a built-in checkpoint.
    ///
    /// # Errors
    /// [`ModelError`] that names the file, what was found and what to do.
    pub fn open(name: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, ModelError> {
        Checkpoint::open(name, options)?.load(options)
    }

    /// Opens one of our own checkpoints from memory: the texts of `config.json` and
    /// `tokenizer.json` and the bytes of `model.safetensors`.
    ///
    /// # Errors
    /// [`ModelError`] as [`Model::open`].
    pub fn from_parts(
        name: &str,
        config: &[u8],
        weights: crate::format::FileBytes,
        tokenizer: &str,
        options: &OpenOptions,
    ) -> Result<Self, ModelError> {
        Checkpoint::from_parts(name, config, weights, tokenizer)?.load(options)
    }

    /// Writes a checkpoint of ours: `config.json`, `model.safetensors`, `tokenizer.json`.
    ///
    /// Each file is written beside its place, synchronised and renamed: a reader or a crash finds
    /// the old file or the new one, never part of one. The weights come last, so a folder with
    /// weights is complete.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the folder or a file cannot be written, [`ModelError::Format`] for a
    /// network that this would not keep: one that was opened packed ([`OpenOptions::packed`]), whose weights
    /// are no longer there as tensors, one with adapters, another one than `spec` describes, or one
    /// whose classes `spec` does not name.
    pub fn save(
        dir: &Path,
        network: &Transformer,
        spec: &ModelSpec,
        tokenizer: &Tokenizer,
        dtype: SaveDtype,
    ) -> Result<(), ModelError> {
        if let Some(problem) = lost(network, spec) {
            return Err(ModelError::format(dir.display().to_string(), problem));
        }
        std::fs::create_dir_all(dir).map_err(|e| ModelError::io("create", dir, e))?;
        let mut spec = spec.clone();
        if spec.family != demask::NAME {
            let base = std::mem::replace(&mut spec.family, demask::NAME.into());
            spec.provenance
                .get_or_insert_default()
                .base
                .get_or_insert(base);
        }
        let config = serde_json::to_string_pretty(&spec).map_err(|e| {
            ModelError::config(dir.join("config.json").display().to_string(), e.to_string())
        })?;
        let json = tokenizer.to_json()?;
        let mut tensors = Vec::new();
        let mut unreadable = None;
        network.for_each_param(&mut |name, data| {
            let shape = data.shape().to_vec();
            match data.convert::<f32>().try_into_vec::<f32>() {
                Ok(values) => tensors.push((name.to_string(), shape, values)),
                Err(e) => unreadable = Some(format!("parameter `{name}`: {e:?}")),
            }
        });
        let weights = dir.join("model.safetensors");
        if let Some(problem) = unreadable {
            return Err(ModelError::format(weights.display().to_string(), problem));
        }
        replace_file(&dir.join("tokenizer.json"), |out| {
            out.write_all(json.as_bytes())
        })?;
        replace_file(&dir.join("config.json"), |out| {
            out.write_all(config.as_bytes())?;
            out.write_all(b"\n")
        })?;
        write_safetensors(&weights, &tensors, dtype)
    }

    /// The chat template, if the model has one.
    ///
    /// # Errors
    /// [`ModelError::Template`] when it cannot be compiled.
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>, ModelError> {
        match &self.spec.chat_template {
            None => Ok(None),
            Some(source) => ChatTemplate::new(source, &self.tokenizer, &self.spec.ids).map(Some),
        }
    }
}

/// Why a checkpoint would not hold the network, if it would not.
fn lost(network: &Transformer, spec: &ModelSpec) -> Option<String> {
    if network.is_packed() {
        return Some("a packed network cannot be saved; open it with `packed: None`".into());
    }
    if network.lora().is_some() {
        return Some(
            "a checkpoint has no place for adapters; merge them into the network first".into(),
        );
    }
    if *network.config() == spec.network {
        return spec.check_labels().err();
    }
    let fields = |config| serde_json::to_value(config).unwrap_or_default();
    let (built, said) = (fields(network.config()), fields(&spec.network));
    let differs = built.as_object().into_iter().flatten();
    let differs = differs
        .filter(|(name, value)| said.get(name.as_str()) != Some(value))
        .map(|(name, value)| {
            let said = said.get(name.as_str()).unwrap_or(&serde_json::Value::Null);
            format!("`{name}` is {value} in the network and {said} in its description")
        });
    Some(format!(
        "the network is not the one that is described: {}",
        differs.collect::<Vec<_>>().join(", ")
    ))
}
