use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::conv::{
    ConvShape, conv2d_backward_bias, conv2d_backward_weight, new_conv2d, new_conv2d_backward_input,
};

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::ops::Stride;
use crate::span;

#[backend_extension(Flex, Autodiff)]
trait ConvBackend: Backend {
    fn conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: Stride,
    ) -> FloatTensor<Self>;

    fn conv2d_onto(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        onto: FloatTensor<Self>,
        stride: Stride,
    ) -> FloatTensor<Self>;
}

/// Shapes as in [`conv2d`](fn@crate::ops::conv2d) and [`conv2d_onto`](fn@crate::ops::conv2d_onto). A bias that is left
/// out is one of zeros, at which the sums begin anyway.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    onto: Option<Tensor<4>>,
    stride: Stride,
) -> Tensor<4> {
    let [filters, ..] = weight.dims();
    let bias = bias.unwrap_or_else(|| Tensor::zeros([filters], &x.device()));
    let (x, weight, bias) = (
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    );
    Tensor::from_dispatch(match onto {
        None => <Dispatch as ConvBackend>::conv2d(x, weight, bias, stride),
        Some(onto) => {
            let onto = onto.into_dispatch();
            <Dispatch as ConvBackend>::conv2d_onto(x, weight, bias, onto, stride)
        }
    })
}

impl ConvBackend for Flex {
    fn conv2d(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, stride: Stride) -> FlexTensor {
        forward(&x, &weight, &bias, None, stride)
    }

    fn conv2d_onto(
        x: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        onto: FlexTensor,
        stride: Stride,
    ) -> FlexTensor {
        forward(&x, &weight, &bias, Some(&onto), stride)
    }
}

impl<C: CheckpointStrategy> ConvBackend for Autodiff<Flex, C> {
    fn conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: Stride,
    ) -> FloatTensor<Self> {
        register::<C, _, 3>([x, weight, bias], |[x, weight, bias]| {
            let y = forward(&x, &weight, &bias, None, stride);
            (y, Saved { x, weight, stride })
        })
    }

    fn conv2d_onto(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        onto: FloatTensor<Self>,
        stride: Stride,
    ) -> FloatTensor<Self> {
        register::<C, _, 4>([x, weight, bias, onto], |[x, weight, bias, onto]| {
            let y = forward(&x, &weight, &bias, Some(&onto), stride);
            (y, Saved { x, weight, stride })
        })
    }
}

#[derive(Clone, Debug)]
struct Saved {
    x: FlexTensor,
    weight: FlexTensor,
    stride: Stride,
}

impl Saved {
    /// Gradients of `x`, `weight` and `bias`.
    fn gradients(&self, output: &FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        let shape = shape(&self.x, &self.weight, self.stride);
        let products = usize::from(wanted[0]) + usize::from(wanted[1]);
        let _span = span::product("convolution backward", "f32", products * shape.flops());
        let [x, w, dy] = [&self.x, &self.weight, output].map(Contiguous::new);
        let (x, w, dy) = (x.values(), w.values(), dy.values());
        [
            wanted[0].then(|| {
                let dx = new_conv2d_backward_input(&shape, w, dy);
                tensor(dx, dims::<4>(&self.x))
            }),
            wanted[1].then(|| {
                let mut dw = vec![0.0; w.len()];
                conv2d_backward_weight(&shape, x, dy, &mut dw);
                tensor(dw, dims::<4>(&self.weight))
            }),
            wanted[2].then(|| {
                let mut db = vec![0.0; shape.filters];
                conv2d_backward_bias(&shape, dy, &mut db);
                tensor(db, [shape.filters])
            }),
        ]
    }
}

impl Gradient<3> for Saved {
    fn inputs(self, output: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        self.gradients(&output, wanted)
    }
}

impl Gradient<4> for Saved {
    fn inputs(self, output: FlexTensor, wanted: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let [a, b, c, onto] = wanted;
        let [x, weight, bias] = self.gradients(&output, [a, b, c]);
        [x, weight, bias, onto.then_some(output)]
    }
}

fn shape(x: &FlexTensor, weight: &FlexTensor, stride: Stride) -> ConvShape {
    let [batch, channels, height, width] = dims(x);
    let [filters, _, down, across] = dims(weight);
    ConvShape {
        batch,
        channels,
        height,
        width,
        filters,
        kernel: [down, across],
        stride: [stride.step; 2],
        padding: [stride.padding; 2],
    }
}

fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    onto: Option<&FlexTensor>,
    stride: Stride,
) -> FlexTensor {
    let shape = shape(x, weight, stride);
    let _span = span::product("convolution", "f32", shape.flops());
    let [x, w, b] = [x, weight, bias].map(Contiguous::new);
    let onto = onto.map(Contiguous::new);
    let onto = onto.as_ref().map(Contiguous::values);
    let y = new_conv2d(&shape, x.values(), w.values(), Some(b.values()), onto);
    let [height, width] = shape.output();
    tensor(y, [shape.batch, shape.filters, height, width])
}
