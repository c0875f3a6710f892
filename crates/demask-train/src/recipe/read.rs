//! Reading, overriding and printing recipes.

use std::path::{Path, PathBuf};

use demask_nn::TransformerConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::{Recipe, suggest};
use crate::TrainError;

impl Recipe {
    /// Reads a recipe file and changes it by `overrides`, each `section.key=value`.
    ///
    /// # Errors
    /// [`TrainError::Io`] when the file cannot be read, [`TrainError::Recipe`] with the line when
    /// something in it is wrong.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io("read", path))?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// Reads a recipe from `text`; `source_name` stands in errors.
    ///
    /// # Errors
    /// [`TrainError::Recipe`].
    pub fn parse(text: &str, source_name: &str, overrides: &[String]) -> Result<Self, TrainError> {
        // The text is read on its own first, so that an error in it has its line.
        let recipe: Self = toml::from_str(text).map_err(|e| {
            let at = e.span().map(|s| s.start);
            let (line, message) = suggest::explain(text, e.message(), at);
            TrainError::Recipe {
                source_name: source_name.into(),
                line,
                message,
            }
        })?;
        let mut table = recipe.table()?;
        forget_derived(&mut table, &toml::from_str(text).unwrap_or_default());
        let recipe = recipe.with_overrides(table, overrides)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Changes one value: `optimizer.lr=1e-3`, `data.source.0.weight=2`, `run.name=second`.
    ///
    /// The value is TOML; a bare word is taken as text. A table replaces the table that was there,
    /// which is how the kind of a tagged section is changed:
    /// `schedule={ kind = "linear", warmup = 100 }`.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] for an unknown key, a wrong type or an unusable value; the recipe is
    /// then unchanged.
    pub fn set(&mut self, assignment: &str) -> Result<(), TrainError> {
        let changed = self.with_overrides(self.table()?, &[assignment.to_string()])?;
        changed.validate()?;
        *self = changed;
        Ok(())
    }

    /// `self`, which `table` spells out, changed by `overrides`.
    fn with_overrides(&self, mut table: Table, overrides: &[String]) -> Result<Self, TrainError> {
        let mut recipe = self.clone();
        for assignment in overrides {
            let (key, value) = split(assignment)?;
            insert(&mut table, &key, value).map_err(|m| override_error(assignment, m))?;
            recipe = Recipe::deserialize(table.clone()).map_err(|e| {
                // The place of a key that was set is the key that was set.
                let leaf = key.last().map_or("", String::as_str);
                let text = format!("[{}]\n{leaf} = 0\n", key[..key.len() - 1].join("."));
                let text = if key.len() == 1 {
                    format!("{leaf} = 0\n")
                } else {
                    text
                };
                let at = text.find(leaf);
                override_error(assignment, suggest::explain(&text, e.message(), at).1)
            })?;
        }
        Ok(recipe)
    }

    /// The whole recipe with every default written out; [`Recipe::parse`] reads it back to the same
    /// value.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] when it holds a number that TOML has not ([`Recipe::validate`] says so).
    pub fn resolved(&self) -> Result<String, TrainError> {
        toml::to_string_pretty(self).map_err(unwritable)
    }

    pub(super) fn table(&self) -> Result<Table, TrainError> {
        Table::try_from(self).map_err(unwritable)
    }

    /// The dotted keys in which two recipes differ.
    pub(crate) fn differences(&self, other: &Self) -> Result<Vec<String>, TrainError> {
        let [a, b] = [self.table()?, other.table()?].map(Value::Table);
        let mut out = Vec::new();
        compare("", &a, &b, &mut out);
        Ok(out)
    }
}

/// The folders in which a recipe at `path` looks for its files: the current folder, then the two
/// folders above the recipe's own (recipes live in and below `recipes/` of a repository whose root
/// holds `data/`).
pub fn roots_of(path: &Path) -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from(".")];
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    roots.extend(absolute.ancestors().skip(2).take(2).map(Path::to_path_buf));
    roots
}

/// Reads `[network]`, in which `vocab_size`, `max_length` and `labels` (filled in later), `n_kv_heads`
/// (`n_heads`) and `head_dim` (`d_model / n_heads`) may be left out.
pub(super) fn network<'de, D: Deserializer<'de>>(d: D) -> Result<TransformerConfig, D::Error> {
    let mut table = Table::deserialize(d)?;
    for key in ["vocab_size", "max_length"] {
        table.entry(key).or_insert(Value::Integer(0));
    }
    if let Some(heads) = table.get("n_heads").cloned() {
        table.entry("n_kv_heads").or_insert(heads);
    }
    if let (Some(&Value::Integer(d)), Some(&Value::Integer(heads))) =
        (table.get("d_model"), table.get("n_heads"))
        && heads > 0
    {
        table.entry("head_dim").or_insert(Value::Integer(d / heads));
    }
    TransformerConfig::deserialize(table)
        .map_err(|e| serde::de::Error::custom(e.message().to_string()))
}

