//! Where a parameter of the network lies in the files of a family.

use std::collections::{BTreeSet, HashMap};

use burn::tensor::TensorData;
use demask_nn::transformer::params::for_each_shape;
use demask_nn::{NnError, ParamSource, TransformerConfig};

use super::Family;
use crate::format::{TensorFile, widen, width};
use crate::{ModelError, ModelSpec};

/// Where a parameter of the network lies in the files of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A whole tensor.
    Take(String),
    /// Part `part` of `parts` equal groups of rows: one matrix of a fused projection.
    Part {
        /// The fused tensor.
        name: String,
        /// Which group, from 0.
        part: usize,
        /// Number of groups.
        parts: usize,
    },
}

impl Source {
    /// The tensor that is read.
    pub fn tensor(&self) -> &str {
        match self {
            Self::Take(name) | Self::Part { name, .. } => name,
        }
    }

    /// The shape of that tensor, when the parameter has `shape`.
    pub fn stored_shape(&self, shape: &[usize]) -> Vec<usize> {
        let mut stored = shape.to_vec();
        if let (Self::Part { parts, .. }, Some(rows)) = (self, stored.first_mut()) {
            *rows *= parts;
        }
        stored
    }
}

/// Compares what a configuration asks for with what the files hold, before anything is loaded.
/// Answers with notes about what is unusual.
pub(crate) fn check(
    config: &str,
    family: &dyn Family,
    spec: &ModelSpec,
    file: &dyn TensorFile,
) -> Result<Vec<String>, ModelError> {
    let contradiction = |problem: String| ModelError::Contradiction {
        config: config.to_string(),
        file: file.label().to_string(),
        problem,
    };
    let names: BTreeSet<&str> = file.names().into_iter().collect();
    let layers = spec.network.n_layers;
    // Every layer has several tensors; this bounds the work that a lying number can cause.
    if layers > names.len() {
        return Err(contradiction(format!(
            "the configuration says {layers} layers but there are only {} tensors",
            names.len()
        )));
    }
    let mut used = BTreeSet::new();
    let mut found: Result<(), ModelError> = Ok(());
    for_each_shape(&spec.network, &mut |name, shape| {
        let source = family.source(spec, name);
        if found.is_ok() {
            found = check_one(config, name, shape, &source, file, layers);
        }
        used.insert(source.tensor().to_string());
    });
    found?;
    let unused: Vec<&str> = names
        .into_iter()
        .filter(|name| !used.contains(*name) && !family.is_buffer(name))
        .collect();
    for name in &unused {
        if let Some(layer) = layer_beyond(name, layers, &used) {
            return Err(contradiction(format!(
                "the configuration says {layers} layers but there is a tensor of layer {layer} \
                 (counted from 0), `{name}`"
            )));
        }
    }
    Ok(match unused.as_slice() {
        [] => Vec::new(),
        [first] => vec![format!("1 tensor is not used: `{first}`")],
        [first, .., last] => {
            vec![format!(
                "{} tensors are not used: `{first}` … `{last}`",
                unused.len()
            )]
        }
    })
}

fn check_one(
    config: &str,
    name: &str,
    shape: &[usize],
    source: &Source,
    file: &dyn TensorFile,
    layers: usize,
) -> Result<(), ModelError> {
    let contradiction = |problem: String| ModelError::Contradiction {
        config: config.to_string(),
        file: file.label().to_string(),
        problem,
    };
    let tensor = source.tensor();
    let wanted = source.stored_shape(shape);
    let Some(info) = file.info(tensor) else {
        return Err(contradiction(format!(
            "the configuration ({layers} layers) needs the tensor `{tensor}` of shape {wanted:?}, \
             which is missing{}",
            if name == "head.weight" {
                ". If the model reuses its embedding as head, the configuration must say so"
            } else {
                ""
            }
        )));
    };
    if info.shape != wanted {
        let what = match name {
            "embed.weight" | "head.weight" | "head.bias"
                if info.shape.get(1..) == wanted.get(1..) =>
            {
                format!("the configuration says a vocabulary of {} but ", wanted[0])
            }
            _ => format!("the configuration asks for {wanted:?} but "),
        };
        return Err(contradiction(format!(
            "{what}`{tensor}` has the shape {:?}",
            info.shape
        )));
    }
    if !matches!(info.dtype.as_str(), "F32" | "F16" | "BF16") {
        return Err(ModelError::Dtype {
            file: file.label().to_string(),
            tensor: tensor.to_string(),
            dtype: info.dtype,
        });
    }
    Ok(())
}

