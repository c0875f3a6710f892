//! `ORG/NAME`, and which revision of it.

use std::fmt;

use demask::models::built_in::{is_hub_part, looks_like_hub};

/// The revision that is meant when none is named.
const MAIN: &str = "main";

/// A model of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `ORG/NAME`.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Name {
    /// Reads `ORG/NAME` or `ORG/NAME@REVISION`; a path is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let good = looks_like_hub(repository) && revision.split('/').all(is_hub_part);
        let name = good.then(|| Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
        })?;
        // The hub and the cache write commits in lowercase.
        Some(match name.is_commit() {
            true => Self {
                revision: name.revision.to_lowercase(),
                ..name
            },
            false => name,
        })
    }

    /// The model as `hf download` is told it.
    pub fn arguments(&self) -> String {
        match self.revision.as_str() {
            MAIN => self.repository.clone(),
            revision => format!("{} --revision {revision}", self.repository),
        }
    }

    /// Whether the revision is a commit, which never changes.
    pub fn is_commit(&self) -> bool {
        self.revision.len() == 40 && is_hexadecimal(&self.revision)
    }
}

/// Whether a text can name a commit or the content of a file.
pub fn is_hexadecimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        match self.revision.as_str() {
            MAIN => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        let name = Name::parse("GSAI-ML/LLaDA-8B-Instruct").unwrap();
        assert_eq!(name.revision, "main");
        for path in [
            "./a", "a", "a/b/c", "/a/b", "~/a", "../a", "a/", "a/b@", "@a/b",
        ] {
            assert_eq!(Name::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_revision_follows_and_leads_nowhere_else() {
        for text in ["o/n@v1.0", "o/n@refs/pr/1", "o/n"] {
            assert_eq!(Name::parse(text).unwrap().to_string(), text);
        }
        for text in ["o/n@../x", "o/n@a//b", "o/n@a b", "o/n@a@b"] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        let commit = format!("o/n@{}", "0123456789abcdef0123456789abcdef01234567");
        assert!(Name::parse(&commit).unwrap().is_commit());
        let capital = format!("o/n@{}", "0123456789ABCDEF0123456789ABCDEF01234567");
        assert_eq!(Name::parse(&capital), Name::parse(&commit));
        assert_eq!(Name::parse("o/n@ABC").unwrap().revision, "ABC");
        assert!(!Name::parse("o/n@0123456").unwrap().is_commit());
    }
}
