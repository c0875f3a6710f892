//! Models of the Hugging Face hub that lie in its local cache, where `hf download` puts them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Whether a name is `ORG/NAME`, and no path.
pub fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    name.split_once('/')
        .is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

/// The folder of the cache, as the hub's own programs find it.
pub fn cache() -> Option<PathBuf> {
    cache_of(|name| env::var_os(name), env::home_dir())
}

fn cache_of(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let folder = |name: &str| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    folder("HF_HUB_CACHE")
        .or_else(|| Some(folder("HF_HOME")?.join("hub")))
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(home?.join(".cache/huggingface/hub")))
}

/// The folder of the model's files as `main` has them, if the cache has it.
pub fn snapshot(cache: &Path, name: &str) -> Option<PathBuf> {
    let model = cache.join(format!("models--{}", name.replace('/', "--")));
    let revision = fs::read_to_string(model.join("refs/main")).ok()?;
    let revision = revision.trim();
    // A commit, not a way out of the folder.
    let is_commit = !revision.is_empty() && revision.bytes().all(|b| b.is_ascii_alphanumeric());
    let folder = model.join("snapshots").join(revision);
    (is_commit && folder.is_dir()).then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        assert!(is_name("GSAI-ML/LLaDA-8B-Instruct"));
        for path in ["./a", "a", "a/b/c", "/a/b", "~/a", "../a", "a/"] {
            assert!(!is_name(path), "{path}");
        }
    }

    #[test]
    fn the_cache_is_where_the_hub_puts_it() {
        let cache = |set: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            cache_of(variable, Some("/home/me".into())).unwrap()
        };
        let both = [("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/cache")];
        assert_eq!(cache(&both), Path::new("/cache"));
        assert_eq!(cache(&both[..1]), Path::new("/hf/hub"));
        let other = [("XDG_CACHE_HOME", "/x"), ("HF_HOME", "")];
        assert_eq!(cache(&other), Path::new("/x/huggingface/hub"));
        let usual = Path::new("/home/me/.cache/huggingface/hub");
        assert_eq!(cache(&[]), usual);
    }

    #[test]
    fn main_names_the_snapshot() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--o--n");
        fs::create_dir_all(model.join("snapshots/abc")).unwrap();
        fs::create_dir_all(model.join("refs")).unwrap();
        assert_eq!(snapshot(cache.path(), "o/n"), None);
        for (revision, found) in [
            ("abc\n", true),
            ("../..", false),
            ("def", false),
            ("", false),
        ] {
            fs::write(model.join("refs/main"), revision).unwrap();
            let folder = found.then(|| model.join("snapshots/abc"));
            assert_eq!(snapshot(cache.path(), "o/n"), folder, "{revision}");
        }
        assert_eq!(snapshot(cache.path(), "o/other"), None);
    }
}
