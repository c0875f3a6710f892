use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use demask_kernels::attention::{
    HeadsMut, HeadsRef, KeyRanges, attention_backward, attention_forward,
};
use demask_kernels::rowwise::{self, HeadRows};
use demask_kernels::{Bf16, Element, Precision, Reused};

use super::super::attention::{attended, attended_back, scale};
use super::super::dense::Dense;
use super::super::gradient::{Gradient, register};
use super::super::norm_kind::Norm;
use super::super::storage::{Contiguous, dims, or_absent, tensor};
use super::{Before, stack, stack_biases, unstack};
use crate::ops::{AttentionBranch, RotaryTable};
use crate::{RequestMask, span};

/// Shapes as in [`attention_branch`](fn@crate::ops::attention_branch).
pub fn attention_branch(
    x: Tensor<2>,
    branch: AttentionBranch,
    mask: &RequestMask,
    rotary: Option<&Arc<RotaryTable>>,
    size: [usize; 2],
    precision: Precision,
) -> Tensor<2> {
    let device = x.device();
    let [(q, q_bias), (k, k_bias), (v, v_bias), (o, o_bias)] =
        [branch.q, branch.k, branch.v, branch.o].map(|linear| (linear.weight, linear.bias));
    let norm = branch.norm;
    let (head_norms, head_eps) = match branch.head_norms {
        Some(norms) => ([Some(norms.q), Some(norms.k)], norms.eps),
        None => ([None, None], 0.0),
    };
    let [q_norm, k_norm] = head_norms;
    let present = |x: Option<Tensor<1>>| or_absent(x, &device).into_dispatch();
    let inputs = Inputs {
        norm_scale: norm.scale.into_dispatch(),
        norm_shift: present(norm.shift),
        q: q.into_dispatch(),
        k: k.into_dispatch(),
        v: v.into_dispatch(),
        q_bias: present(q_bias),
        k_bias: present(k_bias),
        v_bias: present(v_bias),
        q_norm: present(q_norm),
        k_norm: present(k_norm),
        o: o.into_dispatch(),
        o_bias: present(o_bias),
        x: x.into_dispatch(),
    };
    let setting = Setting {
        size,
        heads: [branch.heads, branch.kv_heads, branch.kv_heads],
        head_dim: branch.head_dim,
        norm: Norm::new(norm.centred, norm.eps),
        head_eps: head_eps as f32,
        ranges: mask.ranges(),
        rotary: rotary.map(Arc::clone),
        precision,
    };
    let y = <Dispatch as AttentionBranchBackend>::attention_branch(inputs, setting);
    Tensor::from_dispatch(y)
}

/// Number of inputs.
const INPUTS: usize = 13;

/// What the branch reads; biases, shift and norms of heads may be absent.
#[derive(ExtensionType)]
struct Inputs<B: Backend> {
    x: FloatTensor<B>,
    norm_scale: FloatTensor<B>,
    norm_shift: FloatTensor<B>,
    q: FloatTensor<B>,
    k: FloatTensor<B>,
    v: FloatTensor<B>,
    q_bias: FloatTensor<B>,
    k_bias: FloatTensor<B>,
    v_bias: FloatTensor<B>,
    q_norm: FloatTensor<B>,
    k_norm: FloatTensor<B>,
    o: FloatTensor<B>,
    o_bias: FloatTensor<B>,
}

impl<B: Backend> Inputs<B> {
    /// In the order of [`Parts`].
    fn all(self) -> [FloatTensor<B>; INPUTS] {
        [
            self.x,
            self.norm_scale,
            self.norm_shift,
            self.q,
            self.k,
            self.v,
            self.q_bias,
            self.k_bias,
            self.v_bias,
            self.q_norm,
            self.k_norm,
            self.o,
            self.o_bias,
        ]
    }
}

#[backend_extension(Flex, Autodiff)]
trait AttentionBranchBackend: Backend {
    fn attention_branch(
        #[extension_type] inputs: Inputs<Self>,
        setting: Setting,
    ) -> FloatTensor<Self>;
}

impl AttentionBranchBackend for Flex {
    fn attention_branch(inputs: Inputs<Self>, setting: Setting) -> FlexTensor {
        let parts = Parts::new(&inputs.all());
        match setting.precision {
            Precision::F32 => forward::<f32>(&parts, &setting).0,
            Precision::Bf16 => forward::<Bf16>(&parts, &setting).0,
        }
    }
}

