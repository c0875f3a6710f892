//! Models of the hub, downloaded from one on this machine.

mod common;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use common::hub::{Asked, COMMIT, Hub, Reply};
use common::{Workplace, refused};

/// A folder, and a hub that has the tiny model as `o/tiny`.
struct Place {
    work: Workplace,
    hub: Hub,
}

impl Place {
    fn new() -> Self {
        let work = Workplace::new();
        let hub = Hub::new();
        let model = work.file("checkpoints/tiny");
        fs::write(model.join("README.md"), "not read").unwrap();
        fs::write(model.join("pytorch_model.bin"), "not read").unwrap();
        hub.serve("o/tiny", &model);
        Self { work, hub }
    }

    /// The program, which asks this hub.
    fn demask<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> assert_cmd::Command {
        let mut command = self.work.demask(arguments);
        command.envs(self.environment());
        command
    }

    fn environment(&self) -> [(&'static str, OsString); 5] {
        [
            ("HF_ENDPOINT", self.hub.address().into()),
            ("HF_HUB_CACHE", self.work.file("hub").into()),
            ("HF_HOME", self.work.file("hf").into()),
            ("HF_HUB_OFFLINE", "0".into()),
            // A proxy does not know this hub.
            ("NO_PROXY", "127.0.0.1,localhost".into()),
        ]
    }

    /// Opens a model and gives what stderr says.
    fn open(&self, name: &str) -> String {
        let output = self.demask(["inspect", name, "--json"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(report["parameters"].as_u64() > Some(0), "{report}");
        stderr
    }

    fn refused(&self, code: i32, name: &str) -> String {
        refused(code, self.demask(["inspect", name]).output().unwrap())
    }

    fn model(&self) -> PathBuf {
        self.work.file("hub/models--o--tiny")
    }

    /// Bytes of the weights that came before their download was cut off.
    fn gathered(&self) -> u64 {
        let blobs = fs::read_dir(self.model().join("blobs"));
        let blobs = blobs.into_iter().flatten().map(Result::unwrap);
        // Only the weights are named by a SHA-256.
        blobs
            .filter(|entry| entry.file_name().len() == 64 + ".part".len())
            .map(|entry| entry.metadata().unwrap().len())
            .sum()
    }
}

fn is_weights(asked: &Asked) -> bool {
    asked.path.starts_with("/store/")
}

fn token(asked: &Asked) -> Option<&str> {
    asked.authorization.as_deref()
}

/// Where the requests for the weights began.
fn ranges(asked: &[Asked]) -> Vec<Option<usize>> {
    let weights = asked.iter().filter(|asked| is_weights(asked));
    weights.map(|asked| asked.from).collect()
}

#[test]
fn a_model_is_downloaded_once() {
    let place = Place::new();
    let generate = [
        "generate",
        "the",
        "--model=o/tiny",
        "--length=4",
        "--seed=1",
    ];
    let output = place.demask(generate).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("downloading model.safetensors ("),
        "{stderr}"
    );
    let asked = place.hub.asked();
    let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/api/models/o/tiny/revision/main?blobs=true",
            &format!("/o/tiny/resolve/{COMMIT}/config.json"),
            "/kept/o/tiny/config.json",
            &format!("/o/tiny/resolve/{COMMIT}/tokenizer.json"),
            &format!("/o/tiny/resolve/{COMMIT}/model.safetensors"),
            "/store/o/tiny/model.safetensors",
        ],
        "the list, what is read and nothing else, the weights last"
    );
    let again = place.demask(generate).output().unwrap();
    assert_eq!(again.stdout, output.stdout);
    assert!(
        !String::from_utf8(again.stderr)
            .unwrap()
            .contains("download")
    );
    assert_eq!(place.hub.asked().len(), 0, "nothing is asked again");
    // The cache of a machine that was never told of a hub.
    place.work.json(["inspect", "o/tiny", "--json"]);
}

#[test]
fn a_revision_is_a_model_of_its_own() {
    let place = Place::new();
    place.open("o/tiny@v1");
    let kept = fs::read_to_string(place.model().join("refs/v1")).unwrap();
    assert_eq!(kept, COMMIT);
    place.hub.asked();
    // The same commit: only the list is asked for.
    place.open("o/tiny");
    assert_eq!(place.hub.asked().len(), 1);
    for commit in [COMMIT.to_owned(), COMMIT.to_uppercase()] {
        place.open(&format!("o/tiny@{commit}"));
    }
    assert_eq!(place.hub.asked().len(), 0);
    let stderr = place.refused(2, "o/tiny@v2");
    assert!(stderr.contains("no revision `v2` of `o/tiny`"), "{stderr}");
}

