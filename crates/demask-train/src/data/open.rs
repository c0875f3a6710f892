//! Finding and reading files, packed or not.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::TrainError;

/// The first place at which `path` exists: itself when absolute, else below each of `roots`.
///
/// # Errors
/// [`TrainError::NotFound`] with every place that was tried.
pub(crate) fn find(path: &Path, roots: &[PathBuf], what: &str) -> Result<PathBuf, TrainError> {
    let tried: Vec<PathBuf> = if path.is_absolute() {
        vec![path.to_path_buf()]
    } else {
        roots.iter().map(|root| root.join(path)).collect()
    };
    tried
        .iter()
        .find(|p| p.exists())
        .cloned()
        .ok_or_else(|| TrainError::NotFound {
            what: what.into(),
            asked: path.display().to_string(),
            tried,
        })
}

/// The text of a file; one whose name ends in `.gz` is unpacked.
///
/// # Errors
/// [`TrainError::Io`] when it cannot be read or unpacked, [`TrainError::Data`] when it is not
/// UTF-8, with the line of the first bad byte.
pub(crate) fn read_text(path: &Path) -> Result<String, TrainError> {
    let mut file = File::open(path).map_err(TrainError::io("read", path))?;
    let mut bytes = Vec::new();
    if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("gz"))
    {
        MultiGzDecoder::new(file).read_to_end(&mut bytes)
    } else {
        file.read_to_end(&mut bytes)
    }
    .map_err(TrainError::io("read", path))?;
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        TrainError::Data {
            path: path.to_path_buf(),
            line: Some(1 + good.iter().filter(|b| **b == b'\n').count()),
            message: "not UTF-8 text".into(),
        }
    })
}
