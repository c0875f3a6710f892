use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::ModelError;

/// The bytes of a file: mapped, owned, or part of the program.
#[derive(Debug)]
pub enum FileBytes {
    /// A file mapped into memory.
    Mapped(Mmap),
    /// Bytes that were read or made.
    Owned(Vec<u8>),
    /// Bytes that are part of the program.
    Embedded(&'static [u8]),
}

impl FileBytes {
    /// Maps a file into memory.
    ///
    /// # Errors
    /// [`ModelError::Io`] when it cannot be opened or is not a regular file.
    pub fn map(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(|e| ModelError::io("open", path, e))?;
        let meta = file
            .metadata()
            .map_err(|e| ModelError::io("read", path, e))?;
        if !meta.is_file() {
            return Err(ModelError::format(
                path.display().to_string(),
                "is not a regular file",
            ));
        }
        if meta.len() == 0 {
            // An empty file cannot be mapped on every system; the reader names the problem.
            return Ok(Self::Owned(Vec::new()));
        }
        // A mapping is sound as long as nobody shortens the file while it is open. Checkpoints are
        // written once: our writer puts the new file beside the old one and renames it, so a
        // mapped file keeps its bytes even when it is replaced.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(|e| ModelError::io("map", path, e))?;
        Ok(Self::Mapped(map))
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
            Self::Embedded(bytes) => bytes,
        }
    }
}
