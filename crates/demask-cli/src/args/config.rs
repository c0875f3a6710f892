//! `--config FILE` and `--set key=value`: whole configurations and single values of them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use demask::models::nearest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::value;
use crate::error::{usage, with_advice};

/// The flags that reach every value of a configuration.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// Start from the `config` of an earlier `--json`; flags change it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Change one value of the configuration, dotted as `--json` prints it (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = value::assignment)]
    pub set: Vec<String>,

    /// What stands in the file: a pipe can be read only once.
    #[arg(skip)]
    file: OnceLock<Value>,
}

impl ConfigArgs {
    /// The configuration of `--config` as it stands in the file.
    pub fn read(&self) -> Result<Option<Value>> {
        let Some(path) = &self.config else {
            return Ok(None);
        };
        if let Some(value) = self.file.get() {
            return Ok(Some(value.clone()));
        }
        let value = read(path)?;
        Ok(Some(self.file.get_or_init(|| value).clone()))
    }

    /// Whether the file or a `--set` names the value at this dotted path.
    pub fn names(&self, path: &str) -> Result<bool> {
        let pointer = format!("/{}", path.replace('.', "/"));
        let file = self.read()?;
        let of_set = |assignment: &String| {
            let key = assignment.split('=').next().unwrap_or_default().trim();
            // Setting a whole section names all that is in it.
            path.strip_prefix(key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        Ok(
            self.set.iter().any(of_set)
                || file.is_some_and(|file| file.pointer(&pointer).is_some()),
        )
    }

    /// `base` with the values of `--config` laid over it.
    pub fn layer<T: Serialize + DeserializeOwned>(&self, base: &T) -> Result<T> {
        let (Some(path), Some(file)) = (&self.config, self.read()?) else {
            return Ok(serde_json::from_value(serde_json::to_value(base)?)?);
        };
        let mut value = serde_json::to_value(base)?;
        merge(&mut value, file);
        serde_json::from_value(value).map_err(|error| refused(path.display(), &error))
    }

    /// `config` with every `--set` applied.
    pub fn apply<T: Serialize + DeserializeOwned>(&self, config: &T) -> Result<T> {
        let mut value = serde_json::to_value(config)?;
        for assignment in &self.set {
            set(&mut value, assignment)?;
        }
        serde_json::from_value(value)
            .map_err(|error| refused(format_args!("--set {}", self.set.join(" --set ")), &error))
    }
}

/// What serde refused, with the nearest of the names that it would have taken.
fn refused(place: impl std::fmt::Display, error: &serde_json::Error) -> anyhow::Error {
    let message = error.to_string();
    let unknown = ["unknown field", "unknown variant"]
        .iter()
        .any(|what| message.starts_with(what));
    let mut names = message.split('`').skip(1).step_by(2);
    let meant = names
        .next()
        .filter(|_| unknown)
        .and_then(|word| nearest(word, names));
    let error = usage(format!("{place}: {}", plain(&message)));
    match meant {
        Some(near) => with_advice(error, format!("did you mean `{near}`?")),
        // A kind alone is not a plan: its block has no default.
        None if message.starts_with("missing field `block`") => with_advice(
            error,
            "add --block N (of `generate` and `infill`), or write the plan whole, as in \
             --set 'decode.plan={\"kind\":\"blocks\",\"block\":32}'",
        ),
        None => error,
    }
}

/// The message of serde without names of Rust types.
fn plain(message: &str) -> String {
    let Some((before, wanted)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    let wanted = match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or larger",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        other if other.starts_with("internally tagged enum") => "an object with a `kind`",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{before}expected {wanted}")
}

/// Reads a configuration: the object itself, or the output of `--json` that holds it.
fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {}", path.display()))?;
    let advice = "give a file that --json printed, or an object of the same form";
    let bad = |what: &str| {
        let message = format!("{}: the configuration {what}", path.display());
        with_advice(usage(message), advice)
    };
    let mut value: Value =
        serde_json::from_str(&text).map_err(|error| bad(&format!("is not JSON: {error}")))?;
    if let Some(config) = value.get_mut("config") {
        value = config.take();
    }
    if !value.is_object() {
        return Err(bad("is not a JSON object"));
    }
    Ok(value)
}

/// Lays `over` on `base`: objects field by field, everything else whole. A tagged value (one with a
/// `kind`) is whole too, since another kind has other fields.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) if !over.contains_key("kind") => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// Sets one value: `decode.length=64`, `decode.policy={"kind":"entropy"}`. The value is JSON; what
/// is not JSON is text.
fn set(config: &mut Value, assignment: &str) -> Result<()> {
    let (path, text) = assignment.split_once('=').unwrap_or((assignment, ""));
    let new = serde_json::from_str(text.trim()).unwrap_or_else(|_| Value::from(text.trim()));
    let mut place = config;
    for key in path.trim().split('.') {
        place = match place {
            Value::Array(items) => {
                let count = items.len();
                key.parse::<usize>()
                    .ok()
                    .and_then(|i| items.get_mut(i))
                    .ok_or_else(|| {
                        usage(format!(
                            "--set {path}: `{key}` is not an index below {count}"
                        ))
                    })?
            }
            Value::Object(fields) => field(fields, path, key)?,
            _ => return Err(usage(format!("--set {path}: nothing lies below `{key}`"))),
        };
    }
    *place = new;
    Ok(())
}

/// The field `key`, which must exist: a typo is never a new value.
fn field<'a>(fields: &'a mut Map<String, Value>, path: &str, key: &str) -> Result<&'a mut Value> {
    if !fields.contains_key(key) {
        let known: Vec<&str> = fields.keys().map(String::as_str).collect();
        let advice = match nearest(key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("here are {}", known.join(", ")),
        };
        return Err(with_advice(
            usage(format!("--set {path}: no value `{key}`")),
            advice,
        ));
    }
    Ok(&mut fields[key])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_set_by_their_path_and_type() {
        let mut config = json!({"a": {"b": 1, "c": null}, "list": [1, 2]});
        for assignment in ["a.b=2.5", "a.c = word", "list.1={\"kind\":\"x\"}"] {
            set(&mut config, assignment).unwrap();
        }
        assert_eq!(
            config,
            json!({"a": {"b": 2.5, "c": "word"}, "list": [1, {"kind": "x"}]})
        );
    }

    #[test]
    fn a_path_that_leads_nowhere_is_refused() {
        let mut config = json!({"length": 1, "list": []});
        for bad in ["lenght=2", "length.x=1", "list.0=1", "=1"] {
            assert!(set(&mut config, bad).is_err(), "{bad}");
        }
        assert_eq!(config, json!({"length": 1, "list": []}));
    }

    #[test]
    fn a_typo_in_a_file_is_told_the_name_that_was_meant() {
        #[derive(Debug, Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Decode {
            length: usize,
            steps: usize,
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"lenght":3}"#).unwrap();
        let args = ConfigArgs {
            config: Some(file.path().to_owned()),
            ..ConfigArgs::default()
        };
        let base = Decode {
            length: 1,
            steps: 1,
        };
        let error = args.layer(&base).unwrap_err();
        assert!(
            format!("{error:#?}").contains("did you mean `length`?"),
            "{error:?}"
        );
    }

    #[test]
    fn a_message_names_no_rust_type() {
        let message =
            |wanted: &str| plain(&format!("invalid type: string \"x\", expected {wanted}"));
        assert!(message("usize").ends_with("expected a whole number, 0 or larger"));
        assert!(message("f64").ends_with("\"x\", expected a number"));
        assert!(message("internally tagged enum P").ends_with("an object with a `kind`"));
        assert!(message("a boolean").ends_with("expected a boolean"));
        assert_eq!(plain("missing field `x`"), "missing field `x`");
    }

    #[test]
    fn a_whole_output_is_read_as_its_configuration() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [r#"{"text":"x","config":{"n":3}}"#, r#"{"n":3}"#] {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(read(file.path()).unwrap(), json!({"n": 3}));
        }
    }

    #[test]
    fn a_file_lies_over_the_defaults_and_kinds_are_replaced_whole() {
        let mut base = json!({"a": {"b": 1, "c": 2}, "p": {"kind": "x", "only_x": 1}});
        merge(&mut base, json!({"a": {"c": null}, "p": {"kind": "y"}}));
        assert_eq!(base, json!({"a": {"b": 1, "c": null}, "p": {"kind": "y"}}));
    }
}
