//! A hub on this machine: it answers what a download asks, as well or as badly as a test wants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The commit of every repository here.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

type Files = BTreeMap<String, Vec<u8>>;
type Rule = Box<dyn Fn(&Asked) -> Option<Reply> + Send>;

/// The hub.
pub struct Hub {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Files>,
    asked: Vec<Asked>,
    rule: Option<Rule>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// First byte of the asked range.
    pub from: Option<usize>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

/// What is answered instead of the truth.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status and `X-Error-Code`.
    Refuse(u16, &'static str),
    /// The truth, but the connection dies after so many bytes of the content.
    Die(usize),
    /// The truth, but after so many bytes nothing comes any more.
    Stall(usize),
    /// The whole content, whatever range was asked for.
    Whole,
    /// Another content.
    Other(Vec<u8>),
}

impl Hub {
    /// A hub with no repositories.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            state: Arc::default(),
        };
        let (state, address) = (hub.state.clone(), hub.address.clone());
        // Ends with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, address) = (state.clone(), address.clone());
                std::thread::spawn(move || answer(stream, &state, &address));
            }
        });
        hub
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Serves the files of a folder as a repository.
    pub fn serve(&self, repository: &str, folder: &Path) {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let files = entries.map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        });
        let mut state = self.state.lock().unwrap();
        state
            .repositories
            .insert(repository.to_owned(), files.collect());
    }

    /// From now on, answers as the rule says where it says something.
    pub fn rule(&self, rule: impl Fn(&Asked) -> Option<Reply> + Send + 'static) {
        self.state.lock().unwrap().rule = Some(Box::new(rule));
    }

    /// From now on, answers the truth.
    pub fn honest(&self) {
        self.state.lock().unwrap().rule = None;
    }

    /// What was asked since the last look.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn answer(stream: TcpStream, state: &Mutex<State>, address: &str) {
    let Some(asked) = read(&stream) else { return };
    let (truth, reply) = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        let reply = state.rule.as_ref().and_then(|rule| rule(&asked));
        (truth(&state.repositories, &asked.path, address), reply)
    };
    let (status, head, mut content) = match (&reply, truth) {
        (Some(Reply::Refuse(status, code)), _) => (*status, refusal(code), Vec::new()),
        (_, Err(code)) => (404, refusal(code), Vec::new()),
        (_, Ok(Truth::Elsewhere(place))) => (302, format!("Location: {place}\r\n"), Vec::new()),
        (_, Ok(Truth::Content(content))) => (200, String::new(), content),
    };
    let mut status = status;
    if let Some(Reply::Other(other)) = &reply {
        content.clone_from(other);
    }
    let from = asked.from.filter(|_| status == 200);
    if let Some(from) = from.filter(|_| !matches!(reply, Some(Reply::Whole))) {
        status = 206;
        content.drain(..from.min(content.len()));
    }
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n{head}\r\n",
        content.len()
    );
    let sent = match reply {
        Some(Reply::Die(bytes) | Reply::Stall(bytes)) => &content[..bytes.min(content.len())],
        _ => &content[..],
    };
    let mut stream = stream;
    // The program may have been killed.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(sent);
    if matches!(reply, Some(Reply::Stall(_))) {
        std::thread::sleep(Duration::from_secs(60));
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut asked = Asked {
        path,
        from: None,
        authorization: None,
    };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_lowercase().as_str() {
            "range" => {
                let from = value.trim_start_matches("bytes=").trim_end_matches('-');
                asked.from = from.parse().ok();
            }
            "authorization" => asked.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(asked)
}

enum Truth {
    Content(Vec<u8>),
    Elsewhere(String),
}

fn refusal(code: &str) -> String {
    format!("X-Error-Code: {code}\r\nX-Error-Message: told so\r\n")
}

fn truth(
    repositories: &BTreeMap<String, Files>,
    path: &str,
    address: &str,
) -> Result<Truth, &'static str> {
    let path = path.split('?').next().unwrap();
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(6, '/').collect();
    let repository = |owner, name| {
        let files = repositories.get(&format!("{owner}/{name}"));
        files.ok_or("RepoNotFound")
    };
    match parts[..] {
        ["api", "models", owner, name, "revision", revision] => {
            let files = repository(owner, name)?;
            match revision {
                "main" | "v1" | COMMIT => Ok(Truth::Content(listing(files))),
                _ => Err("RevisionNotFound"),
            }
        }
        [owner, name, "resolve", COMMIT, file] => {
            let files = repository(owner, name)?;
            let content = files.get(file).ok_or("EntryNotFound")?;
            // Large files lie in another store, on a host of another name.
            let store = address.replace("127.0.0.1", "localhost");
            Ok(match file {
                "config.json" => Truth::Elsewhere(format!("/kept/{owner}/{name}/{file}")),
                _ if file.ends_with(".safetensors") => {
                    Truth::Elsewhere(format!("{store}/store/{owner}/{name}/{file}"))
                }
                _ => Truth::Content(content.clone()),
            })
        }
        ["store" | "kept", owner, name, file] => {
            let content = repository(owner, name)?.get(file).ok_or("EntryNotFound")?;
            Ok(Truth::Content(content.clone()))
        }
        _ => Err("EntryNotFound"),
    }
}

fn listing(files: &Files) -> Vec<u8> {
    let entry = |(name, content): (&String, &Vec<u8>)| {
        let sum: String = Sha256::digest(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut entry = serde_json::json!({
            "rfilename": name, "size": content.len(), "blobId": sum[..40],
        });
        if name.ends_with(".safetensors") {
            entry["lfs"] = serde_json::json!({ "sha256": sum, "size": content.len() });
        }
        entry
    };
    let siblings: Vec<_> = files.iter().map(entry).collect();
    let answer = serde_json::json!({ "id": "x", "sha": COMMIT, "siblings": siblings });
    answer.to_string().into_bytes()
}
