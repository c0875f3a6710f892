//! Tokenizers: trained on the data of a recipe, or taken from a file.
//!
//! | kind | tokens | file |
//! |---|---|---|
//! | `char` | the characters of the training text | `char.rs` |
//! | `byte` | the 256 bytes | `byte.rs` |
//! | `bpe` | byte-level byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909; GPT-2's bytes and word pattern) | `bpe.rs` |
//! | `file` | those of a `tokenizer.json` | |
//! | `checkpoint` | those of a checkpoint folder | |
//!
//! A trained tokenizer has the special tokens of [`SPECIALS`] at ids 0, 1, 2 …, whatever it was
//! trained on, and is a `tokenizer.json` that Python's `tokenizers` opens.

mod bpe;
mod byte;
mod char;

use std::path::PathBuf;

use demask_models::{SpecialIds, Tokenizer};
use serde::{Deserialize, Serialize};
use tokenizers::AddedToken;

use crate::TrainError;
use crate::data::Documents;
use crate::data::find;

/// The special tokens of a trained tokenizer; the place in the list is the id.
pub const SPECIALS: [&str; 4] = ["<|mask|>", "<|bos|>", "<|eos|>", "<|pad|>"];

/// `[tokenizer]`: how text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerConfig {
    /// One token a character. Characters that the training text lacks become `<|unk|>`.
    Char,
    /// One token a byte.
    Byte,
    /// Byte-pair encoding, trained on the training text.
    Bpe {
        /// Number of tokens, special ones and the 256 bytes included; at least 260.
        vocab: usize,
    },
    /// A `tokenizer.json` that is there already.
    File {
        /// The file.
        path: PathBuf,
    },
    /// The tokenizer of a checkpoint.
    Checkpoint {
        /// Its folder.
        path: PathBuf,
    },
}

impl TokenizerConfig {
    pub(crate) fn validate(&self) -> Result<(), TrainError> {
        match self {
            Self::Bpe { vocab } if *vocab < 256 + SPECIALS.len() => {
                Err(TrainError::recipe(format!(
                    "tokenizer.vocab = {vocab}: must be at least {}, the bytes and the special tokens",
                    256 + SPECIALS.len()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Trains or opens the tokenizer; relative paths are looked for below each of `roots`.
    ///
    /// # Errors
    /// [`TrainError::NotFound`], [`TrainError::Model`] or [`TrainError::Tokenizer`].
    pub fn build(&self, documents: &Documents, roots: &[PathBuf]) -> Result<Tokenizer, TrainError> {
        let json = match self {
            Self::Char => char::train(documents.train_texts()),
            Self::Byte => byte::build(),
            Self::Bpe { vocab } => bpe::train(&documents.train_texts().collect::<Vec<_>>(), *vocab),
            Self::File { path } => {
                let path = find(path, roots, "tokenizer")?;
                let json = std::fs::read_to_string(&path).map_err(TrainError::io("read", &path))?;
                return Ok(Tokenizer::from_json(&json)?);
            }
            Self::Checkpoint { path } => {
                return Ok(Tokenizer::from_dir(&find(path, roots, "checkpoint")?)?);
            }
        };
        let json = json.map_err(|e| TrainError::Tokenizer(e.to_string()))?;
        Ok(Tokenizer::from_json(&json)?)
    }
}

/// The ids of the special tokens by their texts in [`SPECIALS`], where the tokenizer has them.
pub fn special_ids(tokenizer: &Tokenizer) -> SpecialIds {
    let [mask, bos, eos, pad] = SPECIALS.map(|token| tokenizer.token_to_id(token));
    SpecialIds {
        mask,
        bos,
        eos,
        pad,
        eot: None,
    }
}

/// [`SPECIALS`] as the tokenizers crate wants them.
fn added() -> Vec<AddedToken> {
    SPECIALS
        .iter()
        .map(|token| AddedToken::from(*token, true))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "The cat sat on the mat. The cat, the mat; the cat!\nÅngström.";

    fn open(json: tokenizers::Result<String>) -> Tokenizer {
        Tokenizer::from_json(&json.unwrap()).unwrap()
    }

    #[test]
    fn specials_have_the_first_ids_and_text_comes_back() {
        let all = [
            open(char::train([TEXT].into_iter())),
            open(byte::build()),
            open(bpe::train(&[TEXT], 280)),
        ];
        for tokenizer in all {
            let ids = special_ids(&tokenizer);
            assert_eq!(
                (ids.mask, ids.bos, ids.eos, ids.pad),
                (Some(0), Some(1), Some(2), Some(3))
            );
            let tokens = tokenizer.encode(TEXT).unwrap();
            assert!(tokens.iter().all(|t| *t > 3), "{tokens:?}");
            assert_eq!(tokenizer.decode(&tokens).unwrap(), TEXT);
        }
    }

    #[test]
    fn characters_are_sorted_and_counted() {
        let tokenizer = open(char::train(["bab", "ca"].into_iter()));
        assert_eq!(tokenizer.vocab_size(), 8);
        assert_eq!(tokenizer.encode("abcé").unwrap(), [5, 6, 7, 4]);
    }

    #[test]
    fn a_byte_is_a_token() {
        let tokenizer = open(byte::build());
        assert_eq!(tokenizer.vocab_size(), 260);
        assert_eq!(tokenizer.encode("é ").unwrap().len(), 3);
        assert_eq!(
            tokenizer
                .decode(&tokenizer.encode("<|mask|>").unwrap())
                .unwrap(),
            "<|mask|>"
        );
    }

    #[test]
    fn bpe_learns_words_and_is_the_same_every_time() {
        let json = || bpe::train(&[TEXT, TEXT], 275).unwrap();
        assert_eq!(json(), json());
        let tokenizer = open(Ok(json()));
        assert_eq!(tokenizer.vocab_size(), 275);
        assert!(tokenizer.encode(" cat").unwrap().len() < 4);
    }

    #[test]
    fn a_vocabulary_smaller_than_the_bytes_is_refused() {
        let error = TokenizerConfig::Bpe { vocab: 100 }
            .validate()
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "recipe: tokenizer.vocab = 100: must be at least 260, the bytes and the special tokens"
        );
    }
}
