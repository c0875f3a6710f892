//! Checkpoints that open by name: those in the program's checkpoint folders and those that are part
//! of the program.

use std::path::PathBuf;

use serde::Serialize;

use crate::family::ConfigFile;
use crate::{OpenOptions, nearest};

/// A checkpoint that is part of the program.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedCheckpoint {
    /// Name under which it opens.
    pub name: &'static str,
    /// Text of its `config.json`.
    pub config: &'static [u8],
    /// Bytes of its `model.safetensors`.
    pub weights: &'static [u8],
    /// Text of its `tokenizer.json`.
    pub tokenizer: &'static str,
}

/// A checkpoint that opens by name, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuiltIn {
    /// Name under which it opens.
    pub name: String,
    /// Its folder; none when it is part of the program.
    pub folder: Option<PathBuf>,
    /// What its card says in one line.
    pub summary: Option<String>,
}

pub(crate) enum Place {
    Folder(PathBuf),
    Embedded(EmbeddedCheckpoint),
}

/// All checkpoints that open by name, sorted. A folder hides an embedded checkpoint of its name.
pub fn registry(options: &OpenOptions) -> Vec<BuiltIn> {
    let mut found: Vec<BuiltIn> = Vec::new();
    for dir in &options.checkpoint_dirs {
        // A folder that is not there holds no checkpoints.
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let folder = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let config = folder.join("config.json");
            if config.is_file() && !found.iter().any(|other| other.name == name) {
                let summary = ConfigFile::read(&config).ok().as_ref().and_then(summary);
                found.push(BuiltIn {
                    name,
                    folder: Some(folder),
                    summary,
                });
            }
        }
    }
    for embedded in &options.embedded {
        if !found.iter().any(|other| other.name == embedded.name) {
            let config = ConfigFile::parse(embedded.name, embedded.config).ok();
            let summary = config.as_ref().and_then(summary);
            found.push(BuiltIn {
                name: embedded.name.to_string(),
                folder: None,
                summary,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// What the checkpoint says that it is: the first line.
fn summary(config: &ConfigFile) -> Option<String> {
    let about = config.get("provenance")?.get("about")?.as_str()?;
    about.lines().next().map(str::to_string)
}

pub(crate) fn find(name: &str, options: &OpenOptions) -> Option<Place> {
    // A name, not a way out of the folder.
    if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        return None;
    }
    let folder = options
        .checkpoint_dirs
        .iter()
        .map(|dir| dir.join(name))
        .find(|folder| folder.join("config.json").is_file());
    if let Some(folder) = folder {
        return Some(Place::Folder(folder));
    }
    options
        .embedded
        .iter()
        .find(|e| e.name == name)
        .map(|e| Place::Embedded(*e))
}

/// What to say when nothing opens under a name.
pub(crate) fn hint(name: &str, options: &OpenOptions) -> String {
    if looks_like_hub(name) {
        return format!(
            "there is no such folder. It looks like a hub name, which the `demask` program \
             downloads and this library does not. Fetch it with \
             `hf download {name} --local-dir <folder>` and give the folder"
        );
    }
    let names: Vec<String> = registry(options)
        .into_iter()
        .map(|built_in| built_in.name)
        .collect();
    let nearest = nearest(name, names.iter().map(String::as_str));
    match (nearest, names.is_empty()) {
        (Some(known), _) => {
            format!("there is no such folder or built-in checkpoint; did you mean `{known}`?")
        }
        (None, false) => format!(
            "there is no such folder or built-in checkpoint; built in are {}",
            names.join(", ")
        ),
        (None, true) => "there is no such folder, and no built-in checkpoints were found".into(),
    }
}

/// Whether a name is that of a model of a hub: `owner/name`, and no path.
pub fn looks_like_hub(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(owner, name)| is_hub_part(owner) && is_hub_part(name))
}

/// Whether a text can stand between the slashes of a hub name or of a revision; as a part of a path,
/// it leads nowhere else.
pub fn is_hub_part(part: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_names_and_paths() {
        assert!(looks_like_hub("GSAI-ML/LLaDA-8B-Instruct"));
        for path in ["./a", "a", "a/b/c", "/a/b", "~/a", "../a", "a/"] {
            assert!(!looks_like_hub(path), "{path}");
        }
    }

    #[test]
    fn hints_say_what_to_do() {
        let options = OpenOptions {
            embedded: vec![EmbeddedCheckpoint {
                name: "prose",
                config: b"{}",
                weights: b"",
                tokenizer: "",
            }],
            ..Default::default()
        };
        assert!(hint("Dream-org/Dream-v0", &options).contains("hf download Dream-org/Dream-v0"));
        assert!(hint("pose", &options).contains("did you mean `prose`"));
        assert!(hint("xyz", &options).contains("built in are prose"));
        assert!(hint("xyz", &OpenOptions::default()).contains("no built-in checkpoints"));
        assert!(find("../prose", &options).is_none());
    }
}
