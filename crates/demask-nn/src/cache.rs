//! Keys and values of cells that were already forwarded.

use burn::tensor::Tensor;

/// Keys and values of every layer for the cells before a request.
///
/// Shapes per layer: `[batch, cached, n_kv_heads, head_dim]`, keys already rotated. Appending is
/// what a forward pass with this cache does; a decoder that forwards cells it may still change
/// cuts them off again with [`truncate`](Self::truncate).
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<(Tensor<4>, Tensor<4>)>,
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

    /// Number of sequences, if anything is cached.
    pub fn batch(&self) -> Option<usize> {
        self.layers.first().map(|(k, _)| k.dims()[0])
    }

    /// Forgets the cells at and past `length`.
    pub fn truncate(&mut self, length: usize) {
        if length == 0 {
            self.layers.clear();
            return;
        }
        for (k, v) in &mut self.layers {
            if k.dims()[1] > length {
                *k = k.clone().narrow(1, 0, length);
                *v = v.clone().narrow(1, 0, length);
            }
        }
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
