use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo as StoredInfo};
use serde::Deserialize;

use super::{FileBytes, TensorFile, TensorInfo, read_within};
use crate::ModelError;

/// Longest header that is read. The format's own readers use the same limit.
const MAX_HEADER: usize = 100_000_000;

/// One safetensors file.
#[derive(Debug)]
pub struct Safetensors {
    label: String,
    bytes: FileBytes,
    /// Where the tensors begin, after the length and the header.
    start: usize,
    tensors: BTreeMap<String, StoredInfo>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    tensors: BTreeMap<String, StoredInfo>,
}

impl Safetensors {
    /// Maps a file and checks its header.
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
        let (start, header) =
            read_header(&bytes).map_err(|problem| ModelError::format(&label, problem))?;
        check_layout(&header.tensors, bytes.len() - start)
            .map_err(|problem| ModelError::format(&label, problem))?;
        let metadata = header.metadata.unwrap_or_default();
        Ok(Self {
            label,
            bytes,
            start,
            tensors: header.tensors,
            metadata,
        })
    }

    /// Where the bytes of a tensor lie.
    fn place(&self, name: &str) -> Option<Range<usize>> {
        let (from, to) = self.tensors.get(name)?.data_offsets;
        Some(self.start + from..self.start + to)
    }

    /// The free-form strings in the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

/// Where the tensors begin, and the header.
fn read_header(bytes: &[u8]) -> Result<(usize, Header), String> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format!(
            "the file has {} bytes, too few for a safetensors header; it was cut off or is \
             another kind of file",
            bytes.len()
        ));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER as u64 {
        return Err(format!(
            "says that its header has {length} bytes (at most {MAX_HEADER} are read); it is \
             damaged or not a safetensors file"
        ));
    }
    let length = length as usize;
    let Some(header) = rest.get(..length) else {
        return Err(format!(
            "says that its header has {length} bytes but only {} follow; the file was cut off. \
             Download or copy it again",
            rest.len()
        ));
    };
    let header = serde_json::from_slice(header)
        .map_err(|e| format!("the header cannot be read: {e}. The file is damaged"))?;
    Ok((8 + length, header))
}

/// The tensors must follow one another without gap or overlap and fill the file.
///
/// The checks repeat those of the safetensors crate in arithmetic that cannot wrap, and name the
/// tensors at fault.
fn check_layout(tensors: &BTreeMap<String, StoredInfo>, available: usize) -> Result<(), String> {
    let mut order: Vec<(&str, &StoredInfo)> =
        tensors.iter().map(|(n, i)| (n.as_str(), i)).collect();
    order.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    let mut before = "the header";
    for (name, info) in order {
        let (from, to) = info.data_offsets;
        if from > to {
            return Err(format!(
                "tensor `{name}` ends at byte {to}, before it begins at {from}"
            ));
        }
        if from < end {
            return Err(format!(
                "tensor `{name}` begins at byte {from} but `{before}` ends at {end}: they overlap"
            ));
        }
        if from > end {
            return Err(format!(
                "bytes {end} to {from}, before tensor `{name}`, belong to nothing"
            ));
        }
        let bits = info
            .shape
            .iter()
            .try_fold(info.dtype.bitsize(), |bits, dim| bits.checked_mul(*dim))
            .ok_or_else(|| format!("the shape {:?} of tensor `{name}` is absurd", info.shape))?;
        if bits % 8 != 0 || bits / 8 != to - from {
            return Err(format!(
                "tensor `{name}` of type {:?} and shape {:?} needs {} bytes but the header gives \
                 it {}",
                info.dtype,
                info.shape,
                bits.div_ceil(8),
                to - from
            ));
        }
        if to > available {
            return Err(format!(
                "tensor `{name}` ends at byte {to} but only {available} bytes follow the header; \
                 the file was cut off. Download or copy it again"
            ));
        }
        end = to;
        before = name;
    }
    if end != available {
        return Err(format!(
            "{} bytes follow the last tensor; the file is damaged",
            available - end
        ));
    }
    Ok(())
}

impl TensorFile for Safetensors {
    fn label(&self) -> &str {
        &self.label
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.get(name).map(|info| TensorInfo {
            dtype: dtype_name(info.dtype),
            shape: info.shape.clone(),
        })
    }

    fn bytes(&self, name: &str) -> Result<&[u8], ModelError> {
        self.place(name)
            .and_then(|place| self.bytes.get(place))
            .ok_or_else(|| ModelError::format(&self.label, format!("has no tensor `{name}`")))
    }

    fn read(&self, name: &str, range: Range<usize>, out: &mut Vec<u8>) -> Result<(), ModelError> {
        read_within(
            &self.label,
            &self.bytes,
            (name, self.place(name)),
            range,
            out,
        )
    }
}

