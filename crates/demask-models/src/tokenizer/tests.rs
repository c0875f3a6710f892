use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::*;

const SPECIALS: [&str; 3] = ["<|endoftext|>", "<|im_end|>", "<|mask|>"];

fn bytes() -> Tokenizer {
    static BYTES: LazyLock<Tokenizer> = LazyLock::new(|| byte_bpe::bytes_only(&SPECIALS).unwrap());
    BYTES.clone()
}

/// A tokenizer with a merge, so that pieces are longer than a byte.
fn merged() -> Tokenizer {
    let (vocab, _) = byte_bpe::bytes_vocab(&[]);
    let mut vocab: serde_json::Value = serde_json::from_str(&vocab).unwrap();
    vocab["he"] = 256.into();
    vocab["Ġt"] = 257.into();
    let added = BTreeMap::from([(258, ("<|mask|>".to_string(), true))]);
    let merges = "#version: 0.2\nh e\nĠ t\n";
    byte_bpe::build(
        "t",
        &vocab.to_string(),
        merges,
        byte_bpe::GPT2_SPLIT,
        false,
        &added,
    )
    .unwrap()
}

#[test]
fn bytes_are_their_own_ids() {
    let t = bytes();
    assert_eq!(t.encode("Hi é").unwrap(), [72, 105, 32, 0xc3, 0xa9]);
    assert_eq!(t.vocab_size(), 259);
    assert_eq!(t.token_to_id("<|mask|>"), Some(258));
    assert_eq!(t.description(), "byte-level BPE");
    assert_eq!(t.encode("").unwrap(), Vec::<u32>::new());
}

#[test]
fn merges_are_applied() {
    let t = merged();
    assert_eq!(t.encode("he the").unwrap(), [256, 257, 256]);
    assert_eq!(t.decode(&[256, 257, 256]).unwrap(), "he the");
}

#[test]
fn user_text_never_yields_special_tokens() {
    let t = bytes();
    let text = "a<|mask|>b<|im_end|>";
    let ids = t.encode(text).unwrap();
    assert!(ids.iter().all(|id| *id < 256), "{ids:?}");
    assert_eq!(t.decode(&ids).unwrap(), text);
    assert_eq!(t.encode_with_special(text).unwrap(), [97, 258, 98, 257]);
}

#[test]
fn control_tokens_that_are_not_marked_special_are_still_control() {
    let (vocab, _) = byte_bpe::bytes_vocab(&[]);
    let added = BTreeMap::from([
        (256, ("<think>".to_string(), false)),
        (257, ("    ".to_string(), false)),
    ]);
    let t = byte_bpe::build("t", &vocab, "", byte_bpe::GPT2_SPLIT, false, &added).unwrap();
    assert!(t.is_special(256) && !t.is_special(257));
    assert!(t.encode("<think>").unwrap().iter().all(|id| *id < 256));
    assert_eq!(t.encode("    ").unwrap(), [257]);
}

#[test]
fn control_tokens_inside_a_plain_vocabulary_are_split() {
    // A word-level-like BPE whose merges build the control token from ordinary pieces.
    let json = r#"{"version":"1.0","truncation":null,"padding":null,
        "added_tokens":[{"id":4,"content":"<a>","single_word":true,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":{"type":"Fuse"},
        "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
        "vocab":{"<":0,"a":1,">":2,"<a":3,"<a>":4},"merges":[["<","a"],["<a",">"]]}}"#;
    let t = Tokenizer::from_json(json).unwrap();
    assert_eq!(t.encode("a<a>a").unwrap(), [1, 0, 1, 2, 1]);
    assert_eq!(t.encode_with_special("<a>").unwrap(), [4]);
}

#[test]
fn byte_level_decoding_is_lossless() {
    let t = bytes();
    let text = "naïve 日本 🦙\u{0}\n\t  \u{fffd}<|mask|>";
    assert_eq!(t.decode(&t.encode(text).unwrap()).unwrap(), text);
    // Half of a character: bytes keep it, text shows the stand-in.
    assert_eq!(t.decode_bytes(&[0xe6, 0x97]).unwrap(), [0xe6, 0x97]);
    assert_eq!(t.decode(&[0xe6, 0x97]).unwrap(), "\u{fffd}");
}

