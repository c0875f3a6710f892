//! What must hold of a `tokenizer.json` before the `tokenizers` crate may build it. A damaged file would
//! end the program there, when it is read or later when a text meets the damaged part:
//!
//! - the builder of BPE copies pieces into a buffer as long as the longest one and cuts a prefix off
//!   without looking;
//! - the normaliser `Precompiled` reserves room for as many units as its charsmap claims to have, and
//!   looks at the first one without asking whether there is one;
//! - the decoder `Strip` cuts from both ends without asking whether the piece is that long;
//! - the pre-tokenizer `FixedLength` cuts into parts of length zero.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    model: Option<Model<'a>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow, default)]
    merges: Option<Vec<Merge<'a>>>,
    #[serde(default)]
    vocab: Option<Vocab>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vocab {
    ByName(HashMap<String, IgnoredAny>),
    /// Unigram's list of pieces and scores; it has no merges.
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Pair(String, String),
    Line(std::borrow::Cow<'a, str>),
}

/// An error that names the first setting which the `tokenizers` crate would not survive.
pub(super) fn check(text: &str) -> Result<(), String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    each_object(&file.normalizer, charsmap)?;
    each_object(&file.pre_tokenizer, fixed_length)?;
    each_object(&file.decoder, strip)?;
    file.model.map_or(Ok(()), merges)
}

/// Calls `check` with each object inside `value`: parts stand alone or in a `Sequence` of any depth, and
/// old files leave out their `type`.
fn each_object(
    value: &Value,
    check: fn(&Map<String, Value>) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Value::Array(list) => list.iter().try_for_each(|item| each_object(item, check)),
        Value::Object(object) => {
            check(object)?;
            object
                .values()
                .try_for_each(|item| each_object(item, check))
        }
        _ => Ok(()),
    }
}

/// The charsmap of a `Precompiled` normaliser: the length of a trie in bytes, the trie in units of four
/// bytes, and the texts it leads to.
fn charsmap(normalizer: &Map<String, Value>) -> Result<(), String> {
    const KEY: &str = "precompiled_charsmap";
    let Some(text) = normalizer.get(KEY).and_then(Value::as_str) else {
        return Ok(());
    };
    let bytes = base64::decode(text).map_err(|e| format!("`{KEY}` is not base64: {e}"))?;
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Err(format!("`{KEY}` is cut off after {} bytes", bytes.len()));
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || !length.is_multiple_of(4) {
        return Err(format!(
            "`{KEY}` has a trie of {length} bytes; a positive multiple of 4 is needed"
        ));
    }
    let Some(texts) = rest.get(length..) else {
        return Err(format!(
            "`{KEY}` says that its trie has {length} bytes, but only {} follow",
            rest.len()
        ));
    };
    match std::str::from_utf8(texts) {
        Ok(_) => Ok(()),
        Err(e) => Err(format!("the texts of `{KEY}` are not UTF-8: {e}")),
    }
}

fn fixed_length(pre_tokenizer: &Map<String, Value>) -> Result<(), String> {
    if pre_tokenizer.get("type").and_then(Value::as_str) == Some("FixedLength")
        && pre_tokenizer.get("length").and_then(Value::as_u64) == Some(0)
    {
        return Err(
            "the pre-tokenizer `FixedLength` has the length 0; at least 1 is needed".into(),
        );
    }
    Ok(())
}

/// No other decoder has a `stop`.
fn strip(decoder: &Map<String, Value>) -> Result<(), String> {
    match decoder.get("stop").and_then(Value::as_u64) {
        None | Some(0) => Ok(()),
        Some(stop) => Err(format!(
            "the decoder `Strip` has `stop` = {stop}; only 0 is supported, for a piece may be shorter"
        )),
    }
}

