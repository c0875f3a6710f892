//! Self-attention over the pixels of a picture.

use burn::module::Module;
use burn::tensor::Tensor;
use demask_kernels::attention::Precision;

use super::UNetConfig;
use super::conv::Norm;
use crate::transformer::{Linear, Loader};
use crate::{AttentionMask, NnError, ops};

/// `x + out(attention(q, k, v))` with queries, keys and values of the norm of `x`; every pixel sees every pixel.
#[derive(Module, Debug)]
pub(super) struct Attention {
    norm: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    head: usize,
}

impl Attention {
    pub fn load(
        name: &str,
        channels: usize,
        config: &UNetConfig,
        loader: &mut Loader<'_>,
    ) -> Result<Self, NnError> {
        let norm = Norm::load(&format!("{name}.group_norm"), channels, config, loader)?;
        let mut linear =
            |part: &str| Linear::load(&format!("{name}.{part}"), [channels; 2], true, loader);
        Ok(Self {
            norm,
            q: linear("to_q")?,
            k: linear("to_k")?,
            v: linear("to_v")?,
            out: linear("to_out.0")?,
            head: config.head_dim,
        })
    }

    /// `[batch, channels, height, width]` to the same shape.
    ///
    /// # Errors
    /// Those of the mask of all pixels.
    pub fn forward(&self, x: Tensor<4>) -> Result<Tensor<4>, NnError> {
        let [batch, channels, height, width] = x.dims();
        let (pixels, heads) = (height * width, channels / self.head);
        // Channels become the last dimension, as linears and attention read rows.
        let rows = self.norm.forward(x.clone());
        let rows = rows.reshape([batch, channels, pixels]).swap_dims(1, 2);
        let rows = rows.reshape([batch * pixels, channels]);
        let heads = |linear: &Linear| {
            let y = linear.forward(rows.clone());
            y.reshape([batch, pixels, heads, self.head])
        };
        let (q, k, v) = (heads(&self.q), heads(&self.k), heads(&self.v));
        let mask = AttentionMask::full();
        let mask = mask.for_request(batch, pixels, 0)?;
        let y = ops::attention(q, k, v, &mask, Precision::F32);
        let y = self.out.forward(y.reshape([batch * pixels, channels]));
        let y = y.reshape([batch, pixels, channels]).swap_dims(1, 2);
        Ok(x + y.reshape([batch, channels, height, width]))
    }
}
