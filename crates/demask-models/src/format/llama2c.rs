use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::{FileBytes, TensorFile, TensorInfo, read_within};
use crate::ModelError;

/// Bytes of the header: seven 32-bit integers.
const HEADER: usize = 28;

/// A llama2.c checkpoint, version 0: a header and f32 tensors in a fixed order.
///
/// The tensors carry the names they have in llama2.c's Python model.
#[derive(Debug)]
pub struct Llama2c {
    label: String,
    bytes: FileBytes,
    shape: Llama2cShape,
    /// Name to (shape, first byte, one past the last byte).
    tensors: BTreeMap<String, (Vec<usize>, usize, usize)>,
}

/// The header of a llama2.c checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Llama2cShape {
    /// Width of the residual stream.
    pub dim: usize,
    /// Inner width of the MLP.
    pub hidden_dim: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_seq_len: usize,
    /// The head reuses the embedding (written as a positive vocabulary size).
    pub tied: bool,
}

impl Llama2c {
    /// Maps a file and checks its header against its length.
    ///
    /// # Errors
    /// [`ModelError::Io`] when it cannot be opened, [`ModelError::Format`] when it is damaged.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::from_bytes(path.display().to_string(), FileBytes::map(path)?)
    }

    /// Reads a file that is in memory.
    ///
    /// # Errors
    /// [`ModelError::Format`] when it is damaged.
    pub fn from_bytes(label: impl Into<String>, bytes: FileBytes) -> Result<Self, ModelError> {
        let label = label.into();
        let (shape, tensors) =
            layout(&bytes).map_err(|problem| ModelError::format(&label, problem))?;
        Ok(Self {
            label,
            bytes,
            shape,
            tensors,
        })
    }

    /// What the header says.
    pub fn shape(&self) -> Llama2cShape {
        self.shape
    }
}

type Layout = BTreeMap<String, (Vec<usize>, usize, usize)>;

fn layout(bytes: &[u8]) -> Result<(Llama2cShape, Layout), String> {
    let shape = header(bytes)?;
    let s = &shape;
    let head = s.dim / s.n_heads;
    let kv = head * s.n_kv_heads;
    // In llama2.c's order: all layers of one kind lie together.
    let mut tensors: Vec<(String, Vec<usize>)> =
        vec![("tok_embeddings.weight".into(), vec![s.vocab_size, s.dim])];
    let kinds: [(&str, Vec<usize>); 9] = [
        ("attention_norm", vec![s.dim]),
        ("attention.wq", vec![s.dim, s.dim]),
        ("attention.wk", vec![kv, s.dim]),
        ("attention.wv", vec![kv, s.dim]),
        ("attention.wo", vec![s.dim, s.dim]),
        ("ffn_norm", vec![s.dim]),
        ("feed_forward.w1", vec![s.hidden_dim, s.dim]),
        ("feed_forward.w2", vec![s.dim, s.hidden_dim]),
        ("feed_forward.w3", vec![s.hidden_dim, s.dim]),
    ];
    let per_layer = kinds
        .iter()
        .try_fold(0usize, |sum, (_, dims)| sum.checked_add(values(dims)?));
    let numbers = per_layer
        .and_then(|n| n.checked_mul(s.n_layers))
        .and_then(|n| n.checked_add(values(&[s.vocab_size, s.dim])?))
        .ok_or("the sizes in the header are absurd; this is no llama2.c checkpoint")?;
    // Before any list is built: the layers must fit into the file.
    if numbers > bytes.len() / 4 {
        return Err(too_short(bytes, numbers.saturating_mul(4)));
    }
    for (kind, dims) in &kinds {
        for layer in 0..s.n_layers {
            tensors.push((format!("layers.{layer}.{kind}.weight"), dims.clone()));
        }
    }
    tensors.push(("norm.weight".into(), vec![s.dim]));
    // Two rotary tables that older readers used; kept in the file, not used.
    tensors.push(("freqs_cos".into(), vec![s.max_seq_len, head / 2]));
    tensors.push(("freqs_sin".into(), vec![s.max_seq_len, head / 2]));
    if !s.tied {
        tensors.push(("output.weight".into(), vec![s.vocab_size, s.dim]));
    }
    let mut at = HEADER;
    let mut placed = BTreeMap::new();
    for (name, dims) in tensors {
        let end = values(&dims)
            .and_then(|n| n.checked_mul(4))
            .and_then(|n| n.checked_add(at))
            .ok_or("the sizes in the header are absurd; this is no llama2.c checkpoint")?;
        placed.insert(name, (dims, at, end));
        at = end;
    }
    if at > bytes.len() {
        return Err(too_short(bytes, at));
    }
    if at < bytes.len() {
        return Err(format!(
            "has {} bytes but its header describes {at}; it is damaged or of another version",
            bytes.len()
        ));
    }
    Ok((shape, placed))
}