/// Every merge joins two pieces of the vocabulary to a third.
fn merges(model: Model) -> Result<(), String> {
    let Model {
        merges: Some(merges),
        vocab,
        continuing_subword_prefix,
    } = model
    else {
        return Ok(());
    };
    let Some(Vocab::ByName(vocab)) = vocab else {
        return Err("there are merges but no vocabulary of names and ids".into());
    };
    let prefix = continuing_subword_prefix.unwrap_or_default();
    for merge in &merges {
        let (left, right) = match merge {
            Merge::Pair(left, right) => (left.as_str(), right.as_str()),
            Merge::Line(line) => line
                .split_once(' ')
                .ok_or_else(|| format!("the merge `{line}` is not two pieces"))?,
        };
        let tail = right.strip_prefix(prefix.as_str()).ok_or_else(|| {
            format!("the merge of `{left}` and `{right}`: the second lacks the prefix `{prefix}`")
        })?;
        let joined = format!("{left}{tail}");
        for piece in [left, right, &joined] {
            if !vocab.contains_key(piece) {
                return Err(format!(
                    "the merge of `{left}` and `{right}` needs the piece `{piece}`, which the \
                     vocabulary lacks"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(merges: &str, prefix: &str) -> String {
        format!(
            r#"{{"model":{{"type":"BPE","vocab":{{"a":0,"b":1,"@@b":2,"ab":3}},"merges":{merges},"continuing_subword_prefix":{prefix}}}}}"#
        )
    }

    #[test]
    fn merges_need_their_pieces_and_their_result() {
        assert_eq!(check(&model(r#"["a b"]"#, "null")), Ok(()));
        assert_eq!(check(&model(r#"[["a","b"]]"#, "null")), Ok(()));
        assert_eq!(check(&model(r#"[["a","@@b"]]"#, r#""@@""#)), Ok(()));
        assert!(
            check(&model(r#"["a a"]"#, "null"))
                .unwrap_err()
                .contains("the piece `aa`")
        );
        assert!(
            check(&model(r#"["a c"]"#, "null"))
                .unwrap_err()
                .contains("the piece `c`")
        );
        assert!(
            check(&model(r#"["a b"]"#, r#""@@""#))
                .unwrap_err()
                .contains("prefix `@@`")
        );
        assert!(
            check(&model(r#"["ab"]"#, "null"))
                .unwrap_err()
                .contains("not two pieces")
        );
        assert!(check(r#"{"model":{"merges":[],"vocab":[["a",0.5]]}}"#).is_err());
        assert_eq!(check(r#"{"model":{"vocab":[["a",0.5]]}}"#), Ok(()));
    }

    /// A charsmap that says its trie has `length` bytes.
    fn charsmap_file(length: u32, follows: &[u8]) -> String {
        let bytes = [&length.to_le_bytes()[..], follows].concat();
        charsmap_text(&base64::encode(bytes))
    }

    fn charsmap_text(charsmap: &str) -> String {
        let map = format!(r#"{{"type":"Precompiled","precompiled_charsmap":"{charsmap}"}}"#);
        let inner = format!(r#"{{"type":"Sequence","normalizers":[{map}]}}"#);
        format!(
            r#"{{"normalizer":{{"type":"Sequence","normalizers":[{{"type":"NFC"}},{inner}]}}}}"#
        )
    }

    #[test]
    fn a_charsmap_holds_what_it_claims() {
        assert_eq!(check(&charsmap_file(4, b"\0\0\0\0ab\0")), Ok(()));
        let refuse = |file: String| check(&file).unwrap_err();
        let said = refuse(charsmap_file(0xffff_fffc, &[0; 8]));
        assert!(
            said.contains("has 4294967292 bytes, but only 8 follow"),
            "{said}"
        );
        assert!(refuse(charsmap_file(8, &[0; 7])).contains("only 7 follow"));
        assert!(refuse(charsmap_file(0, b"ab")).contains("trie of 0 bytes"));
        assert!(refuse(charsmap_file(6, &[0; 8])).contains("multiple of 4"));
        assert!(refuse(charsmap_file(4, &[0, 0, 0, 0, 0xff])).contains("UTF-8"));
        assert!(refuse(charsmap_text("AAA=")).contains("cut off after 2 bytes"));
        assert!(refuse(charsmap_text("?")).contains("not base64"));
        // Old files leave the types out.
        let old = r#"{"normalizer":{"precompiled_charsmap":"/P///w=="}}"#;
        assert!(refuse(old.into()).contains("4294967292"));
    }

    #[test]
    fn cuts_that_do_not_look_are_refused() {
        let strip = |stop: usize| {
            format!(
                r#"{{"decoder":{{"type":"Sequence","decoders":[{{"type":"Fuse"}},{{"type":"Strip","content":".","start":1,"stop":{stop}}}]}}}}"#
            )
        };
        assert_eq!(check(&strip(0)), Ok(()));
        assert!(check(&strip(1)).unwrap_err().contains("`stop` = 1"));
        let parts = |length: usize| {
            format!(r#"{{"pre_tokenizer":{{"type":"FixedLength","length":{length}}}}}"#)
        };
        assert_eq!(check(&parts(5)), Ok(()));
        assert!(check(&parts(0)).unwrap_err().contains("length 0"));
    }
}
