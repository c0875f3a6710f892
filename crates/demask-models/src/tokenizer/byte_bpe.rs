//! Byte-level BPE from `vocab.json` and `merges.txt` (GPT-2, Qwen2, Dream).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{Tokenizer, pieces};
use crate::ModelError;

/// The splitting rule of GPT-2.
pub const GPT2_SPLIT: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The splitting rule of Qwen2, which Dream uses: contractions in any case, single digits, letters
/// with one sign before them, line breaks on their own.
pub const QWEN2_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Reads `vocab.json`, `merges.txt` and the added tokens of `tokenizer_config.json` or
/// `added_tokens.json`.
///
/// The splitting rule is in none of these files: it is a property of the tokenizer class, which
/// `tokenizer_config.json` names.
///
/// # Errors
/// [`ModelError::Tokenizer`] when a file is damaged.
pub fn from_dir(dir: &Path) -> Result<Tokenizer, ModelError> {
    let label = dir.join("vocab.json").display().to_string();
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read_to_string(&path).map_err(|e| ModelError::io("read", &path, e))
    };
    let optional = |name: &str| -> Result<Value, ModelError> {
        if !dir.join(name).is_file() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&read(name)?)
            .map_err(|e| ModelError::tokenizer(dir.join(name).display().to_string(), e.to_string()))
    };
    let config = optional("tokenizer_config.json")?;
    let class = config
        .get("tokenizer_class")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let qwen = ["Qwen2", "Dream"]
        .iter()
        .any(|name| class.starts_with(name));
    let split = if qwen { QWEN2_SPLIT } else { GPT2_SPLIT };
    let added = added_tokens(&config, &optional("added_tokens.json")?);
    build(
        &label,
        &read("vocab.json")?,
        &read("merges.txt")?,
        split,
        qwen,
        &added,
    )
}

/// Added tokens by id, with whether each is special.
fn added_tokens(config: &Value, list: &Value) -> BTreeMap<u32, (String, bool)> {
    let mut added = BTreeMap::new();
    if let Some(list) = list.as_object() {
        for (content, id) in list {
            if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                added.insert(id, (content.clone(), true));
            }
        }
    }
    if let Some(decoder) = config
        .get("added_tokens_decoder")
        .and_then(Value::as_object)
    {
        for (id, token) in decoder {
            let content = token.get("content").and_then(Value::as_str);
            if let (Ok(id), Some(content)) = (id.parse(), content) {
                let special = token
                    .get("special")
                    .and_then(Value::as_bool)
                    .unwrap_or(false);
                added.insert(id, (content.to_string(), special));
            }
        }
    }
    added
}

/// Builds the tokenizer from the texts of the two files. `nfc` normalises text first (Qwen2).
///
/// # Errors
/// [`ModelError::Tokenizer`] when a text is damaged or an added token disagrees with the
/// vocabulary.
pub fn build(
    label: &str,
    vocab: &str,
    merges: &str,
    split: &str,
    nfc: bool,
    added: &BTreeMap<u32, (String, bool)>,
) -> Result<Tokenizer, ModelError> {
    let mut vocab: BTreeMap<String, u32> = serde_json::from_str(vocab)
        .map_err(|e| ModelError::tokenizer(label, format!("is no vocabulary: {e}")))?;
    let merges = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty())
        .map(|line| match line.split_once(' ') {
            Some((left, right)) => Ok(json!([left, right])),
            None => Err(ModelError::tokenizer(
                label,
                format!("merges.txt: the line `{line}` is not two pieces and a blank between them"),
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Ids of added tokens are kept by placing the token in the vocabulary: no merge makes it.
    for (id, (content, _)) in added {
        if let Some(other) = vocab
            .insert(content.clone(), *id)
            .filter(|other| other != id)
        {
            return Err(ModelError::tokenizer(
                label,
                format!(
                    "the added token `{content}` has the id {id} but the vocabulary says {other}"
                ),
            ));
        }
    }
    let added: Vec<Value> = added
        .iter()
        .map(|(id, (content, special))| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": special,
            })
        })
        .collect();
    let byte_level = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": regex });
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added,
        "normalizer": if nfc { json!({ "type": "NFC" }) } else { Value::Null },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": split }, "behavior": "Isolated", "invert": false },
            byte_level(false),
        ] },
        "post_processor": null,
        "decoder": byte_level(false),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    });
    Tokenizer::parse(label.to_string(), &json.to_string())
}

/// A vocabulary of the 256 bytes, ids 0 to 255, and `special` tokens after them.
///
/// # Errors
/// [`ModelError::Tokenizer`] when a special token is spelled like a byte.
pub fn bytes_only(special: &[&str]) -> Result<Tokenizer, ModelError> {
    let (vocab, added) = bytes_vocab(special);
    build("byte vocabulary", &vocab, "", GPT2_SPLIT, false, &added)
}

/// The text of `vocab.json` for the 256 bytes, and the special tokens that follow.
pub(crate) fn bytes_vocab(special: &[&str]) -> (String, BTreeMap<u32, (String, bool)>) {
    let vocab: serde_json::Map<String, Value> = (0..=255u8)
        .map(|b| (pieces::byte_to_char(b).to_string(), json!(b)))
        .collect();
    let added = (256..)
        .zip(special)
        .map(|(id, token)| (id, (token.to_string(), true)))
        .collect();
    (Value::Object(vocab).to_string(), added)
}
