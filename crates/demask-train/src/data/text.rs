//! Plain text: the whole file, or its pieces between separators.

use std::path::Path;

use super::{Document, Documented, Separator};
use crate::TrainError;

impl Documented for Separator {
    fn documents(
        &self,
        _path: &Path,
        text: &str,
        visit: &mut dyn FnMut(Document),
    ) -> Result<(), TrainError> {
        let mut piece = |text: &str| {
            visit(Document {
                prompt: String::new(),
                text: text.into(),
                label: None,
            })
        };
        match self {
            Separator::None => piece(text),
            Separator::Text { text: separator } => {
                for part in text.split(separator.as_str()) {
                    let part = part.trim();
                    if !part.is_empty() {
                        piece(part);
                    }
                }
            }
            Separator::LoneNewline => {
                let bytes = text.as_bytes();
                let mut start = 0;
                for (i, byte) in bytes.iter().enumerate() {
                    let lone = *byte == b'\n'
                        && (i == 0 || bytes[i - 1] != b'\n')
                        && bytes.get(i + 1) != Some(&b'\n');
                    if lone || i + 1 == bytes.len() {
                        let end = if lone { i } else { i + 1 };
                        let part = text[start..end].trim();
                        if !part.is_empty() {
                            piece(part);
                        }
                        start = i + 1;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(separator: Separator, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        separator
            .documents(Path::new("x"), text, &mut |d| out.push(d.text))
            .unwrap();
        out
    }

    #[test]
    fn a_file_is_one_document() {
        assert_eq!(pieces(Separator::None, "a\n\nb\n"), ["a\n\nb\n"]);
    }

    #[test]
    fn a_separator_belongs_to_no_document() {
        let separator = Separator::Text { text: "---".into() };
        assert_eq!(pieces(separator, "one\n---\n two\n---\n"), ["one", "two"]);
    }

    #[test]
    fn lone_newlines_part_stories_and_blank_lines_paragraphs() {
        let text = "Once.\n\nEnd.\nTwice.\n\nEnd é\n";
        assert_eq!(
            pieces(Separator::LoneNewline, text),
            ["Once.\n\nEnd.", "Twice.\n\nEnd é"]
        );
        assert_eq!(pieces(Separator::LoneNewline, "\na"), ["a"]);
    }
}
