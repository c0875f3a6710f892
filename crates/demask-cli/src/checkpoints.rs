//! Where models come from: a folder, a built-in checkpoint, the one inside the binary, or the
//! Hugging Face hub ([`hub`]).
//!
//! Built-in checkpoints are folders below these places, the first one that has the name wins:
//! 1. `$DEMASK_CHECKPOINTS`,
//! 2. `checkpoints/` in the current folder and in the folders above it,
//! 3. `../share/demask/checkpoints/` beside the binary.
//!
//! The default one is embedded in the binary as well when it was there at build time.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Result;
use demask::models::{Checkpoint, EmbeddedCheckpoint, Model, ModelError, OpenOptions};
use demask::nn::Dtype;

use crate::error::{usage, with_advice};
use crate::hub;

/// The model that is used when none is named.
pub const DEFAULT: &str = env!("DEMASK_DEFAULT_MODEL");

/// The models that come with the repository.
const SHIPPED: [&str; 3] = ["story", "story-ar", "sudoku"];

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// How checkpoints are opened by this program: on the CPU, packed in `dtype`, with the built-in ones by name.
pub fn options(dtype: Dtype) -> OpenOptions {
    OpenOptions {
        packed: Some(dtype),
        checkpoint_dirs: places(),
        embedded: EMBEDDED.into_iter().collect(),
        ..OpenOptions::default()
    }
}

/// Finds and checks a checkpoint by folder, name, or name on the hub. A model of the hub is
/// downloaded when it is not there; `plain` shows that without bars.
///
/// # Errors
/// A usage error with advice when there is none, a failure when it cannot be read.
pub fn find(name: &str, plain: bool) -> Result<Checkpoint> {
    match hub::Name::parse(name).filter(|_| !Path::new(name).exists()) {
        Some(name) => from_hub(hub::find(&name, plain)?),
        None => Checkpoint::open(name, &options(Dtype::F32))
            .map_err(|error| explain(error, EMBEDDED.is_some())),
    }
}

fn from_hub(found: hub::Found) -> Result<Checkpoint> {
    let options = OpenOptions {
        tokenizer: found.tokenizer,
        ..options(Dtype::F32)
    };
    Ok(Checkpoint::open(found.folder, &options)?)
}

/// Opens a model by folder or name.
///
/// # Errors
/// As [`find`].
pub fn open(name: &str, dtype: Dtype) -> Result<Model> {
    Ok(find(name, false)?.load(&options(dtype))?)
}

fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    places.extend(env::var_os("DEMASK_CHECKPOINTS").map(PathBuf::from));
    if let Ok(here) = env::current_dir() {
        places.extend(here.ancestors().map(|folder| folder.join("checkpoints")));
    }
    if let Ok(binary) = env::current_exe()
        && let Some(prefix) = binary.parent().and_then(Path::parent)
    {
        places.push(prefix.join("share/demask/checkpoints"));
    }
    places
}

/// A name that opens nothing is the user's to mend; anything else is the checkpoint's.
fn explain(error: ModelError, embedded: bool) -> anyhow::Error {
    match error {
        ModelError::NotFound { name, .. } if name == DEFAULT && !embedded => with_advice(
            usage(format!(
                "the built-in model `{name}` is neither in this binary nor on disk"
            )),
            "run inside the repository, set DEMASK_CHECKPOINTS to the folder that holds the \
             checkpoints, or give a checkpoint folder with --model",
        ),
        ModelError::NotFound { name, hint } => {
            let inside = Path::new(&name).join("checkpoint");
            let advice = if inside.join("config.json").is_file() {
                let inside = inside.display();
                format!("`{name}` is the folder of a training; give `{inside}`")
            } else if SHIPPED.contains(&name.as_str()) {
                "it comes with the repository and is looked for in $DEMASK_CHECKPOINTS, in \
                 checkpoints/ of the current folder and the folders above it, and in \
                 ../share/demask/checkpoints/ beside the binary"
                    .to_owned()
            } else {
                hint
            };
            with_advice(usage(format!("no checkpoint `{name}`")), advice)
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_opens_nothing_is_a_usage_error_with_advice() {
        for name in ["no-such-thing", "./nowhere", "a/b/c"] {
            let error = find(name, false).err().expect("no such model");
            assert_eq!(error.to_string(), format!("no checkpoint `{name}`"));
        }
        let missing = ModelError::NotFound {
            name: DEFAULT.into(),
            hint: String::new(),
        };
        assert!(
            explain(missing, false)
                .to_string()
                .contains("neither in this binary")
        );
    }

    #[test]
    fn the_shipped_models_are_those_of_the_repository() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints");
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, SHIPPED);
    }
}
