//! Byte-level byte-pair encoding (arXiv 1508.07909), trained on the data.

use tokenizers::Tokenizer;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::added;

/// A `tokenizer.json` with `vocab` tokens: the special ones, the 256 bytes, then the merges of
/// `texts`, most frequent first.
///
/// Ties between equally frequent pairs go to the pair of smaller ids, so that the same texts give
/// the same tokenizer.
pub(super) fn train(texts: &[&str], vocab: usize) -> tokenizers::Result<String> {
    let mut tokenizer = Tokenizer::new(BPE::default());
    let level = ByteLevel::new(false, true, true);
    tokenizer
        .with_pre_tokenizer(Some(level))
        .with_decoder(Some(level));
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab)
        .special_tokens(added())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    tokenizer.train(&mut TrainerWrapper::from(trainer), texts.iter())?;
    tokenizer.to_string(true)
}
