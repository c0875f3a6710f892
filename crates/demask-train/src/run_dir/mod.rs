//! The folder of a run: everything a training leaves behind.
//!
//! ```text
//! runs/<name>/
//!   recipe.toml      the resolved recipe
//!   roots.json       the folders in which its files are looked for
//!   metrics.jsonl    one line a step
//!   loss.svg         the same as a picture
//!   state/step-N/    what a training needs to go on; the last two are kept
//!   checkpoint/      the model: weights, configuration, tokenizer, model card
//!   adapter/         the adapters alone, in the layout of PEFT, where the recipe has [lora]
//!   lock             held by the process that trains here
//! ```
//!
//! Everything that replaces something, a file or a folder, is written beside it, flushed to the disk and
//! renamed, so that a crash at any moment leaves the old or the new, never a mixture.

mod adapter;
mod card;
mod metrics;
mod plot;
mod state;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};

pub use card::CardFacts;
pub use metrics::Metrics;
pub(crate) use metrics::MetricsFile;
pub(crate) use state::hash;
pub use state::{ParamState, TrainState};

use crate::{Recipe, TrainError};

/// Folders in which the files of the recipe were found.
const ROOTS: &str = "roots.json";
/// States that are kept.
const KEPT: usize = 2;

/// An open run folder. No other process can open it while this value lives.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Closing the file gives the lock back, also when the process is killed.
    _lock: File,
}

