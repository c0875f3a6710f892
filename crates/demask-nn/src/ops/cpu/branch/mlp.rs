use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::{Bf16, Element, Precision, Reused, rowwise};

use super::super::dense::Dense;
use super::super::gradient::{Gradient, register};
use super::super::norm_kind::Norm;
use super::super::storage::{Contiguous, dims, or_absent, tensor};
use super::{Before, stack, unstack};
use crate::ops::MlpBranch;
use crate::span;

/// Shapes as in [`mlp_branch`](fn@crate::ops::mlp_branch).
pub fn mlp_branch(x: Tensor<2>, branch: MlpBranch, precision: Precision) -> Tensor<2> {
    let device = x.device();
    let (gate, gate_bias) = match branch.gate {
        Some(gate) => (Some(gate.weight), gate.bias),
        None => (None, None),
    };
    let (norm, up, down) = (branch.norm, branch.up, branch.down);
    let present = |x: Option<Tensor<1>>| or_absent(x, &device).into_dispatch();
    let inputs = Inputs {
        norm_scale: norm.scale.into_dispatch(),
        norm_shift: present(norm.shift),
        gate: or_absent(gate, &device).into_dispatch(),
        gate_bias: present(gate_bias),
        up: up.weight.into_dispatch(),
        up_bias: present(up.bias),
        down: down.weight.into_dispatch(),
        down_bias: present(down.bias),
        x: x.into_dispatch(),
    };
    let setting = Setting {
        norm: Norm::new(norm.centred, norm.eps),
        precision,
    };
    let y = <Dispatch as MlpBranchBackend>::mlp_branch(inputs, setting);
    Tensor::from_dispatch(y)
}

/// Number of inputs.
const INPUTS: usize = 9;

/// What the branch reads; shift, gate and biases may be absent.
#[derive(ExtensionType)]
struct Inputs<B: Backend> {
    x: FloatTensor<B>,
    norm_scale: FloatTensor<B>,
    norm_shift: FloatTensor<B>,
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    gate_bias: FloatTensor<B>,
    up_bias: FloatTensor<B>,
    down: FloatTensor<B>,
    down_bias: FloatTensor<B>,
}

impl<B: Backend> Inputs<B> {
    /// In the order of [`Parts`].
    fn all(self) -> [FloatTensor<B>; INPUTS] {
        [
            self.x,
            self.norm_scale,
            self.norm_shift,
            self.gate,
            self.up,
            self.gate_bias,
            self.up_bias,
            self.down,
            self.down_bias,
        ]
    }
}

#[backend_extension(Flex, Autodiff)]
trait MlpBranchBackend: Backend {
    fn mlp_branch(#[extension_type] inputs: Inputs<Self>, setting: Setting) -> FloatTensor<Self>;
}

impl MlpBranchBackend for Flex {
    fn mlp_branch(inputs: Inputs<Self>, setting: Setting) -> FlexTensor {
        let parts = Parts::new(&inputs.all());
        match setting.precision {
            Precision::F32 => forward::<f32>(&parts, setting).0,
            Precision::Bf16 => forward::<Bf16>(&parts, setting).0,
        }
    }
}

impl<C: CheckpointStrategy> MlpBranchBackend for Autodiff<Flex, C> {
    fn mlp_branch(inputs: Inputs<Self>, setting: Setting) -> FloatTensor<Self> {
        match setting.precision {
            Precision::F32 => tracked::<C, f32>(inputs, setting),
            Precision::Bf16 => tracked::<C, Bf16>(inputs, setting),
        }
    }
}

fn tracked<C: CheckpointStrategy, T: Element>(
    inputs: Inputs<Autodiff<Flex, C>>,
    setting: Setting,
) -> FloatTensor<Autodiff<Flex, C>> {
    register::<C, _, INPUTS>(inputs.all(), |inputs| {
        let (y, hidden) = forward::<T>(&Parts::new(&inputs), setting);
        let saved = Saved {
            inputs,
            setting,
            hidden,
        };
        (y, saved)
    })
}

/// What is not a tensor.
#[derive(Clone, Copy, Debug)]
struct Setting {
    norm: Norm,
    precision: Precision,
}

/// The inputs, contiguous.
struct Parts {
    x: Contiguous,
    norm: [Contiguous; 2],
    gate_up: [Contiguous; 2],
    gate_up_bias: [Contiguous; 2],
    down: Contiguous,
    down_bias: Contiguous,
    width: usize,
    /// Values of a row inside.
    inner: usize,
}

impl Parts {
    fn new(inputs: &[FlexTensor; INPUTS]) -> Self {
        let [width, inner] = dims(&inputs[7]);
        let [
            x,
            scale,
            shift,
            gate,
            up,
            gate_bias,
            up_bias,
            down,
            down_bias,
        ] = inputs.each_ref().map(Contiguous::new);
        Self {
            x,
            norm: [scale, shift],
            gate_up: [gate, up],
            gate_up_bias: [gate_bias, up_bias],
            down,
            down_bias,
            width,
            inner,
        }
    }