impl<C: CheckpointStrategy> AttentionBranchBackend for Autodiff<Flex, C> {
    fn attention_branch(inputs: Inputs<Self>, setting: Setting) -> FloatTensor<Self> {
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
        let (y, kept) = forward::<T>(&Parts::new(&inputs), &setting);
        let saved = Saved {
            inputs,
            setting,
            kept,
        };
        (y, saved)
    })
}

/// What is not a tensor.
#[derive(Clone, Debug)]
struct Setting {
    /// `[batch, length]`.
    size: [usize; 2],
    /// Heads of queries, keys and values.
    heads: [usize; 3],
    head_dim: usize,
    norm: Norm,
    head_eps: f32,
    ranges: Arc<KeyRanges>,
    rotary: Option<Arc<RotaryTable>>,
    precision: Precision,
}

impl Setting {
    /// Values of queries, of keys and of values in a row.
    fn widths(&self) -> [usize; 3] {
        self.heads.map(|heads| heads * self.head_dim)
    }

    /// Values of all three.
    fn row(&self) -> usize {
        self.widths().iter().sum()
    }

    fn rows(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// `[batch, length, heads, head_dim]` of queries (0), keys (1) or values (2).
    fn dims(&self, part: usize) -> [usize; 4] {
        let [batch, length] = self.size;
        [batch, length, self.heads[part], self.head_dim]
    }

    /// Where the heads of queries (0) or keys (1) lie in the fused rows.
    fn heads_at(&self, part: usize) -> HeadRows {
        HeadRows {
            rows: self.rows(),
            stride: self.row(),
            skip: self.widths()[..part].iter().sum(),
            heads: self.heads[part],
            head_dim: self.head_dim,
        }
    }

    /// Turns the first `heads` heads of rows of `stride` values by their positions, or `back`.
    fn turn<T: Element>(&self, x: &mut [T], stride: usize, heads: usize, back: bool) {
        if let Some(table) = &self.rotary {
            let _span = span::part("rotary");
            let (angles, layout) = (&table.angles, table.layout.into());
            rowwise::rotary_rows(
                x,
                self.rows(),
                stride,
                heads,
                self.head_dim,
                angles,
                layout,
                back,
            );
        }
    }
}

/// The inputs, contiguous.
struct Parts {
    x: Contiguous,
    norm: [Contiguous; 2],
    qkv: [Contiguous; 3],
    qkv_bias: [Contiguous; 3],
    head_norms: [Contiguous; 2],
    o: Contiguous,
    o_bias: Contiguous,
    width: usize,
}

impl Parts {
    fn new(inputs: &[FlexTensor; INPUTS]) -> Self {
        let [_, width] = dims(&inputs[0]);
        let [x, scale, shift, q, k, v, qb, kb, vb, qn, kn, o, o_bias] =
            inputs.each_ref().map(Contiguous::new);
        Self {
            x,
            norm: [scale, shift],
            qkv: [q, k, v],
            qkv_bias: [qb, kb, vb],
            head_norms: [qn, kn],
            o,
            o_bias,
            width,
        }
    }

    fn before(&self, setting: &Setting) -> Before<'_> {
        Before {
            norm: setting.norm,
            weight: self.norm[0].values(),
            shift: self.norm[1].present(),
        }
    }

    fn output(&self, setting: &Setting) -> Dense<'_> {
        let [queries, ..] = setting.widths();
        Dense::new(self.o.values(), [self.width, queries], setting.precision)
    }
}

/// What the backward pass does not compute again.
#[derive(Clone, Debug)]
struct Kept<T: Element> {
    /// Queries, keys and values `[rows, row]`; turned, if there are no norms of heads.
    qkv: Reused<T>,
    /// Queries and keys after their norms, turned.
    normed: Option<[NormedHeads<T>; 2]>,
    /// What attention gave; the gradient of its softmax reads it unrounded.
    out: Reused,
    lse: Vec<f32>,
}

#[derive(Clone, Debug)]
struct NormedHeads<T: Element> {
    /// `[rows, heads, head_dim]`.
    values: Reused<T>,
    inverse: Vec<f32>,
}

impl<T: Element> NormedHeads<T> {
    /// The heads of `part` normed and turned.
    fn new(qkv: &[T], weight: &[f32], part: usize, setting: &Setting) -> Self {
        let at = setting.heads_at(part);
        let mut values = Reused::take(at.len());
        let mut inverse = vec![0.0; at.rows * at.heads];
        {
            let _span = span::part("norm");
            let eps = setting.head_eps;
            rowwise::head_norm(qkv, at, weight, eps, &mut values, &mut inverse);
        }
        setting.turn(&mut values, at.heads * at.head_dim, at.heads, false);
        Self { values, inverse }
    }
}

