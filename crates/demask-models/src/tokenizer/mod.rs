//! Text to token ids and back.
//!
//! | files | read by |
//! |---|---|
//! | `tokenizer.json` | the `tokenizers` crate |
//! | `vocab.json` and `merges.txt` (GPT-2, Qwen2, Dream) | [`byte_bpe`] |
//! | llama2.c `tokenizer.bin` | [`llama2c`] |

pub mod byte_bpe;
pub mod llama2c;
mod pieces;
mod precheck;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::str::FromStr;

use demask_nn::span;
use tokenizers::{AddedToken, ModelWrapper, Tokenizer as Inner};

use crate::ModelError;
use pieces::PieceStyle;

/// Text to token ids and back.
///
/// Text of a user never becomes a special token: [`Tokenizer::encode`] splits whatever looks like
/// one into ordinary pieces. Only text that is trusted — a template's own — goes through
/// [`Tokenizer::encode_with_special`].
#[derive(Debug, Clone)]
pub struct Tokenizer {
    label: String,
    /// Recognises special tokens in text.
    full: Inner,
    /// The same, blind to special tokens.
    plain: Inner,
    control: HashSet<u32>,
    /// What stands for text that the vocabulary lacks.
    unknown: Option<u32>,
    style: PieceStyle,
    /// One more than the largest id that has a token.
    size: usize,
    /// Rows of the network's vocabulary, which may exceed the tokens.
    rows: usize,
}

impl Tokenizer {
    /// Whether a folder has the files that [`Tokenizer::from_dir`] reads.
    pub fn is_in(dir: &Path) -> bool {
        let has = |name: &str| dir.join(name).is_file();
        has("tokenizer.json") || (has("vocab.json") && has("merges.txt")) || has("tokenizer.bin")
    }

