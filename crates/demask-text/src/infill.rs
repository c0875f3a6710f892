//! Text with gaps: `Tim had a [[6]] dog. [[24]] They were happy.`
//!
//! A gap is `[[n]]` with its size in tokens, or `[[]]` for a default size; `\[[` is a literal `[[`.
//!
//! Every given character stands in the result. The pieces between the gaps are tokenised each by
//! itself. Where the vocabulary joins a space to the word after it, one space in front of a gap is
//! left to the gap: its first token must begin with a space. (Tokenised alone, that space would be a
//! token that hardly occurs in front of a word, and the model would write nonsense after it.)

use demask_models::Tokenizer;

use crate::{Prompt, TextError};

/// The largest gap, in tokens.
pub const MAX_GAP: usize = 65_536;

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Given text.
    Text(String),
    /// Cells to be written.
    Gap(usize),
}

/// A text with gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Reads a template; `[[]]` becomes a gap of `default` tokens.
    ///
    /// # Errors
    /// [`TextError::Template`] with the place of a marker that is not closed, holds no number, is
    /// zero or above [`MAX_GAP`], or when there is no gap at all.
    pub fn parse(text: &str, default: usize) -> Result<Self, TextError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        loop {
            let Some(found) = rest.find("[[") else {
                literal.push_str(rest);
                break;
            };
            let (before, marker) = rest.split_at(found);
            if let Some(before) = before.strip_suffix('\\') {
                literal.push_str(before);
                literal.push_str("[[");
                rest = &marker[2..];
                continue;
            }
            literal.push_str(before);
            let at = text[..text.len() - marker.len()].chars().count();
            let (inside, after) =
                marker[2..]
                    .split_once("]]")
                    .ok_or_else(|| TextError::Template {
                        at,
                        reason:
                            "`[[` is not closed by `]]`; write `\\[[` for the characters themselves"
                                .into(),
                    })?;
            let size =
                gap(inside.trim(), default).map_err(|reason| TextError::Template { at, reason })?;
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Gap(size));
            rest = after;
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::Gap(_))) {
            let reason = "there is no gap; mark one as `[[6]]`, with its size in tokens".into();
            return Err(TextError::Template {
                at: text.chars().count(),
                reason,
            });
        }
        Ok(Self { pieces })
    }

    /// The parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Number of cells to be written.
    pub fn open(&self) -> usize {
        let gaps = self.pieces.iter().map(|piece| match piece {
            Piece::Gap(size) => *size,
            Piece::Text(_) => 0,
        });
        gaps.sum()
    }

    /// The template as a prompt, after the tokens `before` (the one that begins a text, a chat).
    ///
    /// # Errors
    /// When the tokenizer refuses a piece.
    pub fn prompt(&self, tokenizer: &Tokenizer, before: Vec<u32>) -> Result<Prompt, TextError> {
        let joins = tokenizer.encode(" a")?.len() == 1;
        let (mut cells, mut spaced) = (Vec::new(), Vec::new());
        for (i, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Gap(size) => cells.extend(std::iter::repeat_n(None, *size)),
                Piece::Text(text) => {
                    let gap_follows = matches!(self.pieces.get(i + 1), Some(Piece::Gap(_)));
                    let left = text.strip_suffix(' ').filter(|_| joins && gap_follows);
                    let given = left.unwrap_or(text);
                    if !given.is_empty() {
                        cells.extend(tokenizer.encode(given)?.into_iter().map(Some));
                    }
                    if left.is_some() {
                        spaced.push(cells.len());
                    }
                }
            }
        }
        Ok(Prompt {
            ids: before,
            cells,
            spaced,
        })
    }
}

/// The size of a gap.
fn gap(inside: &str, default: usize) -> Result<usize, String> {
    let size = if inside.is_empty() {
        default
    } else if inside.bytes().all(|b| b.is_ascii_digit()) {
        inside.parse().unwrap_or(usize::MAX)
    } else {
        return Err(format!(
            "`[[{inside}]]` is not a gap: write its size in tokens, as `[[6]]`, or `\\[[` for the \
             characters themselves"
        ));
    };
    match size {
        0 => Err("a gap needs at least 1 token".into()),
        1..=MAX_GAP => Ok(size),
        _ => Err(format!(
            "a gap of `{inside}` tokens is above the largest, {MAX_GAP}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<Piece> {
        Template::parse(text, 8).unwrap().pieces
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.into())
    }

    #[test]
    fn gaps_and_text() {
        assert_eq!(
            pieces("Tim had a [[6]] dog. [[24]] They were happy."),
            [
                text("Tim had a "),
                Piece::Gap(6),
                text(" dog. "),
                Piece::Gap(24),
                text(" They were happy.")
            ]
        );
        assert_eq!(pieces("[[]]"), [Piece::Gap(8)]);
        assert_eq!(pieces("[[ 3 ]][[4]]"), [Piece::Gap(3), Piece::Gap(4)]);
        assert_eq!(Template::parse("[[3]] x [[]]", 8).unwrap().open(), 11);
    }

    #[test]
    fn escapes_and_lone_brackets() {
        assert_eq!(
            pieces(r"a \[[b]] [c] ]] [[2]]\"),
            [text("a [[b]] [c] ]] "), Piece::Gap(2), text("\\")]
        );
    }

    #[test]
    fn malformed_markers_say_where_and_what() {
        let message = |text: &str| Template::parse(text, 8).unwrap_err().to_string();
        assert!(
            message("né [[6").contains("character 3"),
            "{}",
            message("né [[6")
        );
        assert!(
            message("a [[b]]").contains(r"write its size"),
            "{}",
            message("a [[b]]")
        );
        assert!(message("a [[-1]]").contains("is not a gap"));
        assert!(message("[[0]]").contains("at least 1"));
        assert!(message("[[65537]]").contains("largest, 65536"));
        assert!(message("[[99999999999999999999999]]").contains("largest"));
        assert!(message("no gap").contains("there is no gap"));
        assert!(Template::parse("[[]]", 0).is_err());
    }

    #[test]
    fn every_given_character_stands_in_the_prompt() {
        // The 256 bytes: no token joins a space to a word, so the space stays given.
        let tokenizer = demask_models::tokenizer::byte_bpe::bytes_only(&["<mask>"]).unwrap();
        let template = Template::parse("a [[2]] b", 8).unwrap();
        let prompt = template.prompt(&tokenizer, vec![7]).unwrap();
        let byte = |b: u8| Some(u32::from(b));
        assert_eq!(prompt.ids, [7]);
        assert_eq!(
            prompt.cells,
            [byte(b'a'), byte(b' '), None, None, byte(b' '), byte(b'b')]
        );
        assert!(prompt.spaced.is_empty());
    }
}
