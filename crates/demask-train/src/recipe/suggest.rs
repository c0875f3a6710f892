//! Turns a refusal of serde into a sentence that names the key, its line and the nearest right one.

use demask_models::nearest;
use toml_edit::{Document, Item, TableLike, Value};

/// A key in a TOML text: its dotted path and where it stands.
struct Place {
    path: String,
    leaf: String,
    start: usize,
}

/// The message and the line (from 1) for a refusal `message` at byte `at` of `text`.
pub(super) fn explain(text: &str, message: &str, at: Option<usize>) -> (Option<usize>, String) {
    let places = places(text);
    if let Some(unknown) = quoted_after(message, "unknown field ") {
        let known = all_quoted(message.split_once("expected").map_or("", |(_, rest)| rest));
        let place = nearest_place(&places, &unknown, at);
        let path = place.map_or(unknown.clone(), |p| p.path.clone());
        let section = path.rsplit_once('.').map_or("", |(section, _)| section);
        let message = unknown_key(&unknown, &path, section, &known);
        return (
            place
                .map(|p| line_of(text, p.start))
                .or(at.map(|at| line_of(text, at))),
            message,
        );
    }
    if let Some(unknown) = quoted_after(message, "unknown variant ") {
        let known = all_quoted(message.split_once("expected").map_or("", |(_, rest)| rest));
        let near = nearest(&unknown, known.iter().map(String::as_str))
            .map_or(String::new(), |n| format!("did you mean `{n}`? "));
        let line = line_of_value(text, &unknown).or(at.map(|at| line_of(text, at)));
        return (
            line,
            format!(
                "unknown value `{unknown}`; {near}known: {}",
                known.join(", ")
            ),
        );
    }
    let before = at.and_then(|at| {
        places
            .iter()
            .filter(|p| p.start <= at)
            .max_by_key(|p| p.start)
    });
    let message = message.trim_end();
    match before {
        Some(place) if !message.contains(&place.leaf) => (
            at.map(|at| line_of(text, at)),
            format!("`{}`: {message}", place.path),
        ),
        _ => (at.map(|at| line_of(text, at)), message.to_string()),
    }
}

/// The sentence about an unknown key: the nearest one in its section, or the section it belongs to.
fn unknown_key(unknown: &str, path: &str, section: &str, known: &[String]) -> String {
    let mut message = format!("unknown key `{path}`");
    if let Some(near) = nearest(unknown, known.iter().map(String::as_str)) {
        let dot = if section.is_empty() { "" } else { "." };
        message += &format!("; did you mean `{section}{dot}{near}`?");
    } else if let Some(home) = home_of(unknown).filter(|home| *home != section) {
        message += &format!("; `{unknown}` belongs in [{home}].");
    } else if !known.is_empty() {
        message.push('.');
    }
    if !known.is_empty() {
        let place = if section.is_empty() {
            "a recipe".into()
        } else {
            format!("[{section}]")
        };
        message += &format!(" Keys of {place}: {}", known.join(", "));
    }
    message
}

/// The section that has a key of exactly this name.
fn home_of(key: &str) -> Option<&'static str> {
    super::KEYS
        .iter()
        .find(|(_, keys)| keys.contains(&key))
        .map(|(section, _)| *section)
}

/// Every key of the text with its place.
fn places(text: &str) -> Vec<Place> {
    let mut out = Vec::new();
    if let Ok(document) = Document::parse(text) {
        walk(document.as_table(), "", &mut out);
    }
    out
}

fn walk(table: &dyn TableLike, prefix: &str, out: &mut Vec<Place>) {
    for (leaf, item) in table.iter() {
        let path = if prefix.is_empty() {
            leaf.to_string()
        } else {
            format!("{prefix}.{leaf}")
        };
        let span = table
            .key(leaf)
            .and_then(|k| k.span())
            .or_else(|| item.span());
        if let Some(span) = span {
            out.push(Place {
                path: path.clone(),
                leaf: leaf.to_string(),
                start: span.start,
            });
        }
        match item {
            Item::ArrayOfTables(tables) => {
                for table in tables {
                    walk(table, &path, out);
                }
            }
            Item::Value(Value::Array(array)) => {
                for value in array {
                    if let Value::InlineTable(table) = value {
                        walk(table, &path, out);
                    }
                }
            }
            _ => {
                if let Some(table) = item.as_table_like() {
                    walk(table, &path, out);
                }
            }
        }
    }
}

/// The place of the key `leaf` nearest to where serde complained. Inside tagged sections serde only
/// knows where the section stands, so the first such key at or after that point is the one.
fn nearest_place<'a>(places: &'a [Place], leaf: &str, at: Option<usize>) -> Option<&'a Place> {
    let mut same: Vec<&Place> = places.iter().filter(|p| p.leaf == leaf).collect();
    same.sort_by_key(|p| p.start);
    at.and_then(|at| same.iter().find(|p| p.start >= at))
        .or(same.first())
        .copied()
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes()[..at.min(text.len())]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
}

fn line_of_value(text: &str, value: &str) -> Option<usize> {
    let quoted = format!("\"{value}\"");
    text.find(&quoted).map(|at| line_of(text, at))
}

fn quoted_after(message: &str, before: &str) -> Option<String> {
    let rest = message.split_once(before)?.1;
    rest.strip_prefix('`')?
        .split_once('`')
        .map(|(word, _)| word.to_string())
}

fn all_quoted(message: &str) -> Vec<String> {
    message
        .split('`')
        .skip(1)
        .step_by(2)
        .map(String::from)
        .collect()
}
