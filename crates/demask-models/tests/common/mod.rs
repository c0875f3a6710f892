//! Tiny checkpoints in the public layouts, and what can be done to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use demask_models::format::{Safetensors, TensorFile};
use demask_models::{Checkpoint, OpenOptions, family};
use serde_json::Value;

pub fn options() -> OpenOptions {
    OpenOptions::default()
}

pub fn tiny(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    family::random(name, 7, dir.path()).unwrap();
    dir
}

pub fn stored(dir: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let file = Safetensors::open(&dir.join("model.safetensors")).unwrap();
    file.names()
        .into_iter()
        .map(|name| {
            let bytes = file.bytes(name).unwrap();
            let values = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect();
            (name.to_string(), (file.info(name).unwrap().shape, values))
        })
        .collect()
}

pub fn edit(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
}

/// Why a folder does not open.
pub fn refusal(dir: &Path) -> String {
    Checkpoint::open(dir, &options())
        .err()
        .expect("must be refused")
        .to_string()
}
