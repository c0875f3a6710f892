//! Keys and values of cells that were already forwarded.

use burn::tensor::Tensor;

use crate::{NnError, TransformerConfig};

/// Keys and values of every layer for the cells before a request.
///
/// Shapes per layer: `[batch, cached, n_kv_heads, head_dim]`, keys already rotated. A network that
/// predicts cell `i` at cell `i - 1` keeps its final hidden states as well, `[batch, cached, d_model]`:
/// the first cell of the next request is predicted at the last one here. Appending is
/// what a forward pass with this cache does; a decoder that forwards cells it may still change
/// cuts them off again with [`truncate`](Self::truncate).
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<(Tensor<4>, Tensor<4>)>,
    hidden: Option<Tensor<3>>,
}

impl KvCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of cached cells.
    pub fn length(&self) -> usize {
        self.layers.first().map_or(0, |(k, _)| k.dims()[1])
    }

    /// Forgets the cells at and past `length`.
    pub fn truncate(&mut self, length: usize) {
        if length == 0 {
            *self = Self::default();
            return;
        }
        for (k, v) in &mut self.layers {
            if k.dims()[1] > length {
                *k = k.clone().narrow(1, 0, length);
                *v = v.clone().narrow(1, 0, length);
            }
        }
        if let Some(hidden) = &mut self.hidden
            && hidden.dims()[1] > length
        {
            *hidden = hidden.clone().narrow(1, 0, length);
        }
    }

    /// Whether a network of this configuration can go on from here with `batch` sequences; an empty
    /// cache fits every one.
    pub(crate) fn check(&self, batch: usize, config: &TransformerConfig) -> Result<(), NnError> {
        let Some((first, _)) = self.layers.first() else {
            return Ok(());
        };
        let [found, cached, kv_heads, head_dim] = first.dims();
        if found != batch {
            return Err(NnError::Input(format!(
                "a cache of {found} sequences for a batch of {batch}"
            )));
        }
        let found = [self.layers.len(), kv_heads, head_dim];
        let wanted = [config.n_layers, config.n_kv_heads, config.head_dim];
        if found != wanted {
            return Err(NnError::Input(format!(
                "the cache is of another network: [layers, n_kv_heads, head_dim] is {found:?} in it and \
                 {wanted:?} here; begin with an empty one"
            )));
        }
        let hidden = self.hidden.as_ref().map(Tensor::dims);
        if config.logit_shift && hidden != Some([batch, cached, config.d_model]) {
            return Err(NnError::Input(format!(
                "the cache is of another network: its hidden states are {hidden:?}, this network needs \
                 [{batch}, {cached}, {}]; begin with an empty one",
                config.d_model
            )));
        }
        Ok(())
    }

    /// Final hidden states of the last cached cells, `[batch, d_model]`, where they are kept.
    pub(crate) fn last_hidden(&self) -> Option<Tensor<2>> {
        self.hidden.as_ref().map(|hidden| {
            let [batch, cached, width] = hidden.dims();
            let last = hidden.clone().narrow(1, cached - 1, 1);
            last.reshape([batch, width])
        })
    }

    /// Appends the final hidden states of a request, `[batch, length, d_model]`.
    pub(crate) fn append_hidden(&mut self, new: Tensor<3>) {
        self.hidden = Some(match self.hidden.take() {
            Some(old) => Tensor::cat(vec![old, new], 1),
            None => new,
        });
    }

    /// Appends the keys and values of `layer` and gives all of that layer.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        k: Tensor<4>,
        v: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        if layer == self.layers.len() {
            self.layers.push((k, v));
        } else {
            let (old_k, old_v) = &mut self.layers[layer];
            *old_k = Tensor::cat(vec![old_k.clone(), k], 1);
            *old_v = Tensor::cat(vec![old_v.clone(), v], 1);
        }
        self.layers[layer].clone()
    }
}