    /// Reads the tokenizer files of a checkpoint folder: `tokenizer.json`, or `vocab.json` and
    /// `merges.txt`, or llama2.c's `tokenizer.bin`.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when there is none or it is damaged.
    pub fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        let json = dir.join("tokenizer.json");
        if json.is_file() {
            let text =
                std::fs::read_to_string(&json).map_err(|e| ModelError::io("read", &json, e))?;
            return Self::parse(json.display().to_string(), &text);
        }
        if dir.join("vocab.json").is_file() && dir.join("merges.txt").is_file() {
            return byte_bpe::from_dir(dir);
        }
        let bin = dir.join("tokenizer.bin");
        if bin.is_file() {
            let bytes = std::fs::read(&bin).map_err(|e| ModelError::io("read", &bin, e))?;
            return llama2c::from_bytes(&bin.display().to_string(), &bytes);
        }
        Err(ModelError::tokenizer(
            dir.display().to_string(),
            "holds no tokenizer; put tokenizer.json (or vocab.json and merges.txt) beside the \
             weights",
        ))
    }

    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when it is damaged.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        Self::parse("tokenizer.json".into(), text)
    }

    pub(crate) fn parse(label: String, text: &str) -> Result<Self, ModelError> {
        precheck::check(text).map_err(|problem| {
            ModelError::tokenizer(&label, format!("cannot be read: {problem}"))
        })?;
        let mut inner = guarded(&label, "cannot be read", || Inner::from_str(text))?;
        // A file may ask for truncation and padding; both are the caller's business.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        // Merges that are left out at random belong to the training of a model; the same text has the
        // same ids here.
        if let ModelWrapper::BPE(bpe) = inner.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            inner.with_model(bpe);
        }
        Self::build(label, inner)
    }

    fn build(label: String, full: Inner) -> Result<Self, ModelError> {
        let style = PieceStyle::of(&full);
        let added = full.get_added_tokens_decoder();
        // A file may forget to mark a control token (`<think>`, `<MASK>`); its spelling gives it
        // away. Runs of blanks and the like stay ordinary.
        let control_tokens: Vec<AddedToken> = added
            .values()
            .filter(|token| token.special || looks_like_control(&token.content))
            .map(|token| token.clone().special(true))
            .collect();
        let unknown = unknown_token(&full);
        let unknown_id = unknown.as_deref().and_then(|token| full.token_to_id(token));
        let control = control_tokens
            .iter()
            .filter(|token| unknown.as_deref() != Some(token.content.as_str()))
            .filter_map(|token| full.token_to_id(&token.content))
            .collect();
        let mut plain = full.clone();
        guarded(&label, "special tokens", || {
            plain.add_special_tokens(control_tokens)
        })?;
        plain.set_encode_special_tokens(true);
        let size = full
            .get_vocab(false)
            .into_values()
            .chain(added.keys().copied())
            .max()
            .map_or(0, |id| id as usize + 1);
        if size == 0 {
            return Err(ModelError::tokenizer(&label, "the vocabulary is empty"));
        }
        Ok(Self {
            label,
            full,
            plain,
            control,
            unknown: unknown_id,
            style,
            size,
            rows: size,
        })
    }

    /// Adds a special token; one that is not in the vocabulary yet gets the next free id.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when it cannot be added.
    pub fn with_special(self, token: &str) -> Result<Self, ModelError> {
        let Self {
            label,
            mut full,
            rows,
            ..
        } = self;
        guarded(&label, &format!("adding `{token}`"), || {
            full.add_special_tokens([AddedToken::from(token, true)])
        })?;
        let built = Self::build(label, full)?;
        let rows = rows.max(built.size);
        Ok(Self { rows, ..built })
    }

    /// States how many rows the network's vocabulary has. Ids between the last token and this
    /// number exist but have no text; they decode to U+FFFD.
    pub fn with_rows(mut self, rows: usize) -> Self {
        self.rows = rows.max(self.size);
        self
    }

    /// Token ids of text that is not trusted: whatever is spelled like a special token becomes
    /// ordinary pieces. Nothing is added before or after.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the text cannot be written without a special token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let mut ids = Vec::new();
        let mut rest = text;
        loop {
            let found = self.fast(&self.plain, rest)?;
            let Some(at) = found.iter().position(|id| self.control.contains(id)) else {
                ids.extend(found);
                return Ok(ids);
            };
            // A vocabulary that holds its control tokens as plain words: cut inside the word.
            let (from, to) = self.run(&self.plain, rest)?.get_offsets()[at];
            let word = rest.get(from..to).unwrap_or_default();
            let impossible = || {
                ModelError::tokenizer(
                    &self.label,
                    format!("the text `{word}` can only be written as a special token"),
                )
            };
            let (width, _) = word.char_indices().nth(1).ok_or_else(impossible)?;
            let head = self.fast(&self.plain, &rest[..from + width])?;
            if head.iter().any(|id| self.control.contains(id)) {
                return Err(impossible());
            }
            ids.extend(head);
            rest = &rest[from + width..];
        }
    }

    /// Token ids of trusted text, in which special tokens are recognised. Nothing is added before
    /// or after.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the text cannot be tokenised.
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.fast(&self.full, text)
    }

    /// Byte ranges of `text` that would be read as special tokens.
    pub(crate) fn special_ranges(&self, text: &str) -> Result<Vec<(usize, usize)>, ModelError> {
        let encoding = self.run(&self.full, text)?;
        let found = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(found
            .filter(|(id, _)| self.control.contains(id))
            .map(|(_, range)| *range)
            .collect())
    }

    /// Ids with the byte range of each in the text.
    fn run(&self, inner: &Inner, text: &str) -> Result<tokenizers::Encoding, ModelError> {
        guarded(&self.label, "encoding text", || inner.encode(text, false))
    }

    /// Ids only.
    fn fast(&self, inner: &Inner, text: &str) -> Result<Vec<u32>, ModelError> {
        guarded(&self.label, "encoding text", || {
            let encoding = inner.encode_fast(text, false)?;
            Ok(encoding.get_ids().to_vec())
        })
    }

    /// The text of token ids, special tokens included. A sequence of bytes that is not UTF-8 is
    /// shown as U+FFFD; [`Tokenizer::decode_bytes`] keeps it.
    ///
    /// # Errors
    /// [`ModelError::TokenId`] for an id beyond the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        if self.style == PieceStyle::ByteLevel {
            return Ok(String::from_utf8_lossy(&self.decode_bytes(ids)?).into_owned());
        }
        self.check(ids)?;
        // Ids without a token are skipped by the inner decoder; stand-ins keep their place.
        let mut text = String::new();
        for part in ids.chunk_by(|a, b| self.is_assigned(*a) == self.is_assigned(*b)) {
            if self.is_assigned(part[0]) {
                text += &guarded(&self.label, "decoding", || self.full.decode(part, false))?;
            } else {
                text.extend(part.iter().map(|_| '\u{fffd}'));
            }
        }
        Ok(text)
    }

    /// The text of token ids without special tokens.
    ///
    /// # Errors
    /// [`ModelError::TokenId`] for an id beyond the vocabulary.
    pub fn decode_without_special(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.check(ids)?;
        let ids: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| !self.is_special(*id))
            .collect();
        self.decode(&ids)
    }

    /// The bytes of token ids: what a byte-level vocabulary stores, before it is read as UTF-8.
    ///
    /// # Errors
    /// [`ModelError::TokenId`] for an id beyond the vocabulary.
    pub fn decode_bytes(&self, ids: &[u32]) -> Result<Vec<u8>, ModelError> {
        if self.style != PieceStyle::ByteLevel {
            return self.decode(ids).map(String::into_bytes);
        }
        self.check(ids)?;
        let added = self.full.get_added_vocabulary().get_added_tokens_decoder();
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for id in ids {
            match (added.get(id), self.full.id_to_token(*id)) {
                (Some(token), _) => bytes.extend_from_slice(token.content.as_bytes()),
                (None, Some(piece)) => pieces::push_byte_level(&piece, &mut bytes),
                (None, None) => bytes.extend_from_slice("\u{fffd}".as_bytes()),
            }
        }
        Ok(bytes)
    }

    /// One token as a live view shows it: part of a UTF-8 sequence as U+FFFD, an id without a
    /// token likewise. Never fails.
    pub fn decode_cell(&self, id: u32) -> String {
        let Some(piece) = self.full.id_to_token(id) else {
            return '\u{fffd}'.to_string();
        };
        let added = self.full.get_added_vocabulary().get_added_tokens_decoder();
        match added.get(&id) {
            Some(token) => token.content.clone(),
            None => self.style.show(&piece),
        }
    }

    /// One more than the largest token id.
    pub fn vocab_size(&self) -> usize {
        self.size
    }

    /// The id of a token, by its exact spelling in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.full.token_to_id(token)
    }

    /// The spelling of a token in the vocabulary (byte-level pieces are not decoded).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.full.id_to_token(id)
    }

    /// Whether an id is a control token, which user text never yields.
    pub fn is_special(&self, id: u32) -> bool {
        self.control.contains(&id)
    }

    /// The token that stands for text the vocabulary lacks, if there is one. It may be read, and has no
    /// text of its own to be written.
    pub fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// Whether an id has a token.
    pub fn is_assigned(&self, id: u32) -> bool {
        self.full.id_to_token(id).is_some()
    }

    /// What the tokenizer is, in a few words: "byte-level BPE", "WordPiece", …
    pub fn description(&self) -> String {
        let value = serde_json::to_value(self.full.get_model()).unwrap_or_default();
        let model = value
            .get("type")
            .and_then(|t| t.as_str())
            .unwrap_or("unknown")
            .to_string();
        match self.style {
            PieceStyle::ByteLevel => format!("byte-level {model}"),
            PieceStyle::SentencePiece => format!("SentencePiece {model}"),
            PieceStyle::Plain => model,
        }
    }

    /// The text of a `tokenizer.json`, which Python's `tokenizers` opens.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when it cannot be written.
    pub fn to_json(&self) -> Result<String, ModelError> {
        self.full
            .to_string(true)
            .map_err(|e| ModelError::tokenizer(&self.label, format!("cannot be written: {e}")))
    }

    fn check(&self, ids: &[u32]) -> Result<(), ModelError> {
        match ids.iter().find(|id| **id as usize >= self.rows) {
            Some(id) => Err(ModelError::TokenId {
                id: *id,
                vocab: self.rows,
            }),
            None => Ok(()),
        }
    }
}

