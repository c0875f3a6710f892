//! Text that a tokenizer cannot write: characters it has no token for, or writes as others.

use anyhow::Result;
use demask::models::Tokenizer;
use demask::text::Prompt;
use demask::text::infill::{Piece, Template};

use crate::error::{usage, with_advice};

/// Characters that a message names; the rest are counted.
const NAMED: usize = 8;

/// Characters of a text that a message quotes.
const QUOTED: usize = 32;

/// Characters in no vocabulary: a tokenizer writes them in bytes, or as what it does not know.
const RARE: [&str; 2] = ["\u{12000}", "\u{103a0}"];

/// What a tokenizer has no token for. One that falls back on bytes lacks nothing.
pub struct Unknown<'a> {
    tokenizer: &'a Tokenizer,
    /// The token that stands for what the vocabulary lacks.
    token: Option<u32>,
}

impl<'a> Unknown<'a> {
    /// Looks for the token that stands for everything the vocabulary lacks. Files name it in ways of
    /// their own, or not at all, so the tokenizer is asked.
    pub fn of(tokenizer: &'a Tokenizer) -> Self {
        let stand_in = |rare: &str| {
            let ids = tokenizer.encode(rare).ok()?;
            let text = tokenizer.decode(&ids).ok()?;
            // A blank is a mark in front of the character, not the character.
            let last = ids.last().copied();
            last.filter(|&id| !text.contains(rare) && !tokenizer.decode_cell(id).trim().is_empty())
        };
        let [token, other] = RARE.map(stand_in);
        Self {
            tokenizer,
            token: token.filter(|_| token == other),
        }
    }

    /// Whether the tokenizer has no token for a character.
    pub fn lacks(&self, c: char) -> bool {
        let ids = self.tokenizer.encode(c.encode_utf8(&mut [0; 4]));
        ids.is_ok_and(|ids| match ids.is_empty() {
            // A blank may be part of the tokens around it.
            true => !c.is_whitespace(),
            false => self.token.is_some_and(|token| ids.contains(&token)),
        })
    }

    /// The characters of a text that the tokenizer has no token for, each once.
    pub fn characters(&self, text: &str) -> Vec<char> {
        let mut seen = std::collections::HashSet::new();
        text.chars()
            .filter(|&c| seen.insert(c) && self.lacks(c))
            .collect()
    }

    /// What to say of a text that the model sees with holes. `model` is its name.
    pub fn remark(&self, model: &str, text: &str) -> Result<Option<String>> {
        let characters = self.characters(text);
        if !characters.is_empty() {
            return Ok(Some(unseen(model, &characters)));
        }
        // A word may be unknown although each of its characters is not (WordPiece).
        let ids = self.tokenizer.encode(text)?;
        let unknown = self.token.is_some_and(|token| ids.contains(&token));
        Ok(unknown.then(|| {
            format!("the tokenizer of `{model}` has no token for a word of the text: the model does not see it")
        }))
    }

    /// Refuses a template whose given text would not stand in the result as it is.
    pub fn refuse(&self, model: &str, template: &Template, prompt: &Prompt) -> Result<()> {
        let mut lacking = Vec::new();
        let mut changed = None;
        for (given, read) in self.read_back(template, prompt)? {
            if given != read {
                lacking.extend(self.characters(&given));
                changed = changed.or(Some((given, read)));
            }
        }
        let Some((given, read)) = changed else {
            return Ok(());
        };
        let mut seen = std::collections::HashSet::new();
        lacking.retain(|c| seen.insert(*c));
        let (what, advice) = if lacking.is_empty() {
            let what = format!("writes `{}` as `{}`", clip(&given), clip(&read));
            (what, "write it as the tokenizer does, or use another model")
        } else {
            let what = format!("has no token for {}", names(&lacking));
            (what, "leave that out, or use another model")
        };
        Err(with_advice(
            usage(format!(
                "the tokenizer of `{model}` {what}; what stands around the gaps would not stay as it is"
            )),
            advice,
        ))
    }

