//! Which files of a repository are read, and whether a folder has them.

use std::path::Path;

use demask::models::checkpoint::{INDEX, SIDE_FILES, WEIGHTS};
use demask::models::family::{self, ConfigFile};
use demask::models::format::Sharded;
use demask::models::{ModelError, Tokenizer};

use super::name::Name;
use super::remote::{File, Listing};
use super::trouble::{Result, Trouble};

/// Weights that are not read yet, and how they end.
const OTHER_WEIGHTS: [&str; 7] = [
    ".safetensors",
    ".bin",
    ".gguf",
    ".pt",
    ".pth",
    ".ckpt",
    ".npz",
];

/// What is wanted of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All that a checkpoint is made of.
    Model,
    /// The tokenizer alone.
    Tokenizer,
}

impl Wanted {
    /// Whether a folder has all of it. Other programs may have put weights there without a
    /// tokenizer.
    pub fn is_in(self, folder: &Path) -> bool {
        let has = |name: &str| folder.join(name).is_file();
        match self {
            Self::Tokenizer => Tokenizer::is_in(folder),
            // llama2.c has neither; such a folder was not made here.
            Self::Model if !has("config.json") => has("tokenizer.bin"),
            Self::Model if !has_tokenizer(folder) => false,
            Self::Model if has(WEIGHTS) => true,
            Self::Model => Sharded::shards(&folder.join(INDEX))
                .is_ok_and(|shards| shards.iter().all(|shard| has(shard))),
        }
    }

    /// Refuses a repository that has nothing to read.
    pub fn check(self, listing: &Listing) -> Result<()> {
        if self == Self::Tokenizer {
            return Ok(());
        }
        if self.single(listing).is_some() || self.index(listing).is_some() {
            return listing.need("config.json").map(drop);
        }
        let is_weights = |file: &&File| OTHER_WEIGHTS.iter().any(|end| file.name.ends_with(end));
        let others = listing.files.iter().filter(is_weights);
        Err(Trouble::Weights(
            others.map(|file| file.name.clone()).collect(),
        ))
    }

    /// The small files.
    pub fn side_files(self, listing: &Listing) -> Vec<&File> {
        let of_tokenizer = |name: &str| !["config.json", "generation_config.json"].contains(&name);
        let names = SIDE_FILES.iter().copied();
        names
            .filter(|name| self == Self::Model || of_tokenizer(name))
            .filter_map(|name| listing.get(name))
            .collect()
    }

    /// The weights, if they are one file.
    pub fn single(self, listing: &Listing) -> Option<&File> {
        listing.get(WEIGHTS).filter(|_| self == Self::Model)
    }

    /// The index of the weights, if they are several.
    pub fn index(self, listing: &Listing) -> Option<&File> {
        let index = listing.get(INDEX).filter(|_| self == Self::Model);
        index.filter(|_| self.single(listing).is_none())
    }
}

/// The model whose tokenizer a model without one was trained with.
pub fn other_tokenizer(folder: &Path) -> std::result::Result<Option<Name>, ModelError> {
    let config = folder.join("config.json");
    if Tokenizer::is_in(folder) || !config.is_file() {
        return Ok(None);
    }
    let family = family::recognise(&ConfigFile::read(&config)?)?;
    Ok(family.tokenizer().and_then(Name::parse))
}

/// Whether the tokenizer is in the folder or that of another model. A config that is not understood
/// counts: whoever opens the folder says what is wrong with it, which no download mends.
fn has_tokenizer(folder: &Path) -> bool {
    Tokenizer::is_in(folder) || !matches!(other_tokenizer(folder), Ok(None))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_whole_when_every_shard_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let whole = || Wanted::Model.is_in(folder.path());
        assert!(!whole());
        write("config.json", r#"{"model_type":"mdlm"}"#);
        assert!(!whole());
        let index = r#"{"weight_map":{"x":"one.safetensors","y":"two.safetensors"}}"#;
        write(INDEX, index);
        write("one.safetensors", "");
        assert!(!whole());
        write("two.safetensors", "");
        assert!(whole());
        fs::remove_file(folder.path().join("two.safetensors")).unwrap();
        write(WEIGHTS, "");
        assert!(whole());
        assert!(!Wanted::Tokenizer.is_in(folder.path()));
        // The tokenizer of this family is its own.
        write("config.json", r#"{"model_type":"llama"}"#);
        assert!(!whole());
        write("tokenizer.json", "{}");
        assert!(whole());
        assert!(Wanted::Tokenizer.is_in(folder.path()));
    }

    #[test]
    fn only_what_is_read_is_wanted() {
        let listing = |names: &[&str]| {
            let file = |name: &&str| format!(r#"{{"rfilename":"{name}"}}"#);
            let files: Vec<_> = names.iter().map(file).collect();
            let text = format!(r#"{{"sha":"abc","siblings":[{}]}}"#, files.join(","));
            Listing::parse(text.as_bytes()).ok().unwrap()
        };
        let names = |files: Vec<&File>| -> Vec<String> {
            files.into_iter().map(|file| file.name.clone()).collect()
        };
        let both = listing(&[
            "README.md",
            "config.json",
            INDEX,
            "merges.txt",
            WEIGHTS,
            "onnx/model.onnx",
            "sub/vocab.json",
        ]);
        assert!(Wanted::Model.check(&both).is_ok());
        assert_eq!(
            names(Wanted::Model.side_files(&both)),
            ["config.json", "merges.txt"]
        );
        assert_eq!(names(Wanted::Tokenizer.side_files(&both)), ["merges.txt"]);
        assert!(Wanted::Model.single(&both).is_some());
        assert!(Wanted::Model.index(&both).is_none());
        let other = listing(&["config.json", "pytorch_model.bin"]);
        let refused = Wanted::Model.check(&other);
        assert!(matches!(refused, Err(Trouble::Weights(names)) if names == ["pytorch_model.bin"]));
        assert!(Wanted::Model.check(&listing(&[WEIGHTS])).is_err());
    }
}
