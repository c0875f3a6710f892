//! The networks that the flags of a bench choose: found first, so that what cannot be measured is refused before any
//! weights are prepared, and loaded one after the other.

use anyhow::Result;
use demask::models::ModelSpec;
use demask::nn::{Dtype, Transformer, TransformerConfig, span};

use super::shapes::{self, Shape};
use super::{dtype, need};
use crate::checkpoints;
use crate::terminal::{interrupt, note};

/// Bytes of weights that somebody waits for.
const LARGE: f64 = 512.0 * 1024.0 * 1024.0;

/// The flags that choose networks.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub struct NetworkArgs {
    #[arg(long, help = shapes::help(), value_name = "NAME,…", value_delimiter = ',', value_parser = shapes::parse)]
    shape: Vec<Shape>,

    /// The network of a checkpoint: a folder, a built-in model, or a model of the Hugging Face hub
    #[arg(short, long, value_name = "DIR|NAME|ORG/NAME")]
    model: Option<String>,
}

/// What is measured: each network in each of these formats, or in its usual one where none is named.
pub fn in_formats<'a>(formats: &[Dtype], networks: &'a [Found]) -> Vec<(Dtype, &'a Found)> {
    let usual = || networks.iter().map(|n| (Dtype::usual(n.config()), n));
    let each = |&dtype| networks.iter().map(move |network| (dtype, network));
    match formats {
        [] => usual().collect(),
        formats => formats.iter().flat_map(each).collect(),
    }
}

/// A network that was found.
#[derive(Debug, Clone)]
pub struct Found {
    shape: Shape,
    /// What the model of a checkpoint is; nothing for random weights.
    spec: Option<ModelSpec>,
}

impl NetworkArgs {
    /// The networks, in the order in which they were named.
    pub fn find(&self) -> Result<Vec<Found>> {
        let random = self.shape.iter().cloned().map(Found::random).map(Ok);
        let named = self.model.as_deref().map(Found::checkpoint);
        random.chain(named).collect()
    }
}

impl Found {
    /// One of this shape, with random weights.
    pub fn random(shape: Shape) -> Self {
        Self { shape, spec: None }
    }

    fn checkpoint(name: &str) -> Result<Self> {
        let spec = checkpoints::find(name, false)?.spec;
        Ok(Self {
            shape: Shape {
                name: name.to_owned(),
                config: spec.network.clone(),
            },
            spec: Some(spec),
        })
    }

    /// What it is called, and its shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its configuration.
    pub fn config(&self) -> &TransformerConfig {
        &self.shape.config
    }

    /// What its model is, if it is that of a checkpoint.
    pub fn spec(&self) -> Option<&ModelSpec> {
        self.spec.as_ref()
    }

    /// The network, packed.
    pub fn load(&self, dtype: Dtype) -> Result<Transformer> {
        let _preparing = self.prepare(dtype);
        let _span = span::part("load");
        match self.spec {
            None => dtype::random(dtype, &self.shape),
            Some(_) => dtype::open(dtype, &self.shape.name),
        }
    }

    /// Says that weights are prepared, where that takes a while. Until what it gives is dropped Ctrl-C ends the program: the
    /// rows so far are printed.
    pub fn prepare(&self, dtype: Dtype) -> interrupt::AtOnce {
        let bytes = dtype::bytes(dtype, self.config());
        if bytes >= LARGE {
            let name = &self.shape.name;
            note(format!(
                "preparing the weights of {name} in {dtype}, {}",
                need::gib(bytes)
            ));
        }
        interrupt::AtOnce::new()
    }

    /// Refuses a run that takes `bytes` beside the weights where there is no memory for both.
    pub fn fits(&self, dtype: Dtype, bytes: f64, advice: &str) -> Result<()> {
        need::fits(dtype::bytes(dtype, self.config()) + bytes, advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_their_usual_format_unless_some_are_named() {
        let found = ["train-11m", "8b"].map(|name| Found::random(shapes::parse(name).unwrap()));
        let names = |formats: &[Dtype]| {
            let all = in_formats(formats, &found);
            let name = |(dtype, found): (Dtype, &Found)| format!("{} {dtype}", found.shape().name);
            all.into_iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["train-11m f32", "8b bf16"]);
        let each = ["train-11m int8", "8b int8", "train-11m f32", "8b f32"];
        assert_eq!(names(&[Dtype::Int8, Dtype::F32]), each);
    }
}