    fn before(&self, setting: Setting) -> Before<'_> {
        Before {
            norm: setting.norm,
            weight: self.norm[0].values(),
            shift: self.norm[1].present(),
        }
    }

    fn down(&self, setting: Setting) -> Dense<'_> {
        Dense::new(
            self.down.values(),
            [self.width, self.inner],
            setting.precision,
        )
    }

    fn is_gated(&self) -> bool {
        self.gate_up[0].present().is_some()
    }

    /// What the activation makes of hidden rows.
    fn active<T: Element>(&self, hidden: &[T]) -> Reused<T> {
        let rows = self.x.values().len() / self.width;
        let mut active = Reused::take(rows * self.inner);
        if self.is_gated() {
            let _span = span::part("swiglu");
            rowwise::swiglu_rows(hidden, self.inner, &mut active);
        } else {
            let _span = span::part("gelu");
            rowwise::gelu(hidden, &mut active);
        }
        active
    }

    /// Rows of the gate, if there is one, and of the matrix up.
    fn rows(&self) -> [usize; 2] {
        [if self.is_gated() { self.inner } else { 0 }, self.inner]
    }
}

/// The sum, and what the backward pass does not compute again: the hidden rows, gate and up side by side.
fn forward<T: Element>(parts: &Parts, setting: Setting) -> (FlexTensor, Reused<T>) {
    let (x, width) = (parts.x.values(), parts.width);
    let (read, _) = parts.before(setting).forward::<T>(x);
    let first = |part: usize| {
        let weight = parts.gate_up[part].values();
        let weight = Dense::new(weight, [parts.inner, width], setting.precision);
        (weight, parts.gate_up_bias[part].present())
    };
    let gate = parts.is_gated().then(|| first(0));
    let (hidden, active) = Dense::hidden_rows(&read, gate, first(1));
    drop(read);
    let y = (parts.down(setting)).forward_plus(x, &active, parts.down_bias.present());
    (tensor(y, [x.len() / width, width]), hidden)
}

#[derive(Clone, Debug)]
struct Saved<T: Element> {
    inputs: [FlexTensor; INPUTS],
    setting: Setting,
    hidden: Reused<T>,
}

impl<T: Element> Gradient<INPUTS> for Saved<T> {
    fn inputs(self, output: FlexTensor, wanted: [bool; INPUTS]) -> [Option<FlexTensor>; INPUTS] {
        let (parts, setting) = (Parts::new(&self.inputs), self.setting);
        let (width, n) = (parts.width, parts.inner);
        let [
            x,
            scale,
            shift,
            gate,
            up,
            gate_bias,
            up_bias,
            down,
            down_bias,
        ] = wanted;

        let g = Contiguous::new(&output);
        let last = parts.down(setting);
        let d_down_bias =
            down_bias.then(|| tensor(rowwise::column_sums(g.values(), width), [width]));
        let d_down = |active: &[T]| tensor(last.weight_gradient(g.values(), active), [width, n]);
        if !wanted[..7].contains(&true) {
            // Nothing before the last product.
            let mut found = [const { None }; INPUTS];
            found[7] = down.then(|| d_down(&parts.active(&self.hidden)));
            found[8] = d_down_bias;
            return found;
        }
        let mut dhidden = self.hidden;
        let active = last.hidden_gradient(g.values(), parts.is_gated(), &mut dhidden);
        let d_down = down.then(|| d_down(&active));
        drop((g, active));

        let before = parts.before(setting);
        let (read, stats) = before.forward::<T>(parts.x.values());
        let weights = stack(parts.gate_up.each_ref());
        let total = parts.rows().iter().sum();
        let first = Dense::new(&weights, [total, width], setting.precision);
        let [d_gate, d_up] = match gate || up {
            true => unstack(
                &first.weight_gradient(&dhidden, &read),
                parts.rows().map(|rows| [rows, width]),
                [gate, up],
            ),
            false => [None, None],
        };
        drop(read);
        // Of rows as they are stored: unlike keys, nothing makes what is summed cancel.
        let [d_gate_bias, d_up_bias] = match gate_bias || up_bias {
            true => unstack(
                &rowwise::column_sums(&dhidden, total),
                parts.rows().map(|rows| [rows]),
                [gate_bias, up_bias],
            ),
            false => [None, None],
        };
        let [dx, d_scale, d_shift] = match x || scale || shift {
            true => {
                let (dread, wanted) = (
                    first.input_gradient_in::<T, f32>(&dhidden),
                    [x, scale, shift],
                );
                before.backward(parts.x.values(), &stats, &dread, output, wanted)
            }
            false => [None, None, None],
        };
        [
            dx,
            d_scale,
            d_shift,
            d_gate,
            d_up,
            d_gate_bias,
            d_up_bias,
            d_down,
            d_down_bias,
        ]
    }
}
