//! How a vocabulary spells its pieces.

use tokenizers::Tokenizer as Inner;

/// How a vocabulary spells its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceStyle {
    /// Each byte is written as one printable character (GPT-2).
    ByteLevel,
    /// Blanks are written `▁`, bytes `<0x0A>`.
    SentencePiece,
    /// As it is.
    Plain,
}

impl PieceStyle {
    pub(super) fn of(inner: &Inner) -> Self {
        let decoder = inner
            .get_decoder()
            .and_then(|d| serde_json::to_string(d).ok());
        let decoder = decoder.unwrap_or_default();
        if decoder.contains("\"ByteLevel\"") {
            Self::ByteLevel
        } else if decoder.contains("\"Metaspace\"") || decoder.contains('▁') {
            Self::SentencePiece
        } else {
            Self::Plain
        }
    }

    /// One piece on its own, as text.
    pub(super) fn show(self, piece: &str) -> String {
        match self {
            Self::ByteLevel => {
                let mut bytes = Vec::new();
                push_byte_level(piece, &mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Self::SentencePiece => match byte_piece(piece) {
                Some(byte) => String::from_utf8_lossy(&[byte]).into_owned(),
                None => piece.replace('▁', " "),
            },
            Self::Plain => piece.to_string(),
        }
    }
}

/// The byte that a piece like `<0x0A>` stands for.
fn byte_piece(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() == 2 {
        u8::from_str_radix(hex, 16).ok()
    } else {
        None
    }
}

/// The character that stands for a byte in a byte-level vocabulary: printable Latin-1 characters
/// stand for themselves, the other 68 bytes for the characters from U+0100 on, in order.
pub(super) fn byte_to_char(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => {
            let before = (0..byte).filter(|b| !is_printable(*b)).count() as u32;
            char::from_u32(0x100 + before).unwrap_or('\u{fffd}')
        }
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

fn char_to_byte(c: char) -> Option<u8> {
    // The 68 bytes without a printable character, in order: 0..=32, 127..=160, 173.
    match u32::from(c) {
        code @ 0..=0xff => is_printable(code as u8).then_some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 127) as u8),
        0x143 => Some(173),
        _ => None,
    }
}

/// Appends the bytes of a byte-level piece; a piece that is not one is taken as text.
pub(super) fn push_byte_level(piece: &str, out: &mut Vec<u8>) {
    let start = out.len();
    for c in piece.chars() {
        match char_to_byte(c) {
            Some(byte) => out.push(byte),
            None => {
                out.truncate(start);
                out.extend_from_slice(piece.as_bytes());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
        assert_eq!(byte_to_char(b'a'), 'a');
        assert_eq!(byte_to_char(0xad), '\u{143}');
        for byte in 0..=255u8 {
            assert_eq!(char_to_byte(byte_to_char(byte)), Some(byte), "{byte}");
        }
        assert_eq!(char_to_byte('日'), None);
    }

    #[test]
    fn byte_pieces() {
        assert_eq!(byte_piece("<0x0A>"), Some(10));
        assert_eq!(byte_piece("<0xA>"), None);
        assert_eq!(PieceStyle::SentencePiece.show("<0xC3>"), "\u{fffd}");
        assert_eq!(PieceStyle::SentencePiece.show("▁the"), " the");
        assert_eq!(PieceStyle::ByteLevel.show("Ġthe"), " the");
        assert_eq!(PieceStyle::ByteLevel.show("Ã"), "\u{fffd}");
        assert_eq!(PieceStyle::ByteLevel.show("日"), "日");
    }
}
