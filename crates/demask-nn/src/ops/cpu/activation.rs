use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::rowwise;

use super::gradient::{Gradient, register};
use super::storage::{Contiguous, dims, tensor};
use crate::span;

#[backend_extension(Flex, Autodiff)]
trait ActivationBackend: Backend {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
    fn silu(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Shapes as in [`swiglu`](fn@crate::ops::swiglu).
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(<Dispatch as ActivationBackend>::swiglu(gate, up))
}

/// Shapes as in [`gelu_tanh`](fn@crate::ops::gelu_tanh).
pub fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as ActivationBackend>::gelu(x.into_dispatch()))
}

/// Shapes as in [`silu`](fn@crate::ops::silu).
pub fn silu(x: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as ActivationBackend>::silu(x.into_dispatch()))
}

impl ActivationBackend for Flex {
    fn swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        swiglu_forward(&gate, &up)
    }

    fn gelu(x: FlexTensor) -> FlexTensor {
        gelu_forward(&x)
    }

    fn silu(x: FlexTensor) -> FlexTensor {
        silu_forward(&x)
    }
}

impl<C: CheckpointStrategy> ActivationBackend for Autodiff<Flex, C> {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        register::<C, _, 2>([gate, up], |[gate, up]| {
            (swiglu_forward(&gate, &up), SwiGlu { gate, up })
        })
    }

    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        register::<C, _, 1>([x], |[x]| (gelu_forward(&x), Gelu { x }))
    }

    fn silu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        register::<C, _, 1>([x], |[x]| (silu_forward(&x), Silu { x }))
    }
}

#[derive(Clone, Debug)]
struct SwiGlu {
    gate: FlexTensor,
    up: FlexTensor,
}

impl Gradient<2> for SwiGlu {
    fn inputs(self, output: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let _span = span::part("swiglu backward");
        let shape = dims::<2>(&self.gate);
        let [gate, up, dy] = [&self.gate, &self.up, &output].map(Contiguous::new);
        let n = gate.values().len();
        let (mut dgate, mut dup) = (vec![0.0; n], vec![0.0; n]);
        let (gate, up, dy) = (gate.values(), up.values(), dy.values());
        rowwise::swiglu_backward(gate, up, dy, &mut dgate, &mut dup);
        [Some(tensor(dgate, shape)), Some(tensor(dup, shape))]
    }
}

#[derive(Clone, Debug)]
struct Gelu {
    x: FlexTensor,
}

impl Gradient<1> for Gelu {
    fn inputs(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let _span = span::part("gelu backward");
        let [x, dy] = [&self.x, &output].map(Contiguous::new);
        let mut dx = vec![0.0; x.values().len()];
        rowwise::gelu_backward(x.values(), dy.values(), &mut dx);
        [Some(tensor(dx, dims::<2>(&self.x)))]
    }
}

#[derive(Clone, Debug)]
struct Silu {
    x: FlexTensor,
}

impl Gradient<1> for Silu {
    fn inputs(self, output: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let _span = span::part("silu backward");
        let [x, dy] = [&self.x, &output].map(Contiguous::new);
        let mut dx = vec![0.0; x.values().len()];
        rowwise::silu_backward(x.values(), dy.values(), &mut dx);
        [Some(tensor(dx, dims::<2>(&self.x)))]
    }
}

fn swiglu_forward(gate: &FlexTensor, up: &FlexTensor) -> FlexTensor {
    let _span = span::part("swiglu");
    let shape = dims::<2>(gate);
    let [gate, up] = [gate, up].map(Contiguous::new);
    let mut y = vec![0.0; gate.values().len()];
    rowwise::swiglu(gate.values(), up.values(), &mut y);
    tensor(y, shape)
}

fn gelu_forward(x: &FlexTensor) -> FlexTensor {
    let _span = span::part("gelu");
    let shape = dims::<2>(x);
    let x = Contiguous::new(x);
    let mut y = vec![0.0; x.values().len()];
    rowwise::gelu(x.values(), &mut y);
    tensor(y, shape)
}

fn silu_forward(x: &FlexTensor) -> FlexTensor {
    let _span = span::part("silu");
    let shape = dims::<2>(x);
    let x = Contiguous::new(x);
    let mut y = vec![0.0; x.values().len()];
    rowwise::silu(x.values(), &mut y);
    tensor(y, shape)
}
