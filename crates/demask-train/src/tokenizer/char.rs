//! One token a character.

use std::collections::BTreeSet;

use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, Tokenizer};

use super::{SPECIALS, added};

/// Stands for characters that the training text lacks.
const UNKNOWN: &str = "<|unk|>";

/// A `tokenizer.json` with the characters of `texts`, in the order of their code points.
///
/// The model is a byte-pair encoding without merges: the one model of the `tokenizers` format that
/// cuts text into characters by itself.
pub(super) fn train<'a>(texts: impl Iterator<Item = &'a str>) -> tokenizers::Result<String> {
    let characters: BTreeSet<char> = texts.flat_map(str::chars).collect();
    let specials = SPECIALS.iter().copied().chain([UNKNOWN]).map(String::from);
    let tokens = specials.chain(characters.into_iter().map(String::from));
    let vocab: Vocab = (0u32..)
        .zip(tokens)
        .map(|(id, token)| (token, id))
        .collect();
    let model = BPE::builder()
        .vocab_and_merges(vocab, Vec::new())
        .unk_token(UNKNOWN.into())
        .build()?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_decoder(Some(Fuse::new()));
    tokenizer.add_special_tokens(added())?;
    tokenizer.add_special_tokens([AddedToken::from(UNKNOWN, true)])?;
    tokenizer.to_string(true)
}