impl<T: Element> Kept<T> {
    /// Queries, keys and values as attention reads them.
    fn heads(&self, setting: &Setting) -> [HeadsRef<'_, T>; 3] {
        let [q, k, v] = HeadsRef::parts(&self.qkv, setting.size, setting.heads, setting.head_dim);
        match &self.normed {
            None => [q, k, v],
            Some([q, k]) => [
                HeadsRef::new(&q.values, setting.dims(0)),
                HeadsRef::new(&k.values, setting.dims(1)),
                v,
            ],
        }
    }
}

fn forward<T: Element>(parts: &Parts, setting: &Setting) -> (FlexTensor, Kept<T>) {
    let (x, width, widths) = (parts.x.values(), parts.width, setting.widths());
    let (read, _) = parts.before(setting).forward::<T>(x);
    let weights = stack(parts.qkv.each_ref());
    let biases = stack_biases(parts.qkv_bias.each_ref(), widths);
    let projection = Dense::new(&weights, [setting.row(), width], setting.precision);
    let mut qkv: Reused<T> = projection.forward_in(&read, biases.as_deref());
    drop(read);
    let normed = match parts.head_norms.each_ref().map(Contiguous::present) {
        [Some(q), Some(k)] => {
            Some([(q, 0), (k, 1)].map(|(w, part)| NormedHeads::new(&qkv, w, part, setting)))
        }
        _ => {
            let heads = setting.heads[0] + setting.heads[1];
            setting.turn(&mut qkv, setting.row(), heads, false);
            None
        }
    };
    let [batch, length] = setting.size;
    let mut kept = Kept {
        qkv,
        normed,
        out: Reused::take(setting.rows() * widths[0]),
        lse: vec![0.0; batch * setting.heads[0] * length],
    };
    let (mut out, mut lse) = (std::mem::take(&mut kept.out), std::mem::take(&mut kept.lse));
    {
        let [q, k, v] = kept.heads(setting);
        let pairs = setting.ranges.pairs(batch);
        let _span = attended(pairs, setting.dims(0), setting.precision);
        attention_forward(
            q,
            k,
            v,
            &setting.ranges,
            scale(setting.dims(0)),
            setting.precision,
            HeadsMut::new(&mut out, setting.dims(0)),
            &mut lse,
        );
    }
    (kept.out, kept.lse) = (out, lse);
    let output = parts.output(setting);
    let y = output.forward_plus(x, &kept.out, parts.o_bias.present());
    (tensor(y, [setting.rows(), width]), kept)
}

#[derive(Clone, Debug)]
struct Saved<T: Element> {
    inputs: [FlexTensor; INPUTS],
    setting: Setting,
    kept: Kept<T>,
}

impl<T: Element> Gradient<INPUTS> for Saved<T> {
    fn inputs(self, output: FlexTensor, wanted: [bool; INPUTS]) -> [Option<FlexTensor>; INPUTS] {
        let (parts, setting, kept) = (Parts::new(&self.inputs), &self.setting, self.kept);
        let (width, widths) = (parts.width, setting.widths());
        let [.., o, ob] = wanted;

        let g = Contiguous::new(&output);
        let out = parts.output(setting);
        let d_o = o.then(|| {
            tensor(
                out.weight_gradient(g.values(), &kept.out),
                [width, widths[0]],
            )
        });
        let d_o_bias = ob.then(|| tensor(rowwise::column_sums(g.values(), width), [width]));
        if !wanted[..BEFORE].contains(&true) {
            // Nothing before the last product.
            let mut found = [const { None }; INPUTS];
            [found[11], found[12]] = [d_o, d_o_bias];
            return found;
        }
        let dout: Reused<T> = out.input_gradient_in(g.values());
        drop(g);

        let wanted: [bool; BEFORE] = std::array::from_fn(|i| wanted[i]);
        // What all keys share changes no weight: the gradient of their bias is a sum over rows in which everything may
        // cancel, and the roundings of the rows would be left. Whether somebody wants it changes no bit of the others.
        let biased = parts.qkv_bias.iter().any(|bias| bias.present().is_some());
        let before = match biased {
            true => before_heads::<T, f32>(&parts, setting, kept, dout, output, wanted),
            false => before_heads::<T, T>(&parts, setting, kept, dout, output, wanted),
        };
        let mut found = before.into_iter().chain([d_o, d_o_bias]);
        std::array::from_fn(|_| found.next().flatten())
    }
}

/// Inputs before the last product.
const BEFORE: usize = INPUTS - 2;

