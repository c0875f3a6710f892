//! One file after another from the hub into the cache, each from where it was left.
//!
//! Bytes gather in `blobs/ID.part`. Only when all of them are there and have the size and the
//! checksum that the hub names does the file get its name.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::cache::Cached;
use super::remote::{File, Listing, Remote};
use super::trouble::{Result, Trouble};
use crate::terminal::downloads::{Downloads, FileProgress};

/// How often a connection may break without a byte having come.
const TRIES: u32 = 3;
/// Wait before the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// Where files come from and go to.
pub struct Download<'a> {
    /// The hub.
    pub remote: &'a Remote,
    /// The cache.
    pub cached: &'a Cached,
    /// The commit, and what is known of its files.
    pub listing: &'a Listing,
    /// What the user sees.
    pub downloads: &'a Downloads,
}

/// The file that gathers the bytes, and their checksum so far.
struct Part {
    path: PathBuf,
    file: fs::File,
    length: u64,
    checksum: Sha256,
}

impl Download<'_> {
    /// Brings files into the folder of the commit.
    pub fn files(&self, files: &[&File]) -> Result<()> {
        let missing: Vec<_> = files
            .iter()
            .copied()
            .filter(|file| !self.is_whole(&self.place(file), file))
            .collect();
        self.check_room(&missing)?;
        for file in missing {
            let blob = self.cached.blob(&file.id);
            if !self.is_whole(&blob, file) {
                self.gather(file, &blob)?;
            }
            self.cached.link(&self.listing.sha, &file.name, &blob)?;
        }
        Ok(())
    }

    fn place(&self, file: &File) -> PathBuf {
        self.cached.folder(&self.listing.sha).join(&file.name)
    }

    fn is_whole(&self, path: &Path, file: &File) -> bool {
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file);
        found.is_some_and(|found| file.size.is_none_or(|size| size == found.len()))
    }

    /// Refuses at once what the disk has no room for.
    fn check_room(&self, files: &[&File]) -> Result<()> {
        let blobs = self.cached.blob("");
        fs::create_dir_all(&blobs).map_err(|error| Trouble::disk(&blobs, error))?;
        let left = |file: &&File| {
            let blob = self.cached.blob(&file.id);
            let have = fs::metadata(part_of(&blob)).map_or(0, |part| part.len());
            let have = if blob.exists() { u64::MAX } else { have };
            file.size.unwrap_or(0).saturating_sub(have)
        };
        let needed: u64 = files.iter().map(left).sum();
        match fs4::available_space(&blobs) {
            Ok(room) if room < needed => Err(Trouble::Room {
                needed,
                room,
                path: blobs,
            }),
            // A disk that does not tell is tried.
            _ => Ok(()),
        }
    }

    /// Makes the blob of a file.
    fn gather(&self, file: &File, blob: &Path) -> Result<()> {
        let mut part = Part::open(part_of(blob), file)?;
        // Another run may have been faster while this one waited.
        if self.is_whole(blob, file) {
            return Ok(());
        }
        let mut progress = self.downloads.begin(&file.name, file.size, part.length);
        let mut tries = 0;
        loop {
            let before = part.length;
            match self.stream(file, &mut part, &mut progress) {
                Ok(()) => break,
                Err(trouble) if trouble.may_pass() => {
                    tries = if part.length > before { 1 } else { tries + 1 };
                    if tries == TRIES {
                        return Err(trouble);
                    }
                    tracing::info!("{}: the connection broke off, once more", file.name);
                    thread::sleep(PAUSE);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        part.check(file)?;
        progress.finish();
        part.keep(blob)
    }

    /// Appends what one connection gives.
    fn stream(&self, file: &File, part: &mut Part, progress: &mut FileProgress) -> Result<()> {
        if file.size.is_some_and(|size| size == part.length) {
            return Ok(());
        }
        let mut response = self
            .remote
            .open(&self.listing.sha, &file.name, part.length)?;
        // Not every server goes on in the middle.
        if part.length > 0 && response.status() != 206 {
            part.clear()?;
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let bytes = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => &buffer[..count],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Trouble::Lost(error.to_string())),
            };
            part.append(bytes)?;
            progress.at(part.length);
            if file.size.is_some_and(|size| part.length > size) {
                break;
            }
        }
        match file.size {
            Some(size) if part.length < size => {
                Err(Trouble::Lost("the connection ended early".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn part_of(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

impl Part {
    /// The bytes that are there; no other run has them open.
    fn open(path: PathBuf, file: &File) -> Result<Self> {
        let open = || {
            let mut options = OpenOptions::new();
            let opened = options.read(true).append(true).create(true).open(&path)?;
            // A disk without locks is written without them.
            if matches!(opened.try_lock(), Err(TryLockError::WouldBlock)) {
                crate::terminal::note(format!(
                    "another run downloads {}: waiting for it",
                    file.name
                ));
                opened.lock()?;
            }
            Ok(opened)
        };
        let opened = open().map_err(|error| Trouble::disk(&path, error))?;
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

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        io::Write::write_all(&mut self.file, bytes).map_err(|error| self.trouble(error))?;
        self.checksum.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|error| self.trouble(error))?;
        (self.length, self.checksum) = (0, Sha256::new());
        Ok(())
    }

    /// Refuses bytes that are not those of the hub; none of them are kept.
    fn check(&mut self, file: &File) -> Result<()> {
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
    fn keep(self, blob: &Path) -> Result<()> {
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
