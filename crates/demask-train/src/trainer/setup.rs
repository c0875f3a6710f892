//! From a recipe to the parts of a training: tokenizer, data, objective, network.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use demask_diffusion::objective::Attention;
use demask_diffusion::objective::variance::Window;
use demask_diffusion::{Objective, ObjectiveConfig, Vocabulary};
use demask_models::{
    Checkpoint, Frame, Model, ModelKind, ModelSpec, OpenOptions, Predicts, Provenance, SpecialIds,
    Tokenizer,
};
use demask_nn::transformer::AttentionKind;
use demask_nn::{NnError, Transformer};

use super::params::WeightMap;
use super::search::Search;
use crate::data::{Corpus, Documents, Layout, Padding, find};
use crate::recipe::InitConfig;
use crate::run_dir::{RunDir, write_atomic};
use crate::tokenizer::{TokenizerConfig, special_ids};
use crate::{Recipe, TrainError};

/// Everything a training needs but the weights.
pub(super) struct Parts {
    /// The recipe with `vocab_size`, `max_length` and `labels` filled in.
    pub recipe: Recipe,
    pub tokenizer: Tokenizer,
    pub ids: SpecialIds,
    pub corpus: Corpus,
    pub objective: Arc<dyn Objective>,
    /// What is measured on the validation rows ([`ObjectiveConfig::bound`](demask_diffusion::ObjectiveConfig::bound)).
    pub validation: Arc<dyn Objective>,
    pub search: Option<Search>,
}

/// A network with its first weights.
pub(super) struct Init {
    pub network: Transformer,
    /// What the checkpoint says about itself, where the weights come from one.
    pub spec: Option<ModelSpec>,
}

impl Parts {
    /// Reads the data and trains the tokenizer, or takes the one that the run already has.
    pub fn build(recipe: &Recipe, run: &RunDir, roots: &[PathBuf]) -> Result<Self, TrainError> {
        let seed = recipe.run.seed;
        let documents = Documents::read(&recipe.data, roots, seed)?;
        let kept = run.path().join("tokenizer.json");
        let tokenizer = if kept.exists() && !run.saved_steps()?.is_empty() {
            let json = std::fs::read_to_string(&kept).map_err(TrainError::io("read", &kept))?;
            Tokenizer::from_json(&json)?
        } else {
            let tokenizer = recipe.tokenizer.build(&documents, roots)?;
            write_atomic(&kept, tokenizer.to_json()?.as_bytes())?;
            tokenizer
        };
        let ids = match &recipe.tokenizer {
            TokenizerConfig::Checkpoint { path } => {
                let path = find(path, roots, "checkpoint")?;
                Checkpoint::open(&path, &OpenOptions::default())?.spec.ids
            }
            _ => special_ids(&tokenizer),
        };
        let mut recipe = recipe.clone();
        fill_in(&mut recipe, &tokenizer, documents.classes().len())?;
        let vocabulary = Vocabulary {
            size: recipe.network.vocab_size,
            mask: ids.mask,
        };
        let objective = recipe.objective.build(vocabulary)?;
        agree(&recipe, objective.as_ref())?;
        let validation = recipe.objective.bound().build(vocabulary)?;
        let corpus = Corpus::new(&recipe.data, &documents, &tokenizer, &ids, seed)?;
        let rows = corpus.valid_rows(recipe.run.eval_rows).len();
        let search = Search::new(&recipe, vocabulary, rows)?;
        Ok(Self {
            recipe,
            tokenizer,
            ids,
            corpus,
            objective,
            validation,
            search,
        })
    }

    /// What a checkpoint says about itself after `steps` steps and `tokens` tokens, the last ones in
    /// the window that a search chose.
    pub fn spec(
        &self,
        time_conditioning: bool,
        window: Option<Window>,
        steps: u64,
        tokens: u64,
    ) -> ModelSpec {
        let recipe = &self.recipe;
        let window = match &recipe.objective {
            ObjectiveConfig::Bd3(bd3) => Some(window.unwrap_or(Window {
                min: bd3.time.min,
                max: bd3.time.max,
            })),
            _ => None,
        };
        ModelSpec {
            family: "demask".into(),
            kind: ModelKind::trained_with(&recipe.objective),
            network: recipe.network.clone(),
            ids: self.ids,
            frame: frame(&recipe.data.layout),
            time_conditioning,
            predicts: Predicts::trained_with(&recipe.objective),
            labels: self.corpus.classes().to_vec(),
            generation: recipe.generation.clone(),
            sampling_eps: window
                .filter(|w| w.min > 1e-3 || w.max < 1.0)
                .map(|w| [w.min, w.max]),
            chat_template: None,
            provenance: Some(Provenance {
                recipe: recipe.resolved().ok(),
                base: match &recipe.init {
                    InitConfig::Random => None,
                    InitConfig::Checkpoint { path, .. } => Some(path.display().to_string()),
                },
                steps: Some(steps),
                tokens: Some(tokens),
                seed: Some(recipe.run.seed),
                version: Some(env!("CARGO_PKG_VERSION").into()),
                about: (!recipe.card.about.is_empty()).then(|| recipe.card.about.clone()),
                notes: (!recipe.card.limits.is_empty()).then(|| recipe.card.limits.clone()),
            }),
        }
    }

