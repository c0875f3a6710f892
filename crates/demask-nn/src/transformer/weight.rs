//! The weight of a linear: every linear of a network goes through this one type.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use demask_kernels::Precision;
use demask_kernels::rowwise::Scored;

use super::loader::Loader;
use super::lora::{Attach, Lora};
use crate::ops::{self, BranchLinear, PackedWeight, Scoring};
use crate::{Dtype, NnError};

/// The matrix of a linear.
#[derive(Module, Debug)]
pub enum Weight {
    /// `[out, in]` as a trainable tensor.
    Dense(Param<Tensor<2>>),
    /// Packed once for the CPU kernels; inference only.
    Packed(PackedWeight),
}

/// `x Wᵀ + b`, and what an adapter adds to it.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Param<Tensor<1>>>,
    lora: Option<Lora>,
    /// What the products of a dense weight are computed in; a packed one has its own format.
    #[module(skip)]
    precision: Precision,
}

impl Linear {
    /// Reads `{name}.weight` `[out, in]` and, with `bias`, `{name}.bias` `[out]`.
    pub(crate) fn load(
        name: &str,
        [outputs, inputs]: [usize; 2],
        bias: bool,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let (weight, dims) = (format!("{name}.weight"), [outputs, inputs]);
        let weight = match loader.pack {
            Some(dtype) => Weight::Packed(loader.packed(&weight, dims, dtype)?),
            None => Weight::Dense(loader.param(&weight, dims)?),
        };
        let bias = bias
            .then(|| loader.param(&format!("{name}.bias"), [outputs]))
            .transpose()?;
        Ok(Self {
            weight,
            bias,
            lora: None,
            precision: Precision::F32,
        })
    }