    /// The given parts of a template, each with what its tokens read as.
    fn read_back(&self, template: &Template, prompt: &Prompt) -> Result<Vec<(String, String)>> {
        // Where a text begins, some tokenizers put a blank and take it away again. A part in the
        // middle is read as one: after another token.
        let before = self.tokenizer.encode("a")?;
        let before_text = self.tokenizer.decode(&before)?;
        let mut parts = Vec::new();
        let mut at = 0;
        for (i, piece) in template.pieces().iter().enumerate() {
            let text = match piece {
                Piece::Gap(size) => {
                    at += size;
                    continue;
                }
                Piece::Text(text) => text,
            };
            let ids: Vec<u32> = prompt.cells[at..].iter().map_while(|id| *id).collect();
            at += ids.len();
            // A space that is left to the gap is written with it.
            let given = match prompt.spaced.contains(&at) {
                true => text.strip_suffix(' ').unwrap_or(text),
                false => text,
            };
            let read = if i == 0 {
                self.tokenizer.decode(&ids)?
            } else {
                let whole = self.tokenizer.decode(&[&before[..], &ids].concat())?;
                let after = whole.strip_prefix(&before_text);
                after.map_or_else(|| whole.clone(), str::to_owned)
            };
            parts.push((given.to_owned(), read));
        }
        Ok(parts)
    }
}

/// The note on characters that a model does not see.
pub fn unseen(model: &str, characters: &[char]) -> String {
    format!(
        "the tokenizer of `{model}` has no token for {}: the model does not see them",
        names(characters)
    )
}

/// `a`, the space and 3 more.
fn names(characters: &[char]) -> String {
    let name = |c: &char| match c {
        ' ' => "the space".to_owned(),
        '\'' | '"' => format!("`{c}`"),
        c => format!("`{}`", c.escape_debug()),
    };
    let mut names: Vec<String> = characters.iter().take(NAMED).map(name).collect();
    if characters.len() > NAMED {
        names.push(format!("{} more", characters.len() - NAMED));
    }
    match names.pop() {
        Some(last) if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        last => last.unwrap_or_default(),
    }
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use demask::models::tokenizer::byte_bpe::bytes_only;
    use serde_json::json;

    use super::*;

    /// The characters `1`, `2`, `a` and the space, with or without a token for the rest; some
    /// normaliser.
    fn characters(unknown: Option<&str>, normalizer: serde_json::Value) -> Tokenizer {
        let mut vocab = json!({"1": 0, "2": 1, " ": 2, "a": 3});
        if let Some(token) = unknown {
            vocab[token] = 4.into();
        }
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": normalizer, "pre_tokenizer": null, "post_processor": null,
            "decoder": {"type": "Fuse"},
            "model": {"type": "BPE", "unk_token": unknown, "vocab": vocab, "merges": []},
        });
        Tokenizer::from_json(&file.to_string()).unwrap()
    }

    fn refused(tokenizer: &Tokenizer, text: &str) -> Option<String> {
        let template = Template::parse(text, 8).unwrap();
        let prompt = template.prompt(tokenizer, Vec::new()).unwrap();
        let refused = Unknown::of(tokenizer).refuse("m", &template, &prompt);
        refused.err().map(|error| error.to_string())
    }

    #[test]
    fn characters_without_a_token_are_named() {
        // One vocabulary has a token for what it lacks, the other leaves it out.
        for token in [Some("<unk>"), None] {
            let tokenizer = characters(token, json!(null));
            assert_eq!(refused(&tokenizer, "12 [[3]] 1[[1]]2"), None, "{token:?}");
            let said = refused(&tokenizer, "12é [[3]] 1x[[1]]2x").unwrap();
            assert!(said.contains("`m` has no token for `é` and `x`;"), "{said}");
            let unknown = Unknown::of(&tokenizer);
            let said = unknown.remark("m", "\n1éé2\"").unwrap().unwrap();
            let newline = if token.is_some() { "`\\n`, " } else { "" };
            let wanted = format!("has no token for {newline}`é` and `\"`: the model");
            assert!(said.contains(&wanted), "{said}");
            assert_eq!(unknown.remark("m", "12 1").unwrap(), None);
        }
    }

    #[test]
    fn bytes_lack_nothing() {
        let tokenizer = bytes_only(&["<mask>"]).unwrap();
        assert_eq!(refused(&tokenizer, "né\n[[2]] \u{12000} <mask>"), None);
        let unknown = Unknown::of(&tokenizer);
        assert_eq!(unknown.remark("m", "\u{12000} é").unwrap(), None);
    }

    #[test]
    fn a_text_that_is_written_otherwise_is_refused() {
        let tokenizer = characters(Some("<unk>"), json!({"type": "Lowercase"}));
        let said = refused(&tokenizer, "1 [[3]]A2").unwrap();
        assert!(said.contains("writes `A2` as `a2`;"), "{said}");
    }

    #[test]
    fn many_characters_are_counted() {
        let many: Vec<char> = ('a'..='k').collect();
        assert!(
            names(&many).ends_with("`g`, `h` and 3 more"),
            "{}",
            names(&many)
        );
        assert_eq!(names(&[' ']), "the space");
    }
}
