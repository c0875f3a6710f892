use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use super::SaveDtype;
use crate::ModelError;

/// Name, shape and values of a tensor to be written.
type Named = (String, Vec<usize>, Vec<f32>);

/// Replaces `path` by what `fill` writes, all or nothing.
///
/// The bytes go to a file beside it, are synchronised to disk, and take the name in one step: a
/// reader sees the old file or the new one, and a failure leaves the old one.
pub(crate) fn replace_file(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), ModelError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let beside = folder.join(format!(".{name}.{}-{count}.tmp", std::process::id()));
    let write = || {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&beside)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        fill(&mut out)?;
        out.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(&beside, path)?;
        // The new name itself must reach the disk too; not every system can open a folder.
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
        Ok(())
    };
    write().map_err(|e: std::io::Error| {
        let _ = fs::remove_file(&beside);
        ModelError::io("write", path, e)
    })
}

/// Writes tensors as a safetensors file, all or nothing.
///
/// # Errors
/// [`ModelError::Io`] when the file cannot be written; an older file of that name is left alone.
pub fn write_safetensors(
    path: &Path,
    tensors: &[Named],
    dtype: SaveDtype,
) -> Result<(), ModelError> {
    replace_file(path, |out| write_to(out, tensors, dtype))
}

/// The bytes of a safetensors file.
pub fn encode_safetensors(tensors: &[Named], dtype: SaveDtype) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = write_to(&mut out, tensors, dtype);
    out
}

fn write_to(out: &mut dyn Write, tensors: &[Named], dtype: SaveDtype) -> std::io::Result<()> {
    let mut header = Map::new();
    // Python's loaders want to know which framework's conventions the tensors follow.
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for (name, shape, values) in tensors {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        let end = offset + values.len() * dtype.width();
        let info = json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [offset, end] });
        header.insert(name.clone(), info);
        offset = end;
    }
    let mut header = Value::Object(header).to_string();
    // The tensors begin at a multiple of 8 bytes, so that they can be mapped aligned.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    let mut bytes = Vec::new();
    for (_, _, values) in tensors {
        for part in values.chunks(1 << 18) {
            bytes.clear();
            dtype.encode(part, &mut bytes);
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    fn tensors() -> Vec<Named> {
        vec![
            ("b".into(), vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]),
            ("a".into(), vec![1], vec![-0.5]),
        ]
    }

    #[test]
    fn the_reference_reader_opens_it() {
        for (dtype, bytes) in [(SaveDtype::F32, 4), (SaveDtype::Bf16, 2)] {
            let file = encode_safetensors(&tensors(), dtype);
            let read = SafeTensors::deserialize(&file).unwrap();
            assert_eq!(read.tensor("b").unwrap().shape(), [2, 2]);
            assert_eq!(read.tensor("b").unwrap().data().len(), 4 * bytes);
            let a = read.tensor("a").unwrap();
            assert_eq!(
                crate::format::to_f32(dtype.name(), a.data()),
                Some(vec![-0.5])
            );
        }
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "old").unwrap();
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let result = replace_file(&path, |out| out.write_all(b"new").and(Err(full())));
        assert!(result.unwrap_err().to_string().starts_with("cannot write"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        replace_file(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let said = write_safetensors(Path::new("/nowhere/at/all/x"), &[], SaveDtype::F32);
        assert!(said.unwrap_err().to_string().contains("/nowhere/at/all/x"));
    }
}
