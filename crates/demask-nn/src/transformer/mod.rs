//! The one text transformer.

mod attention;
mod block;
mod check;
mod config;
mod embedding;
mod init;
mod label;
mod loader;
mod lora;
mod mlp;
mod norm;
pub mod params;
mod time;
mod weight;

pub use config::{
    AttentionKind, MlpKind, NormKind, RotaryConfig, RotaryLayout, TimeConfig, TransformerConfig,
};
pub use lora::{Lora, LoraConfig, Projection};
pub use params::ParamSource;
pub use weight::{Linear, Weight};

pub(crate) use init::uniforms;
pub(crate) use loader::Loader;
pub(crate) use params::Values;
pub(crate) use time::sinusoids;

use std::sync::Arc;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use demask_kernels::Precision;
use demask_kernels::rowwise::Scored;

use crate::ops::{self, BranchLinear, RotaryTable, Scoring};
use crate::span;
use crate::{Asked, Dtype, Input, NnError, NoiseLevel, Output, Positions, Rows, Tap, Targets};
use attention::Pass;
use block::{Block, Dropout, take};
use embedding::Embedding;
use label::LabelEmbedding;
use lora::Attach;
use norm::Norm;
use time::{AdaLn, TimeEmbedding, modulate};

/// A transformer over a canvas: embedding, blocks of attention and MLP with norms before them, a
/// final norm and a head.
///
/// One module for every family, for training and inference, on every device. See
/// [`TransformerConfig`] for what can differ and [`Input`] for what a request may ask.
#[derive(Module, Debug)]
pub struct Transformer {
    embed: Embedding,
    time: Option<TimeEmbedding>,
    labels: Option<LabelEmbedding>,
    layers: Vec<Block>,
    final_adaln: Option<AdaLn>,
    final_norm: Norm,
    head: Option<Linear>,
    head_bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    config: TransformerConfig,
    #[module(skip)]
    lora: Option<LoraConfig>,
    #[module(skip)]
    dtype: Dtype,
    /// What attention multiplies in, and the linears that are not packed.
    #[module(skip)]
    precision: Precision,
}

impl Transformer {
    /// A new network with random parameters: the same for the same seed.
    ///
    /// # Errors
    /// [`NnError::Config`] when the configuration is unusable.
    pub fn init(config: &TransformerConfig, seed: u64, device: &Device) -> Result<Self, NnError> {
        config.validate()?;
        Self::from_source(config, &mut init::RandomSource::new(config, seed), device)
    }

    /// The same network as of [`init`](Self::init), packed in `dtype` as it is made.
    ///
    /// # Errors
    /// As for [`init`](Self::init).
    pub fn packed_init(
        config: &TransformerConfig,
        seed: u64,
        dtype: Dtype,
    ) -> Result<Self, NnError> {
        config.validate()?;
        Self::packed_from_source(config, &mut init::RandomSource::new(config, seed), dtype)
    }

    /// A network whose parameters come from `source`, asked by canonical name (see [`params`]).
    ///
    /// # Errors
    /// [`NnError::Config`] for an unusable configuration, [`NnError::Source`] for a parameter that
    /// is missing or has the wrong shape.
    pub fn from_source(
        config: &TransformerConfig,
        source: &mut dyn ParamSource,
        device: &Device,
    ) -> Result<Self, NnError> {
        Self::load(
            config,
            Loader {
                source,
                device,
                pack: None,
            },
        )
    }

    /// The same for inference on the CPU: the matrices are packed in `dtype` band by band as they are read, so that
    /// loading takes little more memory than the network does. Same as [`packed`](Self::packed) otherwise.
    ///
    /// # Errors
    /// As for [`from_source`](Self::from_source).
    pub fn packed_from_source(
        config: &TransformerConfig,
        source: &mut dyn ParamSource,
        dtype: Dtype,
    ) -> Result<Self, NnError> {
        Self::load(
            config,
            Loader {
                source,
                device: &Device::flex(),
                pack: Some(dtype),
            },
        )
    }

