//! One token a byte.

use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::{SPECIALS, added};

/// A `tokenizer.json` with the 256 bytes, written as GPT-2 writes them, in that order of characters.
pub(super) fn build() -> tokenizers::Result<String> {
    let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    bytes.sort_unstable();
    let tokens = SPECIALS
        .iter()
        .map(|s| s.to_string())
        .chain(bytes.into_iter().map(String::from));
    let vocab: Vocab = (0u32..)
        .zip(tokens)
        .map(|(id, token)| (token, id))
        .collect();
    let model = BPE::builder().vocab_and_merges(vocab, Vec::new()).build()?;
    let mut tokenizer = Tokenizer::new(model);
    // Without the word pattern, which would only cost time: no merge ever crosses a byte.
    let level = ByteLevel::new(false, true, false);
    tokenizer
        .with_pre_tokenizer(Some(level))
        .with_decoder(Some(level));
    tokenizer.add_special_tokens(added())?;
    tokenizer.to_string(true)
}
