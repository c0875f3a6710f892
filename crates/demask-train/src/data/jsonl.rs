//! JSON lines: one object a line, through templates, with a filter.

use std::path::Path;

use serde_json::Value;

use super::template::lookup;
use super::{Document, Documented, Filter, Template};
use crate::TrainError;

/// The jsonl reader of a recipe.
pub(super) struct Jsonl<'a> {
    pub prompt: &'a Template,
    pub text: &'a Template,
    pub label: Option<&'a Template>,
    pub filter: Option<&'a Filter>,
}

impl Documented for Jsonl<'_> {
    fn documents(
        &self,
        path: &Path,
        text: &str,
        visit: &mut dyn FnMut(Document),
    ) -> Result<(), TrainError> {
        for (i, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let fail = |message: String| TrainError::Data {
                path: path.to_path_buf(),
                line: Some(i + 1),
                message,
            };
            let object: Value =
                serde_json::from_str(line).map_err(|e| fail(format!("not JSON: {e}")))?;
            if let Some(filter) = self.filter
                && !filter.passes(&object).map_err(&fail)?
            {
                continue;
            }
            let prompt = self.prompt.render(&object).map_err(&fail)?;
            let text = self.text.render(&object).map_err(&fail)?;
            let label = self.label.map(|template| label(template, &object));
            visit(Document {
                prompt,
                text,
                label: label.transpose().map_err(&fail)?,
            });
        }
        Ok(())
    }
}

/// The name of the class of a line, without the white space around it.
fn label(template: &Template, object: &Value) -> Result<String, String> {
    if let Some(field) = template.null_field(object) {
        return Err(format!(
            "`{field}`, which the label is made of, is null; give every line a label, or leave the line out with reader.filter"
        ));
    }
    let label = template.render(object)?.trim().to_owned();
    if label.is_empty() {
        return Err(
            "the label is empty; give every line a label, or leave the line out with reader.filter"
                .into(),
        );
    }
    Ok(label)
}

impl Filter {
    fn passes(&self, object: &Value) -> Result<bool, String> {
        let value = lookup(object, &self.field)?;
        Ok(match value {
            Value::String(text) => self.any.contains(text),
            other => self.any.contains(&other.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(filter: Option<&Filter>, text: &str) -> Result<Vec<Document>, TrainError> {
        let reader = Jsonl {
            prompt: &Template::from("{mr} =>"),
            text: &Template::from(" {ref}"),
            label: None,
            filter,
        };
        let mut out = Vec::new();
        reader.documents(Path::new("e2e.jsonl"), text, &mut |d| out.push(d))?;
        Ok(out)
    }

    #[test]
    fn an_object_becomes_a_prompt_and_a_text() {
        let line = r#"{"mr":{"name":"The Eagle","food":"Fast food"},"ref":"The Eagle is fast."}"#;
        let want = Document {
            prompt: "name: The Eagle | food: Fast food =>".into(),
            text: " The Eagle is fast.".into(),
            label: None,
        };
        assert_eq!(read(None, line).unwrap(), [want]);
    }

    #[test]
    fn a_filter_keeps_the_lines_it_names() {
        let filter = Filter {
            field: "mr.name".into(),
            any: vec!["A".into(), "C".into()],
        };
        let text = ["A", "B", "C"]
            .map(|n| format!(r#"{{"mr":{{"name":"{n}"}},"ref":"{n}"}}"#))
            .join("\n");
        let got: Vec<String> = read(Some(&filter), &text)
            .unwrap()
            .into_iter()
            .map(|d| d.text)
            .collect();
        assert_eq!(got, [" A", " C"]);
    }

    #[test]
    fn every_line_has_a_label() {
        let label = Template::from("{intent}");
        let reader = Jsonl {
            prompt: &Template::default(),
            text: &Template::from("{text}"),
            label: Some(&label),
            filter: None,
        };
        let read = |text: &str| {
            let mut out = Vec::new();
            let read = reader.documents(Path::new("s.jsonl"), text, &mut |d| out.push(d.label));
            read.map(|()| out).map_err(|e| e.to_string())
        };
        let two = "{\"intent\":\" Play \",\"text\":\"x\"}\n{\"intent\":7,\"text\":\"y\"}";
        let names = [Some("Play".to_owned()), Some("7".to_owned())];
        assert_eq!(read(two).unwrap(), names);
        for (bad, wanted) in [
            (r#"{"text":"x"}"#, "s.jsonl:1: no field `intent`"),
            (
                r#"{"intent":" ","text":"x"}"#,
                "s.jsonl:1: the label is empty",
            ),
            (
                r#"{"intent":null,"text":"x"}"#,
                "s.jsonl:1: `intent`, which the label is made of, is null",
            ),
        ] {
            let said = read(bad).unwrap_err();
            assert!(said.starts_with(wanted), "{said}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = read(None, "{\"mr\":1,\"ref\":\"x\"}\n\n{\"mr\":1}")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "e2e.jsonl:3: no field `ref`; this line has: mr");
        let error = read(None, "{").unwrap_err().to_string();
        assert!(error.starts_with("e2e.jsonl:1: not JSON"), "{error}");
    }
}