    fn load(config: &TransformerConfig, mut loader: Loader<'_>) -> Result<Self, NnError> {
        config.validate()?;
        let (c, loader) = (config, &mut loader);
        let (embed, tied) = Embedding::load([c.vocab_size, c.d_model], c.tied_head, loader)?;
        let time = c.time.map(|t| TimeEmbedding::load(t, loader)).transpose()?;
        let labels = c
            .labels
            .zip(c.time)
            .map(|(classes, t)| LabelEmbedding::load(classes, t.cond, loader))
            .transpose()?;
        let mut layers = Vec::with_capacity(c.n_layers);
        for i in 0..c.n_layers {
            layers.push(Block::load(&format!("layers.{i}"), c, loader)?);
        }
        let final_adaln = c
            .time
            .map(|t| AdaLn::load("final_adaln", 2, c.d_model, t.cond, loader))
            .transpose()?;
        let final_norm = Norm::load("final_norm", c.d_model, c.norm, c.norm_eps, loader)?;
        let head = (!c.tied_head)
            .then(|| {
                let dims = [c.vocab_size, c.d_model];
                let loader = &mut loader.packing(Dtype::of_head);
                Linear::load("head", dims, c.head_bias, loader)
            })
            .transpose()?;
        let head_bias = (c.tied_head && c.head_bias)
            .then(|| loader.param("head.bias", [c.vocab_size]))
            .transpose()?;
        let tied = tied.map(|weight| Linear::tied(Weight::Packed(weight), head_bias.clone()));
        let network = Self {
            embed,
            time,
            labels,
            layers,
            final_adaln,
            final_norm,
            head: head.or(tied),
            head_bias,
            config: config.clone(),
            lora: None,
            dtype: Dtype::F32,
            precision: Precision::F32,
        };
        Ok(match loader.pack {
            Some(dtype) => network.packed(dtype),
            None => network,
        })
    }

