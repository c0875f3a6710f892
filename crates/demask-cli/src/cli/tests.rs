//! Every flag of every command changes what the command does.

use clap::CommandFactory;
use demask::models::{Checkpoint, ModelSpec};
use demask::nn::Dtype;
use demask::train::data::{Layout, Padding};

use super::*;
use crate::checkpoints;
use crate::writing::plan::{Chance, model};

/// A folder with a tiny model, a recipe and a configuration: what flags may name.
struct World {
    folder: tempfile::TempDir,
    spec: ModelSpec,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        demask::models::family::random("demask", 1, folder.path()).unwrap();
        let recipe = include_str!("../../tests/data/tiny.toml");
        std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
        let other = recipe.replace("steps = 5", "steps = 6");
        std::fs::write(folder.path().join("other.toml"), other).unwrap();
        std::fs::write(
            folder.path().join("decode.json"),
            r#"{"decode": {"length": 3}}"#,
        )
        .unwrap();
        std::fs::write(folder.path().join("eval.json"), r#"{"eval": {"seed": 9}}"#).unwrap();
        let spec = Checkpoint::open(folder.path(), &checkpoints::options(Dtype::F32))
            .unwrap()
            .spec;
        // Of a model with labels, so that each flag has something to change.
        let spec = ModelSpec {
            labels: vec!["weather".into()],
            ..spec
        };
        Self { folder, spec }
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    /// The arguments without which a command cannot be called.
    fn needed(&self, command: &str) -> Vec<String> {
        match command {
            "train" => vec![self.path("recipe.toml")],
            "inspect" => vec!["story".into()],
            "infill" => vec!["a [[2]] b".into()],
            "completions" => vec!["bash".into()],
            "bench accuracy" => vec!["--data".into(), "text.txt".into()],
            "bench forward" | "bench step" | "bench generate" => {
                vec!["--shape".into(), "train-11m".into()]
            }
            _ => Vec::new(),
        }
    }

    /// How an argument is given, with a value that is not its default.
    fn given(&self, command: &str, argument: &str) -> Vec<String> {
        let words: &[&str] = match (command, argument) {
            ("generate", "prompt") => &["Hello"],
            ("infill", "template") => &["x [[3]] y"],
            ("train", "recipe") => return vec![self.path("other.toml")],
            ("train", "resume") => return vec!["--resume".into(), self.path("run")],
            ("inspect", "model") => &["other"],
            ("proof", "name") => &["gumbel"],
            ("completions", "shell") => &["zsh"],
            ("docs", "folder") => &["elsewhere"],
            ("bench forward" | "bench step" | "bench generate", "model") => &["--model", "other"],
            ("bench generate", "prompt") => &["--prompt", "5"],
            (_, "stored") => &["--stored"],
            (_, "shape") => &["--shape", "llada-0.2b"],
            (_, "rows") => &["--rows", "3"],
            (_, "cached") => &["--cached", "3"],
            (_, "inner") => &["--inner", "3"],
            (_, "outer") => &["--outer", "3"],
            (_, "tokens") => &["--tokens", "3"],
            (_, "batch") => &["--batch", "3"],
            (_, "size") => &["--size", "8"],
            (_, "part") => &["--part", "norms"],
            (_, "logits") => &["--logits", "none"],
            (_, "plot") => &["--plot", "growth.svg"],
            (_, "peer") => &["--peer", "other"],
            (_, "repeat") => &["--repeat", "3"],
            (_, "seconds") => &["--seconds", "3"],
            ("train" | "bench train", "dtype") => &["--dtype", "bf16"],
            ("eval", "config") => return vec!["--config".into(), self.path("eval.json")],
            (_, "config") => return vec!["--config".into(), self.path("decode.json")],
            ("eval", "set") => &["--set", "eval.nelbo.draws=3"],
            ("train", "set") => &["--set", "run.steps=3"],
            (_, "set") => &["--set", "decode.eos.early_stop=false"],
            (_, "chat") => &["--chat"],
            (_, "model") => &["--model", "other"],
            (_, "dtype") => &["--dtype", "int8"],
            (_, "threads") => &["--threads", "1"],
            (_, "length") => &["--length", "5"],
            (_, "gap") => &["--gap", "5"],
            (_, "steps") => &["--steps", "5"],
            (_, "block") => &["--block", "2"],
            (_, "policy") => &["--policy", "threshold:tau=0.5"],
            (_, "temperature") => &["--temperature", "0.5"],
            (_, "top_p") => &["--top-p", "0.5"],
            (_, "top_k") => &["--top-k", "5"],
            (_, "label") => &["--label", "weather"],
            (_, "cfg") => &["--cfg", "1.5"],
            (_, "seed") => &["--seed", "5"],
            (_, "seeds") => &["--seeds", "5"],
            (_, "samples") => &["--samples", "5"],
            (_, "samples_file") => &["--samples-file", "texts.txt"],
            (_, "watch") => &["--watch"],
            // Standard output is no terminal in a test, where plain is the default.
            (_, "plain") => return Vec::new(),
            (_, "json") => &["--json"],
            (_, "run_dir") => &["--run-dir", "elsewhere"],
            (_, "data") => &["--data", "file.txt"],
            (_, "limit") => &["--limit", "5"],
            (_, "metric") => &["--metric", "entropy"],
            (_, "judge") => &["--judge", "other"],
            (_, "list") => &["--list"],
            (_, "all") => &["--all"],
            (_, "work") => &["--work", "elsewhere"],
            (_, "verbose") => &["-v"],
            (_, "timings") => &["--timings"],
            other => panic!("say in this test how {other:?} is given"),
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// What the command would do.
    fn resolved(&self, words: &[String]) -> String {
        let argv = [&["demask".to_owned()], words].concat();
        let cli = Cli::try_parse_from(&argv).unwrap_or_else(|e| panic!("{argv:?}: {e}"));
        let chance = Chance { seed: 77, now: 0 };
        let what = match &cli.command {
            Command::Generate(c) => {
                let name = model(c.model.model.as_deref(), &c.config).unwrap();
                let plan = c
                    .resolve(name, &self.spec, c.prompt.clone(), chance)
                    .unwrap();
                format!("{:?} {plan:?}", c.output.resolve())
            }
            Command::Infill(c) => {
                let name = model(c.model.model.as_deref(), &c.config).unwrap();
                let plan = c
                    .resolve(name, &self.spec, c.template.clone(), chance)
                    .unwrap();
                format!("{:?} {plan:?}", c.output.resolve())
            }
            Command::Train(c) => format!("{:?}", c.resolve().unwrap()),
            Command::Eval(c) => {
                let plan = c.resolve(c.model().unwrap(), &self.spec).unwrap();
                format!("{:?} {plan:?}", c.listing)
            }
            Command::Proof(c) => format!("{:?}", c.resolve().unwrap()),
            // These do exactly what their arguments say.
            Command::Inspect(c) => format!("{c:?}"),
            Command::Bench(c) => format!("{c:?}"),
            Command::Models(c) => format!("{c:?}"),
            Command::Policies(c) => format!("{c:?}"),
            Command::Systems(c) => format!("{c:?}"),
            Command::Completions(c) => format!("{c:?}"),
            Command::Docs(c) => format!("{c:?}"),
        };
        format!("{:?} {} {what}", cli.log.level(), cli.log.timings)
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_changes_what_is_done() {
    let world = World::new();
    // A run folder to resume: the recipe is all that is looked at here.
    std::fs::create_dir(world.path("run")).unwrap();
    std::fs::copy(world.path("recipe.toml"), world.path("run/recipe.toml")).unwrap();
    let mut root = Cli::command();
    root.build();
    let mut walked = 0;
    let parts = |command: &clap::Command| -> Vec<clap::Command> {
        let parts = command.get_subcommands();
        parts.filter(|c| c.get_name() != "help").cloned().collect()
    };
    let mut commands = Vec::new();
    for command in parts(&root) {
        let name = command.get_name().to_owned();
        match parts(&command) {
            none if none.is_empty() => commands.push((name, command)),
            parts => commands.extend(parts.into_iter().map(|part| {
                let name = format!("{name} {}", part.get_name());
                (name, part)
            })),
        }
    }
    for (name, command) in &commands {
        let name = name.as_str();
        let words: Vec<String> = name.split(' ').map(str::to_owned).collect();
        let base = [words.clone(), world.needed(name)].concat();
        let before = world.resolved(&base);
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            if matches!(id, "help" | "version") {
                continue;
            }
            let given = world.given(name, id);
            if given.is_empty() {
                continue;
            }
            // Where one of several is needed, the other stands in its place.
            let instead = argument.is_positional()
                || id == "resume"
                || (id == "model"
                    && matches!(name, "bench forward" | "bench step" | "bench generate"))
                || (id == "data" && name == "bench accuracy")
                || (id == "shape" && name != "bench train");
            let words = match instead {
                true => [words.clone(), given].concat(),
                false => [base.clone(), given].concat(),
            };
            assert_ne!(world.resolved(&words), before, "{words:?} changes nothing");
            walked += 1;
        }
    }
    assert!(walked > 40, "{walked}");
}

#[test]
fn a_configuration_is_read_back_to_the_same_value() {
    let world = World::new();
    let words = "generate Hello --length 7 --steps 3 --policy entropy:alg_temp=0.3 --temperature 0.1 \
                 --top-p 0.9 --top-k 11 --cfg 0.7 --samples 2 --threads 2 --chat --block 4";
    let first: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let plan = |words: &[String], chance: Chance| {
        let argv = [&["demask".to_owned()], words].concat();
        let Command::Generate(c) = Cli::try_parse_from(argv).unwrap().command else {
            panic!("not generate")
        };
        c.resolve("m".into(), &world.spec, c.prompt.clone(), chance)
            .unwrap()
    };
    let written = plan(
        &first,
        Chance {
            seed: 1 << 60,
            now: 5,
        },
    );
    let file = world.path("again.json");
    let output = serde_json::json!({ "text": "…", "config": written });
    std::fs::write(&file, output.to_string()).unwrap();
    let again = ["generate", "--config", &file].map(str::to_owned);
    assert_eq!(plan(&again, Chance { seed: 2, now: 6 }), written);
    let changed = [&again[..], &["--top-k".to_owned(), "12".to_owned()]].concat();
    let changed = plan(&changed, Chance { seed: 2, now: 6 });
    assert_eq!(changed.decode.top_k, Some(12));
    assert_eq!(changed.decode.seed, written.decode.seed);
}

#[test]
fn a_later_layer_takes_chat_back() {
    let world = World::new();
    let file = world.path("chat.json");
    std::fs::write(&file, r#"{"chat": true, "now": 5}"#).unwrap();
    let plan = |words: &[&str]| {
        let argv = [&["demask", "generate", "Hi", "--config", &file], words].concat();
        let Command::Generate(c) = Cli::try_parse_from(argv).unwrap().command else {
            panic!("not generate")
        };
        let chance = Chance { seed: 1, now: 9 };
        let plan = c
            .resolve("m".into(), &world.spec, c.prompt.clone(), chance)
            .unwrap();
        (plan.chat, plan.now)
    };
    assert_eq!(plan(&[]), (true, Some(5)));
    assert_eq!(plan(&["--chat=false"]), (false, None));
    assert_eq!(plan(&["--set", "chat=false"]), (false, None));
    assert_eq!(plan(&["--chat=false", "--set=chat=true"]), (true, Some(5)));
}

#[test]
fn the_models_of_the_examples_are_built_in() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut texts = vec![std::fs::read_to_string(format!("{root}/README.md")).unwrap()];
    for command in Cli::command().get_subcommands() {
        texts.extend(command.get_after_help().map(ToString::to_string));
    }
    let mut names = std::collections::BTreeSet::new();
    for text in &texts {
        let words: Vec<&str> = text.split_whitespace().collect();
        for pair in words.windows(2) {
            let names_model = ["--model", "-m", "--judge", "inspect"].contains(&pair[0]);
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if names_model && pair[1].chars().all(is_name) && !pair[1].starts_with('-') {
                names.insert(pair[1]);
            }
        }
    }
    assert!(
        names.contains("story") && names.contains("story-ar"),
        "{names:?}"
    );
    for name in names {
        let config = format!("{root}/checkpoints/{name}/config.json");
        assert!(std::path::Path::new(&config).is_file(), "no {config}");
    }
}

#[test]
fn the_checkpoints_say_what_their_recipes_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../checkpoints");
    for entry in std::fs::read_dir(folder).unwrap() {
        let checkpoint =
            Checkpoint::open(entry.unwrap().path(), &checkpoints::options(Dtype::F32)).unwrap();
        assert!(checkpoint.unusual.is_empty(), "{:?}", checkpoint.unusual);
        let recipe = checkpoint.spec.provenance.unwrap().recipe.unwrap();
        let recipe = demask::train::Recipe::parse(&recipe, "recipe", &[]).unwrap();
        let (bos, eos) = match recipe.data.layout {
            Layout::Packed { bos, eos, wrap } => (bos || wrap, eos || wrap),
            // Every example is followed by an end token.
            Layout::Examples { bos, padding, .. } => (bos, padding != Padding::None),
        };
        let frame = checkpoint.spec.frame;
        assert_eq!((frame.bos, frame.eos), (bos, eos), "{}", checkpoint.label);
    }
}

#[test]
fn the_commands_of_the_systems_are_commands() {
    for system in demask::registry::systems() {
        let words = system.command.split_whitespace();
        assert!(Cli::try_parse_from(words).is_ok(), "{}", system.command);
    }
}
