//! Embeds the default checkpoint, so that an installed binary writes without any file beside it.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The built-in model that is embedded; `checkpoints.rs` knows it under the same name.
const DEFAULT: &str = "story";
const FILES: [&str; 3] = ["config.json", "model.safetensors", "tokenizer.json"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let checkpoints = manifest.join("../../checkpoints");
    let folder = checkpoints.join(DEFAULT);
    watch(&checkpoints, &folder);

    let code = if FILES.iter().all(|file| folder.join(file).is_file()) {
        let path = |file: &str| {
            let path = folder
                .join(file)
                .canonicalize()
                .expect("the file was just seen");
            format!("{:?}", path.to_str().expect("a path in UTF-8"))
        };
        format!(
            "Some(EmbeddedCheckpoint {{ name: {DEFAULT:?}, config: include_bytes!({}), \
             weights: include_bytes!({}), tokenizer: include_str!({}) }})",
            path(FILES[0]),
            path(FILES[1]),
            path(FILES[2])
        )
    } else {
        "None".to_owned()
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("embedded.rs");
    fs::write(
        out,
        format!("const EMBEDDED: Option<EmbeddedCheckpoint> = {code};\n"),
    )
    .expect("cargo's output folder can be written");
    println!("cargo::rustc-env=DEMASK_DEFAULT_MODEL={DEFAULT}");
}

/// Runs this script again when the checkpoint changes or appears.
fn watch(checkpoints: &Path, folder: &Path) {
    if folder.is_dir() {
        for file in FILES {
            println!("cargo::rerun-if-changed={}", folder.join(file).display());
        }
    } else {
        println!("cargo::rerun-if-changed={}", checkpoints.display());
    }
}
