//! Products with weights that were packed once, for inference.

use std::sync::Arc;

use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault};
use burn::tensor::{Device, Tensor};
use demask_kernels::gemm::{self, Beta, Format, MatrixMut, MatrixRef, PackedB, Packer, Rhs};
use demask_kernels::rowwise::Scored;
use demask_kernels::{Bf16, Element, Reused};
use tracing::span::EnteredSpan;

use super::storage::{Contiguous, give, take, tensor};
use crate::ops::Scoring;
use crate::{Dtype, span};

/// A weight `[out, in]` packed for the CPU kernels in some number format.
///
/// In f32 its products have the same bits as those of the weight it was packed from. No gradient flows through
/// them.
#[derive(Clone, Debug)]
pub struct PackedWeight(Arc<PackedB>);

/// A weight on its way: packed from bands of its rows, which as a whole are nowhere in memory.
pub struct WeightPacker {
    packer: Packer,
    inner: usize,
}

impl WeightPacker {
    /// Rows of a band are a multiple of this, but for the last one.
    pub const STEP: usize = Packer::STEP;

    /// For a weight `[out, in]`.
    pub fn new([out, inner]: [usize; 2], dtype: Dtype) -> Self {
        Self {
            packer: Packer::new(inner, out, dtype.format()),
            inner,
        }
    }

    /// Packs the next rows, `[any, in]` row-major.
    pub fn add(&mut self, band: &[f32]) {
        let rows = band.len() / self.inner;
        self.packer.add(MatrixRef::new(band, rows, self.inner).t());
    }

    /// The packed weight, all rows of which have been added.
    pub fn finish(self) -> PackedWeight {
        PackedWeight(Arc::new(self.packer.finish()))
    }
}

/// The input of a product, `[rows, in]`, and where its result is to live.
struct Input {
    values: Contiguous,
    rows: usize,
    device: Device,
}

impl Input {
    fn new(x: Tensor<2>) -> Self {
        let ([rows, _], device) = (x.dims(), x.device());
        Self {
            values: Contiguous::new(&take(x)),
            rows,
            device,
        }
    }

    fn matrix(&self, inner: usize) -> MatrixRef<'_> {
        MatrixRef::new(self.values.values(), self.rows, inner)
    }

    fn give(&self, values: Vec<f32>, cols: usize) -> Tensor<2> {
        give(tensor(values, [self.rows, cols]), &self.device)
    }
}

/// The values of a bias.
fn contiguous(bias: Option<Tensor<1>>) -> Option<Contiguous> {
    bias.map(|bias| Contiguous::new(&take(bias)))
}

impl PackedWeight {
    /// Packs `weight` `[out, in]`, which must live on the CPU.
    pub fn pack(weight: Tensor<2>, dtype: Dtype) -> Self {
        let mut packer = WeightPacker::new(weight.dims(), dtype);
        packer.add(Contiguous::new(&take(weight)).values());
        packer.finish()
    }

    /// `x Wᵀ + b` for `x` `[rows, in]`.
    pub fn forward(&self, x: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
        let [y] = Self::forward_each(x, [(self, bias)]);
        y
    }

    /// The same for several weights of one format, which share the rounding of `x`.
    pub fn forward_each<const N: usize>(
        x: Tensor<2>,
        weights: [(&Self, Option<Tensor<1>>); N],
    ) -> [Tensor<2>; N] {
        let x = Input::new(x);
        let weights = weights.map(|(weight, bias)| (&*weight.0, contiguous(bias)));
        let columns = weights.each_ref().map(|(weight, _)| weight.cols());
        let _span = spanned(x.rows, columns.iter().sum(), weights[0].0);
        let with = weights
            .each_ref()
            .map(|(weight, bias)| (Rhs::Packed(weight), bias.as_ref().map(Contiguous::values)));
        let mut results = gemm::products(x.matrix(weights[0].0.rows()), with);
        let mut columns = columns.into_iter();
        results.each_mut().map(|values| {
            let values = std::mem::take(values);
            x.give(values, columns.next().expect("as many as results"))
        })
    }

