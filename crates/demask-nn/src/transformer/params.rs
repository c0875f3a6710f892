//! Names and shapes of every parameter, in the order in which they are stored.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Int, Tensor, TensorData};

use super::{LoraConfig, MlpKind, NormKind, TransformerConfig};
use crate::NnError;

/// Supplies parameters by canonical name while a network is built.
pub trait ParamSource {
    /// The f32 values of parameter `name`, which must have `shape`.
    ///
    /// # Errors
    /// [`NnError::Source`] when it is missing or has another shape.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorData, NnError>;

    /// Hands the f32 values of the matrix `name` `[rows, columns]` to `take`, row-major, some whole rows after the
    /// others: `height` of them each time, fewer the last time. So a weight is packed as it is read.
    ///
    /// By default it is read as a whole first. A source of large matrices reads each band when its turn comes.
    ///
    /// # Errors
    /// As for [`tensor`](Self::tensor); bands may have been handed out before.
    fn bands(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        height: usize,
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), NnError> {
        let data = self.tensor(name, &[rows, columns])?;
        let values = data
            .as_slice::<f32>()
            .map_err(|error| NnError::source(name, format!("is not of f32: {error:?}")))?;
        let band = height.saturating_mul(columns).max(1);
        values.chunks(band).for_each(take);
        Ok(())
    }
}

/// Calls `visit` with the canonical name and the shape of each parameter of a network.
///
/// Weights of linears are `[out, in]`. The order is the order of the forward pass.
pub fn for_each_shape(config: &TransformerConfig, visit: &mut dyn FnMut(&str, &[usize])) {
    for_each_in_order(config, None, &mut |name, shape, _| visit(name, shape));
}

/// The same with adapters: those of a linear follow its own parameters, `{linear}.lora_A.weight`
/// `[rank, in]` and `{linear}.lora_B.weight` `[out, rank]`. The last argument of `visit` says
/// whether a parameter belongs to an adapter.
pub fn for_each_in_order(
    config: &TransformerConfig,
    lora: Option<&LoraConfig>,
    visit: &mut dyn FnMut(&str, &[usize], bool),
) {
    type Visit<'a> = dyn FnMut(&str, &[usize], bool) + 'a;
    let c = config;
    let (d, q, kv) = (c.d_model, c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
    let norm = |name: &str, width: usize, visit: &mut Visit| {
        visit(&format!("{name}.weight"), &[width], false);
        if c.norm == (NormKind::Layer { bias: true }) {
            visit(&format!("{name}.bias"), &[width], false);
        }
    };
    let linear = |name: &str, dims: [usize; 2], bias: bool, visit: &mut Visit| {
        visit(&format!("{name}.weight"), &dims, false);
        if bias {
            visit(&format!("{name}.bias"), &dims[..1], false);
        }
        if let Some(lora) = lora.filter(|lora| lora.adapts(name)) {
            let [outputs, inputs] = dims;
            visit(&format!("{name}.lora_A.weight"), &[lora.rank, inputs], true);
            visit(
                &format!("{name}.lora_B.weight"),
                &[outputs, lora.rank],
                true,
            );
        }
    };
    visit("embed.weight", &[c.vocab_size, d], false);
    if let Some(time) = &c.time {
        linear("time.in", [time.cond, time.frequencies], true, visit);
        linear("time.out", [time.cond, time.cond], true, visit);
        if let Some(classes) = c.labels {
            visit("labels.weight", &[classes + 1, time.cond], false);
        }
    }
    for i in 0..c.n_layers {
        let at = |name: &str| format!("layers.{i}.{name}");
        if let Some(time) = &c.time {
            linear(&at("adaln"), [6 * d, time.cond], true, visit);
        }
        norm(&at("attn_norm"), d, visit);
        linear(&at("attn.q"), [q, d], c.qkv_bias, visit);
        linear(&at("attn.k"), [kv, d], c.qkv_bias, visit);
        linear(&at("attn.v"), [kv, d], c.qkv_bias, visit);
        if c.qk_norm {
            visit(&at("attn.q_norm.weight"), &[c.head_dim], false);
            visit(&at("attn.k_norm.weight"), &[c.head_dim], false);
        }
        linear(&at("attn.o"), [d, q], c.out_bias, visit);
        norm(&at("mlp_norm"), d, visit);
        if c.mlp == MlpKind::SwiGlu {
            linear(&at("mlp.gate"), [c.d_ff, d], c.mlp_bias, visit);
        }
        linear(&at("mlp.up"), [c.d_ff, d], c.mlp_bias, visit);
        linear(&at("mlp.down"), [d, c.d_ff], c.mlp_bias, visit);
    }
    if let Some(time) = &c.time {
        linear("final_adaln", [2 * d, time.cond], true, visit);
    }
    norm("final_norm", d, visit);
    if !c.tied_head {
        linear("head", [c.vocab_size, d], c.head_bias, visit);
    } else if c.head_bias {
        visit("head.bias", &[c.vocab_size], false);
    }
}

/// Collects parameter values in the order of the module tree.
#[derive(Default)]
pub(crate) struct Values(pub Vec<TensorData>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.val().into_data());
    }

    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {}
}
