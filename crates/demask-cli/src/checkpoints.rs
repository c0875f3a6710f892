//! Where models come from: a folder, a built-in checkpoint, or the one inside the binary.
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

use crate::error::{usage, with_advice};

/// The model that is used when none is named.
pub const DEFAULT: &str = env!("DEMASK_DEFAULT_MODEL");

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// How checkpoints are opened by this program: on the CPU, packed, with the built-in ones by name.
pub fn options() -> OpenOptions {
    OpenOptions {
        packed: true,
        checkpoint_dirs: places(),
        embedded: EMBEDDED.into_iter().collect(),
        ..OpenOptions::default()
    }
}

/// Finds and checks a checkpoint by folder or name.
///
/// # Errors
/// A usage error with advice when there is none, a failure when it cannot be read.
pub fn find(name: &str) -> Result<Checkpoint> {
    Checkpoint::open(name, &options()).map_err(|error| explain(error, EMBEDDED.is_some()))
}

/// Opens a model by folder or name.
///
/// # Errors
/// As [`find`].
pub fn open(name: &str) -> Result<Model> {
    Ok(find(name)?.load(&options())?)
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
            with_advice(usage(format!("no checkpoint `{name}`")), hint)
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_opens_nothing_is_a_usage_error_with_advice() {
        for name in ["no-such-thing", "./nowhere", "owner/name"] {
            let error = find(name).err().expect("no such model");
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
}