fn dtype_name(dtype: Dtype) -> String {
    format!("{dtype:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> FileBytes {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        FileBytes::Owned(bytes)
    }

    fn problem(bytes: FileBytes) -> String {
        Safetensors::from_bytes("x.safetensors", bytes)
            .unwrap_err()
            .to_string()
    }

    const GOOD: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]},"__metadata__":{"format":"pt"}}"#;

    #[test]
    fn reads_names_types_shapes_and_bytes() {
        let data: Vec<u8> = (0..12).collect();
        let file = Safetensors::from_bytes("x", file(GOOD, &data)).unwrap();
        assert_eq!(file.names(), ["a", "b"]);
        assert_eq!(
            file.info("b"),
            Some(TensorInfo {
                dtype: "BF16".into(),
                shape: vec![1, 2]
            })
        );
        assert_eq!(file.bytes("b").unwrap(), [8, 9, 10, 11]);
        assert_eq!(file.metadata()["format"], "pt");
        assert!(
            file.bytes("c")
                .unwrap_err()
                .to_string()
                .contains("no tensor `c`")
        );
    }

    #[test]
    fn empty_and_short_files() {
        assert!(problem(FileBytes::Owned(vec![])).contains("0 bytes, too few"));
        assert!(problem(FileBytes::Owned(vec![1, 2, 3])).contains("3 bytes, too few"));
    }

    #[test]
    fn truncated_file_names_the_tensor() {
        let said = problem(file(GOOD, &[0; 11]));
        assert!(said.contains("`b` ends at byte 12 but only 11"), "{said}");
    }

    #[test]
    fn truncated_header() {
        let FileBytes::Owned(bytes) = file(GOOD, &[]) else {
            unreachable!()
        };
        let said = problem(FileBytes::Owned(bytes[..50].to_vec()));
        assert!(said.contains("only 42 follow"), "{said}");
    }

    #[test]
    fn huge_header_is_refused_before_it_is_read() {
        for length in [100_000_001u64, u64::MAX] {
            let said = problem(FileBytes::Owned(length.to_le_bytes().to_vec()));
            assert!(
                said.contains(&format!("header has {length} bytes")),
                "{said}"
            );
        }
    }

    #[test]
    fn garbled_header() {
        assert!(problem(file("not json", &[])).contains("cannot be read"));
        assert!(problem(file("\u{fffd}{", &[])).contains("cannot be read"));
        let said = problem(file(
            r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#,
            &[0; 8],
        ));
        assert!(said.contains("F33"), "{said}");
        let said = problem(file(
            r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
            &[0; 8],
        ));
        assert!(said.contains("cannot be read"), "{said}");
    }

    #[test]
    fn lying_lengths() {
        let said = problem(file(
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            &[0; 8],
        ));
        assert!(
            said.contains("needs 12 bytes but the header gives it 8"),
            "{said}"
        );
        let said = problem(file(
            r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#,
            &[0; 8],
        ));
        assert!(said.contains("is absurd"), "{said}");
        let said = problem(file(
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            &[0; 8],
        ));
        assert!(said.contains("before it begins"), "{said}");
    }

    #[test]
    fn offsets_that_would_wrap_around() {
        // 2^64 - 8 bytes of U8: adding the header length would wrap in 64 bits.
        let header = r#"{"a":{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2305843009213693951,2305843009213693952]}}"#;
        let said = problem(file(header, &[0; 8]));
        assert!(said.contains("only 8 bytes follow"), "{said}");
    }

    #[test]
    fn overlap_and_gap() {
        let two = |b: &str| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{b}}}}}"#
            )
        };
        let said = problem(file(&two("[4,8]"), &[0; 8]));
        assert!(
            said.contains("`b` begins at byte 4 but `a` ends at 8: they overlap"),
            "{said}"
        );
        let said = problem(file(&two("[12,16]"), &[0; 16]));
        assert!(said.contains("bytes 8 to 12"), "{said}");
        let said = problem(file(&two("[8,12]"), &[0; 20]));
        assert!(said.contains("8 bytes follow the last tensor"), "{said}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, length in 0u64..64) {
            let _ = Safetensors::from_bytes("x", FileBytes::Owned(bytes.clone()));
            let mut framed = length.to_le_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            let _ = Safetensors::from_bytes("x", FileBytes::Owned(framed));
        }

        #[test]
        fn a_flipped_byte_never_panics(at in 0usize..160, value: u8) {
            let FileBytes::Owned(mut bytes) = file(GOOD, &[0; 12]) else { unreachable!() };
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(file) = Safetensors::from_bytes("x", FileBytes::Owned(bytes)) {
                for name in file.names() {
                    let _ = file.bytes(name).unwrap();
                }
            }
        }
    }
}
