//! Tables of keys, written from a schema.
//!
//! A value that only one key has is spelled out below that key; a type that several keys share has a
//! heading of its own, to which they link.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::terminal::table::Table;

/// How values and keys are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// As in a recipe: what is left out has its default or is off.
    Toml,
    /// As `--json` prints a configuration: every key is there.
    Json,
}

/// Writes the tables of several schemas, each shared type once.
#[derive(Debug)]
pub struct Writer<'a> {
    types: &'a Value,
    shared: BTreeSet<&'a str>,
    /// The heading of each shared type that has one.
    headings: BTreeMap<&'a str, String>,
    /// Shared types that are still to be written.
    waiting: Vec<&'a str>,
}

/// What may stand at a key.
enum Shape<'a> {
    /// Keys of its own.
    Keys(&'a Map<String, Value>),
    /// Keys that depend on `kind`: kind, meaning, keys.
    Kinds(Vec<(&'a str, &'a str, &'a Map<String, Value>)>),
    /// One of some words: word, meaning.
    Words(Vec<(&'a str, &'a str)>),
    /// A list of such values.
    List(&'a Value),
    /// A number, a text, ….
    Plain,
}

impl<'a> Writer<'a> {
    /// A writer for `roots`, whose shared types are in `types`.
    pub fn new(types: &'a Value, roots: &[&'a Value]) -> Self {
        let mut uses = BTreeMap::new();
        for schema in roots.iter().copied().chain([types]) {
            count(schema, &mut uses);
        }
        let shared = uses.into_iter().filter(|(_, n)| *n > 1);
        Self {
            types,
            shared: shared.map(|(name, _)| name).collect(),
            headings: BTreeMap::new(),
            waiting: Vec::new(),
        }
    }

    /// Says that the keys of the type of `schema` stand below `heading`.
    pub fn heading(&mut self, schema: &'a Value, heading: &str) {
        if let Some(name) = reference(schema) {
            self.headings.insert(name, heading.to_owned());
        }
    }

    /// The keys of `schema`, all of them.
    pub fn table(&mut self, schema: &'a Value, notation: Notation) -> String {
        self.table_below("", schema, notation)
    }

    fn table_below(&mut self, path: &str, schema: &'a Value, notation: Notation) -> String {
        let mut table = Table::new(["key", "value", "default", "meaning"]);
        self.rows(&mut table, path, schema, notation);
        table.markdown()
    }

    /// Headings and tables of the shared types that were linked to and not written yet; their keys
    /// stand below `path`.
    pub fn shared(&mut self, notation: Notation, path: &str) -> String {
        let mut text = String::new();
        while !self.waiting.is_empty() {
            let name = self.waiting.remove(0);
            let schema = &self.types[name];
            let keys = self.table_below(path, schema, notation);
            let heading = &self.headings[name];
            text += &format!("\n### {heading}\n\n{}\n\n{keys}", meaning(schema));
        }
        text
    }

    /// The rows of everything below `path`.
    fn rows(&mut self, table: &mut Table, path: &str, schema: &'a Value, notation: Notation) {
        match self.shape(schema) {
            Shape::Keys(keys) => self.keys(table, path, self.target(schema), keys, notation),
            Shape::Kinds(kinds) => {
                for (kind, meaning, keys) in kinds {
                    let place = below(path, "kind");
                    table.row([&spelled(&place, kind, notation), "", "", meaning]);
                    let variant = self.variant(schema, kind);
                    self.keys(table, path, variant, keys, notation);
                }
            }
            Shape::Words(words) => {
                for (word, meaning) in words {
                    let choice = match path {
                        "" => format!("`\"{word}\"`"),
                        path => spelled(path, word, notation),
                    };
                    table.row([&choice, "", "", meaning]);
                }
            }
            Shape::List(item) if self.link(item).is_none() => match self.shape(item) {
                Shape::Words(_) => self.rows(table, path, item, notation),
                _ => self.rows(table, &below(path, "0"), item, notation),
            },
            Shape::List(_) | Shape::Plain => {}
        }
    }

    fn keys(
        &mut self,
        table: &mut Table,
        path: &str,
        owner: &'a Value,
        keys: &'a Map<String, Value>,
        notation: Notation,
    ) {
        for (key, schema) in keys.iter().filter(|(key, _)| *key != "kind") {
            let place = below(path, key);
            table.row([
                format!("`{place}`"),
                self.value(schema, notation),
                self.default(owner, key, schema, notation),
                meaning(schema).to_owned(),
            ]);
            if self.link(schema).is_none() {
                self.rows(table, &place, schema, notation);
            }
        }
    }

    /// What may stand there, in a few words.
    fn value(&mut self, schema: &'a Value, notation: Notation) -> String {
        let text = match self.link(schema) {
            Some(link) => link,
            None => self.words(schema, false),
        };
        match may_be_null(schema) && notation == Notation::Json {
            true => format!("{text} or `null`"),
            false => text,
        }
    }

    fn words(&mut self, schema: &'a Value, many: bool) -> String {
        let schema = self.target(schema);
        let plural = |one: &str| format!("{one}{}", if many { "s" } else { "" });
        match self.shape(schema) {
            Shape::Keys(_) => plural("table"),
            Shape::Kinds(_) => match many {
                true => "tables by `kind`".into(),
                false => "by `kind`".into(),
            },
            Shape::Words(_) => plural("word"),
            Shape::List(item) => {
                let two = schema["minItems"] == 2 && schema["maxItems"] == 2;
                let list = plural(if two { "pair" } else { "list" });
                let items = match self.link(item) {
                    Some(link) => link,
                    None => self.words(item, true),
                };
                format!("{list} of {items}")
            }
            Shape::Plain => match name_of_type(schema) {
                "boolean" => "true or false".into(),
                "integer" => plural("whole number"),
                "number" => plural("number"),
                "string" => plural("text"),
                _ => plural("table"),
            },
        }
    }

    /// The default of a key of `owner`: what is said here, less what the type says itself.
    fn default(
        &self,
        owner: &'a Value,
        key: &str,
        schema: &'a Value,
        notation: Notation,
    ) -> String {
        let required = owner["required"].as_array();
        if required.is_some_and(|keys| keys.iter().any(|k| k == key)) {
            return "required".into();
        }
        let Some(value) = schema.get("default").filter(|value| !value.is_null()) else {
            return match notation {
                Notation::Toml => "-".into(),
                Notation::Json => "`null`".into(),
            };
        };
        let own = self.pruned(schema, value);
        match &own {
            Value::Object(fields) if fields.is_empty() => "as listed".into(),
            own => format!("`{}`", inline(own, notation)),
        }
    }

    /// `value` without the fields that have the default of their own type.
    fn pruned(&self, schema: &'a Value, value: &Value) -> Value {
        let Value::Object(fields) = value else {
            return value.clone();
        };
        let keys = match self.shape(schema) {
            Shape::Keys(keys) => keys,
            Shape::Kinds(kinds) => {
                let kind = value["kind"].as_str();
                match kinds.into_iter().find(|(name, ..)| Some(*name) == kind) {
                    Some((_, _, keys)) => keys,
                    None => return value.clone(),
                }
            }
            Shape::Words(_) | Shape::List(_) | Shape::Plain => return value.clone(),
        };
        let own = fields.iter().filter_map(|(key, field)| {
            let schema = keys.get(key)?;
            let usual = schema.get("default").unwrap_or(&Value::Null);
            let kept = key == "kind" || field != usual;
            kept.then(|| (key.clone(), self.pruned(schema, field)))
        });
        Value::Object(own.collect())
    }

    /// The link to a shared type, which then gets a heading.
    fn link(&mut self, schema: &'a Value) -> Option<String> {
        let name = reference(schema).filter(|name| self.shared.contains(name))?;
        if !self.headings.contains_key(name) {
            let title = self.types[name]["title"].as_str().unwrap_or(name);
            self.headings.insert(name, title.to_owned());
            self.waiting.push(name);
        }
        let heading = &self.headings[name];
        let text = heading.trim_matches(['`', '[', ']']).to_lowercase();
        Some(format!("[{text}](#{})", anchor(heading)))
    }

    fn target(&self, schema: &'a Value) -> &'a Value {
        reference(schema).map_or(schema, |name| &self.types[name])
    }

    fn variant(&self, schema: &'a Value, kind: &str) -> &'a Value {
        let variants = self.target(schema)["oneOf"].as_array();
        let mut variants = variants.into_iter().flatten();
        variants
            .find(|variant| variant["properties"]["kind"]["const"] == kind)
            .unwrap_or(&Value::Null)
    }

    fn shape(&self, schema: &'a Value) -> Shape<'a> {
        let schema = self.target(schema);
        if let Some(words) = schema["enum"].as_array() {
            let words = words.iter().filter_map(Value::as_str);
            return Shape::Words(words.map(|word| (word, "")).collect());
        }
        if let Some(variants) = schema["oneOf"].as_array() {
            let words = variants.iter().filter_map(|v| v["const"].as_str());
            let words: Vec<_> = words.zip(variants.iter().map(meaning)).collect();
            if words.len() == variants.len() {
                return Shape::Words(words);
            }
            let kinds = variants.iter().filter_map(|variant| {
                let keys = variant["properties"].as_object()?;
                Some((keys["kind"]["const"].as_str()?, meaning(variant), keys))
            });
            return Shape::Kinds(kinds.collect());
        }
        match (schema["properties"].as_object(), schema.get("items")) {
            (Some(keys), _) => Shape::Keys(keys),
            (_, Some(items)) => Shape::List(items),
            _ => Shape::Plain,
        }
    }
}

/// The anchor that GitHub gives to a heading.
pub fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || "-_".contains(c) => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

/// How often each type is referred to.
fn count<'a>(schema: &'a Value, uses: &mut BTreeMap<&'a str, usize>) {
    if let Some(name) = schema["$ref"].as_str().and_then(last) {
        *uses.entry(name).or_default() += 1;
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|field| count(field, uses)),
        Value::Array(items) => items.iter().for_each(|item| count(item, uses)),
        _ => {}
    }
}

/// The name of the type that a schema refers to, directly or as one that may be missing.
fn reference(schema: &Value) -> Option<&str> {
    let options = schema["anyOf"].as_array();
    let inner = options.and_then(|options| options.iter().find(|o| o.get("$ref").is_some()));
    inner.unwrap_or(schema)["$ref"].as_str().and_then(last)
}

fn last(path: &str) -> Option<&str> {
    path.rsplit('/').next()
}

fn may_be_null(schema: &Value) -> bool {
    let holds = |list: &Value, null: &Value| list.as_array().is_some_and(|l| l.contains(null));
    holds(&schema["type"], &"null".into())
        || holds(&schema["anyOf"], &serde_json::json!({ "type": "null" }))
}

fn name_of_type(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).next(),
        name => name.as_str(),
    }
    .unwrap_or_default()
}

fn meaning(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

fn below(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

fn spelled(place: &str, word: &str, notation: Notation) -> String {
    let equal = match notation {
        Notation::Toml => " = ",
        Notation::Json => ": ",
    };
    format!("`{place}{equal}\"{word}\"`")
}

/// A value on one line.
fn inline(value: &Value, notation: Notation) -> String {
    let join = |items: Vec<String>| items.join(", ");
    match (value, notation) {
        (Value::Object(fields), Notation::Toml) => {
            let field = |(key, value)| format!("{key} = {}", inline(value, notation));
            format!("{{ {} }}", join(fields.iter().map(field).collect()))
        }
        (Value::Object(fields), Notation::Json) => {
            let field = |(key, value)| format!("\"{key}\": {}", inline(value, notation));
            format!("{{{}}}", join(fields.iter().map(field).collect()))
        }
        (Value::Array(items), _) => {
            let items = items.iter().map(|item| inline(item, notation));
            format!("[{}]", join(items.collect()))
        }
        (value, _) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use demask::train::Recipe;

    use super::super::schema::schemas;
    use super::*;
    use crate::command::eval::Plan;
    use crate::writing::plan::WritePlan;

    /// What of `value` the schema does not know, or misses.
    fn misfits(writer: &Writer<'_>, schema: &Value, value: &Value, path: &str) -> Vec<String> {
        let of_keys = |owner: &Value, keys: &Map<String, Value>| -> Vec<String> {
            let required = owner["required"].as_array().into_iter().flatten();
            let missing = required
                .filter_map(Value::as_str)
                .filter(|key| value.get(key).is_none())
                .map(|key| format!("{path}: `{key}` is missing"));
            let wrong = value
                .as_object()
                .into_iter()
                .flatten()
                .flat_map(|(key, v)| {
                    let place = below(path, key);
                    match keys.get(key) {
                        Some(schema) => misfits(writer, schema, v, &place),
                        None => vec![format!("{place} is unknown")],
                    }
                });
            missing.chain(wrong).collect()
        };
        match writer.shape(schema) {
            _ if value.is_null() => Vec::new(),
            Shape::Keys(keys) => of_keys(writer.target(schema), keys),
            Shape::Kinds(kinds) => {
                let kind = value["kind"].as_str().unwrap_or_default();
                match kinds.iter().find(|(name, ..)| *name == kind) {
                    Some((_, _, keys)) => of_keys(writer.variant(schema, kind), keys),
                    None => vec![format!("{path} has no kind `{kind}`")],
                }
            }
            Shape::Words(words) if words.iter().any(|(word, _)| value == word) => Vec::new(),
            Shape::Words(_) => vec![format!("{path}: {value} is none of the words")],
            Shape::List(item) => {
                let items = value.as_array().into_iter().flatten();
                items.flat_map(|v| misfits(writer, item, v, path)).collect()
            }
            Shape::Plain => Vec::new(),
        }
    }

    fn recipes(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => recipes(&path, found),
                false => found.push(path),
            }
        }
    }

    #[test]
    fn recipes_as_written_and_as_resolved_fit_their_schema() {
        let all = schemas();
        let writer = Writer::new(&all.types, &[&all.recipe]);
        let mut files = Vec::new();
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes");
        recipes(Path::new(root), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let written: Value = toml::from_str(&text).unwrap();
            let resolved = serde_json::to_value(Recipe::load(&file, &[]).unwrap()).unwrap();
            for recipe in [written, resolved] {
                let wrong = misfits(&writer, &all.recipe, &recipe, "");
                assert!(wrong.is_empty(), "{}: {wrong:?}", file.display());
            }
        }
        for (recipe, said) in [
            ("{\"run\": {}}", "run: `name` is missing"),
            ("{\"run\": {\"nam\": \"x\"}}", "run.nam is unknown"),
            ("{\"init\": {\"kind\": \"x\"}}", "init has no kind `x`"),
            (
                "{\"lora\": {\"targets\": [\"x\"]}}",
                "lora.targets: \"x\" is none of the words",
            ),
        ] {
            let recipe = serde_json::from_str(recipe).unwrap();
            let wrong = misfits(&writer, &all.recipe, &recipe, "");
            assert!(wrong.iter().any(|w| w == said), "{wrong:?}");
        }
    }

    #[test]
    fn configurations_fit_their_schema() {
        let all = schemas();
        let writer = Writer::new(&all.types, &[]);
        let write = serde_json::to_value(WritePlan::default()).unwrap();
        let eval = serde_json::to_value(Plan::default()).unwrap();
        for (schema, config) in [(&all.write, write), (&all.eval, eval)] {
            let keys = config.as_object().unwrap().len();
            assert_eq!(schema["properties"].as_object().unwrap().len(), keys);
            assert_eq!(misfits(&writer, schema, &config, ""), [""; 0]);
        }
    }
}