impl RunDir {
    /// Opens the folder `path`, which is created if need be, and locks it.
    ///
    /// # Errors
    /// [`TrainError::Locked`] when another process trains there, [`TrainError::Io`] when it cannot
    /// be written.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        fs::create_dir_all(path).map_err(TrainError::io("create the run folder", path))?;
        let file = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)
            .map_err(TrainError::io("write", &file))?;
        match FileExt::try_lock(&lock) {
            Ok(()) => {
                let run = Self {
                    path: path.to_path_buf(),
                    _lock: lock,
                };
                put_back(&run.checkpoint())?;
                Ok(run)
            }
            Err(TryLockError::WouldBlock) => Err(TrainError::Locked {
                path: path.to_path_buf(),
            }),
            Err(TryLockError::Error(source)) => Err(TrainError::Io {
                action: "lock",
                path: file,
                source,
            }),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the model goes.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The recipe a run folder was made with, changed by `overrides`.
    ///
    /// # Errors
    /// [`TrainError::NothingToResume`] when there is none, [`TrainError::Recipe`] when it or an
    /// override is wrong.
    pub fn recipe(path: &Path, overrides: &[String]) -> Result<Recipe, TrainError> {
        let file = path.join("recipe.toml");
        if !file.exists() {
            return Err(TrainError::NothingToResume {
                path: path.to_path_buf(),
                message: "no recipe.toml in it; this is not a run folder".into(),
            });
        }
        Recipe::load(&file, overrides)
    }

    pub(crate) fn write_recipe(&self, recipe: &Recipe) -> Result<(), TrainError> {
        write_atomic(
            &self.path.join("recipe.toml"),
            recipe.resolved()?.as_bytes(),
        )
    }

    /// The steps with a state folder, newest first. Says nothing about whether they are whole.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn saved_steps(&self) -> Result<Vec<u64>, TrainError> {
        let folder = self.path.join("state");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(TrainError::io("read", folder)(e)),
        };
        let mut steps = Vec::new();
        for entry in entries {
            let name = entry.map_err(TrainError::io("read", &folder))?.file_name();
            let step = name.to_str().and_then(|name| name.strip_prefix("step-"));
            steps.extend(step.and_then(|step| step.parse::<u64>().ok()));
        }
        steps.sort_unstable_by(|a, b| b.cmp(a));
        Ok(steps)
    }

    /// The folder of the state after `step` steps.
    pub fn state_path(&self, step: u64) -> PathBuf {
        self.path.join("state").join(format!("step-{step}"))
    }

    /// Saves a state and forgets all but the last two.
    ///
    /// # Errors
    /// [`TrainError::Io`]; the states that were there are then untouched.
    pub fn save_state(&self, state: &TrainState) -> Result<PathBuf, TrainError> {
        let path = self.state_path(state.step);
        state.save(&path)?;
        // A later state than the one that is being saved was torn: the training went on from before.
        let (torn, whole): (Vec<u64>, Vec<u64>) = self
            .saved_steps()?
            .into_iter()
            .partition(|step| *step > state.step);
        for old in torn.into_iter().chain(whole.into_iter().skip(KEPT)) {
            let old = self.state_path(old);
            fs::remove_dir_all(&old).map_err(TrainError::io("remove", old))?;
        }
        Ok(path)
    }

    /// The newest whole state, and an error for every newer one that is torn.
    ///
    /// # Errors
    /// [`TrainError::NothingToResume`] when there is none.
    pub fn load_state(&self) -> Result<(TrainState, Vec<TrainError>), TrainError> {
        let mut torn = Vec::new();
        for step in self.saved_steps()? {
            match TrainState::load(&self.state_path(step)) {
                Ok(state) => return Ok((state, torn)),
                Err(error) => torn.push(error),
            }
        }
        let message = match torn.first() {
            None => "no state was saved in it; start the training without --resume".to_string(),
            Some(error) => format!("no saved state is whole ({error})"),
        };
        Err(TrainError::NothingToResume {
            path: self.path.clone(),
            message,
        })
    }

    pub(crate) fn write_plot(&self, metrics: &[Metrics]) -> Result<(), TrainError> {
        let file = self.path.join("loss.svg");
        let svg = plot::loss_svg(metrics).map_err(|message| TrainError::Io {
            action: "draw",
            path: file.clone(),
            source: std::io::Error::other(message),
        })?;
        write_atomic(&file, svg.as_bytes())
    }

    pub(crate) fn write_card(
        &self,
        checkpoint: &Path,
        recipe: &Recipe,
        facts: &CardFacts,
    ) -> Result<(), TrainError> {
        let text = card::text(recipe, facts)?;
        write_atomic(&checkpoint.join("README.md"), text.as_bytes())
    }

    /// An empty folder for the next checkpoint.
    pub(crate) fn new_checkpoint(&self) -> Result<PathBuf, TrainError> {
        new_folder(&self.checkpoint())
    }

    /// Puts a checkpoint that is whole in the place of the one before.
    pub(crate) fn replace_checkpoint(&self, part: &Path) -> Result<PathBuf, TrainError> {
        let checkpoint = self.checkpoint();
        replace_folder(part, &checkpoint)?;
        Ok(checkpoint)
    }

    /// `roots` behind those in which the files of this run were found before: a training goes on
    /// from whatever folder the command is given in.
    pub(crate) fn roots(&self, roots: Vec<PathBuf>) -> Result<Vec<PathBuf>, TrainError> {
        let file = self.path.join(ROOTS);
        let mut all: Vec<PathBuf> = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| TrainError::State {
                path: file,
                message: e.to_string(),
            })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(TrainError::io("read", file)(e)),
        };
        for root in roots {
            let root = std::path::absolute(&root).unwrap_or(root);
            if !all.contains(&root) {
                all.push(root);
            }
        }
        Ok(all)
    }

    pub(crate) fn write_roots(&self, roots: &[PathBuf]) -> Result<(), TrainError> {
        // A folder whose name is not UTF-8 has no JSON; it is looked up again when it is named again.
        let named: Vec<&Path> = (roots.iter().map(PathBuf::as_path))
            .filter(|root| root.to_str().is_some())
            .collect();
        let text = serde_json::to_vec_pretty(&named).map_err(|e| TrainError::State {
            path: self.path.join(ROOTS),
            message: e.to_string(),
        })?;
        write_atomic(&self.path.join(ROOTS), &text)
    }
}

