//! The live canvas: redrawn in place, never on the alternate screen, so that the final text stays
//! in the scrollback.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveToColumn, MoveUp, Show};
use crossterm::queue;
use crossterm::style::Print;
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};

use super::layout::{Line, Look, wrap};
use super::{interrupt, style};

/// Shortest time between two drawings.
const FRAME: Duration = Duration::from_millis(33);
/// A drawing may cost one part in this many of the time (2 %).
const SHARE: u32 = 50;

/// One cell as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// How it is shown.
    pub look: Look,
    /// The token as text, or what stands for an open cell.
    pub text: String,
}

/// What is drawn: one canvas row a sample, and a status line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// The rows of the canvas.
    pub rows: Vec<Vec<Cell>>,
    /// The line below the canvas.
    pub status: String,
}

/// Draws scenes over each other.
pub struct View<W: Write> {
    out: W,
    size: fn() -> (usize, usize),
    colour: bool,
    drawn: Vec<usize>,
    hidden: bool,
    next: Option<Instant>,
}

impl View<io::Stdout> {
    /// A view on standard output, which must be a terminal.
    pub fn on_stdout() -> Self {
        let size = || {
            let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
            (usize::from(columns), usize::from(rows))
        };
        Self::new(io::stdout(), size, style::enabled(true))
    }
}

impl<W: Write> View<W> {
    /// A view that writes to `out`, a terminal of `size()` columns and rows.
    pub fn new(out: W, size: fn() -> (usize, usize), colour: bool) -> Self {
        Self {
            out,
            size,
            colour,
            drawn: Vec::new(),
            hidden: false,
            next: None,
        }
    }

    /// Whether it is time to draw again: drawing stays below 2 % of the time.
    pub fn is_due(&self) -> bool {
        self.next.is_none_or(|next| Instant::now() >= next)
    }

    /// Draws over what was drawn last.
    ///
    /// # Errors
    /// Writing failed.
    pub fn draw(&mut self, scene: &Scene) -> io::Result<()> {
        let begin = Instant::now();
        let (columns, rows) = (self.size)();
        let lines = frame(scene, columns, rows);
        let mut bytes = Vec::new();
        queue!(bytes, BeginSynchronizedUpdate)?;
        if !self.hidden {
            queue!(bytes, Hide)?;
        }
        self.rewind(&mut bytes, columns)?;
        for line in &lines {
            queue!(
                bytes,
                Print(self.paint(line)),
                Clear(ClearType::UntilNewLine),
                Print("\r\n")
            )?;
        }
        queue!(
            bytes,
            Clear(ClearType::FromCursorDown),
            EndSynchronizedUpdate
        )?;
        self.hidden = true;
        interrupt::cursor_hidden(true);
        self.drawn = lines.iter().map(|line| line.width).collect();
        self.out.write_all(&bytes)?;
        self.out.flush()?;
        let now = Instant::now();
        self.next = Some(now + FRAME.max((now - begin) * SHARE));
        Ok(())
    }

    /// Takes the drawing away and shows the cursor again.
    ///
    /// # Errors
    /// Writing failed.
    pub fn finish(&mut self) -> io::Result<()> {
        if !self.hidden {
            return Ok(());
        }
        let (columns, _) = (self.size)();
        let mut bytes = Vec::new();
        self.rewind(&mut bytes, columns)?;
        queue!(bytes, Clear(ClearType::FromCursorDown), Show)?;
        self.hidden = false;
        self.drawn.clear();
        interrupt::cursor_hidden(false);
        self.out.write_all(&bytes)?;
        self.out.flush()
    }

    /// Moves to where the last drawing began. A terminal that became narrower has folded its lines.
    fn rewind(&self, bytes: &mut Vec<u8>, columns: usize) -> io::Result<()> {
        let columns = columns.max(1);
        let up: usize = self
            .drawn
            .iter()
            .map(|width| width.div_ceil(columns).max(1))
            .sum();
        if up > 0 {
            queue!(bytes, MoveUp(u16::try_from(up).unwrap_or(u16::MAX)))?;
        }
        queue!(bytes, MoveToColumn(0))
    }

    fn paint(&self, line: &Line) -> String {
        let paint = |(look, text): &(Look, String)| match look {
            Look::Given => style::bold(text, self.colour),
            Look::Open => style::dim(text, self.colour),
            Look::Fresh => style::fresh(text, self.colour),
            Look::Written => text.clone(),
        };
        line.spans.iter().map(paint).collect()
    }
}

impl<W: Write> Drop for View<W> {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = self.finish();
    }
}

