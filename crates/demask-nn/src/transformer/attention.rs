//! The attention of a block.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use demask_kernels::Precision;

use super::loader::Loader;
use super::lora::{Attach, Projection, Seeds};
use super::norm::Norm;
use super::weight::Linear;
use super::{NormKind, TransformerConfig};
use crate::ops::{self, AttentionBranch, HeadNorms, RotaryTable};
use crate::{Dtype, KvCache, NnError, RequestMask};

/// Projections, per-head norms and rotation around [`ops::attention`].
#[derive(Module, Debug)]
pub struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    o: Linear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// What all blocks of one forward pass share.
pub(super) struct Pass<'a> {
    /// The mask of the request; with caches, one for each sequence.
    pub masks: &'a [RequestMask<'a>],
    pub rotary: Option<Arc<RotaryTable>>,
    /// The cache of each sequence, or none.
    pub caches: Vec<&'a mut KvCache>,
    /// `[batch, length]` of the request.
    pub dims: [usize; 2],
    /// What attention multiplies in, and the branches of dense weights.
    pub precision: Precision,
    /// Seed of the dropout of the pass.
    pub seed: Option<u64>,
}

impl Attention {
    pub(super) fn load(
        name: &str,
        config: &TransformerConfig,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let c = config;
        let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let mut linear =
            |part: &str, dims, bias| Linear::load(&format!("{name}.{part}"), dims, bias, loader);
        let (q_proj, k_proj, v_proj) = (
            linear("q", [q, c.d_model], c.qkv_bias)?,
            linear("k", [kv, c.d_model], c.qkv_bias)?,
            linear("v", [kv, c.d_model], c.qkv_bias)?,
        );
        let mut head_norm = |part: &str| {
            c.qk_norm
                .then(|| {
                    let name = format!("{name}.{part}");
                    Norm::load(&name, c.head_dim, NormKind::Rms, c.norm_eps, loader)
                })
                .transpose()
        };
        let (q_norm, k_norm) = (head_norm("q_norm")?, head_norm("k_norm")?);
        let o = Linear::load(&format!("{name}.o"), [c.d_model, q], c.out_bias, loader)?;
        Ok(Self {
            q: q_proj,
            k: k_proj,
            v: v_proj,
            q_norm,
            k_norm,
            o,
            heads: c.n_heads,
            kv_heads: c.n_kv_heads,
            head_dim: c.head_dim,
        })
    }

    /// `[batch * length, d_model]` to the same shape, for block number `layer`, added to `onto` if it is
    /// given.
    pub(super) fn forward(
        &self,
        x: Tensor<2>,
        onto: Option<Tensor<2>>,
        layer: usize,
        pass: &mut Pass,
    ) -> Tensor<2> {
        let [batch, length] = pass.dims;
        let seeds = Seeds::new(pass.seed, layer);
        let with = |linear, which| (linear, seeds.of(which));
        let projections = [
            with(&self.q, Projection::Q),
            with(&self.k, Projection::K),
            with(&self.v, Projection::V),
        ];
        let [q, k, v] = Linear::forward_each(projections, x);
        let heads = |x: Tensor<2>, heads: usize, norm: &Option<Norm>| {
            let x = match norm {
                Some(norm) => norm.forward(x.reshape([batch * length * heads, self.head_dim])),
                None => x,
            };
            x.reshape([batch, length, heads, self.head_dim])
        };
        let mut q = heads(q, self.heads, &self.q_norm);
        let mut k = heads(k, self.kv_heads, &self.k_norm);
        let v = heads(v, self.kv_heads, &None);
        if let Some(table) = &pass.rotary {
            q = ops::rotary(q, table);
            k = ops::rotary(k, table);
        }
        let y = if pass.caches.is_empty() {
            ops::attention(q, k, v, &pass.masks[0], pass.precision)
        } else {
            let heads = [self.kv_heads, self.head_dim];
            let caches = pass.caches.iter_mut();
            let mut layers: Vec<_> = caches.map(|cache| cache.layer(layer, heads)).collect();
            ops::cached_attention(q, k, v, &mut layers, pass.masks, pass.precision)
        };
        let y = y.reshape([batch * length, self.heads * self.head_dim]);
        let seed = seeds.of(Projection::O);
        self.o.added(y, onto, seed)
    }

    /// The branch of dense weights after `norm`, if nothing else takes part: no packed weight, no adapter.
    pub(super) fn branch(&self, norm: &Norm) -> Option<AttentionBranch> {
        let head_norms = self.q_norm.as_ref().zip(self.k_norm.as_ref());
        Some(AttentionBranch {
            q: self.q.dense()?,
            k: self.k.dense()?,
            v: self.v.dense()?,
            o: self.o.dense()?,
            norm: norm.of_branch(),
            head_norms: head_norms.map(|(q, k)| {
                let (q, k) = (q.of_branch(), k.of_branch());
                HeadNorms {
                    q: q.scale,
                    k: k.scale,
                    eps: q.eps,
                }
            }),
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
        })
    }

    pub(super) fn adapted(self, name: &str, attach: &mut Attach) -> Result<Self, NnError> {
        let mut adapt =
            |linear: Linear, part: &str| linear.adapted(&format!("{name}.{part}"), attach);
        Ok(Self {
            q: adapt(self.q, "q")?,
            k: adapt(self.k, "k")?,
            v: adapt(self.v, "v")?,
            o: adapt(self.o, "o")?,
            ..self
        })
    }

    pub(super) fn merged(self) -> Self {
        Self {
            q: self.q.merged(),
            k: self.k.merged(),
            v: self.v.merged(),
            o: self.o.merged(),
            ..self
        }
    }

    pub(super) fn in_precision(self, precision: Precision) -> Self {
        Self {
            q: self.q.in_precision(precision),
            k: self.k.in_precision(precision),
            v: self.v.in_precision(precision),
            o: self.o.in_precision(precision),
            ..self
        }
    }

    pub(super) fn is_packed(&self) -> bool {
        self.q.is_packed()
    }

    /// Bytes of the packed weights.
    pub(super) fn packed_bytes(&self) -> usize {
        let all = [&self.q, &self.k, &self.v, &self.o];
        all.into_iter().map(Linear::packed_bytes).sum()
    }

    pub(super) fn packed(self, dtype: Dtype) -> Self {
        Self {
            q: self.q.packed(dtype),
            k: self.k.packed(dtype),
            v: self.v.packed(dtype),
            o: self.o.packed(dtype),
            ..self
        }
    }
}
