//! Keys and values of cells that were already forwarded.

use burn::tensor::{Device, Tensor, TensorData};

use crate::ops::on_cpu;
use crate::{NnError, TransformerConfig};

/// Keys and values of every layer for the cells of one sequence that stand before a request.
///
/// Keys are kept rotated. A network that predicts cell `i` at cell `i - 1` keeps its final hidden
/// states as well: the first cell of the next request is predicted at the last one here. Appending
/// is what a forward pass with this cache does; a decoder that forwards cells it may still change
/// cuts them off again with [`truncate`](Self::truncate). Caches of one request need not be equally
/// long. No gradient flows through one.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<CachedLayer>,
    /// `[cached, d_model]`.
    hidden: Option<CachedRows>,
    /// `[n_kv_heads, head_dim]`, once there is anything.
    heads: [usize; 2],
}

/// Keys and values of one layer, each `[cached, n_kv_heads * head_dim]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct CachedLayer {
    pub keys: CachedRows,
    pub values: CachedRows,
}

/// Rows that grow at the end. On the CPU they are plain memory, so that a step writes its own rows and
/// copies none of those before.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "two a layer; a tensor is a handle on the heap already"
)]
pub(crate) enum CachedRows {
    /// Row-major.
    Host {
        /// The values.
        values: Vec<f32>,
        /// Width of a row.
        width: usize,
    },
    /// `[rows, width]`.
    Device(Tensor<2>),
}

impl Default for CachedRows {
    fn default() -> Self {
        Self::Host {
            values: Vec::new(),
            width: 0,
        }
    }
}

impl CachedRows {
    /// Number of rows and their width.
    fn dims(&self) -> [usize; 2] {
        match self {
            Self::Host { values, width } => [values.len() / (*width).max(1), *width],
            Self::Device(rows) => rows.dims(),
        }
    }

    fn truncate(&mut self, length: usize) {
        match self {
            Self::Host { values, width } => values.truncate(length * *width),
            Self::Device(rows) if rows.dims()[0] > length => {
                *rows = rows.clone().narrow(0, 0, length);
            }
            Self::Device(_) => {}
        }
    }

    /// Appends rows that lie in memory, of width `new_width`.
    ///
    /// # Panics
    /// When the others do not: [`KvCache::check`] has seen to that.
    pub(crate) fn append_values(&mut self, new: &[f32], new_width: usize) {
        let Self::Host { values, width } = self else {
            panic!("cached rows of two devices");
        };
        *width = new_width;
        values.extend_from_slice(new);
    }

    /// Appends `[rows, width]` wherever they live.
    pub(crate) fn append(&mut self, new: Tensor<2>) {
        let [_, width] = new.dims();
        match self {
            Self::Device(old) => *old = Tensor::cat(vec![old.clone(), new], 0),
            Self::Host { .. } if on_cpu(&new.device()) => {
                let data = new.into_data();
                self.append_values(data.as_slice::<f32>().expect("rows are f32"), width);
            }
            Self::Host { values, .. } => {
                assert!(values.is_empty(), "cached rows of two devices");
                *self = Self::Device(new);
            }
        }
    }

    /// The values, which lie in memory.
    ///
    /// # Panics
    /// When they do not.
    pub(crate) fn values(&self) -> &[f32] {
        match self {
            Self::Host { values, .. } => values,
            Self::Device(_) => panic!("cached rows of another device"),
        }
    }

    /// The rows from `from` on as a tensor.
    pub(crate) fn tensor(&self, from: usize, device: &Device) -> Tensor<2> {
        let [rows, width] = self.dims();
        match self {
            Self::Host { values, .. } => {
                let values = values[from * width..].to_vec();
                Tensor::from_data(TensorData::new(values, [rows - from, width]), device)
            }
            Self::Device(all) => all.clone().narrow(0, from, rows - from),
        }
    }
}

impl KvCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of cached cells.
    pub fn length(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.keys.dims()[0])
    }

    /// Forgets the cells at and past `length`.
    pub fn truncate(&mut self, length: usize) {
        if length == 0 {
            *self = Self::default();
            return;
        }
        for layer in &mut self.layers {
            layer.keys.truncate(length);
            layer.values.truncate(length);
        }
        if let Some(hidden) = &mut self.hidden {
            hidden.truncate(length);
        }
    }

    /// Whether a network of this configuration on this device can go on from here; an empty cache fits
    /// every one.
    pub(crate) fn check(&self, config: &TransformerConfig, device: &Device) -> Result<(), NnError> {
        let Some(first) = self.layers.first() else {
            return Ok(());
        };
        if matches!(first.keys, CachedRows::Host { .. }) != on_cpu(device) {
            return Err(NnError::Input(
                "the cache is of a network on another device; begin with an empty one".into(),
            ));
        }
        let [kv_heads, head_dim] = self.heads;
        let found = [self.layers.len(), kv_heads, head_dim];
        let wanted = [config.n_layers, config.n_kv_heads, config.head_dim];
        if found != wanted {
            return Err(NnError::Input(format!(
                "the cache is of another network: [layers, n_kv_heads, head_dim] is {found:?} in it and \
                 {wanted:?} here; begin with an empty one"
            )));
        }
        let hidden = self.hidden.as_ref().map(CachedRows::dims);
        let wanted = [self.length(), config.d_model];
        if config.logit_shift && hidden != Some(wanted) {
            return Err(NnError::Input(format!(
                "the cache is of another network: its hidden states are {hidden:?}, this network needs \
                 {wanted:?}; begin with an empty one"
            )));
        }
        Ok(())
    }

    /// Final hidden state of the last cached cell, `[1, d_model]`, where it is kept.
    pub(crate) fn last_hidden(&self, device: &Device) -> Option<Tensor<2>> {
        let hidden = self.hidden.as_ref()?;
        let [rows, _] = hidden.dims();
        Some(hidden.tensor(rows.checked_sub(1)?, device))
    }

    /// Appends the final hidden states of a request, `[length, d_model]`.
    pub(crate) fn append_hidden(&mut self, new: Tensor<2>) {
        self.hidden.get_or_insert_default().append(new);
    }

    /// The keys and values of `layer`, of `heads` heads of `width` each.
    pub(crate) fn layer(&mut self, layer: usize, heads: [usize; 2]) -> &mut CachedLayer {
        self.heads = heads;
        if layer == self.layers.len() {
            self.layers.push(CachedLayer::default());
        }
        &mut self.layers[layer]
    }
}