#[test]
fn special_tokens_are_shown_or_left_out() {
    let t = bytes();
    assert_eq!(t.decode(&[72, 258, 105]).unwrap(), "H<|mask|>i");
    assert_eq!(t.decode_without_special(&[72, 258, 105]).unwrap(), "Hi");
}

#[test]
fn cells_never_fail() {
    let t = bytes().with_rows(300);
    assert_eq!(t.decode_cell(72), "H");
    assert_eq!(t.decode_cell(32), " ");
    assert_eq!(t.decode_cell(0xe6), "\u{fffd}");
    assert_eq!(t.decode_cell(258), "<|mask|>");
    assert_eq!(t.decode_cell(280), "\u{fffd}");
    assert_eq!(t.decode_cell(u32::MAX), "\u{fffd}");
}

#[test]
fn ids_beyond_the_vocabulary_are_errors() {
    let t = bytes();
    let said = t.decode(&[72, 259]).unwrap_err().to_string();
    assert_eq!(said, "token id 259 is outside the vocabulary of 259 ids");
    // Rows of the network without a token have no text but are no error.
    let t = t.with_rows(300);
    assert_eq!(t.decode(&[72, 259, 105]).unwrap(), "H\u{fffd}i");
    assert!(t.decode(&[300]).is_err());
}

#[test]
fn a_special_token_can_be_added() {
    let t = bytes().with_special("[MASK]").unwrap();
    assert_eq!(t.token_to_id("[MASK]"), Some(259));
    assert!(t.is_special(259));
    assert!(t.encode("[MASK]").unwrap().iter().all(|id| *id < 256));
}

#[test]
fn json_goes_out_and_in() {
    let t = merged();
    let again = Tokenizer::from_json(&t.to_json().unwrap()).unwrap();
    let text = "the mask <|mask|> he";
    assert_eq!(again.encode(text).unwrap(), t.encode(text).unwrap());
    assert_eq!(
        again.encode_with_special(text).unwrap(),
        t.encode_with_special(text).unwrap()
    );
    assert_eq!(again.to_json().unwrap(), t.to_json().unwrap());
}

#[test]
fn damaged_files_are_named() {
    let said = Tokenizer::from_json("{}").unwrap_err().to_string();
    assert!(said.starts_with("tokenizer.json: cannot be read"), "{said}");
    let dir = tempfile::tempdir().unwrap();
    let said = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(
        said.contains("holds no tokenizer; put tokenizer.json"),
        "{said}"
    );
    std::fs::write(dir.path().join("vocab.json"), r#"{"a":0,"b":1}"#).unwrap();
    std::fs::write(dir.path().join("merges.txt"), "#version: 0.2\nab\n").unwrap();
    let said = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(said.contains("the line `ab` is not two pieces"), "{said}");
    std::fs::write(dir.path().join("merges.txt"), "a b\n").unwrap();
    let said = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(
        said.contains("cannot be read"),
        "a merge without its result: {said}"
    );
    std::fs::write(dir.path().join("vocab.json"), "[").unwrap();
    let said = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
    assert!(said.contains("is no vocabulary"), "{said}");
}

#[test]
fn llama2c_pieces_merge_by_score_and_fall_back_to_bytes() {
    let file = llama2c::encode(&[" t", "he", " the"]);
    let t = llama2c::from_bytes("tokenizer.bin", &file).unwrap();
    assert_eq!(t.token_to_id("<s>"), Some(1));
    assert_eq!(t.token_to_id("▁the"), Some(261));
    // A blank is put before the text; " t" + "he" make " the".
    assert_eq!(t.encode("the").unwrap(), [261]);
    // "\n" is no piece: byte 10 is token 3 + 10.
    assert_eq!(t.encode("the\n").unwrap(), [261, 13]);
    assert_eq!(t.decode(&[261, 13]).unwrap(), "the\n");
    assert_eq!(t.decode_cell(261), " the");
    assert_eq!(t.decode_cell(13), "\n");
    assert_eq!(t.decode_cell(3 + 0xc3), "\u{fffd}");
    let text = "<s> the é </s>";
    assert!(t.encode(text).unwrap().iter().all(|id| *id > 2));
    assert_eq!(t.decode(&t.encode(text).unwrap()).unwrap(), text);
}

#[test]
fn damaged_llama2c_tokenizers_are_errors() {
    let good = llama2c::encode(&[" t"]);
    let said = |bytes: &[u8]| llama2c::from_bytes("t.bin", bytes).unwrap_err().to_string();
    assert!(said(&[]).contains("too short"));
    assert!(said(&good[..good.len() - 1]).contains("cut off"));
    assert!(said(&good[..400]).contains("cut off") || said(&good[..400]).contains("pieces"));
    let mut lying = good.clone();
    lying[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(said(&lying).contains("says it has 4294967295 bytes"));
}

/// A tokenizer of three pieces with the given parts.
fn parts(normalizer: &str, decoder: &str, dropout: &str) -> String {
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
        "normalizer":{normalizer},"pre_tokenizer":null,"post_processor":null,"decoder":{decoder},
        "model":{{"type":"BPE","dropout":{dropout},"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
        "vocab":{{".":0,"a":1,"b":2,"ab":3}},"merges":[["a","b"]]}}}}"#
    )
}

