//! Models of the Hugging Face hub: taken from its local cache, and downloaded into it when they are
//! not there.
//!
//! | file | what it knows |
//! |---|---|
//! | [`name`] | `ORG/NAME@REVISION` |
//! | [`settings`] | the variables of the hub's own programs |
//! | [`cache`] | where files lie, and when a model is whole |
//! | [`wanted`] | which files of a repository are read |
//! | [`remote`] | the requests |
//! | [`download`] | one file after another, from where it was left |
//! | [`part`] | the bytes of one that are there |
//! | [`refusal`] | what the hub says instead of giving a file |
//! | [`trouble`] | what went wrong, and what to do |
//!
//! The cache has the layout of the hub's own programs, so each finds what the other downloaded. A
//! file appears in it when all of it is there and checked (large ones by their SHA-256, the others by
//! their size); the name of a revision appears last.

mod cache;
mod download;
mod name;
mod part;
mod refusal;
mod remote;
mod settings;
mod trouble;
mod wanted;

use std::path::{Path, PathBuf};

use anyhow::Result;
use demask::models::Tokenizer;
use demask::models::checkpoint::INDEX;
use demask::models::family::{self, ConfigFile};
use demask::models::format::Sharded;

use crate::error::{usage, with_advice};
use crate::terminal::downloads::Downloads;
use crate::terminal::interrupt::LastWords;

use cache::Cached;
use download::Download;
pub use name::Name;
use remote::{Listing, Remote};
use settings::Settings;
use trouble::Trouble;
use wanted::Wanted;

/// A model that lies on this machine.
pub struct Found {
    /// Its files.
    pub folder: PathBuf,
    /// Where its tokenizer lies, when that is another model's.
    pub tokenizer: Option<PathBuf>,
}

/// Finds a model in the cache, or downloads what is missing. `plain` keeps bars off the terminal.
///
/// # Errors
/// There is no such model, it cannot be downloaded, or it is none that is read here.
pub fn find(name: &Name, plain: bool) -> Result<Found> {
    let settings = Settings::of_environment();
    let folder = folder(name, Wanted::Model, &settings, plain)?;
    let tokenizer = match wanted::other_tokenizer(&folder)? {
        Some(other) => Some(self::folder(&other, Wanted::Tokenizer, &settings, plain)?),
        None => None,
    };
    Ok(Found { folder, tokenizer })
}

/// The folder of a revision with all that is wanted of it.
fn folder(name: &Name, wanted: Wanted, settings: &Settings, plain: bool) -> Result<PathBuf> {
    let Some(cache) = &settings.cache else {
        return Err(with_advice(
            usage(format!("no checkpoint `{name}`")),
            "there is no such folder, and no place for the Hugging Face cache; set HF_HOME",
        ));
    };
    let cached = Cached::new(cache, name);
    if let Some(folder) = cached.snapshot().filter(|folder| wanted.is_in(folder)) {
        return Ok(folder);
    }
    if settings.offline {
        let cache = cache.display();
        return Err(with_advice(
            usage(format!("no checkpoint `{name}`")),
            format!(
                "there is no such folder, and the Hugging Face cache {cache} does not hold all of \
                 it; HF_HUB_OFFLINE forbids downloading: unset it, or put the model there with \
                 `hf download {}`",
                name.arguments()
            ),
        ));
    }
    Remote::new(name, settings)
        .and_then(|remote| fetch(&remote, &cached, wanted, plain))
        .map_err(|trouble| trouble.explain(name, settings))
}

/// Downloads what is wanted, the weights last: a folder that has them has all before them.
fn fetch(
    remote: &Remote,
    cached: &Cached,
    wanted: Wanted,
    plain: bool,
) -> trouble::Result<PathBuf> {
    let listing = remote.listing()?;
    wanted.check(&listing)?;
    let folder = cached.folder(&listing.sha);
    let downloads = Downloads::new(plain);
    let _goodbye = LastWords::new("stopped; the same command goes on from here");
    let download = Download {
        remote,
        cached,
        listing: &listing,
        downloads: &downloads,
    };
    download.files(&wanted.side_files(&listing))?;
    if let Some(index) = wanted.index(&listing) {
        download.files(&[index])?;
    }
    if wanted == Wanted::Model {
        // Before gigabytes come that nothing here can read.
        let family = family::recognise(&ConfigFile::read(&folder.join("config.json"))?)?;
        if !Tokenizer::is_in(&folder) && family.tokenizer().is_none() {
            return Err(Trouble::Lacks("tokenizer.json".to_owned()));
        }
        download.files(&weights(&listing, wanted, &folder)?)?;
    }
    cached.name(&listing.sha)?;
    Ok(folder)
}

/// The files of the weights.
fn weights<'a>(
    listing: &'a Listing,
    wanted: Wanted,
    folder: &Path,
) -> trouble::Result<Vec<&'a remote::File>> {
    if wanted.index(listing).is_none() {
        return Ok(wanted.single(listing).into_iter().collect());
    }
    let shards = Sharded::shards(&folder.join(INDEX))?;
    shards
        .into_iter()
        .map(|shard| listing.need(&shard))
        .collect()
}
