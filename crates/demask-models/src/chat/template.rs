//! A chat template, and how its text becomes token ids.

use std::collections::HashSet;

use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::{Clock, Message};
use crate::{ModelError, SpecialIds, Tokenizer};

/// The name under which the one template is kept.
const NAME: &str = "chat";

/// Steps a template may take; a long conversation needs some thousands.
const FUEL: u64 = 2_000_000;

/// Marks around text of a user that is spelled like a special token. Unicode sets these aside for
/// use inside a program; a pair that occurs in no message is chosen.
const MARKS: std::ops::RangeInclusive<u32> = 0xfdd0..=0xfdef;

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    env: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Compiles a template with the settings of Hugging Face's transformers.
    ///
    /// # Errors
    /// [`ModelError::Template`] when it is not valid Jinja.
    pub fn new(source: &str, tokenizer: &Tokenizer, ids: &SpecialIds) -> Result<Self, ModelError> {
        let mut env = Environment::new();
        let syntax = minijinja::syntax::SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(template_error)?;
        env.set_syntax(syntax);
        env.set_fuel(Some(FUEL));
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", raise_exception);
        env.add_filter("tojson", to_json);
        env.add_template_owned(NAME, source.to_string())
            .map_err(template_error)?;
        let text = |id: Option<u32>| {
            id.and_then(|id| tokenizer.id_to_token(id))
                .unwrap_or_default()
        };
        Ok(Self {
            env,
            bos: text(ids.bos),
            eos: text(ids.eos),
        })
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the model's answer
    /// begins. `now` is what `strftime_now` of the template sees.
    ///
    /// # Errors
    /// [`ModelError::Template`] when the template refuses the messages or asks for a clock that
    /// was not given.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: Option<Clock>,
    ) -> Result<String, ModelError> {
        let mut env = self.env.clone();
        env.add_function("strftime_now", move |format: &str| match now {
            Some(now) => now
                .strftime(format)
                .map_err(|e| Error::new(ErrorKind::InvalidOperation, e)),
            None => Err(Error::new(
                ErrorKind::InvalidOperation,
                "the template prints the date, but no clock was given",
            )),
        });
        let template = env.get_template(NAME).map_err(template_error)?;
        template
            .render(context! {
                messages => Value::from(Serde(messages)),
                add_generation_prompt => add_generation_prompt,
                bos_token => self.bos.as_str(),
                eos_token => self.eos.as_str(),
                tools => Value::from(()),
                documents => Value::from(()),
            })
            .map_err(template_error)
    }

    /// The token ids of a conversation.
    ///
    /// Special tokens that the template writes are recognised; text of a message that is spelled
    /// like one becomes ordinary pieces. Everything else is tokenised in one go, as the reference
    /// implementations do.
    ///
    /// # Errors
    /// [`ModelError::Template`] as [`ChatTemplate::render`], and for a role that is not a plain
    /// word; [`ModelError::Tokenizer`] when the text cannot be tokenised.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
        now: Option<Clock>,
    ) -> Result<Vec<u32>, ModelError> {
        let [open, close] = free_marks(messages)?;
        let mut spelled = HashSet::new();
        let marked = messages
            .iter()
            .map(|message| {
                // A role goes into the text as it is.
                if message.role.is_empty()
                    || !message
                        .role
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '_')
                {
                    return Err(ModelError::Template(format!(
                        "the role `{}` is not a plain word",
                        message.role.escape_debug()
                    )));
                }
                let content =
                    mark_specials(&message.content, tokenizer, open, close, &mut spelled)?;
                Ok(Message {
                    role: message.role.clone(),
                    content,
                })
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        let text = self.render(&marked, add_generation_prompt, now)?;
        let mut ids = Vec::new();
        let (text, plain) = unmark(&text, tokenizer, open, close, &spelled)?;
        let mut at = 0;
        for (from, to) in plain {
            ids.extend(tokenizer.encode_with_special(&text[at..from])?);
            ids.extend(tokenizer.encode(&text[from..to])?);
            at = to;
        }
        ids.extend(tokenizer.encode_with_special(&text[at..])?);
        Ok(ids)
    }
}

/// Two marks that occur in no message.
fn free_marks(messages: &[Message]) -> Result<[char; 2], ModelError> {
    let used = |mark: &char| {
        messages
            .iter()
            .any(|message| message.content.contains(*mark))
    };
    let mut free = MARKS.filter_map(char::from_u32).filter(|mark| !used(mark));
    match (free.next(), free.next()) {
        (Some(open), Some(close)) => Ok([open, close]),
        _ => Err(ModelError::Template(
            "the messages use all characters U+FDD0 to U+FDEF, which are no text".into(),
        )),
    }
}