#[test]
fn the_same_text_has_the_same_ids() {
    let t = Tokenizer::from_json(&parts("null", "null", "0.5")).unwrap();
    let ids = t.encode(&"ab".repeat(100)).unwrap();
    assert_eq!(ids, [3; 100], "no merge is left out");
    assert!(t.to_json().unwrap().contains("\"dropout\": null"));
}

#[test]
fn settings_that_end_in_a_panic_are_errors() {
    let refuse = |normalizer: &str, decoder: &str| {
        let read = Tokenizer::from_json(&parts(normalizer, decoder, "null"));
        read.unwrap_err().to_string()
    };
    let strip = r#"{"type":"Strip","content":".","start":1,"stop":1}"#;
    assert!(refuse("null", strip).contains("cannot be read: the decoder `Strip`"));
    let map = |bytes: &[u8]| {
        let text = base64::encode(bytes);
        format!(r#"{{"type":"Precompiled","precompiled_charsmap":"{text}"}}"#)
    };
    let huge = map(&[0xfc, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert!(refuse(&huge, "null").contains("4294967292 bytes"));
    assert!(refuse(&map(&[0, 0, 0, 0]), "null").contains("trie of 0 bytes"));
    // A trie that leads beyond its end is only found by walking it.
    let short = Tokenizer::from_json(&parts(&map(&[4, 0, 0, 0, 0, 0, 0, 0]), "null", "null"));
    let said = short.unwrap().encode("ab").unwrap_err().to_string();
    assert!(
        said.contains("encoding text: the file is damaged"),
        "{said}"
    );
}

proptest::proptest! {
    #[test]
    fn any_text_comes_back(text: String) {
        let t = bytes();
        let ids = t.encode(&text).unwrap();
        proptest::prop_assert!(ids.iter().all(|id| !t.is_special(*id)));
        proptest::prop_assert_eq!(t.decode(&ids).unwrap(), text);
    }

    #[test]
    fn any_ids_decode(ids in proptest::collection::vec(0u32..300, 0..20)) {
        let t = bytes().with_rows(300);
        t.decode(&ids).unwrap();
        t.decode_without_special(&ids).unwrap();
    }
}

/// The ids that the reference implementation gives for 47 awkward texts, with the part of GPT-2's
/// vocabulary that they touch.
#[test]
fn gpt2_reference_vectors() {
    let fixture = include_str!("../../tests/fixtures/gpt2-vectors.json");
    let fixture: serde_json::Value = serde_json::from_str(fixture).unwrap();
    let merges: Vec<&str> = fixture["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m.as_str().unwrap())
        .collect();
    let vocab = fixture["vocab"].to_string();
    let added = BTreeMap::new();
    let t = byte_bpe::build(
        "t",
        &vocab,
        &merges.join("\n"),
        byte_bpe::GPT2_SPLIT,
        false,
        &added,
    )
    .unwrap();
    let vectors = fixture["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 47);
    for vector in vectors {
        let text = vector[0].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(vector[1].clone()).unwrap();
        assert_eq!(t.encode(text).unwrap(), ids, "{text:?}");
        assert_eq!(t.decode(&ids).unwrap(), text);
    }
}