#[test]
fn a_commit_is_the_one_that_was_asked_for() {
    let place = Place::new();
    let pinned = format!("o/tiny@{}", COMMIT.to_uppercase());
    place.hub.change(|list| list["sha"] = "f".repeat(40).into());
    let stderr = place.refused(1, &pinned);
    assert!(
        stderr.contains("answers with the commit ffff") && stderr.contains(COMMIT),
        "{stderr}"
    );
    assert_eq!(place.hub.asked().len(), 1, "nothing is downloaded");
    place
        .hub
        .change(|list| list["sha"] = COMMIT.to_uppercase().into());
    place.open(&pinned);
}

#[test]
fn a_connection_that_dies_is_taken_up_again() {
    let place = Place::new();
    place
        .hub
        .rule(|asked| (is_weights(asked) && asked.from.is_none()).then_some(Reply::Die(1000)));
    place.open("o/tiny");
    assert_eq!(ranges(&place.hub.asked()), [None, Some(1000)]);
}

#[test]
fn a_hub_that_stays_away_leaves_what_came() {
    let place = Place::new();
    place.hub.rule(|asked| match asked.from {
        None if is_weights(asked) => Some(Reply::Die(1000)),
        Some(_) => Some(Reply::Refuse(503, "")),
        None => None,
    });
    let stderr = place.refused(1, "o/tiny");
    assert!(stderr.contains("goes on from here"), "{stderr}");
    assert_eq!(place.gathered(), 1000);
    assert!(!place.model().join("refs/main").exists());
    let mut offline = place.demask(["inspect", "o/tiny"]);
    let stderr = refused(2, offline.env("HF_HUB_OFFLINE", "1").output().unwrap());
    assert!(stderr.contains("HF_HUB_OFFLINE"), "{stderr}");

    place.hub.honest();
    place.hub.asked();
    let stderr = place.open("o/tiny");
    assert!(stderr.contains("from 1.00 kB on"), "{stderr}");
    assert_eq!(ranges(&place.hub.asked()), [Some(1000)]);
    assert_eq!(place.gathered(), 0);
}

#[test]
fn a_hub_that_cannot_go_on_in_the_middle_begins_again() {
    let place = Place::new();
    place.hub.rule(|asked| match asked.from {
        None if is_weights(asked) => Some(Reply::Die(1000)),
        Some(_) => Some(Reply::Whole),
        None => None,
    });
    place.open("o/tiny");
}

/// The bytes that are there may not be followed by any others.
#[test]
fn a_hub_that_gives_another_range_is_asked_for_all() {
    for wrong in [Reply::Refuse(416, ""), Reply::From(500), Reply::Unnamed] {
        let place = Place::new();
        let rule = wrong.clone();
        place.hub.rule(move |asked| match asked.from {
            None if is_weights(asked) => Some(Reply::Die(1000)),
            Some(_) => Some(Reply::Refuse(403, "")),
            None => None,
        });
        place.refused(1, "o/tiny");
        assert_eq!(place.gathered(), 1000);
        place.hub.asked();
        place
            .hub
            .rule(move |asked| asked.from.map(|_| rule.clone()));
        place.open("o/tiny");
        // A refusal comes before the store of the weights is reached.
        let asked = ranges(&place.hub.asked());
        assert_eq!(asked.last(), Some(&None), "{wrong:?}");
        place.work.json(["inspect", "o/tiny", "--json"]);
    }
}

#[test]
fn sizes_that_lie_are_no_sizes() {
    let place = Place::new();
    place
        .hub
        .change_files(|file| file["size"] = u64::MAX.into());
    let stderr = place.refused(1, "o/tiny");
    assert!(stderr.contains("free some"), "{stderr}");
}

#[test]
fn a_tokenizer_that_another_program_left_out_is_fetched() {
    let place = Place::new();
    place.open("o/tiny");
    place.hub.asked();
    let tokenizer = format!("snapshots/{COMMIT}/tokenizer.json");
    fs::remove_file(place.model().join(tokenizer)).unwrap();
    place.open("o/tiny");
    assert_eq!(place.hub.asked().len(), 1, "the list; the content is there");
    assert_eq!(place.open("o/tiny"), "");
    assert_eq!(place.hub.asked().len(), 0);
}

