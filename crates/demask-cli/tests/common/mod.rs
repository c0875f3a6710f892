//! A fresh folder for each test, with a tiny random model in it.

#![allow(
    dead_code,
    reason = "each test binary compiles this file and uses its own part"
)]

pub mod hub;

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

/// A folder of its own and the program in it.
pub struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    /// A folder with a tiny masked model in `checkpoints/tiny`, a tiny autoregressive one in
    /// `checkpoints/judge`, and some text.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = folder.path().join("checkpoints");
        demask::models::family::random("demask", 3, &checkpoints.join("tiny")).unwrap();
        demask::models::family::random("llama", 3, &checkpoints.join("judge")).unwrap();
        let text: String = (0..60)
            .map(|i| format!("the cat {} sat on mat {}.\n", i % 7, i * i % 11))
            .collect();
        std::fs::write(folder.path().join("text.txt"), text).unwrap();
        std::fs::write(
            folder.path().join("tiny.toml"),
            include_str!("../data/tiny.toml"),
        )
        .unwrap();
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with arguments, in the folder, with nothing on standard input.
    pub fn demask<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_demask"));
        command
            .current_dir(self.path())
            .args(arguments)
            .write_stdin("");
        command
            .env_remove("DEMASK_CHECKPOINTS")
            // No model of this machine's hub cache, and none from the network.
            .env("HF_HUB_CACHE", self.file("hub"))
            .env("HF_HOME", self.file("hf"))
            .env("HF_HUB_OFFLINE", "1")
            .env_remove("HF_TOKEN")
            .env_remove("HF_TOKEN_PATH")
            .env_remove("NO_COLOR");
        command
    }

    /// Runs the program, which must succeed, and gives its standard output.
    pub fn stdout<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let output = self.demask(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// As [`Workplace::stdout`], read as JSON.
    pub fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Value {
        serde_json::from_str(&self.stdout(arguments)).unwrap()
    }

    /// Runs the program, which must fail with `code`, and gives its stderr.
    pub fn refused<'a>(&self, code: i32, arguments: impl IntoIterator<Item = &'a str>) -> String {
        refused(code, self.demask(arguments).output().unwrap())
    }
}

/// The stderr of a run that must have failed with `code`, with an error and nothing else before it.
pub fn refused(code: i32, output: Output) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains("error: "), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}
