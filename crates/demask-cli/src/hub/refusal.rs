//! The hub says no, and what to do about it.

use anyhow::{Error, anyhow};

use super::name::Name;
use super::settings::Settings;
use crate::error::{usage, with_advice};

/// An answer with a status that is no success.
#[derive(Debug)]
pub struct Refusal {
    /// The status of HTTP.
    pub status: u16,
    /// What the hub calls it.
    pub code: Option<String>,
    /// What the hub says about it.
    pub message: Option<String>,
    /// The file that was asked for; none when it was the list of files.
    pub file: Option<String>,
}

impl Refusal {
    /// The refusal as the user reads it.
    pub fn explain(self, name: &Name, settings: &Settings) -> Error {
        let Settings {
            endpoint, token, ..
        } = settings;
        let page = format!("{endpoint}/{}", name.repository);
        let status = self.status;
        let message = self.message.unwrap_or_else(|| format!("status {status}"));
        match (status, self.code.as_deref(), self.file) {
            (_, Some("RevisionNotFound"), _) => with_advice(
                usage(format!(
                    "no revision `{}` of `{}`",
                    name.revision, name.repository
                )),
                format!("its branches, tags and commits are at {page}/tree/main"),
            ),
            (401 | 403, Some("GatedRepo"), _) => {
                let then = match token {
                    None => format!(
                        "then set HF_TOKEN to a token of your account \
                         ({endpoint}/settings/tokens) or run `hf auth login`"
                    ),
                    Some(_) => "with the account of your token; a fine-grained token must be \
                                allowed to read gated repositories"
                        .to_owned(),
                };
                with_advice(
                    anyhow!("`{name}` is open only to those who accepted its licence ({message})"),
                    format!("accept it at {page}, {then}"),
                )
            }
            // Without a token the hub does not tell a private model from none.
            (404, _, None) | (401 | 404, Some("RepoNotFound"), _) => no_such(name, &page),
            (401, _, None) if token.is_none() => no_such(name, &page),
            // The hub listed it a moment ago.
            (404, _, Some(file)) => with_advice(
                anyhow!("the hub lists {file} of `{name}` and does not have it ({message})"),
                format!("try again later; if it stays away, tell the owner of {page}"),
            ),
            (401, _, _) if token.is_none() => with_advice(
                anyhow!("{endpoint} wants to know who reads `{name}` ({message})"),
                format!(
                    "set HF_TOKEN to a token of your account ({endpoint}/settings/tokens) or run \
                     `hf auth login`"
                ),
            ),
            (401, _, _) => with_advice(
                anyhow!("{endpoint} does not accept the token ({message})"),
                "renew HF_TOKEN, or unset it; `hf auth login` renews the one it keeps",
            ),
            (403, _, _) => with_advice(
                anyhow!("{endpoint} forbids to read `{name}` ({message})"),
                format!("see {page}; HF_TOKEN must be a token of an account that may read it"),
            ),
            (429, _, _) => with_advice(
                anyhow!("{endpoint} answers no more requests for now ({message})"),
                "try again in some minutes; with a token (HF_TOKEN) more are answered",
            ),
            (500.., _, _) => with_advice(
                anyhow!("{endpoint} fails ({message})"),
                "try again later; the same command goes on from here",
            ),
            _ => anyhow!("{endpoint} does not give `{name}` ({message})"),
        }
    }
}

fn no_such(name: &Name, page: &str) -> Error {
    with_advice(
        usage(format!("no checkpoint `{name}`")),
        format!(
            "there is no such folder, and no public model at {page}; check the spelling. A private \
             one needs HF_TOKEN"
        ),
    )
}
