//! Containers of named tensors.
//!
//! | container | read by | from |
//! |---|---|---|
//! | one safetensors file | [`Safetensors`] | <https://github.com/huggingface/safetensors>, version 0.x format |
//! | safetensors shards with `model.safetensors.index.json` | [`Sharded`] | transformers |
//! | llama2.c version 0 | [`Llama2c`] | <https://github.com/karpathy/llama2.c>, `export.py` |
//!
//! A container is opened without reading its tensors: files are mapped into memory and only the
//! bytes that are asked for are touched or read. Nothing a file says about itself is believed before it is
//! checked against the length of the file, so no allocation is larger than the file justifies.

mod bytes;
mod dtype;
mod llama2c;
mod safetensors;
mod sharded;
mod write;

pub use self::bytes::FileBytes;
pub use dtype::{SaveDtype, to_f32};
pub(crate) use dtype::{widen, width};
pub(crate) use llama2c::encode as encode_llama2c;
pub use llama2c::{Llama2c, Llama2cShape};
pub use safetensors::Safetensors;
pub use sharded::Sharded;
pub(crate) use write::replace_file;
pub use write::{encode_safetensors, write_safetensors};

use std::ops::Range;
use std::path::Path;

use crate::ModelError;

/// A file, or several, that hold named tensors.
pub trait TensorFile: Send + Sync {
    /// The file or index, as messages name it.
    fn label(&self) -> &str;
    /// Names of all tensors, sorted.
    fn names(&self) -> Vec<&str>;
    /// Type and shape of a tensor.
    fn info(&self, name: &str) -> Option<TensorInfo>;
    /// The stored bytes of a tensor, little-endian, row-major.
    ///
    /// # Errors
    /// [`ModelError::Format`] when there is no such tensor.
    fn bytes(&self, name: &str) -> Result<&[u8], ModelError>;
    /// Copies a part of them into `out`, whose old contents are lost; see [`FileBytes::read`].
    ///
    /// # Errors
    /// As for [`bytes`](Self::bytes), [`ModelError::Format`] for a range outside the tensor, [`ModelError::Io`]
    /// when the file cannot be read.
    fn read(&self, name: &str, range: Range<usize>, out: &mut Vec<u8>) -> Result<(), ModelError>;
}

/// Type and shape of a stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Number type, as safetensors spells it: "F32", "BF16", …
    pub dtype: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// Copies a part of a tensor that lies at `place` in the file `label`.
fn read_within(
    label: &str,
    file: &FileBytes,
    (name, place): (&str, Option<Range<usize>>),
    range: Range<usize>,
    out: &mut Vec<u8>,
) -> Result<(), ModelError> {
    let place =
        place.ok_or_else(|| ModelError::format(label, format!("has no tensor `{name}`")))?;
    if range.start > range.end || range.end > place.len() {
        let found = place.len();
        let problem = format!("bytes {range:?} were asked of the {found} of tensor `{name}`");
        return Err(ModelError::format(label, problem));
    }
    let within = place.start + range.start..place.start + range.end;
    file.read(within, out)
        .map_err(|error| ModelError::io("read", Path::new(label), error))
}
