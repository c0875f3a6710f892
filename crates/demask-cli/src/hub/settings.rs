//! The environment variables that the hub's own programs read.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

/// The hub, when no other is set.
const ENDPOINT: &str = "https://huggingface.co";

/// How the hub is reached, and where its files lie here.
pub struct Settings {
    /// The folder of the cache.
    pub cache: Option<PathBuf>,
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// Who asks.
    pub token: Option<String>,
    /// Nothing may be downloaded.
    pub offline: bool,
}

impl Settings {
    /// As the environment of this program says.
    pub fn of_environment() -> Self {
        Self::of(|name| env::var_os(name), env::home_dir())
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let folder = |name: &str| set(name).map(PathBuf::from);
        let text = |name: &str| {
            let value = set(name)?.into_string().ok()?;
            Some(value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let files = folder("HF_HOME")
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(home?.join(".cache/huggingface")));
        let within = |name: &str| files.as_ref().map(|files| files.join(name));
        let kept_token = || {
            let file = folder("HF_TOKEN_PATH").or_else(|| within("token"))?;
            let token = fs::read_to_string(file).ok()?.trim().to_owned();
            Some(token).filter(|token| !token.is_empty())
        };
        let yes = ["1", "ON", "YES", "TRUE"];
        Self {
            cache: folder("HF_HUB_CACHE").or_else(|| within("hub")),
            endpoint: text("HF_ENDPOINT")
                .unwrap_or_else(|| ENDPOINT.to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: text("HF_TOKEN").or_else(kept_token),
            offline: text("HF_HUB_OFFLINE")
                .is_some_and(|value| yes.contains(&value.to_uppercase().as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn settings(set: &[(&str, &str)]) -> Settings {
        let variable = |name: &str| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Settings::of(variable, Some("/home/me".into()))
    }

    #[test]
    fn the_cache_is_where_the_hub_puts_it() {
        let cache = |set| settings(set).cache.unwrap();
        let both = [("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/cache")];
        assert_eq!(cache(&both), Path::new("/cache"));
        assert_eq!(cache(&both[..1]), Path::new("/hf/hub"));
        let other = [("XDG_CACHE_HOME", "/x"), ("HF_HOME", "")];
        assert_eq!(cache(&other), Path::new("/x/huggingface/hub"));
        let usual = Path::new("/home/me/.cache/huggingface/hub");
        assert_eq!(cache(&[]), usual);
    }

    #[test]
    fn the_token_is_that_of_the_variable_or_of_the_login() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), "kept\n").unwrap();
        let place = home.path().to_str().unwrap();
        let token = |set: &[_]| settings(set).token;
        assert_eq!(token(&[("HF_HOME", place)]).as_deref(), Some("kept"));
        let both = [("HF_HOME", place), ("HF_TOKEN", "given")];
        assert_eq!(token(&both).as_deref(), Some("given"));
        assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
    }

    #[test]
    fn endpoint_and_offline() {
        assert_eq!(settings(&[]).endpoint, ENDPOINT);
        let other = settings(&[("HF_ENDPOINT", "http://mirror/"), ("HF_HUB_OFFLINE", "1")]);
        assert_eq!(other.endpoint, "http://mirror");
        assert!(other.offline);
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).offline);
    }
}