/// Puts marks around whatever the tokenizer would read as a special token, and notes it in `spelled`.
fn mark_specials(
    content: &str,
    tokenizer: &Tokenizer,
    open: char,
    close: char,
    spelled: &mut HashSet<String>,
) -> Result<String, ModelError> {
    let mut out = String::with_capacity(content.len());
    let mut at = 0;
    for (from, to) in special_spans(content, tokenizer)? {
        out.push_str(&content[at..from]);
        out.push(open);
        out.push_str(&content[from..to]);
        spelled.insert(content[from..to].to_owned());
        out.push(close);
        at = to;
    }
    out.push_str(&content[at..]);
    Ok(out)
}

/// Takes the marks out of a rendered text, and says where its users' special tokens stand: those
/// with an opening mark at their beginning, a closing one at their end, or either inside. A template
/// may keep one half of a message and drop the other (`content.split('</think>')[-1]`), so a mark
/// need not have its fellow; a lone one behind a token of the template's own is told by its spelling.
fn unmark(
    marked: &str,
    tokenizer: &Tokenizer,
    open: char,
    close: char,
    spelled: &HashSet<String>,
) -> Result<(String, Vec<(usize, usize)>), ModelError> {
    let mut text = String::with_capacity(marked.len());
    let mut marks = Vec::new();
    for c in marked.chars() {
        if c == open || c == close {
            marks.push((text.len(), c == open));
        } else {
            text.push(c);
        }
    }
    let mut plain = special_spans(&text, tokenizer)?;
    plain.retain(|&(from, to)| {
        spelled.contains(&text[from..to])
            && marks.iter().any(|&(at, opens)| {
                let edge = if opens { from } else { to };
                at == edge || (from < at && at < to)
            })
    });
    Ok((text, plain))
}

/// Where the text would be read as special tokens: whole characters, in order, none of them twice.
///
/// A normaliser may make several tokens of one piece of text, or part of a character; such ranges are
/// one span.
fn special_spans(text: &str, tokenizer: &Tokenizer) -> Result<Vec<(usize, usize)>, ModelError> {
    let mut ranges = tokenizer.special_ranges(text)?;
    for (from, to) in &mut ranges {
        *from = text.floor_char_boundary(*from);
        *to = text.ceil_char_boundary(*to);
    }
    ranges.sort_unstable();
    let mut spans: Vec<(usize, usize)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match spans.last_mut() {
            Some(last) if from < last.1 => last.1 = last.1.max(to),
            // Neighbours stay two spans: each is told by its own spelling.
            _ => spans.push((from, to)),
        }
    }
    Ok(spans)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// JSON as Python's `json.dumps` writes it, without escaping for HTML: a blank after `,` and `:`,
/// or indented.
fn to_json(value: Value, kwargs: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    // Other arguments of json.dumps do not matter for what templates print.
    let _: Option<bool> = kwargs.get("ensure_ascii")?;
    let _: Option<Value> = kwargs.get("separators")?;
    let _: Option<bool> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    let invalid = |e: serde_json::Error| Error::new(ErrorKind::InvalidOperation, e.to_string());
    let value = serde_json::to_value(&value).map_err(invalid)?;
    let mut out = String::new();
    write_json(&value, indent.map(|n| n.min(16)), 0, &mut out);
    Ok(out)
}

fn write_json(value: &serde_json::Value, indent: Option<usize>, depth: usize, out: &mut String) {
    use serde_json::Value as Json;
    let new_line = |depth: usize, out: &mut String| {
        if let Some(width) = indent {
            out.push('\n');
            out.push_str(&" ".repeat(width * depth));
        }
    };
    let separator = if indent.is_some() { "," } else { ", " };
    match value {
        Json::Array(list) if !list.is_empty() => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push_str(separator);
                }
                new_line(depth + 1, out);
                write_json(item, indent, depth + 1, out);
            }
            new_line(depth, out);
            out.push(']');
        }
        Json::Object(map) if !map.is_empty() => {
            out.push('{');
            for (at, (key, item)) in map.iter().enumerate() {
                if at > 0 {
                    out.push_str(separator);
                }
                new_line(depth + 1, out);
                out.push_str(&Json::String(key.clone()).to_string());
                out.push_str(": ");
                write_json(item, indent, depth + 1, out);
            }
            new_line(depth, out);
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn template_error(error: Error) -> ModelError {
    ModelError::Template(match error.detail() {
        Some(detail) => format!("{} (line {})", detail, error.line().unwrap_or(0)),
        None => error.to_string(),
    })
}