/// Keys of `[network]` that [`network`] derives from others where they are left out.
const DERIVED: [&str; 2] = ["n_kv_heads", "head_dim"];

/// Takes out of the spelled-out `table` what the user's own text `written` leaves to be derived, so
/// that `--set network.n_heads=8` gives the network that the file would give with 8 in it.
fn forget_derived(table: &mut Table, written: &Table) {
    let written = written.get("network").and_then(Value::as_table);
    if let Some(Value::Table(network)) = table.get_mut("network") {
        for key in DERIVED {
            if !written.is_some_and(|written| written.contains_key(key)) {
                network.remove(key);
            }
        }
    }
}

fn unwritable(error: toml::ser::Error) -> TrainError {
    TrainError::recipe(format!(
        "a value cannot be written as TOML, whose whole numbers end at 2^63 ({error})"
    ))
}

/// What [`network`] reads: the shape with the keys that may be left out.
pub(super) fn network_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = TransformerConfig::json_schema(generator);
    let optional = [
        ("vocab_size", "; the tokenizer's when left out."),
        ("max_length", "; `data.length` when left out."),
        ("n_kv_heads", "; `n_heads` when left out."),
        ("head_dim", "; `d_model / n_heads` when left out."),
        ("labels", "; the number in the training data when left out."),
    ];
    if let Some(required) = schema.get_mut("required").and_then(|r| r.as_array_mut()) {
        required.retain(|key| optional.iter().all(|(name, _)| key != name));
    }
    for (name, instead) in optional {
        let text = schema.pointer_mut(&format!("/properties/{name}/description"));
        if let Some(serde_json::Value::String(text)) = text {
            *text = text.trim_end_matches('.').to_owned() + instead;
        }
    }
    schema
}

fn override_error(assignment: &str, message: String) -> TrainError {
    TrainError::Recipe {
        source_name: format!("--set {assignment}"),
        line: None,
        message,
    }
}

fn split(assignment: &str) -> Result<(Vec<String>, Value), TrainError> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(override_error(
            assignment,
            "write it as section.key=value".into(),
        ));
    };
    let key: Vec<String> = key
        .trim()
        .split('.')
        .map(|part| part.trim().to_string())
        .collect();
    if key.iter().any(String::is_empty) {
        return Err(override_error(
            assignment,
            "the key has an empty part".into(),
        ));
    }
    let value = value.trim();
    let parsed = toml::from_str::<Table>(&format!("value = {value}"));
    let value = match parsed.ok().and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None if !value.is_empty() && !value.contains(['"', '\'', '[', ']', '{', '}', '\n']) => {
            Value::String(value.to_string())
        }
        None => return Err(override_error(assignment, "the value is not TOML".into())),
    };
    Ok((key, value))
}

fn insert(table: &mut Table, key: &[String], value: Value) -> Result<(), String> {
    let (first, rest) = key.split_first().ok_or("the key is empty")?;
    if rest.is_empty() {
        // A whole number is a fine value for a key that holds a float: `optimizer.clip=1`.
        let value = match (table.get(first), value) {
            (Some(Value::Float(_)), Value::Integer(n)) => Value::Float(n as f64),
            (_, value) => value,
        };
        table.insert(first.clone(), value);
        return Ok(());
    }
    let inner = table
        .entry(first.clone())
        .or_insert_with(|| Value::Table(Table::new()));
    match inner {
        Value::Table(inner) => insert(inner, rest, value),
        Value::Array(list) => {
            let length = list.len();
            let entry = rest[0].parse::<usize>().ok().and_then(|i| list.get_mut(i));
            match (entry, rest.len()) {
                (Some(Value::Table(inner)), 2..) => insert(inner, &rest[1..], value),
                (Some(entry), 1) => {
                    *entry = value;
                    Ok(())
                }
                _ => Err(format!(
                    "`{first}` is a list of {length}; write its number (from 0) after it, as in {first}.0.key"
                )),
            }
        }
        _ => Err(format!("`{first}` is a value, not a section")),
    }
}

fn compare(path: &str, a: &Value, b: &Value, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Table(a), Value::Table(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let none = Value::Table(Table::new());
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => compare(&path, a, b, out),
                    // A section on one side only differs in its keys.
                    (Some(section @ Value::Table(_)), None)
                    | (None, Some(section @ Value::Table(_))) => {
                        compare(&path, section, &none, out);
                    }
                    _ => out.push(path),
                }
            }
        }
        _ if a != b => out.push(path.to_string()),
        _ => {}
    }
}
