//! The tokenizer file of llama2.c: SentencePiece BPE as a list of pieces and scores.

use serde_json::{Map, Value, json};

use super::Tokenizer;
use crate::ModelError;

/// Pieces 0, 1, 2: unknown, begin, end. Pieces 3 to 258 are the bytes.
const FIRST_PIECE: usize = 259;

/// Reads `tokenizer.bin`: the longest piece's length (u32), then for every piece its score (f32),
/// its length in bytes (i32) and its bytes, all little-endian.
///
/// Two neighbours are merged when together they are a piece; the pair whose piece has the highest
/// score goes first. That is BPE with merges ordered by score.
///
/// # Errors
/// [`ModelError::Tokenizer`] when the file is damaged.
pub fn from_bytes(label: &str, bytes: &[u8]) -> Result<Tokenizer, ModelError> {
    let pieces = parse(bytes).map_err(|problem| ModelError::tokenizer(label, problem))?;
    let text: Vec<String> = pieces
        .iter()
        .map(|(piece, _)| piece.replace(' ', "▁"))
        .collect();
    let mut vocab = Map::new();
    for (id, piece) in text.iter().enumerate() {
        let name = match id {
            0 => "<unk>",
            1 => "<s>",
            2 => "</s>",
            _ => piece,
        };
        if vocab.insert(name.to_string(), json!(id)).is_some() {
            return Err(ModelError::tokenizer(
                label,
                format!("has the piece `{piece}` twice"),
            ));
        }
    }
    let mut merges: Vec<(f32, Value)> = Vec::new();
    for (id, piece) in text.iter().enumerate().skip(FIRST_PIECE) {
        for (cut, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(cut);
            let is_piece = |part: &str| {
                vocab
                    .get(part)
                    .and_then(Value::as_u64)
                    .is_some_and(|id| id >= FIRST_PIECE as u64)
            };
            if is_piece(left) && is_piece(right) {
                merges.push((pieces[id].1, json!([left, right])));
            }
        }
    }
    // Stable: pairs that make the same piece keep their order.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let merges: Vec<Value> = merges.into_iter().map(|(_, pair)| pair).collect();
    let special = |id: usize, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    };
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] },
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>",
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    });
    Tokenizer::parse(label.to_string(), &json.to_string())
}

fn parse(bytes: &[u8]) -> Result<Vec<(String, f32)>, String> {
    let Some((longest, mut rest)) = bytes.split_first_chunk::<4>() else {
        return Err("is too short for a llama2.c tokenizer".into());
    };
    let longest = u32::from_le_bytes(*longest) as usize;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let cut_off = || {
            format!(
                "ends inside piece {} at byte {at}; it was cut off",
                pieces.len()
            )
        };
        let (score, after) = rest.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(cut_off)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > longest {
            return Err(format!(
                "piece {} says it has {length} bytes but the longest has {longest}; the file is \
                 damaged",
                pieces.len()
            ));
        }
        let (piece, after) = after.split_at_checked(length).ok_or_else(cut_off)?;
        let piece = std::str::from_utf8(piece)
            .map_err(|_| format!("piece {} is not UTF-8; the file is damaged", pieces.len()))?;
        pieces.push((piece.to_string(), f32::from_le_bytes(*score)));
        rest = after;
    }
    if pieces.len() <= FIRST_PIECE {
        return Err(format!(
            "has {} pieces; a llama2.c tokenizer has 3 special ones, 256 bytes and more",
            pieces.len()
        ));
    }
    Ok(pieces)
}

/// A `tokenizer.bin` of the special tokens, the bytes, printable ASCII and `merged` pieces.
pub(crate) fn encode(merged: &[&str]) -> Vec<u8> {
    let mut pieces: Vec<String> = vec!["<unk>".into(), "\n<s>\n".into(), "\n</s>\n".into()];
    pieces.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    pieces.extend(merged.iter().map(|piece| piece.to_string()));
    pieces.extend((b' '..=b'~').map(|byte| char::from(byte).to_string()));
    let longest = merged
        .iter()
        .map(|piece| piece.len())
        .max()
        .unwrap_or(1)
        .max(7) as u32;
    let mut out = longest.to_le_bytes().to_vec();
    for (id, piece) in pieces.iter().enumerate() {
        let score = if id < FIRST_PIECE {
            0.0
        } else {
            -((id - FIRST_PIECE) as f32)
        };
        out.extend_from_slice(&score.to_le_bytes());
        out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        out.extend_from_slice(piece.as_bytes());
    }
    out
}
