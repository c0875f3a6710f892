//! The JSON schema of every configuration, derived from its type: keys, defaults, and the comments
//! of the fields as descriptions in plain words.

use demask::train::Recipe;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use crate::command::eval::Plan as EvalPlan;
use crate::writing::plan::WritePlan;

/// The schemas of everything that a user configures, and of the types that they refer to.
#[derive(Debug)]
pub struct Schemas {
    /// A recipe.
    pub recipe: Value,
    /// `demask generate` and `demask infill`.
    pub write: Value,
    /// `demask eval`.
    pub eval: Value,
    /// The types by name.
    pub types: Value,
}

/// The schemas that the reference is written from.
pub fn schemas() -> Schemas {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let (recipe, write, eval) = (
        whole::<Recipe>(&mut generator),
        whole::<WritePlan>(&mut generator),
        whole::<EvalPlan>(&mut generator),
    );
    let mut types = Value::Object(generator.take_definitions(true));
    say_plainly(&mut types);
    Schemas {
        recipe,
        write,
        eval,
        types,
    }
}

fn whole<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let mut schema = T::json_schema(generator).to_value();
    say_plainly(&mut schema);
    schema
}

/// The text of `docs/recipe.schema.json`, with which editors complete and check recipes. Draft 7 is
/// what those for TOML read.
pub fn recipe_file() -> String {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<Recipe>().to_value();
    schema["title"] = "demask recipe".into();
    say_plainly(&mut schema);
    format!("{schema:#}\n")
}

/// Turns every description, which was a comment for rustdoc, into plain words.
fn say_plainly(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => *text = plain(text),
                    _ => say_plainly(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(say_plainly),
        _ => {}
    }
}

/// The first paragraph of a comment, and the list that it announces, on one line and without links.
fn plain(comment: &str) -> String {
    let mut paragraphs = comment.split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    let mut text = paragraphs.next().unwrap_or_default();
    if let Some(list) = paragraphs.next().filter(|_| text.ends_with(':')) {
        text = format!("{text} {}", list.trim_start_matches("- ")).replace("; - ", "; ");
    }
    without_links(&text)
}

/// ``[`a::b`]`` and ``[`b`](a::b)`` become `b`.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else {
            break;
        };
        let shown = name.rsplit("::").next().unwrap_or(name);
        out += &format!("{before}`{shown}`");
        rest = match after.strip_prefix('(').and_then(|a| a.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_plain_words() {
        for (comment, said) in [
            ("One\nline.\n\nMore.", "One line."),
            (
                "As [`b`](a::b) and [`a::c`], in [0, 1].",
                "As `b` and `c`, in [0, 1].",
            ),
            (
                "Quirks:\n\n- one,\n  still one;\n- two.\n\nMore.",
                "Quirks: one, still one; two.",
            ),
        ] {
            assert_eq!(plain(comment), said);
        }
    }
}