#[test]
fn what_is_not_as_announced_is_thrown_away() {
    let place = Place::new();
    let weights = fs::read(place.work.file("checkpoints/tiny/model.safetensors")).unwrap();
    let mut changed = weights.clone();
    changed[weights.len() / 2] ^= 1;
    let longer = [&weights[..], b"more"].concat();
    for (content, said) in [(changed, "SHA-256"), (longer, "were announced")] {
        let other = move |asked: &Asked| is_weights(asked).then(|| Reply::Other(content.clone()));
        place.hub.rule(other);
        let stderr = place.refused(1, "o/tiny");
        assert!(stderr.contains(said), "{stderr}");
        assert!(stderr.contains("run the same command again"), "{stderr}");
        assert_eq!(place.gathered(), 0);
    }
    place.hub.honest();
    place.open("o/tiny");
}

#[test]
fn a_hub_that_refuses_says_why() {
    let place = Place::new();
    let stderr = place.refused(2, "o/tinny");
    assert!(stderr.contains("no checkpoint `o/tinny`"), "{stderr}");
    assert!(stderr.contains("check the spelling"), "{stderr}");

    let gated = |asked: &Asked| {
        asked
            .path
            .contains("/resolve/")
            .then_some(Reply::Refuse(403, "GatedRepo"))
    };
    place.hub.rule(gated);
    let stderr = place.refused(1, "o/tiny");
    assert!(
        stderr.contains("accept it at") && stderr.contains("HF_TOKEN"),
        "{stderr}"
    );
    place.hub.asked();
    let output = place
        .demask(["inspect", "o/tiny"])
        .env("HF_TOKEN", "secret")
        .output();
    let stderr = refused(1, output.unwrap());
    assert!(stderr.contains("the account of your token"), "{stderr}");
    assert!(!stderr.contains("secret"), "{stderr}");
    assert_eq!(token(&place.hub.asked()[0]), Some("Bearer secret"));

    // What the hub says of a model that does not exist to somebody without a token.
    place.hub.rule(|_| Some(Reply::Refuse(401, "RepoNotFound")));
    let stderr = place.refused(2, "o/tiny");
    assert!(stderr.contains("check the spelling"), "{stderr}");
    place.hub.rule(|_| Some(Reply::Refuse(401, "")));
    let output = place
        .demask(["inspect", "o/tiny"])
        .env("HF_TOKEN", "old")
        .output();
    let stderr = refused(1, output.unwrap());
    assert!(stderr.contains("does not accept the token"), "{stderr}");
    place.hub.rule(|_| Some(Reply::Other(b"<html>".to_vec())));
    let stderr = place.refused(1, "o/tiny");
    assert!(stderr.contains("none of a Hugging Face hub"), "{stderr}");
}

#[test]
fn a_file_that_is_listed_and_missing_is_named() {
    let place = Place::new();
    let missing = |asked: &Asked| {
        let weights = asked.path.ends_with("/model.safetensors");
        weights.then_some(Reply::Refuse(404, "EntryNotFound"))
    };
    place.hub.rule(missing);
    let stderr = place.refused(1, "o/tiny");
    assert!(
        stderr.contains("lists model.safetensors of `o/tiny`"),
        "{stderr}"
    );
    assert!(!stderr.contains("check the spelling"), "{stderr}");
}

#[test]
fn what_is_not_the_network_is_not_blamed_on_it() {
    let place = Place::new();
    let refused = |code, name, value: &str| {
        let mut command = place.demask(["inspect", "o/tiny"]);
        let stderr = refused(code, command.env(name, value).output().unwrap());
        assert!(!stderr.contains("check the network"), "{stderr}");
        stderr
    };
    let stderr = refused(2, "HF_TOKEN", "sec\nret");
    assert!(stderr.contains("set HF_TOKEN to the token"), "{stderr}");
    assert!(!stderr.contains("ret\n"), "{stderr}");
    for address in ["huggingface.co", "ftp://host", "http:// a"] {
        let stderr = refused(2, "HF_ENDPOINT", address);
        let named = format!("HF_ENDPOINT `{address}` is no address");
        assert!(stderr.contains(&named), "{stderr}");
    }
    assert_eq!(place.hub.asked().len(), 0);
    place.hub.rule(|_| Some(Reply::Elsewhere("/round")));
    let stderr = refused(1, "HF_TOKEN", "");
    assert!(stderr.contains("without an end"), "{stderr}");
    let spaces = vec![b' '; (64 << 20) + 1];
    place.hub.rule(move |_| Some(Reply::Other(spaces.clone())));
    let stderr = refused(1, "HF_TOKEN", "");
    assert!(stderr.contains("more than 67.11 MB"), "{stderr}");
    assert_eq!(place.hub.asked().last().unwrap().from, None);
}

