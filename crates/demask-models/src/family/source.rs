//! Where a parameter of the network lies in the files of a family.

use std::collections::{BTreeSet, HashMap};

use burn::tensor::TensorData;
use demask_nn::transformer::params::for_each_shape;
use demask_nn::{NnError, ParamSource, TransformerConfig};

use super::Family;
use crate::format::{TensorFile, to_f32};
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

    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
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
        let bytes = self.file.bytes(tensor).map_err(|e| e.to_string())?;
        let bytes = match source {
            Source::Take(_) => bytes,
            Source::Part { part, parts, .. } => {
                let size = bytes.len() / parts;
                &bytes[part * size..(part + 1) * size]
            }
        };
        to_f32(&info.dtype, bytes)
            .ok_or_else(|| format!("`{tensor}` is stored as {}, which is not read", info.dtype))
    }
}

impl ParamSource for FamilySource<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let values = self.read(name, shape).map_err(|problem| {
            NnError::source(name, format!("{}: {problem}", self.file.label()))
        })?;
        if values.len() != shape.iter().product::<usize>() {
            return Err(NnError::source(name, "has the wrong number of values"));
        }
        Ok(TensorData::new(values, shape.to_vec()))
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