/// From the gradient of what attention gave to those of the inputs before it; that of the fused rows is kept as `D`.
/// `output` is the gradient that goes past the branch.
fn before_heads<T: Element, D: Element>(
    parts: &Parts,
    setting: &Setting,
    kept: Kept<T>,
    dout: Reused<T>,
    output: FlexTensor,
    wanted: [bool; BEFORE],
) -> [Option<FlexTensor>; BEFORE] {
    let [x, scale, shift, q, k, v, qb, kb, vb, qn, kn] = wanted;
    let (width, widths) = (parts.width, setting.widths());
    let (dqkv, [d_q_norm, d_k_norm]) = heads_backward::<T, D>(parts, setting, &kept, &dout);
    drop((kept, dout));

    let before = parts.before(setting);
    let (read, stats) = before.forward::<T>(parts.x.values());
    let weights = stack(parts.qkv.each_ref());
    let projection = Dense::new(&weights, [setting.row(), width], setting.precision);
    let [d_q, d_k, d_v] = match q || k || v {
        true => unstack(
            &projection.weight_gradient(&dqkv, &read),
            widths.map(|rows| [rows, width]),
            [q, k, v],
        ),
        false => [None, None, None],
    };
    drop(read);
    let [d_q_bias, d_k_bias, d_v_bias] = match qb || kb || vb {
        true => unstack(
            &rowwise::column_sums(&dqkv, setting.row()),
            widths.map(|rows| [rows]),
            [qb, kb, vb],
        ),
        false => [None, None, None],
    };
    // The first block over frozen embeddings has nothing before its products.
    let [dx, d_scale, d_shift] = match x || scale || shift {
        true => {
            let dread: Reused = projection.input_gradient_in(&dqkv);
            let wanted = [x, scale, shift];
            before.backward(parts.x.values(), &stats, &dread, output, wanted)
        }
        false => [None, None, None],
    };
    let head = |norm: Option<Vec<f32>>, wanted: bool| {
        norm.filter(|_| wanted)
            .map(|norm| tensor(norm, [setting.head_dim]))
    };
    [
        dx,
        d_scale,
        d_shift,
        d_q,
        d_k,
        d_v,
        d_q_bias,
        d_k_bias,
        d_v_bias,
        head(d_q_norm, qn),
        head(d_k_norm, kn),
    ]
}

/// From the gradient of what attention gave to that of the fused rows, and those of the norms of heads.
fn heads_backward<T: Element, D: Element>(
    parts: &Parts,
    setting: &Setting,
    kept: &Kept<T>,
    dout: &[T],
) -> (Reused<D>, [Option<Vec<f32>>; 2]) {
    let (size, heads, head_dim) = (setting.size, setting.heads, setting.head_dim);
    let attend_back = |[dq, dk, dv]: [HeadsMut<'_, D>; 3]| {
        let _span = attended_back(
            setting.ranges.pairs(size[0]),
            setting.dims(0),
            setting.precision,
        );
        let [q, k, v] = kept.heads(setting);
        attention_backward(
            q,
            k,
            v,
            &setting.ranges,
            scale(setting.dims(0)),
            setting.precision,
            HeadsRef::new(&kept.out, setting.dims(0)),
            &kept.lse,
            HeadsRef::new(dout, setting.dims(0)),
            dq,
            dk,
            dv,
        );
    };
    let mut dqkv = Reused::take(kept.qkv.len());
    let Some(normed) = &kept.normed else {
        attend_back(HeadsMut::parts(&mut dqkv, size, heads, head_dim));
        setting.turn(&mut dqkv, setting.row(), heads[0] + heads[1], true);
        return (dqkv, [None, None]);
    };
    let [mut dq, mut dk] = normed
        .each_ref()
        .map(|heads| Reused::take(heads.values.len()));
    let [_, _, dv] = HeadsMut::parts(&mut dqkv, size, heads, head_dim);
    attend_back([
        HeadsMut::new(&mut dq, setting.dims(0)),
        HeadsMut::new(&mut dk, setting.dims(1)),
        dv,
    ]);
    let mut norms = [None, None];
    for (part, dheads) in [&mut dq, &mut dk].into_iter().enumerate() {
        let at = setting.heads_at(part);
        setting.turn(dheads, at.heads * at.head_dim, at.heads, true);
        let _span = span::part("norm backward");
        let mut dweight = vec![0.0; head_dim];
        rowwise::head_norm_backward(
            &kept.qkv,
            at,
            parts.head_norms[part].values(),
            &normed[part].inverse,
            dheads,
            &mut dqkv,
            &mut dweight,
        );
        norms[part] = Some(dweight);
    }
    (dqkv, norms)
}
