//! The requests to the hub.

use std::time::Duration;

use serde::Deserialize;
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderValue, Response, StatusCode, Uri};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::name::{Name, is_hexadecimal};
use super::refusal::Refusal;
use super::settings::Settings;
use super::trouble::{Result, Trouble};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// Longest silence of a connection that stands.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest list of files, in bytes: a hundred thousand files and more.
const LONGEST_LIST: u64 = 64 << 20;

/// One repository at one revision, asked over the network.
pub struct Remote {
    agent: Agent,
    repository: String,
    revision: String,
    /// The revision where it is a commit, which the hub must answer with.
    commit: Option<String>,
    endpoint: String,
    authorization: Option<HeaderValue>,
}

/// The files of a repository.
#[derive(Debug)]
pub struct Listing {
    /// The commit they are of.
    pub sha: String,
    /// All of them.
    pub files: Vec<File>,
}

/// A file of a repository.
#[derive(Debug, Clone)]
pub struct File {
    /// Its path in the repository.
    pub name: String,
    /// Its size in bytes, where the hub says it.
    pub size: Option<u64>,
    /// Its SHA-256, where the hub says it: of large files.
    pub sha256: Option<String>,
    /// The name of its content in the cache.
    pub id: String,
}

/// What the hub answers.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

impl Remote {
    /// Asks nothing yet; refuses what no request can be made of.
    pub fn new(name: &Name, settings: &Settings) -> Result<Self> {
        check_address(&settings.endpoint)?;
        let authorization = settings.token.as_ref().map(|token| {
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Trouble::Token)
        });
        let config = Agent::config_builder()
            .user_agent(concat!("demask/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            // A renamed repository is elsewhere on the same host; the stores of large files are
            // elsewhere and must not see the token.
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            // The headers of a refusal say more than its number.
            .http_status_as_error(false)
            .build();
        Ok(Self {
            agent: config.new_agent(),
            repository: name.repository.clone(),
            revision: name.revision.replace('/', "%2F"),
            commit: name.is_commit().then(|| name.revision.clone()),
            endpoint: settings.endpoint.clone(),
            authorization: authorization.transpose()?,
        })
    }

    /// The files of the revision, with their sizes and checksums.
    pub fn listing(&self) -> Result<Listing> {
        let url = format!(
            "{}/api/models/{}/revision/{}?blobs=true",
            self.endpoint, self.repository, self.revision
        );
        let mut response = accept(self.get(&url).call()?, None)?;
        let body = response.body_mut().with_config().limit(LONGEST_LIST);
        let listing = Listing::parse(&body.read_to_vec()?)?;
        match &self.commit {
            Some(commit) if *commit != listing.sha => Err(Trouble::Commit(listing.sha)),
            _ => Ok(listing),
        }
    }

    /// The content of a file of a commit from a byte on.
    pub fn open(&self, sha: &str, file: &str, from: u64) -> Result<Response<Body>> {
        let url = format!("{}/{}/resolve/{sha}/{file}", self.endpoint, self.repository);
        let mut request = self.get(&url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        accept(request.call()?, Some(file))
    }

    fn get(&self, url: &str) -> RequestBuilder<WithoutBody> {
        let request = self.agent.get(url);
        match &self.authorization {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }
}

/// Where in the file an answer begins; nothing if a part of the file does not say which.
pub fn first_byte(response: &Response<Body>) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let range = response.headers().get("content-range")?.to_str().ok()?;
    let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}

/// Refuses an address that no request can be sent to.
fn check_address(endpoint: &str) -> Result<()> {
    let address: Uri = endpoint
        .parse()
        .map_err(|error| Trouble::Address(format!("{error}")))?;
    let wrong = match (address.scheme_str(), address.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => return Ok(()),
        (Some("http" | "https"), _) => "it names no host",
        _ => "it does not begin with https:// or http://",
    };
    Err(Trouble::Address(wrong.to_owned()))
}

/// A success, or what the hub says instead.
fn accept(response: Response<Body>, file: Option<&str>) -> Result<Response<Body>> {
    if response.status().is_success() {
        return Ok(response);
    }
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    Err(Trouble::Refused(Refusal {
        status: response.status().as_u16(),
        code: header("x-error-code"),
        message: header("x-error-message"),
        file: file.map(str::to_owned),
    }))
}

impl Listing {
    /// Reads the hub's answer.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let answer: Answer =
            serde_json::from_slice(text).map_err(|error| Trouble::Answer(error.to_string()))?;
        let sha = answer.sha.to_lowercase();
        if !is_hexadecimal(&sha) {
            return Err(Trouble::Answer("it names no commit".to_owned()));
        }
        let file = |sibling: Sibling| {
            let sha256 = sibling.lfs.map(|lfs| lfs.sha256.to_lowercase());
            // The names that the hub's own programs give.
            let id = sha256.clone().or(sibling.blob_id);
            File {
                id: id
                    .filter(|id| is_hexadecimal(id))
                    .unwrap_or_else(|| format!("{sha}-{}", sibling.rfilename)),
                name: sibling.rfilename,
                size: sibling.size,
                sha256,
            }
        };
        Ok(Self {
            files: answer.siblings.into_iter().map(file).collect(),
            sha,
        })
    }

    /// The file of this name.
    pub fn get(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|file| file.name == name)
    }

    /// The file of this name, without which nothing works.
    pub fn need(&self, name: &str) -> Result<&File> {
        self.get(name)
            .ok_or_else(|| Trouble::Lacks(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let text = br#"{"id":"o/n","sha":"aB12","siblings":[
            {"rfilename":"config.json","size":3,"blobId":"0aF"},
            {"rfilename":"w","size":9,"blobId":"1b","lfs":{"sha256":"CD","size":9,"pointerSize":1}},
            {"rfilename":"x","blobId":"../../out"}]}"#;
        let listing = Listing::parse(text).ok().unwrap();
        let id = |name| listing.get(name).unwrap().id.as_str();
        assert_eq!(
            (id("config.json"), id("w"), id("x")),
            ("0aF", "cd", "ab12-x")
        );
        assert_eq!(listing.get("w").unwrap().size, Some(9));
        assert!(matches!(listing.need("y"), Err(Trouble::Lacks(name)) if name == "y"));
        for bad in ["", "{}", r#"{"sha":"../x","siblings":[]}"#] {
            assert!(
                matches!(Listing::parse(bad.as_bytes()), Err(Trouble::Answer(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_address_is_one_of_the_web() {
        for good in ["https://huggingface.co", "http://127.0.0.1:80/hub"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in [
            "huggingface.co",
            "ftp://host",
            "https://",
            "a b",
            "/hub",
            "",
        ] {
            let refused = check_address(bad);
            assert!(matches!(refused, Err(Trouble::Address(_))), "{bad}");
        }
    }
}
