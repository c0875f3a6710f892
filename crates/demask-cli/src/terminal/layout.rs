//! From cells of a canvas to lines of a terminal: wrapping by display width, nothing that could
//! steer the terminal.

use unicode_width::UnicodeWidthChar;

/// How a cell is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Part of the prompt or of a template.
    Given,
    /// Still masked.
    Open,
    /// Written in the step just done.
    Fresh,
    /// Written earlier.
    Written,
}

/// One line of the terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// Runs of text with the same look.
    pub spans: Vec<(Look, String)>,
    /// Columns the line takes.
    pub width: usize,
}

impl Line {
    fn push(&mut self, look: Look, c: char, width: usize) {
        match self.spans.last_mut() {
            Some((last, text)) if *last == look => text.push(c),
            _ => self.spans.push((look, c.to_string())),
        }
        self.width += width;
    }

    /// Whether any part of the line has this look.
    pub fn has(&self, look: Look) -> bool {
        self.spans.iter().any(|(l, _)| *l == look)
    }
}

/// Wraps cells at `width` columns. Line feeds break lines, tabs become spaces, other control
/// characters a visible stand-in: a token can never move the cursor or change the terminal.
pub fn wrap<'a>(cells: impl IntoIterator<Item = (Look, &'a str)>, width: usize) -> Vec<Line> {
    let width = width.max(1);
    let mut lines = vec![Line::default()];
    for (look, text) in cells {
        for c in text.chars() {
            match c {
                '\n' => lines.push(Line::default()),
                '\r' => {}
                '\t' => (0..4).for_each(|_| put(&mut lines, look, ' ', width)),
                c => put(&mut lines, look, visible(c), width),
            }
        }
    }
    lines
}

/// The character itself, or a stand-in for a control character.
pub fn visible(c: char) -> char {
    if c.is_control() || is_bidi_control(c) {
        '\u{fffd}'
    } else {
        c
    }
}

/// Columns that a text takes on one line.
pub fn columns(text: &str) -> usize {
    text.chars().map(|c| visible(c).width().unwrap_or(0)).sum()
}

/// Text that is safe to show on a terminal: line feeds and tabs stay.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if matches!(c, '\n' | '\t') {
                c
            } else {
                visible(c)
            }
        })
        .collect()
}

fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn put(lines: &mut Vec<Line>, look: Look, c: char, limit: usize) {
    let width = c.width().unwrap_or(0);
    if let Some(line) = lines.last()
        && line.width > 0
        && line.width + width > limit
    {
        lines.push(Line::default());
    }
    if let Some(line) = lines.last_mut() {
        line.push(look, c, width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<String> {
        lines
            .iter()
            .map(|l| l.spans.iter().map(|(_, t)| t.as_str()).collect())
            .collect()
    }

    #[test]
    fn lines_break_at_the_width_and_at_line_feeds() {
        let lines = wrap([(Look::Given, "abc"), (Look::Written, "de\nf")], 4);
        assert_eq!(texts(&lines), ["abcd", "e", "f"]);
        assert_eq!(
            lines[0].spans,
            [(Look::Given, "abc".into()), (Look::Written, "d".into())]
        );
    }

    #[test]
    fn wide_and_combining_characters_are_measured() {
        let lines = wrap([(Look::Written, "a漢字e\u{301}")], 3);
        assert_eq!(texts(&lines), ["a漢", "字e\u{301}"]);
        assert_eq!(lines[1].width, 3);
    }

    #[test]
    fn a_terminal_of_one_column_still_makes_progress() {
        assert_eq!(texts(&wrap([(Look::Open, "漢b")], 0)), ["漢", "b"]);
    }

    #[test]
    fn control_characters_are_disarmed() {
        assert_eq!(
            harmless("a\x1b[31m\tb\n\u{202e}"),
            "a\u{fffd}[31m\tb\n\u{fffd}"
        );
        assert_eq!(
            texts(&wrap([(Look::Written, "a\x07\tb")], 10)),
            ["a\u{fffd}    b"]
        );
    }
}
