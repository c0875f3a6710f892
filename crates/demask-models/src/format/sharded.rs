use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path};

use serde::Deserialize;

use super::{Safetensors, TensorFile, TensorInfo};
use crate::ModelError;

/// Most shards an index may name.
const MAX_SHARDS: usize = 10_000;

/// Several safetensors files and the index that says which tensor lies where.
#[derive(Debug)]
pub struct Sharded {
    label: String,
    shards: Vec<Safetensors>,
    /// Tensor to shard.
    map: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Sharded {
    /// The files that an index names, each once.
    ///
    /// # Errors
    /// [`ModelError::Io`] when the index cannot be read, [`ModelError::Format`] when it is damaged
    /// or names a path.
    pub fn shards(index: &Path) -> Result<BTreeSet<String>, ModelError> {
        let label = index.display().to_string();
        let shards = BTreeSet::from_iter(read(index, &label)?.weight_map.into_values());
        match shards.iter().find(|shard| !is_plain_name(shard)) {
            Some(path) => Err(no_plain_name(&label, path)),
            None => Ok(shards),
        }
    }

    /// Opens the shards that `index` names; they lie beside it.
    ///
    /// # Errors
    /// [`ModelError::Io`] for a missing shard, [`ModelError::Format`] for a damaged index or
    /// shard, a shard name that is a path, or a tensor that its shard does not hold.
    pub fn open(index: &Path) -> Result<Self, ModelError> {
        let label = index.display().to_string();
        let parsed = read(index, &label)?;
        let folder = index.parent().unwrap_or(Path::new("."));
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shards = Vec::new();
        let mut map = BTreeMap::new();
        for (tensor, shard) in &parsed.weight_map {
            let number = match numbers.get(shard.as_str()) {
                Some(number) => *number,
                None => {
                    if shards.len() == MAX_SHARDS {
                        return Err(ModelError::format(
                            &label,
                            format!("names more than {MAX_SHARDS} shards"),
                        ));
                    }
                    if !is_plain_name(shard) {
                        return Err(no_plain_name(&label, shard));
                    }
                    let path = folder.join(shard);
                    if !path.is_file() {
                        return Err(ModelError::format(
                            &label,
                            format!(
                                "the shard `{shard}`, which holds `{tensor}` and more, is \
                                 missing. Download it into the same folder"
                            ),
                        ));
                    }
                    shards.push(Safetensors::open(&path)?);
                    numbers.insert(shard, shards.len() - 1);
                    shards.len() - 1
                }
            };
            if shards[number].info(tensor).is_none() {
                return Err(ModelError::format(
                    &label,
                    format!("says that `{shard}` holds the tensor `{tensor}`, but it does not"),
                ));
            }
            map.insert(tensor.clone(), number);
        }
        Ok(Self { label, shards, map })
    }
}

fn read(index: &Path, label: &str) -> Result<Index, ModelError> {
    let text = std::fs::read(index).map_err(|e| ModelError::io("read", index, e))?;
    serde_json::from_slice(&text)
        .map_err(|e| ModelError::format(label, format!("is not a shard index: {e}")))
}

fn no_plain_name(label: &str, shard: &str) -> ModelError {
    ModelError::format(
        label,
        format!(
            "names the shard `{shard}`; a shard must be a file beside the index, without a path"
        ),
    )
}

/// A file name and nothing else: no folder, no parent, no root.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.contains(['/', '\\', ':', '\0'])
}

impl TensorFile for Sharded {
    fn label(&self) -> &str {
        &self.label
    }

    fn names(&self) -> Vec<&str> {
        self.map.keys().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.map
            .get(name)
            .and_then(|&shard| self.shards[shard].info(name))
    }

    fn bytes(&self, name: &str) -> Result<&[u8], ModelError> {
        match self.map.get(name) {
            Some(&shard) => self.shards[shard].bytes(name),
            None => Err(ModelError::format(
                &self.label,
                format!("has no tensor `{name}`"),
            )),
        }
    }

    fn read(&self, name: &str, range: Range<usize>, out: &mut Vec<u8>) -> Result<(), ModelError> {
        match self.map.get(name) {
            Some(&shard) => self.shards[shard].read(name, range, out),
            None => self.bytes(name).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{SaveDtype, write_safetensors};

    fn folder(index: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let shard = |file: &str, name: &str, value: f32| {
            let tensors = [(name.to_string(), vec![1], vec![value])];
            write_safetensors(&dir.path().join(file), &tensors, SaveDtype::F32).unwrap();
        };
        shard("one.safetensors", "a", 1.0);
        shard("two.safetensors", "b", 2.0);
        std::fs::write(dir.path().join("index.json"), index).unwrap();
        dir
    }

    fn open(index: &str) -> Result<Sharded, ModelError> {
        Sharded::open(&folder(index).path().join("index.json"))
    }

    #[test]
    fn finds_each_tensor_in_its_shard() {
        let file = open(
            r#"{"metadata":{"total_size":8},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#,
        )
        .unwrap();
        assert_eq!(file.names(), ["a", "b"]);
        assert_eq!(file.bytes("b").unwrap(), 2f32.to_le_bytes());
    }

    #[test]
    fn missing_shard_is_named() {
        let said = open(r#"{"weight_map":{"a":"three.safetensors"}}"#)
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("`three.safetensors`") && said.contains("missing"),
            "{said}"
        );
    }

    #[test]
    fn a_shard_outside_the_folder_is_refused() {
        for name in [
            "../one.safetensors",
            "/etc/passwd",
            "sub/one.safetensors",
            "..",
            ".",
            "",
        ] {
            let index = format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#);
            let said = open(&index).unwrap_err().to_string();
            assert!(said.contains("without a path"), "{name}: {said}");
        }
    }

    #[test]
    fn a_tensor_in_the_wrong_shard() {
        let said = open(r#"{"weight_map":{"a":"two.safetensors"}}"#)
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("holds the tensor `a`, but it does not"),
            "{said}"
        );
    }

    #[test]
    fn garbled_index() {
        assert!(
            open("[1, 2")
                .unwrap_err()
                .to_string()
                .contains("not a shard index")
        );
        assert!(
            open(r#"{"weight_map":3}"#)
                .unwrap_err()
                .to_string()
                .contains("not a shard index")
        );
    }
}
