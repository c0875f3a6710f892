//! What must hold of a BPE vocabulary before the `tokenizers` crate may build it: its builder copies
//! pieces into a buffer as long as the longest one and cuts a prefix off without looking, so a
//! damaged file would end the program.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    model: Option<Model<'a>>,
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

/// Every merge joins two pieces of the vocabulary to a third.
pub(super) fn check(text: &str) -> Result<(), String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let Some(Model {
        merges: Some(merges),
        vocab,
        continuing_subword_prefix,
    }) = file.model
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
}