    /// A new network: random, or with the weights of the checkpoint the recipe names, which must be
    /// its own by name and shape. Adapters come later.
    pub fn network(&self, roots: &[PathBuf], device: &Device) -> Result<Init, TrainError> {
        let config = &self.recipe.network;
        match &self.recipe.init {
            InitConfig::Random => Ok(Init {
                network: Transformer::init(config, self.recipe.run.seed, device)?,
                spec: None,
            }),
            InitConfig::Checkpoint { path, .. } => {
                let path = find(path, roots, "checkpoint")?;
                let options = OpenOptions {
                    packed: None,
                    ..OpenOptions::default()
                };
                let model = Model::open(&path, &options)?;
                same_classes(&path, &model.spec.labels, self.corpus.classes())?;
                let mut weights = HashMap::new();
                model.network.for_each_param(&mut |name, data| {
                    weights.insert(name.to_string(), data);
                });
                let mut weights = WeightMap(weights);
                let network = Transformer::from_source(config, &mut weights, device)
                    .map_err(|e| misfit(&path, e))?;
                nothing_left(&path, &weights)?;
                Ok(Init {
                    network,
                    spec: Some(model.spec),
                })
            }
        }
    }
}

/// Where begin and end tokens stand around the documents of a layout.
fn frame(layout: &Layout) -> Frame {
    match *layout {
        Layout::Packed { bos, eos, wrap } => Frame {
            bos: bos || wrap,
            eos: eos || wrap,
        },
        Layout::Examples { bos, padding, .. } => Frame {
            bos,
            eos: padding != Padding::None,
        },
    }
}

/// Refuses a checkpoint whose classes are not those of the data: its label vectors would come to
/// stand for other classes.
fn same_classes(path: &Path, theirs: &[String], ours: &[String]) -> Result<(), TrainError> {
    if theirs == ours {
        return Ok(());
    }
    let said = |names: &[String]| match names {
        [] => "no labels".to_owned(),
        names => format!("the labels {}", names.join(", ")),
    };
    Err(TrainError::Init {
        path: path.to_path_buf(),
        message: format!(
            "the checkpoint has {} and the training data have {}; they must be the same (reader.label and reader.filter say what is read)",
            said(theirs),
            said(ours)
        ),
    })
}

/// A tensor of the checkpoint at `path` that is missing or has another shape.
fn misfit(path: &Path, error: NnError) -> TrainError {
    match error {
        NnError::Source { name, message } => TrainError::Init {
            path: path.to_path_buf(),
            message: format!("parameter `{name}` {message}"),
        },
        other => other.into(),
    }
}

/// Refuses a checkpoint with tensors that the network has no place for.
fn nothing_left(path: &Path, weights: &WeightMap) -> Result<(), TrainError> {
    let mut left: Vec<_> = weights.0.iter().collect();
    left.sort_by_key(|(name, _)| name.as_str());
    let Some((name, data)) = left.first() else {
        return Ok(());
    };
    let more = match left.len() {
        1 => String::new(),
        n => format!(" (and for {} more)", n - 1),
    };
    Err(TrainError::Init {
        path: path.to_path_buf(),
        message: format!(
            "the network has no place for parameter `{name}` of shape {:?}{more}",
            data.shape().to_vec()
        ),
    })
}

/// Fills in what the tokenizer and the data decide: the data have `classes` distinct labels.
fn fill_in(recipe: &mut Recipe, tokenizer: &Tokenizer, classes: usize) -> Result<(), TrainError> {
    let network = &mut recipe.network;
    let needed = tokenizer.vocab_size();
    if network.vocab_size == 0 {
        network.vocab_size = needed;
    }
    if network.vocab_size < needed {
        return Err(TrainError::recipe(format!(
            "network.vocab_size = {}, but the tokenizer has {needed} tokens; leave the key out to take the tokenizer's",
            network.vocab_size
        )));
    }
    if network.max_length == 0 {
        network.max_length = recipe.data.length;
    }
    if recipe.data.labelled() {
        let written = network.labels.replace(classes);
        if let Some(written) = written.filter(|written| *written != classes) {
            return Err(TrainError::recipe(format!(
                "network.labels = {written}, but the training data have {classes} distinct labels; leave the key out to take theirs"
            )));
        }
        recipe.data.label_dropout = Some(recipe.data.label_dropout());
    }
    network.validate()?;
    Ok(())
}

/// Checks that the network is built for what the objective asks of it. A decoder will later read
/// the network's own settings, so that they are stated, not guessed.
fn agree(recipe: &Recipe, objective: &dyn Objective) -> Result<(), TrainError> {
    let name = objective.name();
    let right = ModelKind::trained_with(&recipe.objective).attention();
    if recipe.network.attention != right {
        let wanted = match right {
            AttentionKind::Full => "{ kind = \"full\" }".to_owned(),
            AttentionKind::Causal => "{ kind = \"causal\" }".to_owned(),
            AttentionKind::BlockCausal { block } => {
                format!("{{ kind = \"block_causal\", block = {block} }}")
            }
        };
        return Err(TrainError::recipe(format!(
            "objective `{name}` needs network.attention = {wanted}"
        )));
    }
    // A left-to-right network predicts the next token at each row; only a network that came from one
    // and now sees both sides keeps a shift.
    let shift = objective.shifted() && objective.attention() != Attention::Causal;
    if recipe.network.logit_shift != shift {
        return Err(TrainError::recipe(format!(
            "objective `{name}` needs network.logit_shift = {shift}"
        )));
    }
    Ok(())
}