fn header(bytes: &[u8]) -> Result<Llama2cShape, String> {
    let Some(header) = bytes.get(..HEADER) else {
        return Err(format!(
            "has {} bytes, too few for a llama2.c header",
            bytes.len()
        ));
    };
    let numbers: Vec<i32> = header
        .as_chunks::<4>()
        .0
        .iter()
        .map(|chunk| i32::from_le_bytes(*chunk))
        .collect();
    let &[
        dim,
        hidden_dim,
        n_layers,
        n_heads,
        n_kv_heads,
        vocab,
        max_seq_len,
    ] = &numbers[..]
    else {
        return Err("has no llama2.c header".into());
    };
    let positive = [dim, hidden_dim, n_layers, n_heads, n_kv_heads, max_seq_len];
    let plausible = positive.iter().all(|n| *n > 0)
        && vocab != 0
        && vocab != i32::MIN
        && dim % n_heads == 0
        && n_heads % n_kv_heads == 0;
    if !plausible {
        return Err(format!(
            "the header {numbers:?} (dim, hidden, layers, heads, kv heads, vocabulary, length) \
             cannot be right; this is no llama2.c version 0 checkpoint"
        ));
    }
    Ok(Llama2cShape {
        dim: dim as usize,
        hidden_dim: hidden_dim as usize,
        n_layers: n_layers as usize,
        n_heads: n_heads as usize,
        n_kv_heads: n_kv_heads as usize,
        vocab_size: vocab.unsigned_abs() as usize,
        max_seq_len: max_seq_len as usize,
        tied: vocab > 0,
    })
}

fn values(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim))
}

fn too_short(bytes: &[u8], needed: usize) -> String {
    format!(
        "has {} bytes but its header describes at least {needed}; it was cut off or is no \
         llama2.c checkpoint",
        bytes.len()
    )
}

impl TensorFile for Llama2c {
    fn label(&self) -> &str {
        &self.label
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.get(name).map(|(shape, ..)| TensorInfo {
            dtype: "F32".into(),
            shape: shape.clone(),
        })
    }

    fn bytes(&self, name: &str) -> Result<&[u8], ModelError> {
        self.tensors
            .get(name)
            .and_then(|(_, from, to)| self.bytes.get(*from..*to))
            .ok_or_else(|| ModelError::format(&self.label, format!("has no tensor `{name}`")))
    }

    fn read(&self, name: &str, range: Range<usize>, out: &mut Vec<u8>) -> Result<(), ModelError> {
        let place = self.tensors.get(name).map(|(_, from, to)| *from..*to);
        read_within(&self.label, &self.bytes, (name, place), range, out)
    }
}