    /// `onto + x Wᵀ + b`, in the place of `onto` `[rows, out]` where nobody else holds it.
    pub fn forward_onto(
        &self,
        onto: Tensor<2>,
        x: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<2> {
        let x = Input::new(x);
        self.add(onto, x.matrix(self.0.rows()), bias)
    }

    fn add<T: Element>(
        &self,
        onto: Tensor<2>,
        x: MatrixRef<'_, T>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<2> {
        let (weight, bias, device) = (&*self.0, contiguous(bias), onto.device());
        let _span = spanned(x.rows(), weight.cols(), weight);
        let mut onto = Contiguous::new(&take(onto));
        gemm::gemm(
            MatrixMut::new(onto.values_mut(), x.rows(), weight.cols()),
            Beta::Add,
            x,
            weight,
            bias.as_ref().map(Contiguous::values),
        );
        give(onto.into_tensor(), &device)
    }

    /// `D (silu(x Gᵀ) · (x Uᵀ)) + b` of a gate, up and down, added to `onto` if it is given. The two products are never
    /// stored, and what stands between them and the third in bf16, unless that one is in f32: half the memory to be moved. A
    /// product in bf16 rounds it to that anyhow; one in int8 or int4 rounds it twice, the first time by at most 2⁻⁹ of
    /// itself, half of what the second one does to the largest value of a row and a fraction of what it does to the others.
    pub fn gated(
        x: Tensor<2>,
        [gate, up]: [&Self; 2],
        down: (&Self, Option<Tensor<1>>),
        onto: Option<Tensor<2>>,
    ) -> Tensor<2> {
        match down.0.0.format() {
            Format::F32 => Self::gated_in::<f32>(x, [gate, up], down, onto),
            _ => Self::gated_in::<Bf16>(x, [gate, up], down, onto),
        }
    }

    fn gated_in<T: Element>(
        x: Tensor<2>,
        [gate, up]: [&Self; 2],
        (down, bias): (&Self, Option<Tensor<1>>),
        onto: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let x = Input::new(x);
        let inner: Reused<T> = {
            let (gate, up) = (&*gate.0, &*up.0);
            let _span = spanned(x.rows, 2 * up.cols(), up);
            gemm::gated_product(x.matrix(up.rows()), gate.into(), up.into())
        };
        let inner = MatrixRef::new(&inner, x.rows, up.0.cols());
        match onto {
            Some(onto) => down.add(onto, inner, bias),
            None => {
                let (weight, bias) = (&*down.0, contiguous(bias));
                let _span = spanned(x.rows, weight.cols(), weight);
                let bias = bias.as_ref().map(Contiguous::values);
                x.give(gemm::product(inner, weight, bias), weight.cols())
            }
        }
    }

    /// The scores of each row of `x Wᵀ + b`, which is never stored: a row of a head is as long as the vocabulary. The
    /// same bits as [`ops::scores`](crate::ops::scores) of [`forward`](Self::forward).
    pub fn scores(
        &self,
        x: Tensor<2>,
        bias: Option<Tensor<1>>,
        scoring: &Scoring<'_>,
    ) -> Vec<Scored> {
        let x = Input::new(x);
        let (weight, bias) = (&*self.0, contiguous(bias));
        let work = 2 * x.rows * weight.cols() * weight.rows();
        let _span = span::product("scored head", weight.format().name(), work);
        let bias = bias.as_ref().map(Contiguous::values);
        let x = x.matrix(weight.rows());
        gemm::scores(x, weight, bias, &scoring.asked, scoring.rows)
    }

    /// Whether both are packed in one format, so that they can share a call.
    pub fn is_like(&self, other: &Self) -> bool {
        self.0.format() == other.0.format()
    }

    /// Bytes the packed weight takes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

/// The span of products of `rows` rows with `cols` columns in all, packed like `weight`.
fn spanned(rows: usize, cols: usize, weight: &PackedB) -> EnteredSpan {
    let work = 2 * rows * cols * weight.rows();
    span::product("linear", weight.format().name(), work)
}

impl Module for PackedWeight {
    burn::empty!(module);
}

impl ModuleDisplayDefault for PackedWeight {
    fn content(&self, content: Content) -> Option<Content> {
        let format = self.0.format().name();
        let shape = format!("{format} [{}, {}]", self.0.cols(), self.0.rows());
        content.add_formatted(&shape).optional()
    }
}

impl ModuleDisplay for PackedWeight {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;
    use burn::tensor::Distribution;

    #[test]
    fn a_gated_mlp_is_its_three_products() {
        let device = Device::flex();
        let (rows, width, inner) = (5, 64, 192);
        let random = |dims| Tensor::<2>::random(dims, Distribution::Normal(0.0, 0.3), &device);
        let (x, onto) = (random([rows, width]), random([rows, width]));
        let [gate, up, down] = [[inner, width], [inner, width], [width, inner]].map(random);
        let bias = Tensor::<1>::random([width], Distribution::Default, &device);
        // The bound of integer formats: what is rounded twice now and then moves a byte of a row by one.
        for (dtype, bound) in [
            (Dtype::F32, 0.0),
            (Dtype::Bf16, 0.0),
            (Dtype::Int8, 0.01),
            (Dtype::Int4, 0.01),
        ] {
            let [gate, up, down] =
                [&gate, &up, &down].map(|w| PackedWeight::pack(w.clone(), dtype));
            let [g, u] = PackedWeight::forward_each(x.clone(), [(&gate, None), (&up, None)]);
            let product = down.forward(ops::swiglu(g, u), Some(bias.clone()));
            for onto in [None, Some(onto.clone())] {
                let want = match &onto {
                    Some(onto) => onto.clone() + product.clone(),
                    None => product.clone(),
                };
                let with = (&down, Some(bias.clone()));
                let found = PackedWeight::gated(x.clone(), [&gate, &up], with, onto);
                let off: f32 = (found - want.clone()).abs().max().into_scalar();
                let most: f32 = want.abs().max().into_scalar();
                assert!(off <= bound * most, "{dtype:?}: {off} of {most}");
            }
        }
    }
}
