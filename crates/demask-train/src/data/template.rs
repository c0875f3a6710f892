//! Templates: `{field}` in a text stands for a field of a JSON object.
//!
//! A dotted path reaches into objects (`{mr.name}`), a text stands for itself, a list is joined by
//! `", "`, and an object is written `key: value | key: value`. `{{` and `}}` stand for braces.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A text with fields in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence about the brace that has no partner.
    pub fn parse(source: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = source.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '{' | '}' if rest.peek() == Some(&c) => {
                    rest.next();
                    text.push(c);
                }
                '{' => {
                    let mut field = String::new();
                    loop {
                        match rest.next() {
                            Some('}') => break,
                            Some('{') | None => {
                                return Err(format!(
                                    "template `{source}`: `{{{field}` is not closed; write `{{{{` for a brace"
                                ));
                            }
                            Some(c) => field.push(c),
                        }
                    }
                    if field.is_empty() {
                        return Err(format!("template `{source}`: `{{}}` names no field"));
                    }
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(Part::Field(field));
                }
                '}' => {
                    return Err(format!(
                        "template `{source}`: `}}` without `{{`; write `}}}}` for a brace"
                    ));
                }
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self {
            source: source.into(),
            parts,
        })
    }

    /// Whether the template is the empty text.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The first field of the template that `object` has, but without a value (`null`).
    pub(super) fn null_field(&self, object: &Value) -> Option<&str> {
        self.parts.iter().find_map(|part| match part {
            Part::Field(path) if lookup(object, path).is_ok_and(Value::is_null) => {
                Some(path.as_str())
            }
            _ => None,
        })
    }

    /// The text for `object`.
    ///
    /// # Errors
    /// A sentence about the field that is missing, with those that exist.
    pub fn render(&self, object: &Value) -> Result<String, String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(path) => out.push_str(&plain(lookup(object, path)?)),
            }
        }
        Ok(out)
    }
}

/// The value at a dotted path.
pub(super) fn lookup<'a>(object: &'a Value, path: &str) -> Result<&'a Value, String> {
    let mut value = object;
    for key in path.split('.') {
        value = match value.get(key) {
            Some(inner) => inner,
            None => {
                let known = value
                    .as_object()
                    .map(|o| o.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
                return Err(match known {
                    Some(known) => format!("no field `{path}`; this line has: {known}"),
                    None => format!("no field `{path}`: `{key}` is looked up in a plain value"),
                });
            }
        };
    }
    Ok(value)
}

/// A JSON value as a person would write it on a line.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(object) => {
            let pairs: Vec<String> = object
                .iter()
                .map(|(k, v)| format!("{k}: {}", plain(v)))
                .collect();
            pairs.join(" | ")
        }
        other => other.to_string(),
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(source: String) -> Result<Self, String> {
        Self::parse(&source)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> String {
        template.source
    }
}

#[cfg(test)]
impl From<&str> for Template {
    fn from(source: &str) -> Self {
        Self::parse(source).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_lists_and_objects() {
        let object = json!({"a": {"x": "one", "y": 2}, "b": ["p", "q"], "c": true});
        let render = |t: &str| Template::parse(t).unwrap().render(&object).unwrap();
        assert_eq!(render("<{a}>"), "<x: one | y: 2>");
        assert_eq!(render("{a.x}-{b}-{c}"), "one-p, q-true");
        assert_eq!(render("{{{a.y}}}"), "{2}");
    }

    #[test]
    fn stray_braces_are_refused() {
        assert!(Template::parse("{a").unwrap_err().contains("is not closed"));
        assert!(Template::parse("a}").unwrap_err().contains("without `{`"));
        assert!(
            Template::parse("{}")
                .unwrap_err()
                .contains("names no field")
        );
    }

    #[test]
    fn a_missing_field_names_those_that_exist() {
        let error = Template::parse("{z}")
            .unwrap()
            .render(&json!({"a": 1, "b": 2}))
            .unwrap_err();
        assert_eq!(error, "no field `z`; this line has: a, b");
    }
}
