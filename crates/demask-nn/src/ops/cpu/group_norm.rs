use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::rowwise::{self, ChannelGradients, ChannelParams};

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::ops::Groups;
use crate::span;

#[backend_extension(Flex, Autodiff)]
trait GroupNormBackend: Backend {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: Groups,
    ) -> FloatTensor<Self>;

    fn shifted_group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        groups: Groups,
    ) -> FloatTensor<Self>;
}

/// Shapes as in [`group_norm`](fn@crate::ops::group_norm).
pub fn group_norm(
    x: Tensor<4>,
    shift: Option<Tensor<2>>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: Groups,
) -> Tensor<4> {
    let (x, weight, bias) = (
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    );
    Tensor::from_dispatch(match shift.map(Tensor::into_dispatch) {
        None => <Dispatch as GroupNormBackend>::group_norm(x, weight, bias, groups),
        Some(shift) => {
            <Dispatch as GroupNormBackend>::shifted_group_norm(x, weight, bias, shift, groups)
        }
    })
}

impl GroupNormBackend for Flex {
    fn group_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        groups: Groups,
    ) -> FlexTensor {
        Inputs::new(x, weight, bias, None, groups).forward().0
    }

    fn shifted_group_norm(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        shift: FlexTensor,
        groups: Groups,
    ) -> FlexTensor {
        Inputs::new(x, weight, bias, Some(shift), groups)
            .forward()
            .0
    }
}

impl<C: CheckpointStrategy> GroupNormBackend for Autodiff<Flex, C> {
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: Groups,
    ) -> FloatTensor<Self> {
        register::<C, _, 3>([x, weight, bias], |[x, weight, bias]| {
            Saved::after(Inputs::new(x, weight, bias, None, groups))
        })
    }

    fn shifted_group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        groups: Groups,
    ) -> FloatTensor<Self> {
        register::<C, _, 4>([x, weight, bias, shift], |[x, weight, bias, shift]| {
            Saved::after(Inputs::new(x, weight, bias, Some(shift), groups))
        })
    }
}

#[derive(Clone, Debug)]
struct Inputs {
    x: Contiguous,
    weight: Contiguous,
    bias: Contiguous,
    shift: Option<Contiguous>,
    dims: [usize; 4],
    groups: Groups,
}

#[derive(Clone, Debug)]
struct Saved {
    inputs: Inputs,
    stats: Arc<[f32]>,
}

impl Inputs {
    fn new(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        shift: Option<FlexTensor>,
        groups: Groups,
    ) -> Self {
        Self {
            dims: dims(&x),
            x: Contiguous::new(&x),
            weight: Contiguous::new(&weight),
            bias: Contiguous::new(&bias),
            shift: shift.as_ref().map(Contiguous::new),
            groups,
        }
    }

    fn shape(&self) -> rowwise::GroupNorm {
        let [batch, channels, height, width] = self.dims;
        rowwise::GroupNorm {
            batch,
            channels,
            pixels: height * width,
            groups: self.groups.count,
            eps: self.groups.eps as f32,
            silu: self.groups.silu,
        }
    }

    fn params(&self) -> ChannelParams<'_> {
        ChannelParams {
            shift: self.shift.as_ref().map(Contiguous::values),
            weight: self.weight.values(),
            bias: self.bias.values(),
        }
    }

    /// The output, and what the backward pass reads of the groups.
    fn forward(&self) -> (FlexTensor, Vec<f32>) {
        let _span = span::part("group norm");
        let shape = self.shape();
        let mut stats = vec![0.0; 2 * shape.batch * shape.groups];
        let y = rowwise::group_norm(&shape, self.x.values(), self.params(), &mut stats);
        (tensor(y, self.dims), stats)
    }
}

impl Saved {
    /// The output, and what is kept for the backward pass.
    fn after(inputs: Inputs) -> (FlexTensor, Self) {
        let (y, stats) = inputs.forward();
        let stats = stats.into();
        (y, Self { inputs, stats })
    }

    /// Gradients of `x`, `weight`, `bias` and, if `shifted`, of the shift.
    fn gradients(&self, output: &FlexTensor, shifted: bool) -> [Option<FlexTensor>; 4] {
        let _span = span::part("group norm backward");
        let [batch, channels, ..] = self.inputs.dims;
        let dy = Contiguous::new(output);
        let (mut dw, mut db) = (vec![0.0; channels], vec![0.0; channels]);
        let mut dshift = vec![0.0; if shifted { batch * channels } else { 0 }];
        let gradients = ChannelGradients {
            shift: shifted.then_some(&mut dshift[..]),
            weight: &mut dw,
            bias: &mut db,
        };
        let dx = rowwise::group_norm_backward(
            &self.inputs.shape(),
            self.inputs.x.values(),
            self.inputs.params(),
            &self.stats,
            dy.values(),
            gradients,
        );
        [
            Some(tensor(dx, self.inputs.dims)),
            Some(tensor(dw, [channels])),
            Some(tensor(db, [channels])),
            shifted.then(|| tensor(dshift, [batch, channels])),
        ]
    }
}

impl Gradient<3> for Saved {
    fn inputs(self, output: FlexTensor, _: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let [x, weight, bias, _] = self.gradients(&output, false);
        [x, weight, bias]
    }
}

impl Gradient<4> for Saved {
    fn inputs(self, output: FlexTensor, wanted: [bool; 4]) -> [Option<FlexTensor>; 4] {
        self.gradients(&output, wanted[3])
    }
}