    /// `[rows, in]` to `[rows, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.forward_with(x, None)
    }

    /// The same; `dropout` is the seed of what the adapter does not see while training.
    pub(super) fn forward_with(&self, x: Tensor<2>, dropout: Option<u64>) -> Tensor<2> {
        let added = (self.lora.as_ref()).map(|l| l.forward(x.clone(), dropout, self.precision));
        let bias = self.bias.as_ref().map(Param::val);
        let y = match &self.weight {
            Weight::Dense(weight) => ops::linear(x, weight.val(), bias, self.precision),
            Weight::Packed(weight) => weight.forward(x, bias),
        };
        match added {
            Some(added) => y + added,
            None => y,
        }
    }

    /// The scores of each row of [`forward`](Self::forward).
    pub(super) fn scores(&self, x: Tensor<2>, scoring: &Scoring<'_>) -> Vec<Scored> {
        match self.plain() {
            Some(weight) => weight.scores(x, self.bias.as_ref().map(Param::val), scoring),
            None => ops::scores(self.forward(x), scoring),
        }
    }

    /// `onto + x Wᵀ + b`.
    pub(super) fn forward_onto(
        &self,
        onto: Tensor<2>,
        x: Tensor<2>,
        dropout: Option<u64>,
    ) -> Tensor<2> {
        match self.plain() {
            Some(weight) => weight.forward_onto(onto, x, self.bias.as_ref().map(Param::val)),
            None => onto + self.forward_with(x, dropout),
        }
    }

    /// The products of one input with several linears, each with its seed of dropout.
    pub(super) fn forward_each<const N: usize>(
        linears: [(&Self, Option<u64>); N],
        x: Tensor<2>,
    ) -> [Tensor<2>; N] {
        let packed = linears.map(|(linear, _)| linear.plain());
        let alike = |first: &PackedWeight| {
            let like = |weight: &Option<&PackedWeight>| weight.is_some_and(|w| w.is_like(first));
            packed.iter().all(like)
        };
        if !packed[0].is_some_and(alike) {
            return linears.map(|(linear, seed)| linear.forward_with(x.clone(), seed));
        }
        let mut packed = packed.into_iter().flatten();
        let weights = linears.map(|(linear, _)| {
            let weight = packed.next().expect("all are packed");
            (weight, linear.bias.as_ref().map(Param::val))
        });
        PackedWeight::forward_each(x, weights)
    }

    /// `down(silu(gate x) · (up x))`, added to `onto` if it is given.
    pub(super) fn gated(
        gate: (&Self, Option<u64>),
        up: (&Self, Option<u64>),
        down: (&Self, Option<u64>),
        x: Tensor<2>,
        onto: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let packed = [gate, up, down].map(|(linear, _)| linear.plain());
        if let [Some(g), Some(u), Some(d)] = packed
            && g.is_like(u)
            && gate.0.bias.is_none()
            && up.0.bias.is_none()
        {
            let bias = down.0.bias.as_ref().map(Param::val);
            return PackedWeight::gated(x, [g, u], (d, bias), onto);
        }
        let [gate, up] = Self::forward_each([gate, up], x);
        down.0.added(ops::swiglu(gate, up), onto, down.1)
    }

    /// [`forward_onto`](Self::forward_onto) if there is something to add to.
    pub(super) fn added(
        &self,
        x: Tensor<2>,
        onto: Option<Tensor<2>>,
        dropout: Option<u64>,
    ) -> Tensor<2> {
        match onto {
            Some(onto) => self.forward_onto(onto, x, dropout),
            None => self.forward_with(x, dropout),
        }
    }

    /// The dense weight and bias, for a branch, if there is nothing else to add.
    pub(super) fn dense(&self) -> Option<BranchLinear> {
        match (&self.weight, &self.lora) {
            (Weight::Dense(weight), None) => Some(BranchLinear {
                weight: weight.val(),
                bias: self.bias.as_ref().map(Param::val),
            }),
            _ => None,
        }
    }

    /// The packed weight, if there is nothing else to add.
    fn plain(&self) -> Option<&PackedWeight> {
        match (&self.weight, &self.lora) {
            (Weight::Packed(weight), None) => Some(weight),
            _ => None,
        }
    }

    /// The same linear with the adapter that `attach` has for `name`.
    pub(super) fn adapted(self, name: &str, attach: &mut Attach) -> Result<Self, NnError> {
        let lora = match &self.weight {
            Weight::Dense(weight) => attach.adapter(name, weight.val().dims())?,
            Weight::Packed(_) => {
                return Err(NnError::source(name, "is packed and takes no adapter"));
            }
        };
        Ok(Self { lora, ..self })
    }

    /// The same linear with its adapter added into its weight. A packed one stays as it is, which
    /// [`Transformer::merged`](super::Transformer::merged) does not let happen.
    pub(super) fn merged(self) -> Self {
        match (self.weight, self.lora) {
            (Weight::Dense(weight), Some(lora)) => Self {
                weight: Weight::Dense(Param::from_tensor((weight.val() + lora.delta()).detach())),
                lora: None,
                bias: self.bias,
                precision: self.precision,
            },
            (weight, lora) => Self {
                weight,
                lora,
                bias: self.bias,
                precision: self.precision,
            },
        }
    }

    /// The same linear with the products of its dense weight in `precision`.
    pub(super) fn in_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Bytes of the packed weight, if it is one.
    pub(super) fn packed_bytes(&self) -> usize {
        match &self.weight {
            Weight::Packed(weight) => weight.bytes(),
            Weight::Dense(_) => 0,
        }
    }

    pub(super) fn is_packed(&self) -> bool {
        matches!(self.weight, Weight::Packed(_))
    }

    /// The same linear with its weight packed for the CPU kernels; unchanged on other devices.
    pub(super) fn packed(self, dtype: Dtype) -> Self {
        let weight = match self.weight {
            Weight::Dense(weight) if ops::on_cpu(&weight.val().device()) => {
                Weight::Packed(PackedWeight::pack(weight.val(), dtype))
            }
            other => other,
        };
        Self { weight, ..self }
    }
}

impl Linear {
    /// A head with the values of the embedding matrix.
    pub(super) fn tied(weight: Weight, bias: Option<Param<Tensor<1>>>) -> Self {
        Self {
            weight,
            bias,
            lora: None,
            precision: Precision::F32,
        }
    }
}