/// The lines of a scene that fit on the screen. One column stays free, so that no terminal wraps a
/// full line by itself, and one row, so that the first line never scrolls out of reach.
fn frame(scene: &Scene, columns: usize, rows: usize) -> Vec<Line> {
    let width = columns.saturating_sub(1).max(1);
    let mut lines = Vec::new();
    for (i, row) in scene.rows.iter().enumerate() {
        if i > 0 {
            lines.push(Line::default());
        }
        let cells = row.iter().map(|cell| (cell.look, cell.text.as_str()));
        lines.extend(wrap(cells, width));
    }
    let status: Vec<Line> = wrap([(Look::Open, scene.status.as_str())], width);
    let room = rows.saturating_sub(1 + status.len()).max(1);
    if lines.len() > room {
        let focus = (lines.iter().position(|line| line.has(Look::Fresh)))
            .or_else(|| lines.iter().position(|line| line.has(Look::Open)))
            .unwrap_or(lines.len() - 1);
        let from = focus.saturating_sub(room / 2).min(lines.len() - room);
        lines = lines.drain(from..from + room).collect();
    }
    lines.extend(status);
    lines.truncate(rows.saturating_sub(1).max(1));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As much of a terminal as the view uses, `columns` wide and without scrolling.
    #[derive(Default)]
    struct Screen {
        lines: Vec<String>,
        row: usize,
        column: usize,
        cursor: bool,
    }

    impl Screen {
        fn feed(&mut self, bytes: &[u8]) {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let mut chars = text.chars().peekable();
            while let Some(c) = chars.next() {
                match c {
                    '\r' => self.column = 0,
                    '\n' => self.row += 1,
                    '\x1b' => {
                        assert_eq!(chars.next(), Some('['));
                        let mut code = String::new();
                        while let Some(c) = chars.next_if(|c| !c.is_ascii_alphabetic()) {
                            code.push(c);
                        }
                        self.control(&code, chars.next().unwrap());
                    }
                    c => {
                        let mut line: Vec<char> = self.line().chars().collect();
                        line.resize(line.len().max(self.column + 1), ' ');
                        line[self.column] = c;
                        *self.line() = line.into_iter().collect();
                        self.column += 1;
                    }
                }
            }
        }

        fn control(&mut self, code: &str, letter: char) {
            match (code, letter) {
                (n, 'A') => self.row -= n.parse::<usize>().unwrap(),
                (n, 'G') => self.column = n.parse::<usize>().unwrap() - 1,
                (_, 'K') => {
                    let column = self.column;
                    let kept = self.line().chars().take(column).collect();
                    *self.line() = kept;
                }
                (_, 'J') => {
                    self.control("", 'K');
                    self.lines.truncate(self.row + 1);
                }
                ("?25", letter) => self.cursor = letter == 'h',
                ("?2026", _) | (_, 'm') => {}
                other => panic!("unexpected control {other:?}"),
            }
        }

        fn line(&mut self) -> &mut String {
            self.lines
                .resize(self.lines.len().max(self.row + 1), String::new());
            &mut self.lines[self.row]
        }

        fn text(&self) -> String {
            self.lines.join("\n").trim_end().to_owned()
        }
    }

    fn cell(look: Look, text: &str) -> Cell {
        Cell {
            look,
            text: text.into(),
        }
    }

    fn scene(cells: &[(Look, &str)], status: &str) -> Scene {
        let row = cells.iter().map(|(look, text)| cell(*look, text)).collect();
        Scene {
            rows: vec![row],
            status: status.into(),
        }
    }

    fn screen_after(scenes: &[Scene], colour: bool) -> (Screen, Screen) {
        let mut view = View::new(Vec::new(), || (12, 6), colour);
        for scene in scenes {
            view.draw(scene).unwrap();
        }
        let mut before = Screen {
            cursor: true,
            ..Default::default()
        };
        before.feed(&view.out);
        view.finish().unwrap();
        let mut after = Screen {
            cursor: true,
            ..Default::default()
        };
        after.feed(&view.out);
        (before, after)
    }

    #[test]
    fn a_drawing_replaces_the_one_before_and_leaves_nothing_behind() {
        let first = scene(
            &[
                (Look::Given, "Once"),
                (Look::Open, "░░░ "),
                (Look::Open, "░░░ "),
            ],
            "1/2",
        );
        let second = scene(
            &[
                (Look::Given, "Once"),
                (Look::Fresh, " a"),
                (Look::Open, "░░░ "),
            ],
            "2/2",
        );
        for colour in [false, true] {
            let (before, after) = screen_after(&[first.clone(), second.clone()], colour);
            assert_eq!(before.text(), "Once a░░░ \n2/2");
            assert!(!before.cursor);
            assert_eq!(after.text(), "");
            assert!(after.cursor);
        }
    }

    #[test]
    fn a_text_longer_than_the_screen_shows_where_the_work_is() {
        let mut cells = vec![(Look::Written, "a\n"); 20];
        cells[10] = (Look::Fresh, "here\n");
        let lines = frame(&scene(&cells, "s"), 12, 6);
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().any(|line| line.has(Look::Fresh)));
    }

    #[test]
    fn the_smallest_terminals_are_survived() {
        for size in [(0, 0), (1, 1), (2, 2), (3, 1)] {
            let lines = frame(
                &scene(&[(Look::Open, "░░░ "), (Look::Written, "word")], "status"),
                size.0,
                size.1,
            );
            assert!(!lines.is_empty() && lines.len() < size.1.max(2));
        }
    }

    #[test]
    fn a_narrower_terminal_has_folded_the_last_drawing() {
        let mut view = View::new(Vec::new(), || (12, 6), false);
        view.draw(&scene(&[(Look::Written, "abcdefghij")], "st"))
            .unwrap();
        view.size = || (6, 6);
        let mut bytes = Vec::new();
        view.rewind(&mut bytes, 6).unwrap();
        assert_eq!(bytes, b"\x1b[3A\x1b[1G");
    }

    #[test]
    fn drawing_waits_for_its_turn() {
        let mut view = View::new(Vec::new(), || (12, 6), false);
        assert!(view.is_due());
        view.draw(&scene(&[], "")).unwrap();
        assert!(!view.is_due());
    }
}
