//! Parameters beside their moments, average and gradient, by canonical name.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use demask_kernels::rowwise::add;
use demask_nn::transformer::params::for_each_in_order;
use demask_nn::{LoraConfig, NnError, ParamSource, Transformer, TransformerConfig};

use crate::TrainError;
use crate::optimizer::{AdamWStep, Communicator, Ema, global_norm};
use crate::run_dir::{ParamState, TrainState, hash};

/// What the optimiser knows about every trained parameter, in the order of the network: all of them,
/// or those of the adapters where the network has some.
#[derive(Debug)]
pub(super) struct Params {
    /// Whether each parameter of the network is trained.
    trained: Vec<bool>,
    names: Vec<String>,
    shapes: Vec<Vec<usize>>,
    m: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
    /// Empty without averaging.
    ema: Vec<Vec<f32>>,
    /// Sum of the gradients of the passes of a step; empty before the first.
    grads: Vec<Vec<f32>>,
}

/// Everything that one update of all parameters needs.
pub(super) struct Update<'a> {
    pub step: AdamWStep,
    pub ema: Option<(Ema, u64)>,
    pub device: &'a Device,
}

impl Params {
    /// Zero moments for a new network; its average starts at its weights.
    pub fn new(network: &Transformer, averaged: bool) -> Self {
        let mut out = Self::zero(network.config(), network.lora());
        if averaged {
            out.ema = weights_of(network);
        }
        out
    }

    fn zero(config: &TransformerConfig, lora: Option<&LoraConfig>) -> Self {
        let mut out = Self {
            trained: Vec::new(),
            names: Vec::new(),
            shapes: Vec::new(),
            m: Vec::new(),
            v: Vec::new(),
            ema: Vec::new(),
            grads: Vec::new(),
        };
        for_each_in_order(config, lora, &mut |name, shape, adapter| {
            let trained = lora.is_none() || adapter;
            out.trained.push(trained);
            if trained {
                let n = shape.iter().product();
                out.names.push(name.into());
                out.shapes.push(shape.to_vec());
                out.m.push(vec![0.0; n]);
                out.v.push(vec![0.0; n]);
                out.grads.push(Vec::new());
            }
        });
        out
    }

    /// Number of trained values.
    pub fn count(&self) -> u64 {
        self.m.iter().map(|m| m.len() as u64).sum()
    }

    /// The parameters of a saved state, in the order of a network of shape `config`, and their
    /// weights.
    pub fn from_state(
        config: &TransformerConfig,
        lora: Option<&LoraConfig>,
        state: TrainState,
        averaged: bool,
    ) -> Result<(Self, WeightMap), NnError> {
        let mut saved: HashMap<String, ParamState> = state
            .params
            .into_iter()
            .map(|p| (p.name.clone(), p))
            .collect();
        let mut out = Self::zero(config, lora);
        let mut weights = WeightMap::default();
        for (i, (name, shape)) in out.names.iter().zip(&out.shapes).enumerate() {
            let n = shape.iter().product();
            let whole = |p: &ParamState| {
                let lengths = [p.weight.len(), p.m.len(), p.v.len()];
                p.shape == *shape
                    && lengths == [n; 3]
                    && p.ema.len() == if averaged { n } else { 0 }
            };
            let Some(param) = saved.remove(name).filter(whole) else {
                let message = "missing in the state, or of another shape";
                return Err(NnError::source(name, message));
            };
            (out.m[i], out.v[i]) = (param.m, param.v);
            if averaged {
                out.ema.push(param.ema);
            }
            let weight = TensorData::new(param.weight, param.shape);
            weights.0.insert(param.name, weight);
        }
        Ok((out, weights))
    }

    /// Adds the gradients of a pass.
    pub fn add(&mut self, network: &Transformer, grads: Gradients) {
        network.visit(&mut Collect {
            grads,
            params: self,
            visited: 0,
            at: 0,
        });
    }

    /// Sums the gradients over all processes.
    pub fn reduce(&mut self, communicator: &mut dyn Communicator) -> Result<(), TrainError> {
        self.fill_up();
        self.grads
            .iter_mut()
            .try_for_each(|grad| communicator.all_reduce_sum(grad))
    }

    /// The norm of all gradients.
    pub fn norm(&self) -> f64 {
        global_norm(self.grads.iter().map(Vec::as_slice))
    }

    /// The first parameter whose gradient is not finite.
    pub fn not_finite(&self) -> Option<&str> {
        let bad = self
            .grads
            .iter()
            .position(|grad| grad.iter().any(|g| !g.is_finite()));
        bad.map(|at| self.names[at].as_str())
    }