/// The layer number of an unused tensor, when the same tensor is used in layer 0.
fn layer_beyond(name: &str, layers: usize, used: &BTreeSet<String>) -> Option<usize> {
    let parts: Vec<&str> = name.split('.').collect();
    parts.iter().enumerate().find_map(|(at, part)| {
        let layer: usize = part.parse().ok()?;
        if layer < layers {
            return None;
        }
        let mut first = parts.clone();
        first[at] = "0";
        used.contains(&first.join(".")).then_some(layer)
    })
}

/// Hands the parameters of a family's files to the network.
pub(crate) struct FamilySource<'a> {
    family: &'a dyn Family,
    spec: &'a ModelSpec,
    file: &'a dyn TensorFile,
}

impl<'a> FamilySource<'a> {
    pub(crate) fn new(
        family: &'a dyn Family,
        spec: &'a ModelSpec,
        file: &'a dyn TensorFile,
    ) -> Self {
        Self { family, spec, file }
    }

    /// Hands the values of a parameter to `take`, `step` of them at a time.
    fn read(
        &self,
        name: &str,
        shape: &[usize],
        step: usize,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), NnError> {
        let found = self.steps(name, shape, step.max(1), take);
        found.map_err(|problem| NnError::source(name, format!("{}: {problem}", self.file.label())))
    }

    fn steps(
        &self,
        name: &str,
        shape: &[usize],
        step: usize,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), String> {
        let source = self.family.source(self.spec, name);
        let tensor = source.tensor();
        let info = self
            .file
            .info(tensor)
            .ok_or_else(|| format!("`{tensor}` is missing"))?;
        let wanted = source.stored_shape(shape);
        if info.shape != wanted {
            return Err(format!(
                "`{tensor}` has the shape {:?}, not {wanted:?}",
                info.shape
            ));
        }
        let unread = || format!("`{tensor}` is stored as {}, which is not read", info.dtype);
        let width = width(&info.dtype).ok_or_else(unread)?;
        let count = shape.iter().product();
        let from = match source {
            Source::Take(_) => 0,
            Source::Part { part, .. } => part * count * width,
        };
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for at in (0..count).step_by(step) {
            let range = from + at * width..from + (at + step).min(count) * width;
            let read = self.file.read(tensor, range, &mut bytes);
            read.map_err(|error| error.to_string())?;
            values.clear();
            widen(&info.dtype, &bytes, &mut values).ok_or_else(unread)?;
            take(&values);
        }
        Ok(())
    }
}

/// Values that are read at a time where a whole parameter is wanted.
const STEP: usize = 1 << 20;

impl ParamSource for FamilySource<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let mut values = Vec::new();
        self.read(name, shape, STEP, &mut |step| {
            // Only now is it known that the file holds as many.
            if values.is_empty() {
                values.reserve_exact(shape.iter().product());
            }
            values.extend_from_slice(step);
        })?;
        Ok(TensorData::new(values, shape.to_vec()))
    }

    fn bands(
        &mut self,
        name: &str,
        dims: [usize; 2],
        height: usize,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), NnError> {
        self.read(name, &dims, height * dims[1], take)
    }
}

/// The inverse: a family's tensors from canonical parameters. `value` supplies a parameter.
pub(crate) fn stored_tensors(
    family: &dyn Family,
    spec: &ModelSpec,
    network: &TransformerConfig,
    value: &mut dyn FnMut(&str, &[usize]) -> Vec<f32>,
) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for_each_shape(network, &mut |name, shape| {
        let source = family.source(spec, name);
        let stored = source.stored_shape(shape);
        let index = *at.entry(source.tensor().to_string()).or_insert_with(|| {
            let zeros = vec![0.0; stored.iter().product()];
            tensors.push((source.tensor().to_string(), stored, zeros));
            tensors.len() - 1
        });
        let values = value(name, shape);
        let from = match source {
            Source::Take(_) => 0,
            Source::Part { part, .. } => part * values.len(),
        };
        tensors[index].2[from..from + values.len()].copy_from_slice(&values);
    });
    tensors
}