/// Writes a file beside `path`, flushes it to the disk and renames it.
///
/// # Errors
/// [`TrainError::Io`]; the old file is then still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = File::create(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    if let Err(source) = written {
        // The half-written file only takes space that is short.
        let _ = fs::remove_file(&part);
        return Err(TrainError::Io {
            action: "write",
            path: path.to_path_buf(),
            source,
        });
    }
    fs::rename(&part, path).map_err(TrainError::io("replace", path))?;
    sync_folder(path.parent())
}

/// An empty folder beside `path`, to be filled and put in its place by [`replace_folder`].
fn new_folder(path: &Path) -> Result<PathBuf, TrainError> {
    let part = sibling(path, "part");
    remove_folder(&part)?;
    fs::create_dir_all(&part).map_err(TrainError::io("create", &part))?;
    Ok(part)
}

/// Puts the folder `part` in the place of `path`. The old one is moved aside first: at no moment is
/// there neither on the disk, though for a blink neither has the name. Should the blink last, because
/// the rename fails or the process dies in it, the old one gets its name back: here, or by
/// [`put_back`] when the run is opened again.
fn replace_folder(part: &Path, path: &Path) -> Result<(), TrainError> {
    let old = sibling(path, "old");
    if path.exists() {
        remove_folder(&old)?;
        fs::rename(path, &old).map_err(TrainError::io("replace", path))?;
    }
    if let Err(source) = fs::rename(part, path) {
        // The first error is the one to report.
        let _ = put_back(path);
        return Err(TrainError::io("write", path)(source));
    }
    remove_folder(&old)?;
    sync_folder(path.parent())
}

/// Gives a folder that [`replace_folder`] moved aside its name back, where nothing has it.
fn put_back(path: &Path) -> Result<(), TrainError> {
    let old = sibling(path, "old");
    if old.exists() && !path.exists() {
        fs::rename(&old, path).map_err(TrainError::io("restore", path))?;
    }
    Ok(())
}

/// `.NAME.WORD` beside a folder.
fn sibling(path: &Path, word: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{word}"))
}

fn remove_folder(folder: &Path) -> Result<(), TrainError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(TrainError::io("remove", folder))?;
    }
    Ok(())
}

/// Makes a rename last through a power cut, where the system can.
pub(crate) fn sync_folder(folder: Option<&Path>) -> Result<(), TrainError> {
    match folder {
        #[cfg(unix)]
        Some(folder) => {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            File::open(folder)
                .and_then(|f| f.sync_all())
                .map_err(TrainError::io("flush", folder))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_moved_aside_gets_its_name_back() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        fs::create_dir(run.checkpoint()).unwrap();
        fs::write(run.checkpoint().join("config.json"), "{}").unwrap();
        // The new folder is not there, so the second rename fails.
        assert!(replace_folder(&folder.path().join("none"), &run.checkpoint()).is_err());
        assert!(run.checkpoint().join("config.json").exists());
        // Killed between the two renames.
        fs::rename(run.checkpoint(), sibling(&run.checkpoint(), "old")).unwrap();
        let checkpoint = run.checkpoint();
        drop(run);
        RunDir::open(folder.path()).unwrap();
        assert!(checkpoint.join("config.json").exists());
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDir::open(folder.path()).unwrap();
        let error = RunDir::open(folder.path()).unwrap_err();
        assert!(matches!(error, TrainError::Locked { .. }), "{error}");
        drop(first);
        RunDir::open(folder.path()).unwrap();
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = RunDir::open(&file.join("run")).unwrap_err().to_string();
        assert!(
            error.contains("create the run folder") && error.contains("file/run"),
            "{error}"
        );
    }

    #[test]
    fn replacing_leaves_no_part_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.txt");
        write_atomic(&file, b"one").unwrap();
        write_atomic(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
