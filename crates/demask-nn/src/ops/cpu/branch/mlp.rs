use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::{Precision, Reused, rowwise};

use super::super::dense::Dense;
use super::super::gradient::{Gradient, register};
use super::super::norm_kind::Norm;
use super::super::storage::{Contiguous, dims, or_absent, tensor};
use super::{Before, stack, stack_biases, unstack};
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
        forward(&Parts::new(&inputs.all()), setting).0
    }
}

impl<C: CheckpointStrategy> MlpBranchBackend for Autodiff<Flex, C> {
    fn mlp_branch(inputs: Inputs<Self>, setting: Setting) -> FloatTensor<Self> {
        register::<C, _, INPUTS>(inputs.all(), |inputs| {
            let (y, inner) = forward(&Parts::new(&inputs), setting);
            let saved = Saved {
                inputs,
                setting,
                inner,
            };
            (y, saved)
        })
    }
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

    /// The rows that the last product reads, from those of the first.
    fn active(&self, inner: &[f32]) -> Reused {
        let rows = self.x.values().len() / self.width;
        let mut active = Reused::take(rows * self.inner);
        if self.is_gated() {
            let _span = span::part("swiglu");
            rowwise::swiglu_rows(inner, self.inner, &mut active);
        } else {
            let _span = span::part("gelu");
            rowwise::gelu(inner, &mut active);
        }
        active
    }

    /// Rows of the gate, if there is one, and of the matrix up.
    fn rows(&self) -> [usize; 2] {
        [if self.is_gated() { self.inner } else { 0 }, self.inner]
    }
}

/// The sum, and what the backward pass does not compute again: the rows inside, gate and up side by side.
fn forward(parts: &Parts, setting: Setting) -> (FlexTensor, Vec<f32>) {
    let (x, width) = (parts.x.values(), parts.width);
    let (read, _) = parts.before(setting).forward(x);
    let weights = stack(parts.gate_up.each_ref());
    let biases = stack_biases(parts.gate_up_bias.each_ref(), parts.rows());
    let first = Dense::new(
        &weights,
        [parts.rows().iter().sum(), width],
        setting.precision,
    );
    let inner = first.forward(&read, biases.as_deref());
    drop(read);
    let active = parts.active(&inner);
    let y = (parts.down(setting)).forward_plus(x, &active, parts.down_bias.present());
    (tensor(y, [x.len() / width, width]), inner)
}

#[derive(Clone, Debug)]
struct Saved {
    inputs: [FlexTensor; INPUTS],
    setting: Setting,
    inner: Vec<f32>,
}

impl Gradient<INPUTS> for Saved {
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
        let d_down = |active: &[f32]| tensor(last.weight_gradient(g.values(), active), [width, n]);
        if !wanted[..7].contains(&true) {
            // Nothing before the last product.
            let mut found = [const { None }; INPUTS];
            found[7] = down.then(|| d_down(&parts.active(&self.inner)));
            found[8] = d_down_bias;
            return found;
        }
        // The gradient of the active rows, then these rows themselves.
        let mut active = last.input_gradient(g.values());
        let mut dinner = self.inner;
        if parts.is_gated() {
            let _span = span::part("swiglu backward");
            rowwise::swiglu_rows_backward(&mut dinner, n, &mut active);
        } else {
            let _span = span::part("gelu backward");
            rowwise::gelu_backward_in_place(&mut dinner, &mut active);
        }
        let d_down = down.then(|| d_down(&active));
        drop((g, active));

        let before = parts.before(setting);
        let (read, stats) = before.forward(parts.x.values());
        let weights = stack(parts.gate_up.each_ref());
        let total = parts.rows().iter().sum();
        let first = Dense::new(&weights, [total, width], setting.precision);
        let [d_gate, d_up] = match gate || up {
            true => unstack(
                &first.weight_gradient(&dinner, &read),
                parts.rows().map(|rows| [rows, width]),
                [gate, up],
            ),
            false => [None, None],
        };
        drop(read);
        let [d_gate_bias, d_up_bias] = match gate_bias || up_bias {
            true => unstack(
                &rowwise::column_sums(&dinner, total),
                parts.rows().map(|rows| [rows]),
                [gate_bias, up_bias],
            ),
            false => [None, None],
        };
        let [dx, d_scale, d_shift] = match x || scale || shift {
            true => {
                let (dread, wanted) = (first.input_gradient(&dinner), [x, scale, shift]);
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
