//! The cache of one model: `blobs/` has contents by their checksum, `snapshots/COMMIT/` names them,
//! `refs/` says which commit a branch or tag is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::name::{Name, is_hexadecimal};
use super::trouble::{Result, Trouble};

/// What the cache has of a model.
pub struct Cached {
    folder: PathBuf,
    name: Name,
}

impl Cached {
    /// The model of this name.
    pub fn new(cache: &Path, name: &Name) -> Self {
        let model = format!("models--{}", name.repository.replace('/', "--"));
        Self {
            folder: cache.join(model),
            name: name.clone(),
        }
    }

    /// The folder of the revision, whether or not all of it is there.
    pub fn snapshot(&self) -> Option<PathBuf> {
        let commit = match self.name.is_commit() {
            true => self.name.revision.clone(),
            false => fs::read_to_string(self.reference()).ok()?,
        };
        // A commit, not a way out of the folder.
        let commit = Some(commit.trim()).filter(|commit| is_hexadecimal(commit))?;
        Some(self.folder(commit)).filter(|folder| folder.is_dir())
    }

    /// The folder of a commit.
    pub fn folder(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where a content lies.
    pub fn blob(&self, id: &str) -> PathBuf {
        self.folder.join("blobs").join(id)
    }

    /// Gives a content its name in the folder of a commit. Other runs may do so at the same time, so
    /// the link is made under a name of this run alone and then takes the place of what is there.
    pub fn link(&self, commit: &str, name: &str, blob: &Path) -> Result<()> {
        let folder = self.folder(commit);
        let file = folder.join(name);
        let own = folder.join(own_name(name));
        let link = || {
            fs::create_dir_all(&folder)?;
            // What a killed run of the same number left.
            remove(&own)?;
            point(blob, &own)?;
            let renamed = fs::rename(&own, &file);
            // Still there when it failed, or when both were names of one content.
            remove(&own)?;
            renamed
        };
        link().map_err(|error| Trouble::disk(&file, error))
    }

    /// Says which commit the revision is.
    pub fn name(&self, commit: &str) -> Result<()> {
        let file = self.reference();
        if self.name.is_commit() {
            return Ok(());
        }
        let write = || {
            fs::create_dir_all(file.parent().unwrap_or(&self.folder))?;
            fs::write(&file, commit)
        };
        write().map_err(|error| Trouble::disk(&file, error))
    }

    fn reference(&self) -> PathBuf {
        self.folder.join("refs").join(&self.name.revision)
    }
}

/// A name in the same folder that no other run and no other thread has.
fn own_name(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(".{name}.{}-{count}", process::id())
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A relative link, so that the cache can be moved.
#[cfg(unix)]
fn point(blob: &Path, file: &Path) -> io::Result<()> {
    let id = blob.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(Path::new("../../blobs").join(id), file)
}

/// Links need a permission elsewhere; a second name of the same content does not.
#[cfg(not(unix))]
fn point(blob: &Path, file: &Path) -> io::Result<()> {
    fs::hard_link(blob, file).or_else(|_| fs::copy(blob, file).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_names_its_snapshot() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--o--n");
        let found = |name: &str| Cached::new(cache.path(), &Name::parse(name).unwrap()).snapshot();
        fs::create_dir_all(model.join("snapshots/abc")).unwrap();
        fs::create_dir_all(model.join("refs")).unwrap();
        assert_eq!(found("o/n"), None);
        for (commit, there) in [
            ("abc\n", true),
            ("../..", false),
            ("def", false),
            ("", false),
        ] {
            fs::write(model.join("refs/main"), commit).unwrap();
            let folder = there.then(|| model.join("snapshots/abc"));
            assert_eq!(found("o/n"), folder, "{commit}");
        }
        assert_eq!(found("o/other"), None);
        fs::write(model.join("refs/v1"), "abc").unwrap();
        assert_eq!(found("o/n@v1"), Some(model.join("snapshots/abc")));
        let commit = "a".repeat(40);
        let pinned = format!("o/n@{commit}");
        assert_eq!(found(&pinned), None);
        fs::create_dir(model.join("snapshots").join(&commit)).unwrap();
        assert!(found(&pinned).is_some());
    }

    #[test]
    fn a_content_is_linked_again_when_its_link_is_broken() {
        let cache = tempfile::tempdir().unwrap();
        let cached = Cached::new(cache.path(), &Name::parse("o/n").unwrap());
        let blob = cached.blob("12");
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, "content").unwrap();
        for _ in 0..2 {
            assert!(cached.link("abc", "file", &blob).is_ok());
            let file = cached.folder("abc").join("file");
            assert_eq!(fs::read_to_string(file).unwrap(), "content");
        }
    }

    #[test]
    fn several_may_link_the_same_content_at_once() {
        let cache = tempfile::tempdir().unwrap();
        let cached = Cached::new(cache.path(), &Name::parse("o/n").unwrap());
        let blob = cached.blob("12");
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, "content").unwrap();
        let link = || (0..50).all(|_| cached.link("abc", "file", &blob).is_ok());
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(link)).collect();
            assert!(runs.into_iter().all(|run| run.join().unwrap()));
        });
        let left = fs::read_dir(cached.folder("abc")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["file"]);
    }
}
