//! Keys and values of cells that were already forwarded.

use burn::tensor::{Device, Tensor, TensorData};
use demask_kernels::attention::KeptHeads;
use demask_kernels::{Bf16, Precision};

use crate::ops::on_cpu;
use crate::{NnError, TransformerConfig};

/// Keys and values of every layer for the cells of one sequence that stand before a request.
///
/// Keys are kept rotated, and in bf16 where attention would round them anyhow: in every type of weights but f32. A network that predicts cell `i` at cell `i - 1` keeps its final hidden
/// states as well: the first cell of the next request is predicted at the last one here. Appending
/// is what a forward pass with this cache does; a decoder that forwards cells it may still change
/// cuts them off again with [`truncate`](Self::truncate). Caches of one request need not be equally
/// long. No gradient flows through one.
#[derive(Debug, Clone, Default)]
pub struct KvCache {
    layers: Vec<CachedLayer>,
    /// `[cached, 1, d_model]`.
    hidden: Option<CachedRows>,
    /// `[n_kv_heads, head_dim]`, once there is anything.
    heads: [usize; 2],
}

/// Keys and values of one layer, each `[cached, n_kv_heads, head_dim]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct CachedLayer {
    pub keys: CachedRows,
    pub values: CachedRows,
}

/// Rows `[rows, heads, width]` that grow at the end. On the CPU they are plain memory, so that a step writes its own rows
/// and copies those before only when their room runs out.
#[derive(Debug, Clone, Default)]
pub(crate) enum CachedRows {
    #[default]
    None,
    Host(KeptHeads),
    /// The same for products in bf16, rounded as those would round them.
    HostBf16(KeptHeads<Bf16>),
    Device(Tensor<3>),
}

impl CachedRows {
    /// `[rows, heads, width]`.
    fn dims(&self) -> [usize; 3] {
        match self {
            Self::None => [0; 3],
            Self::Host(rows) => rows.dims(),
            Self::HostBf16(rows) => rows.dims(),
            Self::Device(rows) => rows.dims(),
        }
    }

    fn truncate(&mut self, length: usize) {
        match self {
            Self::Host(rows) => rows.truncate(length),
            Self::HostBf16(rows) => rows.truncate(length),
            Self::Device(rows) if rows.dims()[0] > length => {
                *rows = rows.clone().narrow(0, 0, length);
            }
            Self::None | Self::Device(_) => {}
        }
    }

    /// Appends rows that lie in memory, of heads of a width, as products in `precision` read them.
    ///
    /// # Panics
    /// When the others do not lie there, or not so: [`KvCache::check`] has seen to that.
    pub(crate) fn append_values(&mut self, new: &[f32], heads: [usize; 2], precision: Precision) {
        if matches!(self, Self::None) {
            *self = match precision {
                Precision::F32 => Self::Host(KeptHeads::new(heads)),
                Precision::Bf16 => Self::HostBf16(KeptHeads::new(heads)),
            };
        }
        match (self, precision) {
            (Self::Host(rows), Precision::F32) => rows.push(new),
            (Self::HostBf16(rows), Precision::Bf16) => rows.push(new),
            _ => panic!("cached rows of two devices or precisions"),
        }
    }

    /// Appends `[rows, heads, width]` wherever they live, unrounded.
    pub(crate) fn append(&mut self, new: Tensor<3>) {
        let [_, heads, width] = new.dims();
        match self {
            Self::Device(old) => *old = Tensor::cat(vec![old.clone(), new], 0),
            _ if on_cpu(&new.device()) => {
                let data = new.into_data();
                let values = data.as_slice::<f32>().expect("rows are f32");
                self.append_values(values, [heads, width], Precision::F32);
            }
            Self::None => *self = Self::Device(new),
            _ => panic!("cached rows of two devices"),
        }
    }

    /// The rows from `from` on as a tensor of `f32`.
    pub(crate) fn tensor(&self, from: usize, device: &Device) -> Tensor<3> {
        let [rows, heads, width] = self.dims();
        let values = match self {
            Self::None => Vec::new(),
            Self::Host(all) => all.rows_from(from),
            Self::HostBf16(all) => all.rows_from(from),
            Self::Device(all) => return all.clone().narrow(0, from, rows - from),
        };
        Tensor::from_data(TensorData::new(values, [rows - from, heads, width]), device)
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
    pub(crate) fn check(
        &self,
        config: &TransformerConfig,
        device: &Device,
        precision: Precision,
    ) -> Result<(), NnError> {
        let Some(first) = self.layers.first() else {
            return Ok(());
        };
        let refuse = |what| {
            Err(NnError::Input(format!(
                "the cache is of a network {what}; begin with an empty one"
            )))
        };
        let found = match &first.keys {
            CachedRows::Device(_) => None,
            CachedRows::None => return Ok(()),
            CachedRows::Host(_) => Some(Precision::F32),
            CachedRows::HostBf16(_) => Some(Precision::Bf16),
        };
        if found.is_some() != on_cpu(device) {
            return refuse("on another device");
        }
        if found.is_some_and(|found| found != precision) {
            return refuse("whose attention has another number type");
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
        let hidden = hidden.map(|[rows, _, width]| [rows, width]);
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
        let [rows, ..] = hidden.dims();
        Some(hidden.tensor(rows.checked_sub(1)?, device).squeeze_dim(1))
    }

    /// Appends the final hidden states of a request, `[length, d_model]`.
    pub(crate) fn append_hidden(&mut self, new: Tensor<2>) {
        let [rows, width] = new.dims();
        let hidden = self.hidden.get_or_insert_default();
        hidden.append(new.reshape([rows, 1, width]));
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