    /// Forgets the gradients.
    pub fn clear(&mut self) {
        self.grads.fill(Vec::new());
    }

    /// Gives zero gradients to the parameters that no pass came by.
    fn fill_up(&mut self) {
        for (grad, m) in self.grads.iter_mut().zip(&self.m) {
            grad.resize(m.len(), 0.0);
        }
    }

    /// Updates every weight, moment and average, and forgets the gradients.
    pub fn update(&mut self, network: Transformer, update: &Update) -> Transformer {
        self.fill_up();
        let network = network.map(&mut Apply {
            update,
            params: self,
            visited: 0,
            at: 0,
        });
        self.clear();
        network
    }

    /// The averaged weights of what is trained, or the weights themselves without averaging.
    pub fn averaged(&self, network: &Transformer) -> WeightMap {
        let values = if self.ema.is_empty() {
            weights_of(network)
        } else {
            self.ema.clone()
        };
        let named = self.names.iter().zip(&self.shapes).zip(values);
        WeightMap(
            named
                .map(|((name, shape), values)| {
                    (name.clone(), TensorData::new(values, shape.clone()))
                })
                .collect(),
        )
    }

    /// Everything, for a state folder.
    pub fn states(&self, network: &Transformer) -> Vec<ParamState> {
        let weights = weights_of(network);
        weights
            .into_iter()
            .enumerate()
            .map(|(i, weight)| ParamState {
                name: self.names[i].clone(),
                shape: self.shapes[i].clone(),
                weight,
                m: self.m[i].clone(),
                v: self.v[i].clone(),
                ema: self.ema.get(i).cloned().unwrap_or_default(),
            })
            .collect()
    }
}

fn weights_of(network: &Transformer) -> Vec<Vec<f32>> {
    let mut out = Vec::new();
    let mut push = |_: &str, data| out.push(floats(data));
    match network.lora() {
        None => network.for_each_param(&mut push),
        Some(_) => network.for_each_lora_param(&mut push),
    }
    out
}

/// Hash of all parameters but those of adapters.
pub(super) fn base_hash(network: &Transformer) -> u64 {
    let mut hashes = Vec::new();
    network.for_each_param(&mut |_, data| {
        hashes.extend(hash(bytemuck::cast_slice(&floats(data))).to_le_bytes());
    });
    hash(&hashes)
}

/// The values of a tensor as f32, without a copy where they are that already.
fn floats(data: TensorData) -> Vec<f32> {
    data.try_into_vec_as::<f32>()
        .expect("a float tensor can be read as f32")
}

/// Weights by name, as a source for a network.
#[derive(Debug, Default)]
pub(super) struct WeightMap(pub HashMap<String, TensorData>);

impl ParamSource for WeightMap {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError> {
        let data = self
            .0
            .remove(name)
            .ok_or_else(|| NnError::source(name, format!("of shape {shape:?} is not there")))?;
        let found = data.shape().to_vec();
        if found != shape {
            let message = format!("has shape {found:?}, the network needs {shape:?}");
            return Err(NnError::source(name, message));
        }
        Ok(data)
    }
}

/// Adds up gradients in the order of the module tree, which is the order of the names.
struct Collect<'a> {
    grads: Gradients,
    params: &'a mut Params,
    /// Parameters seen, and trained ones among them.
    visited: usize,
    at: usize,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.visited += 1;
        if !self.params.trained[self.visited - 1] {
            return;
        }
        if let Some(grad) = param.val().grad_remove(&mut self.grads) {
            let sum = &mut self.params.grads[self.at];
            let grad = floats(grad.into_data());
            // The first one is taken as it is.
            match sum.is_empty() {
                true => *sum = grad,
                false => add(&grad, sum),
            }
        }
        self.at += 1;
    }
}

/// Replaces every trained parameter by its updated self.
struct Apply<'a> {
    update: &'a Update<'a>,
    params: &'a mut Params,
    visited: usize,
    at: usize,
}

impl ModuleMapper for Apply<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.visited += 1;
        if !self.params.trained[self.visited - 1] {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let shape = tensor.dims();
        let mut weights = floats(tensor.inner().into_data());
        let (i, params) = (self.at, &mut *self.params);
        // Matrices decay; norms and biases do not.
        self.update.step.apply(
            &mut weights,
            &params.grads[i],
            &mut params.m[i],
            &mut params.v[i],
            D > 1,
        );
        if let Some((ema, n)) = &self.update.ema {
            ema.update(*n, &mut params.ema[i], &weights);
        }
        self.at += 1;
        let tensor = Tensor::from_data(TensorData::new(weights, shape), self.update.device);
        Param::from_mapped_value(id, tensor.require_grad(), mapper)
    }
}
