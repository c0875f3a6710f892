//! A checkpoint found, read and checked, before its network is built.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use demask_nn::{Dtype, Transformer, span};
use serde_json::Value;

use crate::built_in::{self, EmbeddedCheckpoint};
use crate::family::{self, ConfigFile, Family, FamilySource};
use crate::format::{FileBytes, Llama2c, Safetensors, Sharded, TensorFile};
use crate::tokenizer::llama2c as llama2c_tokenizer;
use crate::{Model, ModelError, ModelSpec, Tokenizer};

/// The weights of a checkpoint in one file.
pub const WEIGHTS: &str = "model.safetensors";

/// The index of a checkpoint whose weights are in several files.
pub const INDEX: &str = "model.safetensors.index.json";

/// The files that are read from a checkpoint folder besides the weights, where they exist.
pub const SIDE_FILES: [&str; 10] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "tokenizer.bin",
];

/// How and where checkpoints are opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Where a network that is not packed computes.
    pub device: Device,
    /// Weights are packed for inference on the CPU kernels as they are read, in this number format; such
    /// a network is not trained. `None` for one that is.
    pub packed: Option<Dtype>,
    /// Folders whose subfolders are checkpoints that open by name.
    pub checkpoint_dirs: Vec<PathBuf>,
    /// Checkpoints that are part of the program and open by name.
    pub embedded: Vec<EmbeddedCheckpoint>,
    /// A folder whose tokenizer is used when the folder of the checkpoint has none.
    pub tokenizer: Option<PathBuf>,
}

/// A checkpoint found, read and checked, before its network is built.
pub struct Checkpoint {
    /// Where it lies, as messages name it.
    pub label: String,
    /// Its family.
    pub family: &'static dyn Family,
    /// What it is.
    pub spec: ModelSpec,
    /// Its tensors.
    pub tensors: Box<dyn TensorFile>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// What is unusual about it, in sentences for people.
    pub unusual: Vec<String>,
}

