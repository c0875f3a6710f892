use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

use crate::ModelError;

/// The bytes of a file: mapped, owned, or part of the program.
#[derive(Debug)]
pub enum FileBytes {
    /// A file mapped into memory, and the file itself.
    Mapped(Mmap, File),
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
        Ok(Self::Mapped(map, file))
    }

    /// Copies a part of the bytes into `out`, whose old contents are lost.
    ///
    /// A page of a mapping that was touched counts as memory of the program until it ends; what is read once, as
    /// weights are while they are packed, is therefore read from the file where the system can.
    ///
    /// # Errors
    /// A range outside the file, or what the system says.
    pub fn read(&self, range: Range<usize>, out: &mut Vec<u8>) -> io::Result<()> {
        let part = self.get(range.clone());
        let part = part.ok_or(io::ErrorKind::UnexpectedEof)?;
        #[cfg(unix)]
        if let Self::Mapped(_, file) = self {
            use std::os::unix::fs::FileExt;
            out.resize(part.len(), 0);
            return file.read_exact_at(out, range.start as u64);
        }
        out.clear();
        out.extend_from_slice(part);
        Ok(())
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Owned(bytes) => bytes,
            Self::Embedded(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_file_is_read_as_it_is_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, [0, 1, 2, 3, 4, 5]).unwrap();
        let mapped = FileBytes::map(&path).unwrap();
        for bytes in [mapped, FileBytes::Owned(vec![0, 1, 2, 3, 4, 5])] {
            let mut part = vec![9; 10];
            bytes.read(2..5, &mut part).unwrap();
            assert_eq!(part, [2, 3, 4]);
            bytes.read(6..6, &mut part).unwrap();
            assert!(part.is_empty());
            assert!(bytes.read(4..7, &mut part).is_err());
        }
    }
}