#[test]
fn the_token_is_shown_to_the_hub_alone() {
    let place = Place::new();
    fs::create_dir_all(place.work.file("hf")).unwrap();
    fs::write(place.work.file("hf/token"), "kept\n").unwrap();
    place.open("o/tiny");
    for asked in place.hub.asked() {
        let expected = (!is_weights(&asked)).then_some("Bearer kept");
        assert_eq!(token(&asked), expected, "{}", asked.path);
    }
}

#[test]
fn without_a_hub_a_model_that_is_not_there_cannot_be() {
    let place = Place::new();
    let mut away = place.demask(["inspect", "o/tiny"]);
    // Nobody listens on the port of the discard service.
    away.env("HF_ENDPOINT", "http://127.0.0.1:9");
    let stderr = refused(1, away.output().unwrap());
    assert!(
        stderr.contains("cannot reach http://127.0.0.1:9"),
        "{stderr}"
    );
    assert!(stderr.contains("check the network"), "{stderr}");
    let stderr = place.work.refused(2, ["inspect", "o/tiny"]);
    assert!(stderr.contains("HF_HUB_OFFLINE"), "{stderr}");
    assert_eq!(place.hub.asked().len(), 0);
}

#[test]
fn a_repository_without_safetensors_is_named_before_anything_comes() {
    let place = Place::new();
    let other = place.work.file("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("config.json"), "{}").unwrap();
    fs::write(other.join("model.gguf"), "").unwrap();
    place.hub.serve("o/other", &other);
    let stderr = place.refused(1, "o/other");
    assert!(stderr.contains("model.gguf"), "{stderr}");
    assert!(stderr.contains("only safetensors is read yet"), "{stderr}");
    fs::rename(other.join("model.gguf"), other.join("model.safetensors")).unwrap();
    fs::write(other.join("config.json"), r#"{"model_type":"llama"}"#).unwrap();
    place.hub.serve("o/other", &other);
    let stderr = place.refused(1, "o/other");
    assert!(stderr.contains("has no tokenizer.json"), "{stderr}");
    fs::write(other.join("config.json"), r#"{"model_type":"bert"}"#).unwrap();
    place.hub.serve("o/other", &other);
    place.hub.asked();
    let stderr = place.refused(1, "o/other");
    assert!(stderr.contains("`bert` is not supported"), "{stderr}");
    assert_eq!(ranges(&place.hub.asked()), []);
}

/// MDLM's checkpoints come in one repository, the tokenizer they were trained with in another.
#[test]
fn shards_and_the_tokenizer_of_another_model_come_too() {
    let place = Place::new();
    let model = place.work.file("mdlm");
    demask::models::family::random("mdlm", 1, &model).unwrap();
    let gpt2 = place.work.file("gpt2");
    fs::create_dir(&gpt2).unwrap();
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        fs::rename(model.join(name), gpt2.join(name)).unwrap();
    }
    fs::write(gpt2.join("model.safetensors"), "not read").unwrap();
    into_shards(&model);
    place.hub.serve("o/mdlm", &model);
    place.hub.serve("openai-community/gpt2", &gpt2);
    place.open("o/mdlm");
    let asked = place.hub.asked();
    assert_eq!(ranges(&asked), [None], "the one shard");
    assert!(
        asked
            .iter()
            .any(|asked| asked.path.ends_with("/vocab.json"))
    );
    place.work.json(["inspect", "o/mdlm", "--json"]);
    // A shard that went missing is fetched again.
    let folder = format!("hub/models--o--mdlm/snapshots/{COMMIT}/model-1.safetensors");
    fs::remove_file(place.work.file(&folder)).unwrap();
    place.open("o/mdlm");
}

/// Makes one file of weights a shard with an index.
fn into_shards(model: &Path) {
    let whole = model.join("model.safetensors");
    let bytes = fs::read(&whole).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let names = header.as_object().unwrap().keys();
    let map: serde_json::Map<_, _> = names
        .filter(|name| *name != "__metadata__")
        .map(|name| (name.clone(), "model-1.safetensors".into()))
        .collect();
    let index = serde_json::json!({ "weight_map": map });
    fs::write(
        model.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    fs::rename(whole, model.join("model-1.safetensors")).unwrap();
}

#[cfg(unix)]
mod cut_off {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Output, Stdio};
    use std::sync::mpsc::{self, Receiver};
    use std::time::{Duration, Instant};

    use super::*;

    fn begin(place: &Place) -> Child {
        Command::new(env!("CARGO_BIN_EXE_demask"))
            .args(["inspect", "o/tiny"])
            .current_dir(place.work.path())
            .envs(place.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Longest wait for what must happen.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Begins a download that waits for the one that runs, and gives what it says from then on.
    fn waiting(place: &Place) -> (Child, Receiver<String>) {
        let mut child = begin(place);
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut said = stderr.lines().map_while(Result::ok);
            said.try_for_each(|line| sender.send(line))
        });
        let mut said = String::new();
        while !said.contains("waiting for it") {
            said = lines.recv_timeout(PATIENCE).expect("it does not wait");
        }
        (child, lines)
    }

    fn succeeds((mut child, lines): (Child, Receiver<String>)) {
        let status = child.wait().unwrap();
        let said: Vec<_> = lines.iter().collect();
        assert!(status.success(), "{said:?}");
    }

    /// Begins a download that stands still after some bytes of the weights.
    fn stuck(place: &Place) -> Child {
        stuck_by(place, Reply::Stall(2000))
    }

    fn stuck_by(place: &Place, reply: Reply) -> Child {
        place
            .hub
            .rule(move |asked| (is_weights(asked) && asked.from.is_none()).then(|| reply.clone()));
        let child = begin(place);
        let start = Instant::now();
        while place.gathered() < 2000 {
            assert!(start.elapsed() < PATIENCE, "nothing came");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    fn goes_on(place: &Place) {
        assert!(!place.model().join("refs/main").exists());
        place.hub.asked();
        place.open("o/tiny");
        assert_eq!(ranges(&place.hub.asked()), [Some(2000)]);
    }

    #[test]
    fn kill_9_loses_nothing() {
        let place = Place::new();
        let mut child = stuck(&place);
        child.kill().unwrap();
        child.wait().unwrap();
        goes_on(&place);
    }

    #[test]
    fn two_runs_take_turns() {
        let place = Place::new();
        let mut first = stuck(&place);
        let second = waiting(&place);
        place.hub.asked();
        first.kill().unwrap();
        first.wait().unwrap();
        succeeds(second);
        assert_eq!(ranges(&place.hub.asked()), [Some(2000)]);
    }

    /// What the second has open is then the finished file, which must stay as it is.
    #[test]
    fn a_run_that_waited_takes_what_the_first_finished() {
        for sizes in [true, false] {
            let place = Place::new();
            if !sizes {
                place.hub.change_files(|file| {
                    file.as_object_mut().unwrap().remove("size");
                });
            }
            let first = stuck_by(&place, Reply::Wait(2000));
            let second = waiting(&place);
            place.hub.asked();
            place.hub.go_on();
            let Output { status, stderr, .. } = first.wait_with_output().unwrap();
            assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
            succeeds(second);
            assert_eq!(ranges(&place.hub.asked()), [], "nothing comes twice");
            let weights = format!("snapshots/{COMMIT}/model.safetensors");
            let weights = fs::read(place.model().join(weights)).unwrap();
            let origin = place.work.file("checkpoints/tiny/model.safetensors");
            assert!(weights == fs::read(origin).unwrap());
            let blobs = fs::read_dir(place.model().join("blobs")).unwrap();
            let mut names = blobs.map(|blob| blob.unwrap().file_name());
            assert!(names.all(|name| !name.to_string_lossy().ends_with(".part")));
        }
    }

    #[test]
    fn ctrl_c_ends_at_once_and_says_how_to_go_on() {
        let place = Place::new();
        let child = stuck(&place);
        let interrupt = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(interrupt.unwrap().success());
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(130), "{stderr}");
        assert!(
            stderr.contains("the same command goes on from here"),
            "{stderr}"
        );
        goes_on(&place);
    }

    /// No file may grow beyond 4 KiB: writing fails like on a full disk.
    #[test]
    fn a_full_disk_is_named() {
        let place = Place::new();
        let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" inspect o/tiny";
        let output = Command::new("sh")
            .args(["-c", limited, env!("CARGO_BIN_EXE_demask")])
            .current_dir(place.work.path())
            .envs(place.environment())
            .output()
            .unwrap();
        let stderr = refused(1, output);
        assert!(stderr.contains("free some space"), "{stderr}");
        place.open("o/tiny");
    }
}
