//! A tiny recipe in a folder of its own.

use std::path::{Path, PathBuf};

use demask_train::{Recipe, TrainOptions};

pub const RECIPE: &str = r#"
[run]
name = "tiny"
seed = 7
steps = 6
eval_every = 2
eval_rows = 8
checkpoint_every = 3
checkpoint_dtype = "f32"

[data]
length = 12

[[data.source]]
path = "text.txt"
reader = { kind = "text" }

[tokenizer]
kind = "char"

[network]
d_model = 16
n_layers = 2
n_heads = 2
d_ff = 32
dropout = 0.1

[objective]
kind = "mdlm"

[optimizer]
lr = 1e-2
weight_decay = 0.1
batch = 4
accumulation = 2
ema = 0.9

[schedule]
warmup = 2
shape = { kind = "cosine" }
"#;

/// A folder with a text file and an empty `runs/`.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..60)
        .map(|i| format!("the cat {} sat on mat {}.\n", i % 7, i * i % 11))
        .collect();
    std::fs::write(folder.path().join("text.txt"), text).unwrap();
    folder
}

pub fn recipe(overrides: &[&str]) -> Recipe {
    let overrides: Vec<String> = overrides.iter().map(|s| s.to_string()).collect();
    Recipe::parse(RECIPE, "tiny.toml", &overrides).unwrap()
}

pub fn options(folder: &Path, resume: bool) -> TrainOptions {
    TrainOptions {
        resume,
        roots: vec![PathBuf::from(folder)],
        ..TrainOptions::default()
    }
}