/// The files of a checkpoint, read but not understood.
struct Parts {
    label: String,
    config: ConfigFile,
    tensors: Box<dyn TensorFile>,
    tokenizer: Tokenizer,
    side: Vec<(&'static str, Value)>,
    /// `chat_template.jinja`, when there is one.
    template: Option<String>,
}

impl Checkpoint {
    /// Finds and checks a checkpoint: a folder, a llama2.c file, or the name of a built-in one.
    ///
    /// # Errors
    /// [`ModelError`] that names the file, what was found and what to do.
    pub fn open(name: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, ModelError> {
        let _span = span::part("load");
        let name = name.as_ref();
        if name.is_dir() {
            return Self::from_folder(name, options);
        }
        if name.is_file() {
            return match name.extension().and_then(|e| e.to_str()) {
                Some("bin") => Self::understand(llama2c_parts(name)?),
                _ => Err(not_found(
                    name,
                    "this is a file; give the folder that holds config.json, the weights and the \
                     tokenizer",
                )),
            };
        }
        let name = name.to_string_lossy();
        if let Some(found) = built_in::find(&name, options) {
            return match found {
                built_in::Place::Folder(dir) => Self::from_folder(&dir, options),
                built_in::Place::Embedded(e) => {
                    let weights = FileBytes::Embedded(e.weights);
                    Self::from_parts(e.name, e.config, weights, e.tokenizer)
                }
            };
        }
        Err(ModelError::NotFound {
            hint: built_in::hint(&name, options),
            name: name.into_owned(),
        })
    }

    /// Reads one of our own checkpoints from memory.
    ///
    /// # Errors
    /// [`ModelError`] as [`Checkpoint::open`].
    pub fn from_parts(
        name: &str,
        config: &[u8],
        weights: FileBytes,
        tokenizer: &str,
    ) -> Result<Self, ModelError> {
        Self::understand(Parts {
            label: name.to_string(),
            config: ConfigFile::parse(format!("{name}/config.json"), config)?,
            tensors: Box::new(Safetensors::from_bytes(
                format!("{name}/model.safetensors"),
                weights,
            )?),
            tokenizer: Tokenizer::parse(format!("{name}/tokenizer.json"), tokenizer)?,
            side: Vec::new(),
            template: None,
        })
    }

    fn from_folder(dir: &Path, options: &OpenOptions) -> Result<Self, ModelError> {
        let config = dir.join("config.json");
        if !config.is_file() {
            return match llama2c_file(dir)? {
                Some(file) => Self::understand(llama2c_parts(&file)?),
                None => Err(not_found(
                    dir,
                    "the folder holds no config.json; it is no checkpoint, or part of it is \
                     missing",
                )),
            };
        }
        let config = ConfigFile::read(&config)?;
        // An unknown family is the more useful message than a missing tokenizer.
        family::recognise(&config)?;
        let template = dir.join("chat_template.jinja");
        let template = match template.is_file() {
            true => Some(
                std::fs::read_to_string(&template)
                    .map_err(|e| ModelError::io("read", &template, e))?,
            ),
            false => None,
        };
        let mut side = Vec::new();
        for name in [
            "tokenizer_config.json",
            "special_tokens_map.json",
            "generation_config.json",
        ] {
            let path = dir.join(name);
            if path.is_file() {
                side.push((
                    name,
                    Value::Object(ConfigFile::read(&path)?.fields().clone()),
                ));
            }
        }
        let other = options.tokenizer.as_deref();
        let tokenizer = other.filter(|_| !Tokenizer::is_in(dir)).unwrap_or(dir);
        Self::understand(Parts {
            label: dir.display().to_string(),
            config,
            tensors: tensors_in(dir)?,
            tokenizer: Tokenizer::from_dir(tokenizer)?,
            side,
            template,
        })
    }

    fn understand(parts: Parts) -> Result<Self, ModelError> {
        let Parts {
            label,
            config,
            tensors,
            mut tokenizer,
            side,
            template,
        } = parts;
        let family = family::recognise(&config)?;
        let mut spec = family.spec(&config)?;
        // Before anything is computed from the sizes.
        spec.network
            .validate()
            .map_err(|e| config.error(e.to_string()))?;
        if spec.network.attention != spec.kind.attention() {
            return Err(config.error(format!(
                "`network.attention` is {:?}, but a model of kind {:?} has {:?}",
                spec.network.attention,
                spec.kind,
                spec.kind.attention()
            )));
        }
        spec.check_labels().map_err(|e| config.error(e))?;
        if let Some([min, max]) = spec.sampling_eps {
            demask_diffusion::schedule::TimeSampling::window(min, max)
                .check()
                .map_err(|e| config.error(format!("the window of masked shares: {e}")))?;
        }
        let mut unusual = family::check(config.label(), family, &spec, tensors.as_ref())?;
        let rows = spec.network.vocab_size;
        if tokenizer.vocab_size() > rows {
            return Err(ModelError::Contradiction {
                config: config.label().to_string(),
                file: label,
                problem: format!(
                    "the tokenizer has ids up to {} but the vocabulary has {rows} rows; they \
                     belong to different models",
                    tokenizer.vocab_size() - 1
                ),
            });
        }
        if family.names_all_ids() {
            check_own_ids(&config, &spec)?;
            if config.get("frame").is_none() && (spec.begin().is_some() || spec.end().is_some()) {
                unusual.push(
                    "config.json has no `frame`; begin and end tokens are taken to stand around \
                     every document"
                        .into(),
                );
            }
        } else {
            let side: Vec<(&str, &Value)> = side.iter().map(|(n, v)| (*n, v)).collect();
            spec.ids =
                family::resolve_ids(family, &spec, &config, &side, &tokenizer, &mut unusual)?;
        }
        // MDLM's mask is a row of the embedding that GPT-2's tokenizer has no token for.
        if let Some(mask) = spec.ids.mask.filter(|mask| !tokenizer.is_assigned(*mask)) {
            if mask as usize == tokenizer.vocab_size() {
                tokenizer = tokenizer.with_special("[MASK]")?;
            }
            unusual.push(format!("the tokenizer has no token for the mask id {mask}"));
        }
        if spec.chat_template.is_none() {
            spec.chat_template = template.or_else(|| template_in(&side));
        }
        if spec.chat_template.is_none()
            && let Some(known) = family.chat_template()
        {
            spec.chat_template = Some(known.to_string());
            unusual.push("the checkpoint has no chat template; the family's is used".into());
        }
        let tokenizer = tokenizer.with_rows(rows);
        Ok(Self {
            label,
            family,
            spec,
            tensors,
            tokenizer,
            unusual,
        })
    }

    /// Builds the network.
    ///
    /// # Errors
    /// [`ModelError::Network`] when a parameter cannot be read.
    pub fn load(self, options: &OpenOptions) -> Result<Model, ModelError> {
        let _span = span::part("load");
        let mut source = FamilySource::new(self.family, &self.spec, self.tensors.as_ref());
        let network = match options.packed {
            Some(dtype) => Transformer::packed_from_source(&self.spec.network, &mut source, dtype)?,
            None => Transformer::from_source(&self.spec.network, &mut source, &options.device)?,
        };
        let Self {
            spec,
            tokenizer,
            unusual,
            ..
        } = self;
        Ok(Model {
            network,
            spec,
            tokenizer,
            unusual,
        })
    }
}

fn not_found(path: &Path, hint: &str) -> ModelError {
    ModelError::NotFound {
        name: path.display().to_string(),
        hint: hint.to_string(),
    }
}

/// Our own `config.json` names its ids; they must lie in the vocabulary.
fn check_own_ids(config: &ConfigFile, spec: &ModelSpec) -> Result<(), ModelError> {
    let rows = spec.network.vocab_size;
    if let Some((role, id)) = spec.ids.named().find(|(_, id)| *id as usize >= rows) {
        return Err(config.error(format!(
            "the {role} token has the id {id} but the vocabulary has {rows} rows"
        )));
    }
    if spec.kind.needs_mask() && spec.ids.mask.is_none() {
        return Err(ModelError::NoMaskToken {
            file: config.label().to_string(),
            tried: "`ids.mask`".into(),
        });
    }
    Ok(())
}

/// The weights of a folder.
fn tensors_in(dir: &Path) -> Result<Box<dyn TensorFile>, ModelError> {
    let single = dir.join(WEIGHTS);
    if single.is_file() {
        return Ok(Box::new(Safetensors::open(&single)?));
    }
    let index = dir.join(INDEX);
    if index.is_file() {
        return Ok(Box::new(Sharded::open(&index)?));
    }
    let mut others = files_ending(dir, &[".safetensors", ".bin", ".pth", ".pt", ".gguf"])?;
    others.truncate(3);
    let found = others.join(", ");
    Err(not_found(
        dir,
        &match found.is_empty() {
            true => "the folder holds no model.safetensors and no \
                     model.safetensors.index.json; are the weights downloaded?"
                .to_string(),
            false => format!(
                "the folder holds no model.safetensors and no model.safetensors.index.json, but \
                 {found}; only safetensors is read yet (convert with transformers' \
                 `save_pretrained`)"
            ),
        },
    ))
}

fn files_ending(dir: &Path, endings: &[&str]) -> Result<Vec<String>, ModelError> {
    let entries = std::fs::read_dir(dir).map_err(|e| ModelError::io("read", dir, e))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| endings.iter().any(|ending| name.ends_with(ending)))
        .collect();
    names.sort();
    Ok(names)
}

/// The llama2.c checkpoint of a folder: its one `.bin` file that is not a tokenizer.
fn llama2c_file(dir: &Path) -> Result<Option<PathBuf>, ModelError> {
    let mut models = files_ending(dir, &[".bin"])?;
    models.retain(|name| !name.starts_with("tok") && name != "pytorch_model.bin");
    Ok(match models.as_slice() {
        [one] => Some(dir.join(one)),
        _ => None,
    })
}

/// A llama2.c checkpoint and the tokenizer beside it (`tokenizer.bin`, or `tok512.bin` and the
/// like).
fn llama2c_parts(file: &Path) -> Result<Parts, ModelError> {
    let label = file.display().to_string();
    let tensors = Llama2c::open(file)?;
    let config = family::llama2c::config_of(&label, tensors.shape())?;
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let names = files_ending(dir, &[".bin"])?;
    let tokenizer = names
        .iter()
        .find(|name| name.starts_with("tok"))
        .ok_or_else(|| {
            ModelError::tokenizer(
                dir.display().to_string(),
                "holds no tokenizer.bin (or tok512.bin and the like); put it beside the checkpoint",
            )
        })?;
    let path = dir.join(tokenizer);
    let bytes = std::fs::read(&path).map_err(|e| ModelError::io("read", &path, e))?;
    Ok(Parts {
        label,
        config,
        tensors: Box::new(tensors),
        tokenizer: llama2c_tokenizer::from_bytes(&path.display().to_string(), &bytes)?,
        side: Vec::new(),
        template: None,
    })
}

/// `chat_template` of `tokenizer_config.json`: one template, or several with names.
fn template_in(side: &[(&'static str, Value)]) -> Option<String> {
    let (_, config) = side
        .iter()
        .find(|(name, _)| *name == "tokenizer_config.json")?;
    match config.get("chat_template")? {
        Value::String(template) => Some(template.clone()),
        Value::Array(list) => {
            let named = |name: &str| {
                list.iter()
                    .find(|entry| entry.get("name") == Some(&name.into()))
            };
            let entry = named("default").or(list.first())?;
            entry.get("template")?.as_str().map(str::to_string)
        }
        _ => None,
    }
}
