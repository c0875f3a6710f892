//! A hub on this machine: it answers what a download asks, as well or as badly as a test wants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The commit of every repository here.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

type Files = BTreeMap<String, Vec<u8>>;
type Rule = Box<dyn Fn(&Asked) -> Option<Reply> + Send>;
type Change = Box<dyn Fn(&mut Value) + Send>;

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
    change: Option<Change>,
    goes_on: bool,
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
    /// The truth, but after so many bytes nothing comes before [`Hub::go_on`].
    Wait(usize),
    /// The truth from this byte on, whatever range was asked for.
    From(usize),
    /// The asked range, but not which it is.
    Unnamed,
    /// A redirect to this path.
    Elsewhere(&'static str),
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

    /// From now on, changes the lists of files.
    pub fn change(&self, change: impl Fn(&mut Value) + Send + 'static) {
        self.state.lock().unwrap().change = Some(Box::new(change));
    }

    /// From now on, says something else of each file in the lists.
    pub fn change_files(&self, change: impl Fn(&mut Value) + Send + 'static) {
        self.change(move |list| {
            let files = list["siblings"].as_array_mut().unwrap();
            files.iter_mut().for_each(&change);
        });
    }

    /// What waits goes on.
    pub fn go_on(&self) {
        self.state.lock().unwrap().goes_on = true;
    }

    /// From now on, answers the truth.
    pub fn honest(&self) {
        let mut state = self.state.lock().unwrap();
        (state.rule, state.change) = (None, None);
    }

    /// What was asked since the last look.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

fn answer(stream: TcpStream, shared: &Mutex<State>, address: &str) {
    let Some(asked) = read(&stream) else { return };
    let (truth, reply) = {
        let mut state = shared.lock().unwrap();
        state.asked.push(asked.clone());
        let reply = state.rule.as_ref().and_then(|rule| rule(&asked));
        (truth(&state, &asked.path, address), reply)
    };
    let (mut status, mut head, mut content) = match (&reply, truth) {
        (Some(Reply::Elsewhere(place)), _) => (302, format!("Location: {place}\r\n"), Vec::new()),
        (Some(Reply::Refuse(status, code)), _) => (*status, refusal(code), Vec::new()),
        (_, Err(code)) => (404, refusal(code), Vec::new()),
        (_, Ok(Truth::Elsewhere(place))) => (302, format!("Location: {place}\r\n"), Vec::new()),
        (_, Ok(Truth::Content(content))) => (200, String::new(), content),
    };
    if let Some(Reply::Other(other)) = &reply {
        content.clone_from(other);
    }
    let from = match reply {
        Some(Reply::Whole) => None,
        Some(Reply::From(from)) => Some(from),
        _ => asked.from,
    };
    if let Some(from) = from.filter(|_| status == 200) {
        status = 206;
        let length = content.len();
        content.drain(..from.min(length));
        if !matches!(reply, Some(Reply::Unnamed)) {
            let last = length.saturating_sub(1);
            head += &format!("Content-Range: bytes {from}-{last}/{length}\r\n");
        }
    }
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n{head}\r\n",
        content.len()
    );
    let sent = match reply {
        Some(Reply::Die(bytes) | Reply::Stall(bytes) | Reply::Wait(bytes)) => {
            &content[..bytes.min(content.len())]
        }
        _ => &content[..],
    };
    let mut stream = stream;
    // The program may have been killed.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(sent);
    match reply {
        Some(Reply::Stall(_)) => std::thread::sleep(Duration::from_secs(60)),
        Some(Reply::Wait(_)) => {
            while !shared.lock().unwrap().goes_on {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = stream.write_all(&content[sent.len()..]);
        }
        _ => {}
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

fn truth(state: &State, path: &str, address: &str) -> Result<Truth, &'static str> {
    let path = path.split('?').next().unwrap();
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(6, '/').collect();
    let repository = |owner, name| {
        let files = state.repositories.get(&format!("{owner}/{name}"));
        files.ok_or("RepoNotFound")
    };
    match parts[..] {
        ["api", "models", owner, name, "revision", revision] => {
            let files = repository(owner, name)?;
            match revision {
                "main" | "v1" | COMMIT => {
                    let mut list = listing(files);
                    state.change.iter().for_each(|change| change(&mut list));
                    Ok(Truth::Content(list.to_string().into_bytes()))
                }
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

fn listing(files: &Files) -> Value {
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
    serde_json::json!({ "id": "x", "sha": COMMIT, "siblings": siblings })
}
