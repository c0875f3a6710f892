//! One file after another from the hub into the cache, each from where it was left.
//!
//! Bytes gather in `blobs/ID.part`. Only when all of them are there and are as the hub announced
//! them does the file get its name: large files by their SHA-256, the others by their size, for the
//! hub names no SHA-256 of those.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ureq::Body;
use ureq::http::Response;

use super::cache::Cached;
use super::part::{Part, part_of};
use super::remote::{File, Listing, Remote, first_byte};
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
        // Sizes are what the hub says, which may be anything.
        let needed = files.iter().map(left).fold(0, u64::saturating_add);
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
        let is_done = || self.is_whole(blob, file);
        let Some(mut part) = Part::open(part_of(blob), file, is_done)? else {
            return Ok(());
        };
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
        let mut response = self.open(file, part)?;
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

    /// Asks for the bytes that are missing, and for all of them when those do not come.
    fn open(&self, file: &File, part: &mut Part) -> Result<Response<Body>> {
        let ask = |from| self.remote.open(&self.listing.sha, &file.name, from);
        let begin = match ask(part.length) {
            Ok(response) => {
                let begin = first_byte(&response);
                if begin == Some(part.length) {
                    return Ok(response);
                }
                // Not every server goes on in the middle.
                if begin == Some(0) {
                    part.clear()?;
                    return Ok(response);
                }
                begin
            }
            // It knows no such range of this file.
            Err(Trouble::Refused(refusal)) if refusal.status == 416 && part.length > 0 => None,
            Err(trouble) => return Err(trouble),
        };
        tracing::info!(
            "{}: bytes from {} were asked for, from {begin:?} came; from the beginning",
            file.name,
            part.length
        );
        part.clear()?;
        let response = ask(0)?;
        match first_byte(&response) {
            Some(0) => Ok(response),
            _ => Err(Trouble::Answer(format!(
                "{} does not begin at its beginning",
                file.name
            ))),
        }
    }
}