/// Writes a llama2.c checkpoint; `tensor` supplies the values by name.
pub(crate) fn encode(shape: Llama2cShape, mut tensor: impl FnMut(&str) -> Vec<f32>) -> Vec<u8> {
    let vocab = shape.vocab_size as i32;
    let mut out = Vec::new();
    for number in [
        shape.dim as i32,
        shape.hidden_dim as i32,
        shape.n_layers as i32,
        shape.n_heads as i32,
        shape.n_kv_heads as i32,
        if shape.tied { vocab } else { -vocab },
        shape.max_seq_len as i32,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let mut push = |name: &str| {
        for value in tensor(name) {
            out.extend_from_slice(&value.to_le_bytes());
        }
    };
    push("tok_embeddings.weight");
    for kind in [
        "attention_norm",
        "attention.wq",
        "attention.wk",
        "attention.wv",
        "attention.wo",
        "ffn_norm",
        "feed_forward.w1",
        "feed_forward.w2",
        "feed_forward.w3",
    ] {
        for layer in 0..shape.n_layers {
            push(&format!("layers.{layer}.{kind}.weight"));
        }
    }
    for name in ["norm.weight", "freqs_cos", "freqs_sin"] {
        push(name);
    }
    if !shape.tied {
        push("output.weight");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Llama2cShape = Llama2cShape {
        dim: 4,
        hidden_dim: 6,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        vocab_size: 5,
        max_seq_len: 3,
        tied: true,
    };

    fn small(shape: Llama2cShape) -> Vec<u8> {
        let mut count = 0.0f32;
        encode(shape, |name| {
            let n = match name {
                "tok_embeddings.weight" | "output.weight" => 20,
                "norm.weight" => 4,
                "freqs_cos" | "freqs_sin" => 3,
                name if name.contains("norm") => 4,
                name if name.contains("wq") || name.contains("wo") => 16,
                name if name.contains("wk") || name.contains("wv") => 8,
                _ => 24,
            };
            (0..n)
                .map(|_| {
                    count += 1.0;
                    count
                })
                .collect()
        })
    }

    fn problem(bytes: Vec<u8>) -> String {
        Llama2c::from_bytes("m.bin", FileBytes::Owned(bytes))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn tensors_lie_in_llama2c_order() {
        let file = Llama2c::from_bytes("m.bin", FileBytes::Owned(small(SHAPE))).unwrap();
        assert_eq!(file.shape(), SHAPE);
        // 20 embedding values, two layers of 4 norm values, then layer 0 of wq.
        let wq = file.bytes("layers.0.attention.wq.weight").unwrap();
        assert_eq!(wq[..4], 29f32.to_le_bytes());
        let wq = file.bytes("layers.1.attention.wq.weight").unwrap();
        assert_eq!(wq[..4], 45f32.to_le_bytes());
        assert!(file.info("output.weight").is_none());
        let untied = Llama2cShape {
            tied: false,
            ..SHAPE
        };
        let file = Llama2c::from_bytes("m.bin", FileBytes::Owned(small(untied))).unwrap();
        assert_eq!(file.info("output.weight").unwrap().shape, [5, 4]);
    }

    #[test]
    fn cut_off_long_and_lying_files() {
        let good = small(SHAPE);
        assert!(problem(good[..20].to_vec()).contains("too few for a llama2.c header"));
        assert!(problem(good[..good.len() - 4].to_vec()).contains("it was cut off"));
        let mut long = good.clone();
        long.push(0);
        assert!(problem(long).contains("another version"));
        for (field, value) in [
            (0, 7i32),
            (2, i32::MAX),
            (3, 0),
            (3, -1),
            (4, 3),
            (5, i32::MIN),
        ] {
            let mut bad = good.clone();
            bad[field * 4..field * 4 + 4].copy_from_slice(&value.to_le_bytes());
            let said = problem(bad);
            assert!(said.contains("llama2.c"), "field {field} = {value}: {said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(numbers: [i32; 7], tail in 0usize..64) {
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            bytes.resize(HEADER + tail, 0);
            let _ = Llama2c::from_bytes("m.bin", FileBytes::Owned(bytes));
        }
    }
}