    /// The configuration the network was built with.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.final_norm.device()
    }

    /// Bytes that the weights take as they are stored.
    pub fn bytes(&self) -> usize {
        let mut floats = Floats(0);
        self.visit(&mut floats);
        let conditions = self.time.iter().map(TimeEmbedding::packed_bytes);
        let adaln = self.final_adaln.iter().map(AdaLn::packed_bytes);
        let layers = self.layers.iter().map(Block::packed_bytes);
        let head = self.head.iter().map(Linear::packed_bytes);
        let packed: usize = conditions.chain(adaln).chain(layers).chain(head).sum();
        size_of::<f32>() * floats.0 + self.embed.packed_bytes() + packed
    }

    /// Calls `visit` with the canonical name and the values of each parameter, in the order of
    /// [`params::for_each_shape`].
    ///
    /// # Panics
    /// On a [`packed`](Self::packed) network, whose weights are no longer available as tensors.
    pub fn for_each_param(&self, visit: &mut dyn FnMut(&str, TensorData)) {
        self.for_each_value(&mut |name, data, adapter| {
            if !adapter {
                visit(name, data);
            }
        });
    }

    /// Calls `visit` with the canonical name and the values of each parameter of the adapters, in
    /// the order of [`params::for_each_in_order`]; never without adapters.
    ///
    /// # Panics
    /// On a [`packed`](Self::packed) network.
    pub fn for_each_lora_param(&self, visit: &mut dyn FnMut(&str, TensorData)) {
        if self.lora.is_some() {
            self.for_each_value(&mut |name, data, adapter| {
                if adapter {
                    visit(name, data);
                }
            });
        }
    }

    fn for_each_value(&self, visit: &mut dyn FnMut(&str, TensorData, bool)) {
        let mut values = Values::default();
        self.visit(&mut values);
        let mut found = values.0.into_iter();
        params::for_each_in_order(
            &self.config,
            self.lora.as_ref(),
            &mut |name, shape, adapter| {
                let value = found
                    .next()
                    .expect("a packed network has no parameters to visit");
                let dims = value.shape();
                assert_eq!(dims.as_slice(), shape, "parameter order of {name}");
                visit(name, value, adapter);
            },
        );
    }

    /// What the adapters are, if the network has any.
    pub fn lora(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }

    /// The same network with new adapters, which change nothing yet: `A` is Kaiming-uniform
    /// (`±1/√in`) from `seed`, `B` is zero. Every other parameter is frozen.
    ///
    /// # Errors
    /// [`NnError::Config`] when the adapters do not fit the network or it has some already.
    pub fn init_lora(self, lora: &LoraConfig, seed: u64) -> Result<Self, NnError> {
        self.with_lora(lora, &mut init::RandomAdapters { seed })
    }

    /// The same network with the adapters from `source`, asked by canonical name. Every other
    /// parameter is frozen.
    ///
    /// # Errors
    /// [`NnError::Config`] when the adapters do not fit the network or it has some already,
    /// [`NnError::Source`] for a parameter that is missing or has the wrong shape.
    pub fn with_lora(
        self,
        lora: &LoraConfig,
        source: &mut dyn ParamSource,
    ) -> Result<Self, NnError> {
        lora.validate(&self.config)?;
        if self.lora.is_some() {
            let reason =
                "is for a network without adapters, and this one has some; merge them first";
            return Err(NnError::config("lora", reason));
        }
        let device = self.device();
        let mut attach = Attach {
            config: lora,
            loader: Loader {
                source,
                device: &device,
                pack: None,
            },
        };
        let network = self.no_grad();
        let mut layers = Vec::with_capacity(network.layers.len());
        for (i, block) in network.layers.into_iter().enumerate() {
            layers.push(block.adapted(&format!("layers.{i}"), &mut attach)?);
        }
        Ok(Self {
            layers,
            lora: Some(lora.clone()),
            ..network
        })
    }

    /// The same network with its adapters added into its weights (`W + (alpha / rank) B A`), as a
    /// checkpoint without adapters has them. Merge before [packing](Self::packed).
    ///
    /// # Errors
    /// [`NnError::Config`] for a packed network with adapters: its weights take no sum any more.
    pub fn merged(self) -> Result<Self, NnError> {
        if self.lora.is_some() && self.is_packed() {
            let reason = "cannot be merged into packed weights; merge first, then pack";
            return Err(NnError::config("lora", reason));
        }
        Ok(Self {
            layers: self.layers.into_iter().map(Block::merged).collect(),
            lora: None,
            ..self
        })
    }

    /// The same network with the weights of its linears packed once for the CPU kernels: faster, no longer
    /// trainable; in f32 with the same bits. Unchanged on other devices.
    pub fn packed(self, dtype: Dtype) -> Self {
        if !ops::on_cpu(&self.device()) {
            return self;
        }
        // A tied head is packed as a matrix of its own, before the embedding, which is read by rows, is rounded.
        let tied = |table: &Param<Tensor<2>>| {
            let weight = Weight::Dense(Param::from_tensor(table.val()));
            Linear::tied(weight, self.head_bias.clone())
        };
        let head = self.head.or_else(|| self.embed.dense().map(tied));
        let head = head.map(|head| head.packed(dtype.of_head()));
        let layers = self.layers.into_iter().map(|block| block.packed(dtype));
        Self {
            embed: self.embed.packed(dtype),
            time: self.time.map(|time| time.packed(dtype)),
            layers: layers.collect(),
            final_adaln: self.final_adaln.map(|adaln| adaln.packed(dtype)),
            head,
            // The packed head has it.
            head_bias: None,
            dtype,
            precision: dtype.precision(),
            ..self
        }
    }

    /// The same network for a training whose products are computed in `precision`: those of attention
    /// and the MLP of its blocks and of its head, forward and backward. What turns a noise level into shifts and scales,
    /// parameters, their gradients and the residual stream stay f32, and what a branch keeps inside is bf16.
    ///
    /// # Errors
    /// [`NnError::Config`] for a [`packed`](Self::packed) network, whose weights have a format of their own, and for bf16
    /// on another device than the CPU.
    pub fn in_precision(self, precision: Precision) -> Result<Self, NnError> {
        let refuse = |reason| Err(NnError::config("dtype", reason));
        if self.is_packed() {
            return refuse("is for a network that is trained, and this one is packed");
        }
        if precision != Precision::F32 && !ops::on_cpu(&self.device()) {
            return refuse("bf16 is for trainings on the CPU; others multiply in f32");
        }
        let layers = self.layers.into_iter();
        Ok(Self {
            layers: layers.map(|block| block.in_precision(precision)).collect(),
            head: self.head.map(|head| head.in_precision(precision)),
            precision,
            ..self
        })
    }

    /// The number format of the [`packed`](Self::packed) weights; f32 for others.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether the weights are [`packed`](Self::packed).
    pub fn is_packed(&self) -> bool {
        self.layers.iter().any(|layer| layer.attn.is_packed())
    }

    /// One pass over the rows of a request.
    ///
    /// # Errors
    /// [`NnError::Input`] when the request does not fit the network or itself.
    pub fn forward(&self, input: Input) -> Result<Output, NnError> {
        let _span = span::part("forward");
        demask_kernels::threads::awake(|| self.pass(input))
    }

    fn pass(&self, input: Input) -> Result<Output, NnError> {
        let [batch, length] = input.rows.dims();
        self.check(&input)?;
        let device = self.device();
        let Input {
            rows,
            positions,
            mask,
            time,
            labels,
            caches,
            taps,
            asked,
            targets,
            scoring,
            dropout,
            rotary,
        } = input;

        let cached: Vec<usize> = caches.iter().map(|cache| cache.length()).collect();
        let masks = match cached.as_slice() {
            [] => vec![mask.for_request(batch, length, 0)?],
            cached => cached
                .iter()
                .map(|&cached| mask.for_sequence(length, cached))
                .collect::<Result<_, _>>()?,
        };
        let mut x = match rows {
            Rows::Ids { ids, .. } => self.embed.forward(&ids, &device),
            Rows::Vectors(vectors) => vectors.reshape([batch * length, self.config.d_model]),
        };
        let rotary = rotary.or(self.config.rotary).map(|config| {
            let positions = match positions {
                Positions::Sequential => sequential(&cached, length),
                Positions::Explicit(positions) => positions,
            };
            Arc::new(RotaryTable::new(&config, self.config.head_dim, &positions))
        });
        let cond = self.time.as_ref().map(|embedding| {
            let level = time.unwrap_or_else(|| NoiseLevel::PerSequence(vec![0.0; batch]));
            let level = embedding.forward(&level, [batch, length], &device);
            match &self.labels {
                Some(table) => level + table.forward(labels.as_deref(), [batch, length]),
                None => level,
            }
        });
        let mut pass = Pass {
            masks: &masks,
            rotary,
            caches,
            dims: [batch, length],
            precision: self.precision,
            seed: dropout,
        };
        let drop = Dropout {
            p: self.config.dropout,
            seed: dropout,
        };

        let shape = [batch, length, self.config.d_model];
        let mut tapped: Vec<Option<Tensor<3>>> = vec![None; taps.len()];
        let mut tap = |place: Tap, x: &Tensor<2>| {
            for (slot, _) in tapped
                .iter_mut()
                .zip(taps)
                .filter(|(_, wanted)| **wanted == place)
            {
                *slot = Some(x.clone().reshape(shape));
            }
        };
        tap(Tap::Embedding, &x);
        for (i, block) in self.layers.iter().enumerate() {
            x = block.forward(x, i, cond.as_ref(), &mut pass, drop);
            tap(Tap::Block(i), &x);
        }
        let hidden = self.final_hidden(x, cond);
        let mut before = Vec::new();
        if self.config.logit_shift {
            for (b, cache) in pass.caches.iter_mut().enumerate() {
                before.push(cache.last_hidden(&device));
                cache.append_hidden(hidden.clone().narrow(0, b * length, length));
            }
        }
        let rows = self.asked_rows(&hidden, before, &asked, [batch, length]);
        let (mut logits, mut losses, mut scores) = (None, None, None);
        if let Some(rows) = rows {
            match (targets, scoring) {
                (Some(targets), _) => losses = Some(self.losses(rows, &targets)),
                (None, Some(scoring)) => scores = Some(self.scores(rows, &scoring)),
                (None, None) => logits = Some(self.logits(rows)),
            }
        }
        let taps = tapped.into_iter().flatten().collect();
        Ok(Output {
            hidden: hidden.reshape(shape),
            logits,
            losses,
            scores,
            taps,
        })
    }

    fn final_hidden(&self, x: Tensor<2>, cond: Option<Tensor<2>>) -> Tensor<2> {
        let x = self.final_norm.forward(x);
        match (&self.final_adaln, cond) {
            (Some(adaln), Some(cond)) => {
                let [shift, scale] = take(adaln.forward(cond));
                modulate(x, shift, scale)
            }
            _ => x,
        }
    }

    /// The hidden rows that predict the asked cells, `[asked, d_model]`. `before` holds for each sequence the
    /// hidden state of the cell before it, `[1, d_model]`, where it is cached and the network shifts.
    fn asked_rows(
        &self,
        hidden: &Tensor<2>,
        before: Vec<Option<Tensor<2>>>,
        asked: &Asked,
        [batch, length]: [usize; 2],
    ) -> Option<Tensor<2>> {
        let cells: Option<Vec<u32>> = match asked {
            Asked::None => return None,
            Asked::All if !self.config.logit_shift => None,
            Asked::All => Some((0..(batch * length) as u32).collect()),
            Asked::Rows(cells) => Some(cells.clone()),
        };
        Some(match cells {
            None => hidden.clone(),
            Some(cells) if !self.config.logit_shift => ops::embedding(hidden.clone(), &cells),
            Some(mut cells) => {
                // Cell i is predicted at i - 1; the first cell of a sequence at the one cached before
                // it, and at itself where there is none. Cached ones stand in front of the others.
                let mut rows: Vec<Tensor<2>> = Vec::new();
                let mut place = vec![None; batch];
                for (place, row) in place.iter_mut().zip(before) {
                    *place = row.as_ref().map(|_| rows.len() as u32);
                    rows.extend(row);
                }
                let ahead = rows.len() as u32;
                for cell in &mut cells {
                    let (sequence, within) = (*cell / length as u32, *cell % length as u32);
                    *cell = match (within, place[sequence as usize]) {
                        (0, Some(place)) => place,
                        (0, None) => ahead + *cell,
                        _ => ahead + *cell - 1,
                    };
                }
                rows.push(hidden.clone());
                ops::embedding(Tensor::cat(rows, 0), &cells)
            }
        })
    }

    /// Logits of hidden rows, `[rows, vocab_size]`.
    fn logits(&self, rows: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some(head) => head.forward(rows),
            None => {
                let table = self.embed.dense();
                let table = table.expect("a tied head is packed before its table is rounded");
                let bias = self.head_bias.as_ref().map(Param::val);
                ops::linear(rows, table.val(), bias, self.precision)
            }
        }
    }

    /// `-ln p(target)` of hidden rows, `[rows]`; where head and loss are one operation, without their logits.
    fn losses(&self, rows: Tensor<2>, targets: &Targets) -> Tensor<1> {
        let dense = match &self.head {
            Some(head) => head.dense(),
            None => self.embed.dense().map(|table| BranchLinear {
                weight: table.val(),
                bias: self.head_bias.as_ref().map(Param::val),
            }),
        };
        let (ids, forbidden) = (&targets.ids, targets.forbidden);
        match dense {
            Some(BranchLinear { weight, bias }) => {
                ops::linear_cross_entropy(rows, weight, bias, ids, forbidden, self.precision)
            }
            None => ops::cross_entropy(self.logits(rows), ids, forbidden),
        }
    }

    /// The scores of the same.
    fn scores(&self, rows: Tensor<2>, scoring: &Scoring<'_>) -> Vec<Scored> {
        match &self.head {
            Some(head) => head.scores(rows, scoring),
            None => ops::scores(self.logits(rows), scoring),
        }
    }
}

/// Positions of `length` new cells after the cached ones of each sequence: those of one sequence when
/// all have the same.
fn sequential(cached: &[usize], length: usize) -> Vec<u32> {
    let after = |from: usize| from as u32..(from + length) as u32;
    match cached {
        [] => after(0).collect(),
        [first, rest @ ..] if rest.iter().all(|other| other == first) => after(*first).collect(),
        _ => cached.iter().flat_map(|&from| after(from)).collect(),
    }
}

/// Counts the values of tensors.
struct Floats(usize);

impl ModuleVisitor for Floats {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 += param.val().shape().num_elements();
    }
}
