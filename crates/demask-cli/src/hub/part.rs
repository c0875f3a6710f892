//! The bytes of a file that is on its way: `blobs/ID.part`, written by one run at a time.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::remote::File;
use super::trouble::{Result, Trouble};

/// How often the file may be another one by the time that it is locked.
const TRIES: u32 = 10;

/// The file that gathers the bytes, and their checksum so far.
pub struct Part {
    path: PathBuf,
    file: fs::File,
    /// Bytes that are there.
    pub length: u64,
    checksum: Sha256,
}

/// Where the bytes of a blob gather.
pub fn part_of(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

impl Part {
    /// The bytes that are there; no other run has them open. None when the blob is done, which
    /// another run may have brought about while this one waited.
    pub fn open(path: PathBuf, file: &File, is_done: impl Fn() -> bool) -> Result<Option<Self>> {
        let disk = |error| Trouble::disk(&path, error);
        for _ in 0..TRIES {
            let opened = lock(&path, &file.name).map_err(disk)?;
            let is_there = is_at(&opened, &path).map_err(disk)?;
            if is_done() {
                if is_there {
                    // Made anew after the other run had renamed its own; of no use to anybody.
                    let _ = fs::remove_file(&path);
                }
                return Ok(None);
            }
            // What was renamed since it was opened is a blob, and not to be touched.
            if is_there {
                return Self::read(path, opened, file).map(Some);
            }
        }
        Err(disk(io::Error::other("other programs take it away")))
    }

    fn read(path: PathBuf, opened: fs::File, file: &File) -> Result<Self> {
        let mut part = Self {
            path,
            file: opened,
            length: 0,
            checksum: Sha256::new(),
        };
        part.read_again().map_err(|error| part.trouble(error))?;
        // Whether bytes are missing cannot be told without the size.
        if file.size.is_none_or(|size| part.length > size) {
            part.clear()?;
        }
        Ok(part)
    }

    fn read_again(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        self.length = io::copy(&mut self.file, &mut self.checksum)?;
        Ok(())
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        io::Write::write_all(&mut self.file, bytes).map_err(|error| self.trouble(error))?;
        self.checksum.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Throws all bytes away.
    pub fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|error| self.trouble(error))?;
        (self.length, self.checksum) = (0, Sha256::new());
        Ok(())
    }

    /// Refuses bytes that are not those of the hub; none of them are kept.
    pub fn check(&mut self, file: &File) -> Result<()> {
        let found: String = self
            .checksum
            .clone()
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let length = self.length;
        let wrong = match (file.size, &file.sha256) {
            (Some(size), _) if size != length => {
                format!("has {length} bytes, but {size} were announced")
            }
            (_, Some(sha256)) if *sha256 != found => {
                format!("has the SHA-256 {found}, but {sha256} was announced")
            }
            _ => return Ok(()),
        };
        self.clear()?;
        Err(Trouble::Damaged {
            file: file.name.clone(),
            wrong,
        })
    }

    /// Gives the bytes their name, once they are on the disk.
    pub fn keep(self, blob: &Path) -> Result<()> {
        let keep = || {
            self.file.sync_all()?;
            fs::rename(&self.path, blob)
        };
        keep().map_err(|error| self.trouble(error))
    }

    fn trouble(&self, error: io::Error) -> Trouble {
        Trouble::disk(&self.path, error)
    }
}

/// Opens a file that no other run has open; waits for one that has.
fn lock(path: &Path, name: &str) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).append(true).create(true).open(path)?;
    // A disk without locks is written without them.
    if matches!(opened.try_lock(), Err(TryLockError::WouldBlock)) {
        crate::terminal::note(format!("another run downloads {name}: waiting for it"));
        opened.lock()?;
    }
    Ok(opened)
}

/// Whether an open file still has this path.
#[cfg(unix)]
fn is_at(opened: &fs::File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let opened = opened.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Elsewhere it can only be told that some file has this path.
#[cfg(not(unix))]
fn is_at(_: &fs::File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: Option<u64>) -> File {
        File {
            name: "w".to_owned(),
            size,
            sha256: None,
            id: "12".to_owned(),
        }
    }

    #[test]
    fn bytes_are_gathered_over_several_runs() {
        let folder = tempfile::tempdir().unwrap();
        let blob = folder.path().join("12");
        let open = |size| Part::open(part_of(&blob), &file(size), || blob.exists());
        let mut part = open(Some(4)).ok().flatten().unwrap();
        part.append(b"ab").ok().unwrap();
        drop(part);
        let mut part = open(Some(4)).ok().flatten().unwrap();
        assert_eq!(part.length, 2);
        part.append(b"cd").ok().unwrap();
        assert!(part.check(&file(Some(4))).is_ok());
        part.keep(&blob).ok().unwrap();
        assert_eq!(fs::read(&blob).unwrap(), b"abcd");
        // The blob is there: nothing is opened, and nothing is left.
        assert!(matches!(open(None), Ok(None)));
        assert!(!part_of(&blob).exists());
        assert_eq!(fs::read(&blob).unwrap(), b"abcd");
    }

    #[cfg(unix)]
    #[test]
    fn a_renamed_file_is_no_longer_at_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("12.part");
        let opened = lock(&path, "w").unwrap();
        assert!(is_at(&opened, &path).unwrap());
        fs::rename(&path, folder.path().join("12")).unwrap();
        assert!(!is_at(&opened, &path).unwrap());
        fs::write(&path, "another").unwrap();
        assert!(!is_at(&opened, &path).unwrap());
    }
}
