//! A block: attention and MLP, each after a norm, with what a noise level changes of them.

use burn::module::Module;
use burn::tensor::Tensor;
use demask_kernels::Precision;

use super::TransformerConfig;
use super::attention::{Attention, Pass};
use super::loader::Loader;
use super::lora::{Attach, Seeds};
use super::mlp::Mlp;
use super::norm::Norm;
use super::time::{AdaLn, modulate};
use crate::{Dtype, NnError, ops};

#[derive(Module, Debug)]
pub(super) struct Block {
    adaln: Option<AdaLn>,
    attn_norm: Norm,
    pub(super) attn: Attention,
    mlp_norm: Norm,
    mlp: Mlp,
}

/// Dropout of one forward pass.
#[derive(Clone, Copy)]
pub(super) struct Dropout {
    pub(super) p: f64,
    pub(super) seed: Option<u64>,
}

impl Dropout {
    /// Drops from `x`, the `place`-th of the pass.
    pub(super) fn apply(self, x: Tensor<2>, place: usize) -> Tensor<2> {
        match self.seed {
            Some(seed) => ops::dropout(x, self.p, seed.wrapping_add((place as u64) << 32)),
            None => x,
        }
    }
}

impl Block {
    pub(super) fn load(
        name: &str,
        config: &TransformerConfig,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let c = config;
        let adaln = c
            .time
            .map(|t| AdaLn::load(&format!("{name}.adaln"), 6, c.d_model, t.cond, loader))
            .transpose()?;
        let norm = |part: &str, loader: &mut Loader<'_>| {
            Norm::load(
                &format!("{name}.{part}"),
                c.d_model,
                c.norm,
                c.norm_eps,
                loader,
            )
        };
        Ok(Self {
            adaln,
            attn_norm: norm("attn_norm", loader)?,
            attn: Attention::load(&format!("{name}.attn"), c, loader)?,
            mlp_norm: norm("mlp_norm", loader)?,
            mlp: Mlp::load(&format!("{name}.mlp"), c, loader)?,
        })
    }

    pub(super) fn forward(
        &self,
        x: Tensor<2>,
        layer: usize,
        cond: Option<&Tensor<2>>,
        pass: &mut Pass,
        dropout: Dropout,
    ) -> Tensor<2> {
        let modulation = match (&self.adaln, cond) {
            (Some(adaln), Some(cond)) => Some(take::<6>(adaln.forward(cond.clone()))),
            _ => None,
        };
        let seeds = Seeds::new(dropout.seed, layer);
        let Some([shift_a, scale_a, gate_a, shift_m, scale_m, gate_m]) = modulation else {
            if dropout.seed.is_none() {
                let x = self.attention_branch(x, layer, pass);
                return self.mlp_branch(x, seeds, pass.precision);
            }
            let y = self.attn_norm.forward(x.clone());
            let x = x + dropout.apply(self.attn.forward(y, None, layer, pass), 2 * layer);
            let y = self
                .mlp
                .forward(self.mlp_norm.forward(x.clone()), None, seeds);
            return x + dropout.apply(y, 2 * layer + 1);
        };
        let y = modulate(self.attn_norm.forward(x.clone()), shift_a, scale_a);
        let x = x + gate_a * dropout.apply(self.attn.forward(y, None, layer, pass), 2 * layer);
        let y = modulate(self.mlp_norm.forward(x.clone()), shift_m, scale_m);
        x + gate_m * dropout.apply(self.mlp.forward(y, None, seeds), 2 * layer + 1)
    }

    /// `x` and what attention adds to it, as one operation where nothing else takes part.
    fn attention_branch(&self, x: Tensor<2>, layer: usize, pass: &mut Pass) -> Tensor<2> {
        if pass.caches.is_empty()
            && let Some(branch) = self.attn.branch(&self.attn_norm)
        {
            let (mask, rotary) = (&pass.masks[0], pass.rotary.as_ref());
            return ops::attention_branch(x, branch, mask, rotary, pass.dims, pass.precision);
        }
        let y = self.attn_norm.forward(x.clone());
        self.attn.forward(y, Some(x), layer, pass)
    }

    /// `x` and what the MLP adds to it, as one operation where nothing else takes part.
    fn mlp_branch(&self, x: Tensor<2>, seeds: Seeds, precision: Precision) -> Tensor<2> {
        match self.mlp.branch(&self.mlp_norm) {
            Some(branch) => ops::mlp_branch(x, branch, precision),
            None => self
                .mlp
                .forward(self.mlp_norm.forward(x.clone()), Some(x), seeds),
        }
    }

    pub(super) fn in_precision(self, precision: Precision) -> Self {
        Self {
            attn: self.attn.in_precision(precision),
            mlp: self.mlp.in_precision(precision),
            ..self
        }
    }

    pub(super) fn adapted(self, name: &str, attach: &mut Attach) -> Result<Self, NnError> {
        Ok(Self {
            attn: self.attn.adapted(&format!("{name}.attn"), attach)?,
            mlp: self.mlp.adapted(&format!("{name}.mlp"), attach)?,
            ..self
        })
    }

    pub(super) fn merged(self) -> Self {
        Self {
            attn: self.attn.merged(),
            mlp: self.mlp.merged(),
            ..self
        }
    }

    /// Bytes of the packed weights.
    pub(super) fn packed_bytes(&self) -> usize {
        let adaln = self.adaln.as_ref().map_or(0, AdaLn::packed_bytes);
        adaln + self.attn.packed_bytes() + self.mlp.packed_bytes()
    }

    pub(super) fn packed(self, dtype: Dtype) -> Self {
        Self {
            adaln: self.adaln.map(|adaln| adaln.packed(dtype)),
            attn: self.attn.packed(dtype),
            mlp: self.mlp.packed(dtype),
            ..self
        }
    }
}

pub(super) fn take<const N: usize>(parts: Vec<Tensor<2>>) -> [Tensor<2>; N] {
    parts
        .try_into()
        .expect("an adaLN linear is built with its number of parts")
}