/// Runs code of the `tokenizers` crate on a file that is not trusted. What is known to end in a panic there
/// is refused when a file is read (see [`precheck`]); this is for what is not known.
fn guarded<T>(
    label: &str,
    doing: &str,
    run: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T, ModelError> {
    let _span = span::part("tokenizer");
    // After a panic the caller has an error and nothing that was half changed: the tokenizer is
    // only read, or is dropped with the error.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => done.map_err(|e| ModelError::tokenizer(label, format!("{doing}: {e}"))),
        Err(_) => Err(ModelError::tokenizer(
            label,
            format!(
                "{doing}: the file is damaged: a setting of its normalizer, pre_tokenizer, model or \
                     decoder does not fit the text"
            ),
        )),
    }
}

/// `<…>` or `[…]` without a blank: the spelling of control tokens everywhere.
fn looks_like_control(content: &str) -> bool {
    let framed = (content.starts_with('<') && content.ends_with('>'))
        || (content.starts_with('[') && content.ends_with(']'));
    framed && content.chars().count() > 2 && !content.contains(char::is_whitespace)
}

/// The token that stands for what the vocabulary lacks; ordinary text may yield it.
fn unknown_token(inner: &Inner) -> Option<String> {
    let model = serde_json::to_value(inner.get_model()).ok()?;
    if let Some(name) = model.get("unk_token").and_then(|t| t.as_str()) {
        return Some(name.to_string());
    }
    let id = model.get("unk_id").and_then(serde_json::Value::as_u64)?;
    inner.id_to_token(u32::try_from(id).ok()?)
}

#[cfg(test)]
mod tests;
